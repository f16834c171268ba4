import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import {
  type HostKeys,
  hostKeysPath,
  noteClock,
  readHostKeys,
  writeHostKeys,
} from '../../../src/host/wireguard-keys'
import { describeError, OverlayError } from '../../../src/model/errors'
import { PrivateKey } from '../../../src/model/wireguard-secret'

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'keys-'))
  path = hostKeysPath(directory)
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const KEYS: HostKeys = {
  keys: [PrivateKey.generate(), PrivateKey.generate()],
  turn: 7,
  since: 1_795_000_000_000,
  isLeaving: true,
}
const SECRETS = KEYS.keys.map((key) => key.text())
const publicOf = ({ keys }: HostKeys) => keys.map((key) => key.publicKey())

test('written keys are read again, and their file is private', async () => {
  await writeHostKeys(directory, KEYS)
  const found = await readHostKeys(directory)
  if (found.kind !== 'found') throw new Error(found.kind)
  expect(publicOf(found.keys)).toEqual(publicOf(KEYS))
  expect(found.keys).toMatchObject({ turn: 7, since: 1_795_000_000_000, isLeaving: true })
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

test('without a file there are none', async () => {
  expect(await readHostKeys(directory)).toEqual({ kind: 'none' })
  expect(await readHostKeys(join(directory, 'none'))).toEqual({ kind: 'none' })
})

test('the clock of the file is the time that was noted last', async () => {
  await writeHostKeys(directory, KEYS)
  await noteClock(directory, new Date(1_800_000_000_000))
  expect(await readHostKeys(directory)).toMatchObject({ kind: 'found', clock: 1_800_000_000_000 })
})

test('a note without a file is lost, and no failure', async () => {
  await noteClock(directory, new Date())
  expect(await readHostKeys(directory)).toEqual({ kind: 'none' })
})

test('a writing replaces the keys, narrows the mode of the file, and moves its clock', async () => {
  await writeHostKeys(directory, KEYS)
  utimesSync(path, 1000, 1000)
  chmodSync(path, 0o644)
  await writeHostKeys(directory, { ...KEYS, turn: 8 })
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const found = await readHostKeys(directory)
  expect(found).toMatchObject({ kind: 'found', keys: { turn: 8 } })
  expect(found.kind === 'found' && found.clock).toBeGreaterThan(1_000_000)
})

describe('a file is refused, with its path and without a key in the reason, if it', () => {
  async function refusal(spoil: (text: string) => string | Buffer): Promise<string> {
    await writeHostKeys(directory, KEYS)
    writeFileSync(path, spoil(readFileSync(path, 'utf8')))
    return reasonFor()
  }
  async function reasonFor(): Promise<string> {
    const found = await readHostKeys(directory)
    if (found.kind !== 'refused') throw new Error(`it is ${found.kind}`)
    return found.reason
  }
  const [first = '', second = ''] = SECRETS

  test.each<[string, (text: string) => string | Buffer]>([
    ['is empty', () => ''],
    ['is torn', (text) => text.slice(0, -8)],
    ['is torn within a key', (text) => text.slice(0, text.indexOf(second) + 20)],
    ['is garbage', () => Buffer.from([0xff, 0, 1, 2])],
    ['has another version', (text) => text.replace('"version":1', '"version":2')],
    ['has no version', (text) => text.replace('"version":1,', '')],
    ['has one key', (text) => text.replace(`,"${second}"`, '')],
    ['has three keys', (text) => text.replace(`"${second}"`, `"${second}","${first}"`)],
    ['has a key that is none', (text) => text.replace(second, second.slice(0, -2))],
    ['has a null key', (text) => text.replace(second, `${'A'.repeat(43)}=`)],
    ['has a turn below 0', (text) => text.replace('"turn":7', '"turn":-1')],
    ['has a turn above 31 bits', (text) => text.replace('"turn":7', '"turn":2147483648')],
    ['has no time', (text) => text.replace(/"since":\d+,/, '')],
    ['is a list', (text) => `[${text}]`],
    ['is longer than any such file', (text) => text + ' '.repeat(5000)],
  ])('%s', async (_, spoil) => {
    const reason = await refusal(spoil)
    expect(reason).toContain(path)
    for (const secret of SECRETS) expect(reason).not.toContain(secret.slice(0, 12))
  })

  test.each([0o644, 0o640, 0o602, 0o620])('has the mode %o', async (mode) => {
    await writeHostKeys(directory, KEYS)
    chmodSync(path, mode)
    expect(await reasonFor()).toContain(`others may use it (mode ${mode.toString(8)}, expected 600)`)
  })

  test('is a link, or no file', async () => {
    const elsewhere = join(directory, 'elsewhere')
    mkdirSync(elsewhere)
    await writeHostKeys(elsewhere, KEYS)
    symlinkSync(hostKeysPath(elsewhere), path)
    expect(await reasonFor()).toContain(`${path} is not used`)
    rmSync(path)
    mkdirSync(path)
    expect(await reasonFor()).toContain('it is not a regular file')
  })
})

test('a directory that cannot be written to is an error with a fix and without a key', async () => {
  const file = join(directory, 'file')
  writeFileSync(file, '')
  const error = await writeHostKeys(file, KEYS).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(OverlayError)
  expect(error).toMatchObject({ code: 'key-file', fix: expect.stringContaining('--state-dir') })
  for (const text of [describeError(error), inspect(error, { depth: 5 }), JSON.stringify(error)])
    for (const secret of SECRETS) expect(text).not.toContain(secret)
})

test('keys show themselves to nobody who prints their value', async () => {
  await writeHostKeys(directory, KEYS)
  const found = await readHostKeys(directory)
  for (const text of [
    inspect(found, { depth: 9, showHidden: true }),
    JSON.stringify(found),
    `${KEYS.keys[0]}`,
  ])
    for (const secret of SECRETS) expect(text).not.toContain(secret)
})
