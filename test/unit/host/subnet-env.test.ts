import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatSubnetEnv, readPreviousSubnet, writeSubnetEnv } from '../../../src/host/subnet-env'
import { net } from '../plan/support'

const env = { network: net('10.5.0.0/16'), subnet: net('10.5.12.0/24'), mtu: 1450, ipMasq: false }
const TEXT = `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.12.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
`

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'overlayd-test-'))
})
afterEach(() => rm(directory, { recursive: true }))

test('the text is flannel’s, byte for byte', () => expect(formatSubnetEnv(env)).toBe(TEXT))

test('the file is written in a new directory, readable by all, and nothing else is left there', async () => {
  const path = join(directory, 'flannel', 'subnet.env')
  expect(await writeSubnetEnv(path, env)).toBe(true)
  expect(await readFile(path, 'utf8')).toBe(TEXT)
  expect((await stat(path)).mode & 0o777).toBe(0o644)
  expect(await readdir(join(directory, 'flannel'))).toEqual(['subnet.env'])
})

test('the same again is not written', async () => {
  const path = join(directory, 'subnet.env')
  await writeSubnetEnv(path, env)
  const before = await stat(path)
  expect(await writeSubnetEnv(path, env)).toBe(false)
  expect((await stat(path)).ino).toBe(before.ino)
})

test('an existing file keeps its mode', async () => {
  const path = join(directory, 'subnet.env')
  await writeFile(path, 'old')
  await chmod(path, 0o600)
  expect(await writeSubnetEnv(path, env)).toBe(true)
  expect((await stat(path)).mode & 0o777).toBe(0o600)
})

test('a place that cannot be written is one clear error, and leaves nothing', async () => {
  const path = join(directory, 'file', 'subnet.env')
  await writeFile(join(directory, 'file'), '')
  await expect(writeSubnetEnv(path, env)).rejects.toThrow(`subnet file ${path} cannot be`)
  expect(await readdir(directory)).toEqual(['file'])
})

test.each([
  [TEXT, '10.5.12.0/24'],
  ['FLANNEL_SUBNET="10.5.12.1/24"\n', '10.5.12.0/24'],
  ['# comment\nexport FLANNEL_SUBNET=10.5.12.1/24', '10.5.12.0/24'],
])('%j names a subnet', async (text, subnet) => {
  const path = join(directory, 'subnet.env')
  await writeFile(path, text)
  expect(await readPreviousSubnet(path)).toEqual({ subnet: net(subnet), problem: undefined })
})

test.each([
  ['', 'no FLANNEL_SUBNET'],
  ['FLANNEL_MTU=1450', 'no FLANNEL_SUBNET'],
  ['FLANNEL_SUBNET=fd00::1/64', 'FLANNEL_SUBNET=fd00::1/64'],
  ['FLANNEL_SUBNET=10.5.12.1/24,10.5.13.1/24', 'FLANNEL_SUBNET=10.5.12.1/24,10.5.13.1/24'],
  ['\0\xff garbage', 'no FLANNEL_SUBNET'],
])('%j names none, and why is said', async (text, problem) => {
  const path = join(directory, 'subnet.env')
  await writeFile(path, text)
  const result = await readPreviousSubnet(path)
  expect(result.subnet).toBeUndefined()
  expect(result.problem).toContain(problem)
})

test('a missing file is normal', async () => {
  expect(await readPreviousSubnet(join(directory, 'none'))).toEqual({ subnet: undefined, problem: undefined })
})
