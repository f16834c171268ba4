import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { changeKeys, openKeys } from '../../../../src/daemon/encryption/host-keys'
import { type HostKeys, hostKeysPath, readHostKeys } from '../../../../src/host/wireguard-keys'
import { stateDirectory } from '../state-directory'

const state = stateDirectory()

const publicOf = ({ keys }: HostKeys) => keys.map((key) => key.publicKey())

async function written(): Promise<HostKeys> {
  const found = await readHostKeys(state.directory)
  if (found.kind !== 'found') throw new Error(found.kind)
  return found.keys
}

test('the first keys are made, written, and found again', async () => {
  const began = Date.now()
  const keys = await openKeys(state.directory, state.log)
  expect(keys).toMatchObject({ turn: 0, isLeaving: false })
  expect(keys.since).toBeGreaterThanOrEqual(began)
  expect(new Set(publicOf(keys)).size).toBe(2)
  expect(state.printed).toContain('info  encryption: this host has new keys\n')
  state.printed = ''
  const again = await openKeys(state.directory, state.log)
  expect(publicOf(again)).toEqual(publicOf(keys))
  expect({ ...again, keys: [] }).toEqual({ ...keys, keys: [] })
  expect(state.printed).toBe('')
})

test('a clock that was set back gives new keys, of which other hosts know no time, in the same turn', async () => {
  const before = await changeKeys(
    state.directory,
    await openKeys(state.directory, state.log),
    { kind: 'move', turn: 5 },
    state.log,
  )
  const tomorrow = Date.now() / 1000 + 86_400
  utimesSync(hostKeysPath(state.directory), tomorrow, tomorrow)
  const after = await openKeys(state.directory, state.log)
  for (const key of publicOf(after)) expect(publicOf(before)).not.toContain(key)
  expect(after).toMatchObject({ turn: 5, isLeaving: false })
  expect(state.printed).toContain('warn  encryption: this host has new keys: the clock was set back')
  // Their own time is right.
  expect(publicOf(await openKeys(state.directory, state.log))).toEqual(publicOf(after))
})

test('a file that is a little ahead of the clock keeps its keys', async () => {
  const before = await openKeys(state.directory, state.log)
  const soon = Date.now() / 1000 + 1
  utimesSync(hostKeysPath(state.directory), soon, soon)
  expect(publicOf(await openKeys(state.directory, state.log))).toEqual(publicOf(before))
})

test('a file that cannot be used is replaced, and the log says why', async () => {
  const path = hostKeysPath(state.directory)
  writeFileSync(path, 'garbage', { mode: 0o600 })
  const keys = await openKeys(state.directory, state.log)
  expect(state.printed).toContain(
    `warn  encryption: this host has new keys: ${path} is not a file of keys of version 1`,
  )
  expect(publicOf(await written())).toEqual(publicOf(keys))
})

test('a move keeps both keys and takes the turn; what was left is replaced afterwards, and nothing else', async () => {
  const first = await openKeys(state.directory, state.log)
  const moved = await changeKeys(state.directory, first, { kind: 'move', turn: 1 }, state.log)
  expect(publicOf(moved)).toEqual(publicOf(first))
  expect(moved).toMatchObject({ turn: 1, isLeaving: true })
  expect(moved.since).toBeGreaterThanOrEqual(first.since)
  expect(await written()).toMatchObject({ turn: 1, isLeaving: true, since: moved.since })
  const retired = await changeKeys(state.directory, moved, { kind: 'retire' }, state.log)
  expect(publicOf(retired)[1]).toBe(publicOf(first)[1])
  expect(publicOf(first)).not.toContain(publicOf(retired)[0])
  expect(retired).toMatchObject({ turn: 1, isLeaving: false, since: moved.since })
  expect(publicOf(await written())).toEqual(publicOf(retired))
  expect(state.printed).toContain('other hosts move to the next key of this host')
  expect(state.printed).toContain('the former key of this host is deleted')
})

test.each([
  [4, 1],
  [7, 0],
])('in the turn %i the key of the slot %i is the one that was left', async (turn, left) => {
  const moved = await changeKeys(
    state.directory,
    await openKeys(state.directory, state.log),
    { kind: 'move', turn },
    state.log,
  )
  const retired = await changeKeys(state.directory, moved, { kind: 'retire' }, state.log)
  expect(publicOf(retired)[left]).not.toBe(publicOf(moved)[left])
  expect(publicOf(retired)[1 - left]).toBe(publicOf(moved)[1 - left])
})

test('keys that cannot be written are no change', async () => {
  const before = await openKeys(state.directory, state.log)
  const nowhere = join(hostKeysPath(state.directory), 'nowhere')
  await expect(changeKeys(nowhere, before, { kind: 'move', turn: 1 }, state.log)).rejects.toMatchObject({
    code: 'key-file',
  })
  expect(await written()).toMatchObject({ turn: 0 })
})

test('the log has no private key', async () => {
  const first = await openKeys(state.directory, state.log)
  const moved = await changeKeys(state.directory, first, { kind: 'move', turn: 1 }, state.log)
  const retired = await changeKeys(state.directory, moved, { kind: 'retire' }, state.log)
  expect(state.printed).not.toBe('')
  for (const { keys } of [first, moved, retired])
    for (const key of keys) expect(state.printed).not.toContain(key.text())
})
