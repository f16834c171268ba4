/**
 * Further subnets of a host: chosen at the same time, carried, kept, and given back when nothing uses them.
 */
import { readFileSync } from 'node:fs'
import { leaseDocumentSchema, prefixesDocumentSchema } from '../../../src/api/documents'
import { orderDaemon } from '../../../src/client/daemon-socket'
import {
  addressAfter,
  familyOf,
  formatIp,
  formatPrefix,
  type Prefix,
  parseIpPrefix,
  prefixesOverlap,
} from '../../../src/model/address'
import { MOST_FURTHER } from '../../../src/model/prefixes'
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { inNamespace, ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { ping } from '../../lab/ping'
import { LongProcess, run, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

/** Room for eight blocks of /27, then for others. */
const CONFIG = JSON.stringify({
  Network: '10.5.0.0/16',
  SubnetMax: '10.5.99.0',
  EnableIPv6: true,
  IPv6Network: 'fd00:5::/48',
  IPv6SubnetMax: 'fd00:5:0:7fff::',
  Prefixes: { Allowed: ['198.51.100.0/24', '10.5.240.0/24', '10.5.248.0/21', 'fd00:5:0:8000::/49'] },
  Backend: { Type: 'vxlan' },
})
const BRIDGE = 'br-more'
const MEMBER = 'host1-more'

/** Tells whoever connects the address that it sees. */
const TELL = `require('node:net')
  .createServer((socket) => socket.end(socket.remoteAddress.replace('::ffff:', '')))
  .listen(9000, '::', () => console.log('listening'))`
const ASK = `require('node:net').connect({ host: process.argv[1], port: 9000 }).pipe(process.stdout)`

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: CONFIG })
  for (const host of lab.hosts) host.start({ flags: { 'ip-masq': 'true' } })
  await lab.waitConverged()
  await lab.host(2).addContainer()
})
afterAll(async () => {
  await run(['ip', 'netns', 'delete', MEMBER])
  await lab?.close()
})

const read = (text: string): Prefix => {
  const prefix = parseIpPrefix(text)
  if (prefix === undefined) throw new Error(`${text} is no prefix`)
  return prefix
}
const first = ({ address, length }: Prefix): string => `${formatIp(addressAfter(address, 1n))}/${length}`
const second = ({ address }: Prefix): string => formatIp(addressAfter(address, 2n))

async function add(host: Host, length: number, family: 'IPv4' | 'IPv6' = 'IPv4'): Promise<Prefix> {
  const order = { schema: 1, family, length } as const
  const answer = await orderDaemon(host.runDirectory, 'addSubnet', order, patient(15_000))
  return read(answer?.added ?? '')
}

async function overlayctl(host: Host, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await host.overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
  return stdout
}

async function refusal(host: Host, ...args: readonly string[]): Promise<string> {
  const { code, stderr } = await host.overlayctl(...args)
  if (code === 0) throw new Error(`overlayctl ${args.join(' ')} is not refused`)
  return stderr
}

async function furtherOf(host: Host): Promise<readonly string[]> {
  const { lease } = leaseDocumentSchema.parse(JSON.parse(await overlayctl(host, 'lease', '-o', 'json')))
  return lease?.further ?? []
}

async function announcedBy(host: Host) {
  const { stdout } = await host.overlayctl('prefixes', '-o', 'json')
  return prefixesDocumentSchema.parse(JSON.parse(stdout)).prefixes
}

/** The name of a host's subnet in etcd. */
async function nameOf(host: Host): Promise<string> {
  return (await announcedBy(host)).find(({ own }) => own)?.host ?? ''
}

/** Makes a network as Docker makes one, with the rules of a Docker that masquerades and drops. */
async function addNetwork(host: Host, blocks: readonly Prefix[]): Promise<void> {
  await ipBatch(undefined, [`netns add ${MEMBER}`])
  await ipBatch(host.namespace, [
    `link add ${BRIDGE} type bridge`,
    ...blocks.map((each) => `address add ${first(each)} dev ${BRIDGE}${nodad(each)}`),
    `link set ${BRIDGE} up`,
    `link add more type veth peer name eth0 netns ${MEMBER}`,
    `link set more master ${BRIDGE} up`,
  ])
  await ipBatch(MEMBER, [
    ...blocks.map((each) => `address add ${second(each)}/${each.length} dev eth0${nodad(each)}`),
    'link set eth0 up',
    ...blocks.map((each) => {
      const anywhere = familyOf(each.address) === 'IPv6' ? '::/0' : '0.0.0.0/0'
      return `route add ${anywhere} via ${first(each).split('/')[0]}`
    }),
  ])
  for (const each of blocks) {
    const program = familyOf(each.address) === 'IPv6' ? 'ip6tables' : 'iptables'
    const masquerade = ['-s', formatPrefix(each), '!', '-o', BRIDGE, '-j', 'MASQUERADE']
    await host.exec(program, '-t', 'nat', '-I', 'POSTROUTING', '1', ...masquerade)
    await host.exec(program, '-P', 'FORWARD', 'DROP')
  }
}

const nodad = ({ address }: Prefix): string => (familyOf(address) === 'IPv6' ? ' nodad' : '')

test('hosts that choose at the same time get blocks that overlap no other', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  const eight = await Promise.all([one, two, one, two, one, two, one, two].map((host) => add(host, 27)))
  const texts = eight.map(formatPrefix).sort()
  expect(new Set(texts).size).toBe(8)
  expect(texts.every((text) => text.startsWith('10.5.240.'))).toBe(true)
  expect([...(await furtherOf(one)), ...(await furtherOf(two))].sort()).toEqual(texts)
  const keys = await lab.client.getAll().prefix(`${ETCD_PREFIX}/overlay/prefixes/`).keys()
  expect(keys).toHaveLength(8)
})

test('a block carries packets both ways, with their addresses, past a Docker that masquerades and drops', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  const printed = await overlayctl(one, 'lease', 'add')
  const block = read(/^added: (\S+), a further subnet of this host$/m.exec(printed)?.[1] ?? '')
  expect(formatPrefix(block)).toMatch(/^10\.5\.2(?:4[89]|5\d)\.0\/24$/)
  const block6 = await add(one, 64, 'IPv6')
  await addNetwork(one, [block, block6])
  const [container] = two.containers
  if (container?.address6 === undefined) throw new Error('host2 has no container')
  for (const [from, to] of [
    [container.namespace, second(block)],
    [container.namespace, second(block6)],
    [MEMBER, container.address],
    [MEMBER, container.address6],
  ] as const)
    await waitFor(`${from} reaches ${to}`, async () => {
      const { received, output } = await ping(from, to, { count: 1 })
      return received === 1 || new Pending(output)
    })
  const server = new LongProcess('a server', inNamespace(container.namespace, [process.execPath, '-e', TELL]))
  try {
    await server.waitForOutput(/listening/)
    for (const [to, source] of [
      [container.address, second(block)],
      [container.address6, second(block6)],
    ] as const)
      await waitFor(`${to} sees ${source}`, async () => {
        const seen = await runOk(inNamespace(MEMBER, [process.execPath, '-e', ASK, to]))
        return seen === source || new Pending(seen)
      })
  } finally {
    await server.stop('SIGKILL')
  }
})

test('networks of CNI and Podman are on a block where that is asked for, and on no other subnet', async () => {
  const one = lab.host(1)
  const text = (await furtherOf(one)).find((each) => /^10\.5\.24[0]\..*\/27$/.test(each)) ?? ''
  const part = formatPrefix({ ...read(text), length: 28 })
  const text6 = (await furtherOf(one)).find((each) => each.includes(':')) ?? ''
  for (const command of ['cni', 'podman-network']) {
    expect(await overlayctl(one, command, `--subnet=${text}`)).toContain(`"subnet": "${text}"`)
    expect(await overlayctl(one, command, `--subnet=${part}`)).toContain(`"subnet": "${part}"`)
    const both = await overlayctl(one, command, `--subnet=${text6}`, `--subnet=${text}`)
    expect(Array.from(both.matchAll(/"subnet": "(.*)"/g), ([, each]) => each)).toEqual([text, text6])
    const { subnet } = await one.subnetEnv()
    const leased = subnet.replace(/\d+\/24$/, '0/24')
    expect(await overlayctl(one, command)).toContain(`"subnet": "${leased}"`)
    const [others] = await furtherOf(lab.host(2))
    expect(await refusal(one, command, `--subnet=${others}`)).toContain("is not in this host's subnet")
  }
})

test('what is in use is not given back, and who uses it is named', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  const text = (await furtherOf(one)).find((each) => each.endsWith('/24')) ?? ''
  const block = read(text)
  expect(await refusal(one, 'lease', 'remove', text)).toMatch(
    /in use: the link br-more, which has an address in it \(1 container: 10\.5\.2\d\d\.2\)/,
  )
  expect(await refusal(one, 'withdraw', text)).toMatch(
    /further subnet of this host.*overlayctl lease remove/s,
  )
  expect(await refusal(one, 'announce', text)).toMatch(/further subnet of this host/)
  expect(await refusal(two, 'lease', 'remove', text)).toMatch(/no further subnet of this host/)
  await one.exec('ip', 'link', 'delete', BRIDGE)
  await overlayctl(two, 'announce', `${second(block)}/32`)
  const host = await nameOf(two)
  await waitFor('the announcement is heard', async () => {
    const prefixes = await announcedBy(one)
    return prefixes.some(({ prefix }) => prefix === `${second(block)}/32`) || new Pending('it is not')
  })
  expect(await refusal(one, 'lease', 'remove', text)).toContain(
    `${second(block)}/32, which ${host} announces`,
  )
  await overlayctl(two, 'withdraw', `${second(block)}/32`)
  await waitFor('it is given back', async () => {
    const { code, stdout, stderr } = await one.overlayctl('lease', 'remove', text)
    return code === 0 || new Pending(stdout + stderr)
  })
  expect(await furtherOf(one)).not.toContain(text)
})

test('a host has at most 16, and keeps them over a restart', async () => {
  const one = lab.host(1)
  const before = await furtherOf(one)
  while ((await furtherOf(one)).length < MOST_FURTHER) await add(one, 30)
  expect(await refusal(one, 'lease', 'add')).toMatch(/16 further subnets, and a host may have 16/)
  const all = await furtherOf(one)
  expect(all).toEqual(expect.arrayContaining([...before]))
  const taken = all.map(read)
  for (const [place, each] of taken.entries())
    for (const other of taken.slice(place + 1))
      expect(familyOf(each.address) === familyOf(other.address) && prefixesOverlap(each, other)).toBe(false)
  // Those of the leased subnet, which is below 10.5.100.0, are left out.
  const pools = async (): Promise<readonly string[]> => {
    const output = `${one.runDirectory}/docker_opts.env`
    await overlayctl(one, 'docker-opts', '-c', '--networks=27', '-f', one.subnetFile, '-d', output)
    const made = readFileSync(output, 'utf8')
    return [...made.matchAll(/base=(10\.5\.24\d\.[^,]+),size=27/g)].map(([, base = '']) => base)
  }
  const wide = all.filter((each) => each.endsWith('/27'))
  expect(await pools()).toEqual(wide)
  // subnet.env stays flannel's, and a Docker that starts while overlayd is down has the same pools.
  expect(Object.values(await one.subnetEnv()).join()).not.toContain(wide[0]?.split('/')[0])
  await one.stop()
  expect(await pools()).toEqual(wide)
  one.start({ flags: { 'ip-masq': 'true' } })
  await one.waitConverged(1)
  await one.restart('SIGKILL')
  await one.waitConverged(1)
  expect(await furtherOf(one)).toEqual(all)
})

test('a block that another host has taken during a drain is not claimed again', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  const [lost = ''] = (await furtherOf(two)).filter((each) => each.endsWith('/27'))
  expect(await overlayctl(two, 'drain', '--dry-run')).toContain(` and ${lost}`)
  await overlayctl(two, 'drain', '--yes')
  const host = await nameOf(one)
  const half = lost.replace('/27', '-28')
  await waitFor('the keys of host2 are gone', async () => {
    const keys = await lab.client.getAll().prefix(`${ETCD_PREFIX}/overlay/prefixes/`).keys()
    return !keys.some((key) => key.endsWith(lost.replace('/', '-'))) || new Pending(keys.join())
  })
  await lab.client
    .put(`${ETCD_PREFIX}/overlay/prefixes/${host}/${half}`)
    .value('{"priority":100,"further":true}')
  await overlayctl(two, 'drain', '--undo')
  const row = await waitFor('it waits', async () => {
    const prefixes = await announcedBy(two)
    return prefixes.find(({ prefix, own }) => own && prefix === lost) ?? new Pending(JSON.stringify(prefixes))
  })
  expect(row).toMatchObject({
    state: 'waits',
    reason: expect.stringContaining(`${host} has taken ${half.replace('-', '/')} meanwhile`),
  })
  const left = await furtherOf(two)
  expect(left).not.toContain(lost)
  expect(left).toHaveLength(3)
  await overlayctl(two, 'lease', 'remove', lost)
})
