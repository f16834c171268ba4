import { lstatSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import winston from 'winston'
import { StateKeeper } from '../../../../src/daemon/keepers/state-keeper'
import { type SavedState, stateFilePath } from '../../../../src/host/state-file'
import { Pending, waitFor } from '../../../lab/wait'

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

/** A keeper of a state whose revision is the number of times the state was asked for. */
function keeperOf(asked: { times: number }, spacing?: number): StateKeeper {
  return new StateKeeper(directory, async () => state(++asked.times), log, spacing)
}

const written = (): Promise<SavedState> =>
  waitFor('the file', () => {
    try {
      return JSON.parse(readFileSync(stateFilePath(directory), 'utf8')).state
    } catch (error) {
      return new Pending(String(error))
    }
  })

test('the first change is written at once, later ones together, at the latest at the end', async () => {
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

test('an urgent change is written at once', async () => {
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

test('without a state nothing is written, and there is no problem', async () => {
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

test.each<[string, () => void]>([
  ['deleted with its directory', () => rmSync(directory, { recursive: true })],
  [
    'replaced by a link',
    () => {
      writeFileSync(join(root, 'victim'), 'precious')
      rmSync(stateFilePath(directory))
      symlinkSync(join(root, 'victim'), stateFilePath(directory))
    },
  ],
])(
  'a file that is %s is written again',
  async (what, spoil) => {
    const asked = { times: 0 }
    // A file that was spoiled is written at the pace of changes.
    const keeper = keeperOf(asked, 100)
    running = keeper.run(stop.signal)
    keeper.changed(true)
    await written()
    await keeper.save()
    spoil()
    await waitFor(
      'the next write',
      () => {
        if (asked.times < 2) return new Pending(`asked ${asked.times} times`)
        const found = lstatSync(stateFilePath(directory), { throwIfNoEntry: false })
        return (found?.isFile() === true && (found.mode & 0o777) === 0o600) || new Pending('no such file')
      },
      { timeoutMs: 30_000 },
    )
    expect((await written()).revision).toBe('2')
    if (what === 'replaced by a link') expect(readFileSync(join(root, 'victim'), 'utf8')).toBe('precious')
  },
  60_000,
)
