import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import winston from 'winston'
import { StateKeeper } from '../../../src/daemon/state-keeper'
import { type SavedState, stateFilePath } from '../../../src/host/state-file'
import { Pending, waitFor } from '../../support/wait'

const log = winston.createLogger({ silent: true })

let root: string
let directory: string
let stop: AbortController
let running: Promise<void> | undefined

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'state-keeper-'))
  directory = join(root, 'state')
  stop = new AbortController()
})
afterEach(async () => {
  stop.abort()
  await running
  running = undefined
  rmSync(root, { recursive: true })
})

const state = (revision: number): SavedState => ({
  savedAt: '2026-01-02T03:04:05.000Z',
  prefix: '/p',
  host: {},
  config: { text: '{}' },
  revision: `${revision}`,
  own: { key: 'k', value: 'v', etcdLease: '1', modRevision: '1', state: 'held' },
  macs: {},
  peers: [],
})

/** A keeper of a state whose revision counts how often it was asked for. */
function keeperOf(asked: { times: number }): StateKeeper {
  return new StateKeeper(directory, async () => state(++asked.times), log)
}

const written = (): Promise<SavedState> =>
  waitFor('the file', () => {
    try {
      return JSON.parse(readFileSync(stateFilePath(directory), 'utf8')).state
    } catch (error) {
      return new Pending(String(error))
    }
  })

test('the first change is written at once, many after it once, and what is left at the end', async () => {
  const asked = { times: 0 }
  const keeper = keeperOf(asked)
  running = keeper.run(stop.signal)
  keeper.changed(false)
  expect((await written()).revision).toBe('1')
  for (let i = 0; i < 100; i += 1) keeper.changed(false)
  expect(asked.times).toBe(1)
  await Promise.all([keeper.save(), keeper.save()])
  expect(asked.times).toBe(2)
  expect((await written()).revision).toBe('2')
  await keeper.save()
  expect(asked.times).toBe(2)
  expect(keeper).toMatchObject({ problem: undefined, savedAt: '2026-01-02T03:04:05.000Z' })
})

test('what cannot wait does not', async () => {
  const asked = { times: 0 }
  const keeper = keeperOf(asked)
  running = keeper.run(stop.signal)
  keeper.changed(false)
  await written()
  keeper.changed(true)
  await waitFor('the second write', () => asked.times === 2 || new Pending(`${asked.times}`), {
    timeoutMs: 2000,
  })
})

test('nothing to save is no write and no problem', async () => {
  const keeper = new StateKeeper(directory, async () => undefined, log)
  keeper.changed(true)
  await keeper.save()
  expect(keeper).toMatchObject({ problem: undefined, savedAt: undefined })
})

test('a write that fails is a problem until one succeeds', async () => {
  const asked = { times: 0 }
  const keeper = keeperOf(asked)
  writeFileSync(directory, '')
  keeper.changed(true)
  await keeper.save()
  expect(keeper.problem).toMatch(/state\.json cannot be written/)
  rmSync(directory)
  await keeper.save()
  expect(keeper.problem).toBeUndefined()
  expect((await written()).revision).toBe('2')
})
