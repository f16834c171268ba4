import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  readStateFile,
  removeLeftovers,
  type SavedState,
  stateFilePath,
  writeStateFile,
} from '../../../src/host/state-file'

let root: string
let directory: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'state-'))
  directory = join(root, 'overlayd')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const STATE: SavedState = {
  savedAt: '2026-01-02T03:04:05.678Z',
  prefix: '/coreos.com/network',
  host: { machine: 'm', ipv4: { local: '192.0.2.1', public: '192.0.2.1' } },
  config: { text: '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}', revision: '3' },
  revision: '12345678901234567890',
  own: {
    key: '/coreos.com/network/subnets/10.5.1.0-24',
    value: '{"PublicIP":"192.0.2.1"}',
    etcdLease: '7587877094566519900',
    modRevision: '9',
    state: 'held',
    renewal: { at: { bootId: 'b', uptimeSeconds: 1.5, wallSeconds: 2.5 }, ttlSeconds: 86400 },
  },
  macs: { ipv4: '02:00:00:00:00:01' },
  prefixes: [['10.5.2.0-24/10.5.240.7-32', '{"priority":100}', '7']],
  peers: [['/coreos.com/network/subnets/10.5.2.0-24', '{"PublicIP":"192.0.2.2"}']],
}

test('a written state is read again, and its file is private', async () => {
  await writeStateFile(directory, STATE)
  expect(await readStateFile(directory)).toEqual({ state: STATE })
  expect(statSync(stateFilePath(directory)).mode & 0o777).toBe(0o600)
  expect(statSync(directory).mode & 0o777).toBe(0o700)
  expect(readdirSync(directory)).toEqual(['state.json'])
})

test('a file with widened permissions is written with the narrow ones again', async () => {
  await writeStateFile(directory, STATE)
  chmodSync(stateFilePath(directory), 0o644)
  await writeStateFile(directory, STATE)
  expect(statSync(stateFilePath(directory)).mode & 0o777).toBe(0o600)
})

test('without a file there is neither a state nor a refusal', async () => {
  expect(await readStateFile(directory)).toEqual({})
})

describe('a state file is refused, with its path and the reason, if it is', () => {
  /** Changes the text of the file. */
  async function spoil(change: (text: string) => string | Buffer) {
    await writeStateFile(directory, STATE)
    const path = stateFilePath(directory)
    writeFileSync(path, change(readFileSync(path, 'utf8')))
    return readStateFile(directory)
  }

  test.each<[string, (text: string) => string | Buffer, RegExp]>([
    ['empty', () => '', /truncated/],
    ['torn', (text) => text.slice(0, text.length / 2), /truncated/],
    ['garbled', () => Buffer.from([0xff, 0, 1, 2, 3]), /truncated/],
    ['JSON of something else', () => '[1,2,3]', /not a state file of version 1/],
    [
      'of another version',
      (text) => text.replace('"version":1', '"version":2'),
      /not a state file of version 1/,
    ],
    ['changed in one place', (text) => text.replace('10.5.2.0-24', '10.5.3.0-24'), /digest/],
    ['a digest of nothing', (text) => text.replace(/"sha256":"\w+"/, '"sha256":""'), /digest/],
  ])('%s', async (_, change, reason) => {
    const { state, refusal } = await spoil(change)
    expect(state).toBeUndefined()
    expect(refusal).toContain(stateFilePath(directory))
    expect(refusal).toMatch(reason)
  })

  test('torn at any byte', async () => {
    await writeStateFile(directory, STATE)
    const path = stateFilePath(directory)
    const text = readFileSync(path)
    for (let length = 0; length < text.length - 1; length += 7) {
      writeFileSync(path, text.subarray(0, length))
      expect((await readStateFile(directory)).refusal).toBeDefined()
    }
  })

  test.each<[string, Partial<SavedState>, RegExp]>([
    ['an invalid field', { revision: 'seven' }, /revision/],
    ['a serial of 0', { seen: [['10.5.2.0/24', 'x', 0]] }, /seen: .*triples/],
    [
      'a serial without an identity',
      { seen: [['a', 7] as unknown as [string, string, number]] },
      /seen: .*triples/,
    ],
    ['a peer without a value', { peers: [['/key'] as unknown as [string, string]] }, /peers: .*pairs/],
    ['a peer with a number', { peers: [['/key', 7] as unknown as [string, string]] }, /peers: .*pairs/],
  ])('valid JSON with %s', async (_, change, reason) => {
    await writeStateFile(directory, { ...STATE, ...change })
    expect((await readStateFile(directory)).refusal).toMatch(reason)
  })

  test('accessible by others', async () => {
    await writeStateFile(directory, STATE)
    chmodSync(stateFilePath(directory), 0o640)
    expect((await readStateFile(directory)).refusal).toMatch(/mode 640, expected 600/)
  })

  test('of another user', async () => {
    await writeStateFile(directory, STATE)
    const { uid } = statSync(stateFilePath(directory))
    const other = jest.spyOn(process, 'geteuid').mockReturnValue(uid + 1)
    expect((await readStateFile(directory)).refusal).toMatch(`belongs to user ${uid}`)
    other.mockRestore()
  })

  test('a symlink or a directory', async () => {
    mkdirSync(directory)
    writeFileSync(join(root, 'elsewhere'), '{}', { mode: 0o600 })
    symlinkSync(join(root, 'elsewhere'), stateFilePath(directory))
    expect((await readStateFile(directory)).refusal).toMatch(/ELOOP/)
    rmSync(stateFilePath(directory))
    mkdirSync(stateFilePath(directory), { mode: 0o700 })
    expect((await readStateFile(directory)).refusal).toMatch(/not a regular file/)
  })
})

test('a directory that cannot be made is an error with a fix', async () => {
  writeFileSync(directory, '')
  await expect(writeStateFile(directory, STATE)).rejects.toMatchObject({
    code: 'state-file',
    message: expect.stringContaining(stateFilePath(directory)),
    fix: expect.stringContaining('--state-dir'),
  })
})

test('temporary files of a killed writer are removed, and nothing else', async () => {
  await writeStateFile(directory, STATE)
  writeFileSync(join(directory, '.state.json.123'), 'half')
  writeFileSync(join(directory, 'other'), '')
  await removeLeftovers(directory)
  expect(readdirSync(directory).sort()).toEqual(['other', 'state.json'])
  await removeLeftovers(join(directory, 'missing'))
})
