import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatSubnetEnv, readPreviousSubnets, writeSubnetEnv } from '../../../src/host/subnet-env'
import { type Ipv6Prefix, parseIpv6Prefix } from '../../../src/model/address'
import { net } from '../plan/support'

function net6(text: string): Ipv6Prefix {
  const prefix = parseIpv6Prefix(text)
  if (prefix === undefined) throw new Error(`${text} is no IPv6 prefix`)
  return prefix
}

const ipv4 = { network: net('10.5.0.0/16'), subnet: net('10.5.12.0/24') }
const ipv6 = { network: net6('fd00:5::/48'), subnet: net6('fd00:5:0:37::/64') }
const env = { ipv4, mtu: 1450, ipMasq: false }
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

const IPV4 = 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.12.1/24\n'
const IPV6 = 'FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:37::1/64\n'
const END = 'FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'

test.each([
  ['IPv4', { ipv4 }, IPV4 + END],
  ['dual-stack', { ipv4, ipv6 }, IPV4 + IPV6 + END],
  ['IPv6', { ipv6 }, IPV6 + END],
  ['IPv6 given as undefined', { ipv4, ipv6: undefined }, IPV4 + END],
])('the text for %s is flannel’s, byte for byte', (_, families, text) => {
  expect(formatSubnetEnv({ ...families, mtu: 1450, ipMasq: true })).toBe(text)
})

test.each([[env], [{ ipv4, ipv6, mtu: 1430, ipMasq: true }]])(
  'the CNI plugin can read it: lines of KEY=value and no quotes, blanks or export (%#)',
  (each) => {
    const lines = formatSubnetEnv(each).split('\n')
    expect(lines.pop()).toBe('')
    for (const line of lines) expect(line).toMatch(/^FLANNEL_[A-Z0-9_]+=[0-9a-z.:/]+$/)
    expect(lines).toContainEqual(expect.stringMatching(/^FLANNEL_MTU=\d+$/))
    expect(lines).toContainEqual(expect.stringMatching(/^FLANNEL_IPMASQ=(true|false)$/))
  },
)

test('the file is written into a new directory, readable by all, without other files', async () => {
  const path = join(directory, 'flannel', 'subnet.env')
  expect(await writeSubnetEnv(path, env)).toBe(true)
  expect(await readFile(path, 'utf8')).toBe(TEXT)
  expect((await stat(path)).mode & 0o777).toBe(0o644)
  expect(await readdir(join(directory, 'flannel'))).toEqual(['subnet.env'])
})

test('the same content is not written again', async () => {
  const path = join(directory, 'subnet.env')
  await writeSubnetEnv(path, env)
  const before = await stat(path)
  expect(await writeSubnetEnv(path, env)).toBe(false)
  expect((await stat(path)).ino).toBe(before.ino)
})

test.each([0o600, 0o666])(
  'an existing file of mode %s is readable by all and writable by nobody else',
  async (mode) => {
    const path = join(directory, 'subnet.env')
    for (const text of ['old', TEXT]) {
      await writeFile(path, text)
      await chmod(path, mode)
      expect(await writeSubnetEnv(path, env)).toBe(true)
      expect((await stat(path)).mode & 0o777).toBe(0o644)
      expect(await writeSubnetEnv(path, env)).toBe(false)
    }
  },
)

test('through a symlink its target is written, and the symlink stays', async () => {
  const [path, link] = [join(directory, 'subnet.env'), join(directory, 'link')]
  await writeFile(path, 'old')
  await symlink(path, link)
  expect(await writeSubnetEnv(link, env)).toBe(true)
  expect(await readFile(path, 'utf8')).toBe(TEXT)
  expect((await lstat(link)).isSymbolicLink()).toBe(true)
})

test('a new directory can be entered by all', async () => {
  const path = join(directory, 'flannel', 'networks', 'blue.env')
  await writeSubnetEnv(path, env)
  for (const made of [join(directory, 'flannel'), join(directory, 'flannel', 'networks')]) {
    expect((await stat(made)).mode & 0o777).toBe(0o755)
  }
})

test('a path that cannot be written is an error, and leaves no files', async () => {
  const path = join(directory, 'file', 'subnet.env')
  await writeFile(join(directory, 'file'), '')
  await expect(writeSubnetEnv(path, env)).rejects.toThrow(`subnet file ${path} cannot be`)
  expect(await readdir(directory)).toEqual(['file'])
})

async function readBack(text: string) {
  const path = join(directory, 'subnet.env')
  await writeFile(path, text)
  return readPreviousSubnets(path)
}

test.each([
  [TEXT, ipv4.subnet, undefined],
  ['FLANNEL_SUBNET="10.5.12.1/24"\n', ipv4.subnet, undefined],
  ["FLANNEL_SUBNET='10.5.12.1/24' # ours\n", ipv4.subnet, undefined],
  ['# comment\nexport FLANNEL_SUBNET=10.5.12.1/24', ipv4.subnet, undefined],
  [IPV4 + IPV6 + END, ipv4.subnet, ipv6.subnet],
  [IPV6 + END, undefined, ipv6.subnet],
  ['FLANNEL_SUBNET=\nFLANNEL_IPV6_SUBNET=fd00:5:0:37:1:2:3:4/64', undefined, ipv6.subnet],
])('%j names subnets, masked', async (text, subnet4, subnet6) => {
  expect(await readBack(text)).toEqual({ ipv4: subnet4, ipv6: subnet6, problems: [] })
})

test.each([
  ['', 'no FLANNEL_SUBNET'],
  ['FLANNEL_MTU=1450', 'no FLANNEL_SUBNET'],
  ['FLANNEL_SUBNET=fd00::1/64', 'FLANNEL_SUBNET=fd00::1/64, part of which is not a subnet'],
  ['FLANNEL_IPV6_SUBNET=10.5.12.1/24', 'FLANNEL_IPV6_SUBNET=10.5.12.1/24, part of which'],
  ['FLANNEL_SUBNET=10.5.12.1', 'FLANNEL_SUBNET=10.5.12.1, part of which'],
  ['FLANNEL_SUBNET=10.5.12.1/24,10.5.13.1/24', 'more than one subnet'],
  ['\0\xff garbage', 'no FLANNEL_SUBNET'],
])('%j names no subnet, and has a problem with the reason', async (text, problem) => {
  expect(await readBack(text)).toEqual({
    ipv4: undefined,
    ipv6: undefined,
    problems: [expect.stringContaining(problem)],
  })
})

test('an unreadable entry of a list is reported and left out', async () => {
  expect(await readBack(`FLANNEL_SUBNET=10.5.12.1/24,x\n${IPV6}`)).toEqual({
    ipv4: ipv4.subnet,
    ipv6: ipv6.subnet,
    problems: [expect.stringContaining('FLANNEL_SUBNET=10.5.12.1/24,x')],
  })
})

test('a missing file is no problem', async () => {
  expect(await readPreviousSubnets(join(directory, 'none'))).toEqual({
    ipv4: undefined,
    ipv6: undefined,
    problems: [],
  })
})
