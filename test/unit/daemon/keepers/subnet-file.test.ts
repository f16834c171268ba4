import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EventKind } from '../../../../src/api/events'
import { SubnetFile } from '../../../../src/daemon/keepers/subnet-file'
import type { Logger } from '../../../../src/daemon/tell/logger'
import { formatSubnetEnv, type SubnetEnv } from '../../../../src/host/subnet-env'
import { patient } from '../../../lab/patience'
import { Pending, waitFor } from '../../../lab/wait'
import { net } from '../../plan/support'

const env: SubnetEnv = {
  ipv4: { network: net('10.5.0.0/16'), subnet: net('10.5.12.0/24') },
  mtu: 1450,
  ipMasq: true,
}
const TEXT = formatSubnetEnv(env)

jest.setTimeout(patient(60_000))

let root: string
let directory: string
let path: string
let stop: AbortController
let kinds: EventKind[]
let running: Promise<void> | undefined

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'subnet-file-'))
  directory = join(root, 'flannel')
  path = join(directory, 'subnet.env')
  stop = new AbortController()
  kinds = []
})
afterEach(async () => {
  stop.abort()
  await running
  rmSync(root, { recursive: true, force: true })
})

function makeFile(pace?: { readonly period: number; readonly spacing: number }): SubnetFile {
  const note = (_text: string, more?: { readonly kind: EventKind }): void => {
    if (more !== undefined) kinds.push(more.kind)
  }
  const log = { info: note, warn: note, error: note } as unknown as Logger
  return new SubnetFile(path, log, () => undefined, pace)
}

async function keep(pace?: Parameters<typeof makeFile>[0]): Promise<SubnetFile> {
  const file = makeFile(pace)
  await file.want(env)
  running = file.run(stop.signal)
  return file
}

const isRight = (): boolean => {
  try {
    const found = lstatSync(path)
    return found.isFile() && (found.mode & 0o777) === 0o644 && readFileSync(path, 'utf8') === TEXT
  } catch {
    return false
  }
}

async function becomes(what: string, isSo: () => boolean): Promise<void> {
  await waitFor(what, () => isSo() || new Pending(kinds.join()), { timeoutMs: 30_000 })
}

const becomesRight = (): Promise<void> => becomes('the file as it should be', isRight)

test.each<[string, () => void]>([
  ['deleted', () => rmSync(path)],
  ['deleted with its directory', () => rmSync(directory, { recursive: true })],
  ['moved away', () => renameSync(path, `${path}.old`)],
  ['moved away with its directory', () => renameSync(directory, `${directory}.old`)],
  ['emptied', () => writeFileSync(path, '')],
  ['edited', () => writeFileSync(path, TEXT.replace('1450', '9000'))],
  ['made longer', () => writeFileSync(path, `${TEXT}FLANNEL_MTU=9000\n`)],
  ['closed to others', () => chmodSync(path, 0o600)],
  ['opened to others', () => chmodSync(path, 0o666)],
  [
    'replaced by a link',
    () => {
      writeFileSync(join(root, 'victim'), 'precious')
      rmSync(path)
      symlinkSync(join(root, 'victim'), path)
    },
  ],
  [
    'replaced by an empty directory',
    () => {
      rmSync(path)
      mkdirSync(path)
    },
  ],
])('a file that is %s is restored, with an event', async (_what, spoil) => {
  const file = await keep()
  spoil()
  await becomesRight()
  await becomes('the event', () => kinds.includes('subnet-file-repair'))
  expect(file.problem).toBeUndefined()
  if (_what === 'replaced by a link') expect(readFileSync(join(root, 'victim'), 'utf8')).toBe('precious')
})

test('the permissions of the directory are restored', async () => {
  await keep()
  const before = statSync(directory).mode
  chmodSync(directory, 0o700)
  await becomes('the directory', () => statSync(directory).mode === before)
})

test('a failed repair is a problem with its reason, and is retried', async () => {
  const file = await keep()
  rmSync(path)
  mkdirSync(join(path, 'full'), { recursive: true })
  await becomes('the problem', () => file.problem !== undefined)
  expect(file.problem).toContain(`subnet file ${path} cannot be written: `)
  expect(kinds).toContain('subnet-file-problem')
  rmSync(path, { recursive: true })
  await becomesRight()
  await becomes('no problem', () => file.problem === undefined)
})

test('a file that does not differ is not written, even behind a symlink that was there before', async () => {
  mkdirSync(directory)
  const behind = join(root, 'behind')
  writeFileSync(behind, 'old')
  symlinkSync(behind, path)
  // A change behind a link has no notification: the next check finds it.
  const file = await keep({ period: 100, spacing: 20 })
  const { ino, mtimeMs } = statSync(path)
  for (let look = 0; look < 3; look += 1) await file.want(env)
  expect(statSync(path)).toMatchObject({ ino, mtimeMs })
  expect(lstatSync(path).isSymbolicLink()).toBe(true)
  writeFileSync(behind, 'spoilt')
  await becomes('the file behind', () => readFileSync(behind, 'utf8') === TEXT)
  await becomes('the event', () => kinds.length > 0)
  expect(kinds).toEqual(['subnet-file-repair'])
})

test('a failure of the first write is thrown', async () => {
  mkdirSync(join(path, 'full'), { recursive: true })
  await expect(makeFile().want(env)).rejects.toMatchObject({ code: 'subnet-file' })
})

test('a program that writes the file again and again is reported, and undone ever more rarely', async () => {
  const file = await keep({ period: 100, spacing: 20 })
  const rival = setInterval(() => writeFileSync(path, 'rival'), 20)
  try {
    await becomes('the contest', () => file.problem !== undefined)
    expect(file.problem).toContain(`another program changes ${path} again and again`)
  } finally {
    clearInterval(rival)
  }
  await becomesRight()
})
