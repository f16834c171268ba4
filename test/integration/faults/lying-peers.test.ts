/**
 * Leases that lie. Each is rejected with a reason, never gets into the kernel, and affects no other lease. A
 * lease that is put right is accepted.
 */

import { readFileSync } from 'node:fs'
import { BRIEF_PEERS } from '../../../src/api/words'
import { holdsPeer } from '../../lab/kernel-view'
import { DUAL_STACK_CONFIG, ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { dualPeer, type FakePeer, fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'
import type { RunningPing } from '../../lab/ping'

jest.setTimeout(patient(120_000))

const HONEST = fakePeer(0)
const DUAL = dualPeer(1)
const ELSE = { subnet: '10.5.170.0-24', publicIp: '172.16.7.1', mac: '02:fa:4e:00:07:01' }
const OTHER_SUBNET = HONEST.subnet
/** A correct lease of the subnet, except for the given fields. */
const value = (changes: object = {}): string =>
  JSON.stringify({ ...JSON.parse(leaseValue(ELSE)), ...changes })
const withMac = (VtepMAC: string): string => value({ BackendData: { VNI: 1, VtepMAC } })

const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`

interface Lie {
  readonly key?: string
  readonly value: string | Buffer
  readonly reason: RegExp
  /** Whether the same key can hold a correct lease. */
  readonly curable?: false
}

const key = (name: string): string => leaseKey(ETCD_PREFIX, name)

async function rejectedReason(host: Host, name: string): Promise<string | undefined> {
  const status = await host.status()
  if (!('peers' in status)) return undefined
  return status.peers.find(({ subnet, state }) => subnet === name && state === 'rejected')?.reason
}

/** Waits for a reason, and returns the reason. */
async function waitRejected(host: Host, name: string): Promise<string> {
  await host.waitUntil(`${name} is rejected`, async () => (await rejectedReason(host, name)) !== undefined)
  return (await rejectedReason(host, name)) ?? ''
}

const kernelOf = async (host: Host): Promise<string> =>
  JSON.stringify([
    await host.kernel(),
    await host.kernel(Host.device6),
    await host.exec('ip', 'route'),
    await host.exec('ip', '-6', 'route'),
  ])

describe('a lease', () => {
  let lab: Lab
  let ping: RunningPing
  let intact: string
  const own = { mac: '', subnet: '', half: '' }
  const host = () => lab.host(1)
  const kernel = () => kernelOf(host())

  beforeAll(async () => {
    lab = await Lab.create({ hosts: 2 })
    await lab.putPeers(HONEST)
    for (const each of lab.hosts) each.start()
    await lab.waitConverged(1)
    const [from, to] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
    ping = await lab.startPing(from, to, 20)
    own.mac = (await host().link()).mac
    const { subnet } = await host().subnetEnv()
    own.subnet = subnet.replace('.1/', '.0-')
    own.half = subnet.replace('.1/24', '.128-25')
    intact = await kernel()
  })
  afterAll(() => lab?.close())

  const lies: [string, Lie | (() => Lie)][] = [
    ['for the default route', { key: '0.0.0.0-0', value: value(), reason: /subnet|outside/, curable: false }],
    ['for its lower half', { key: '0.0.0.0-1', value: value(), reason: /outside/, curable: false }],
    ['for its upper half', { key: '128.0.0.0-1', value: value(), reason: /outside/, curable: false }],
    ['for the underlay', { key: '192.168.77.0-24', value: value(), reason: /outside/, curable: false }],
    ['for etcd', { key: '192.168.77.2-31', value: value(), reason: /outside/, curable: false }],
    [
      'for our subnet and more',
      () => ({
        key: own.subnet.replace(/\.\d+\.0-24/, '.0.0-16'),
        value: value(),
        reason: /./,
        curable: false,
      }),
    ],
    ['for our subnet', () => ({ key: own.subnet, value: value(), reason: /our own/, curable: false })],
    ['for a part of it', () => ({ key: own.half, value: value(), reason: /not a \/24/, curable: false })],
    [
      "for someone else's subnet",
      { key: OTHER_SUBNET, value: value(), reason: /already belongs to/, curable: false },
    ],
    [
      'with host bits in its key',
      { key: '10.5.170.1-24', value: value(), reason: /first address/, curable: false },
    ],
    [
      'with a key that is no subnet',
      { key: 'nonsense', value: value(), reason: /not a subnet/, curable: false },
    ],
    ['without a value', { value: '', reason: /JSON/ }],
    ['with bad UTF-8', { value: Buffer.from([0xff, 0xfe, 0x00, 0x80]), reason: /JSON/ }],
    [
      'of 1 MB',
      {
        value: value({ BackendType: 'x'.repeat(1_000_000) }),
        reason: /1000\d+ bytes; at most 16384 are read/,
      },
    ],
    [
      'nested a hundred thousand times',
      {
        value: value({ BackendData: 'X' }).replace('"X"', nested(100_000)),
        reason: /2000\d+ bytes; at most 16384 are read/,
      },
    ],
    ['nested a thousand times', { value: nested(1000), reason: /JSON/ }],
    ['with a long BackendType', { value: value({ BackendType: 'x'.repeat(10_000) }), reason: /BackendType/ }],
    ['nested at the top', { value: nested(100_000), reason: /200000 bytes; at most 16384 are read/ }],
    ['with our PublicIP', () => ({ value: value({ PublicIP: host().address }), reason: /our own/ })],
    ['with a multicast PublicIP', { value: value({ PublicIP: '239.1.1.1' }), reason: /unicast/ }],
    ['with a loopback PublicIP', { value: value({ PublicIP: '127.0.0.1' }), reason: /unicast/ }],
    ['with a PublicIP of zeros', { value: value({ PublicIP: '0.0.0.0' }), reason: /unicast/ }],
    ['with the broadcast PublicIP', { value: value({ PublicIP: '255.255.255.255' }), reason: /unicast/ }],
    [
      'with a PublicIP inside the overlay',
      { value: value({ PublicIP: '10.5.9.9' }), reason: /inside the overlay/ },
    ],
    ['with a PublicIP that is none', { value: value({ PublicIP: 'eth0' }), reason: /IPv4/ }],
    ['with a multicast MAC', { value: withMac('01:00:5e:00:00:01'), reason: /unicast/ }],
    ['with a MAC of zeros', { value: withMac('00:00:00:00:00:00'), reason: /unicast/ }],
    ["with another's MAC", { value: withMac(HONEST.mac), reason: /already belongs to/ }],
    ['with our MAC', () => ({ value: withMac(own.mac), reason: /our own/ })],
    ['with another VNI', { value: value({ BackendData: { VNI: 2, VtepMAC: ELSE.mac } }), reason: /VNI 2/ }],
    ['of another backend', { value: value({ BackendType: 'host-gw' }), reason: /not vxlan/ }],
    ['without backend data', { value: value({ BackendData: null }), reason: /BackendData/ }],
  ]

  test.each(lies)('%s is rejected, touches nothing, and is accepted once it is right', async (_, given) => {
    const lie = typeof given === 'function' ? given() : given
    // A second key for a subnet is that of a dual-stack host.
    const name =
      lie.key === own.subnet || lie.key === OTHER_SUBNET
        ? `${lie.key}&fd00:5:0:9999::-64`
        : (lie.key ?? ELSE.subnet)
    await lab.client.put(key(name)).value(lie.value)
    expect(await waitRejected(host(), name)).toMatch(lie.reason)
    expect(await kernel()).toBe(intact)
    if (lie.curable !== false) {
      await lab.client.put(key(name)).value(value())
      const cured: FakePeer = { ...ELSE, subnet: name }
      await host().waitForKernel('the honest lease', (view) => holdsPeer(view, cured))
    }
    await lab.client.delete().key(key(name))
    await host().waitForStatus('it is gone', ({ peers }) => peers.every(({ state }) => state === 'ok'))
    await host().waitUntil('the kernel is as before', async () => (await kernel()) === intact)
  })

  test('twenty thousand garbage keys flood neither log nor memory, and status answers', async () => {
    const memory = () =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${host().daemon.pid}/status`, 'utf8'))?.[1])
    const [rss, written] = [memory(), host().daemon.output.length]
    const names = Array.from({ length: 20_000 }, (_, i) => `garbage-${i}`)
    for (let from = 0; from < names.length; from += 100) {
      const some = names.slice(from, from + 100)
      await lab.client.kv.txn({
        success: some.map((name) => ({
          request_put: { key: Buffer.from(key(name)), value: Buffer.from('{') },
        })),
      })
    }
    await host().waitForStatus(
      'all are rejected',
      ({ peers, moreMisnamed = 0 }) => peers.length + moreMisnamed >= names.length,
      30_000,
    )
    const asked = performance.now()
    const brief = await host().status('?brief')
    const took = performance.now() - asked
    const shown = (await host().overlayctl('status')).stdout
    const lines = host().daemon.output.slice(written).split('\n').length
    process.stdout.write(
      `20,000 garbage keys: status in ${took.toFixed(0)} ms, ${((memory() - rss) / 1024).toFixed(0)} MiB more, ${lines} log lines\n`,
    )
    expect(brief).toMatchObject({ peerCounts: { rejected: names.length } })
    expect('peers' in brief && brief.peers.map(({ state }) => state)).toEqual(
      Array.from({ length: BRIEF_PEERS }, () => 'rejected'),
    )
    expect(shown).toMatch(/^peers +\d+ ok, 20000 rejected$/m)
    expect(shown).toMatch(/^and 199\d\d more: overlayctl peers$/m)
    expect(lines).toBeLessThan(200)
    expect(memory() - rss).toBeLessThan(200 * 1024)
    expect(await kernel()).toBe(intact)
    await lab.client.delete().prefix(key('garbage-'))
    await host().waitForStatus(
      'they are gone',
      ({ peers }) => peers.every(({ state }) => state === 'ok'),
      30_000,
    )
  })

  test('and all the while not a packet was lost between honest hosts', async () => {
    expect((await ping.stop()).lost).toBe(0)
  })
})

describe('a dual-stack lease', () => {
  let lab: Lab
  let intact: string
  let own = ''
  const host = () => lab.host(1)
  const kernel = () => kernelOf(host())

  beforeAll(async () => {
    lab = await Lab.create({ hosts: 1, config: DUAL_STACK_CONFIG })
    await lab.putPeers(DUAL)
    host().start()
    await lab.waitConverged(1)
    own = (await host().subnetEnv()).ipv6Subnet.replace('1/64', '-64')
    intact = await kernel()
  })
  afterAll(() => lab?.close())

  // No host chooses the subnet 171 (ab): the config's SubnetMax is 99, and a host's IPv6 subnet has the same
  // place.
  const six = (subnet: string, changes: object = {}) => ({
    name: `10.5.171.0-24&${subnet}`,
    value: value({
      PublicIPv6: 'fd77:1::77',
      BackendV6Data: { VNI: 1, VtepMAC: '02:fa:4e:06:07:01' },
      BackendData: { VNI: 1, VtepMAC: '02:fa:4e:00:07:02' },
      PublicIP: '172.16.7.2',
      ...changes,
    }),
  })

  test.each<[string, () => ReturnType<typeof six>, RegExp]>([
    ['everything', () => six('::-0'), /outside/],
    ['the lower half of everything', () => six('::-1'), /outside/],
    ['the upper half of everything', () => six('8000::-1'), /outside/],
    ['the underlay', () => six('fd77::-64'), /outside/],
    ['our subnet', () => six(own), /our own/],
    ['a link-local address', () => six('fd00:5:0:ab::-64', { PublicIPv6: 'fe80::1' }), /unicast/],
    ['a multicast address', () => six('fd00:5:0:ab::-64', { PublicIPv6: 'ff02::1' }), /unicast/],
    [
      "another's MAC",
      () => six('fd00:5:0:ab::-64', { BackendV6Data: { VNI: 1, VtepMAC: DUAL.six?.mac } }),
      /already belongs to/,
    ],
  ])('whose IPv6 half claims %s has only its IPv4 half', async (_, make, reason) => {
    const lie = make()
    await lab.client.put(key(lie.name)).value(lie.value)
    expect(await waitRejected(host(), lie.name)).toMatch(reason)
    expect(await host().kernel(Host.device6)).toEqual(JSON.parse(intact)[1])
    await host().waitForKernel('its IPv4 half', ({ routes }) =>
      routes.some((line) => line.startsWith('10.5.171.0/24')),
    )
    await lab.client.delete().key(key(lie.name))
    await host().waitUntil('the kernel is as before', async () => (await kernel()) === intact)
  })
})

test('two hosts that swap their MACs are followed at once', async () => {
  const lab = await Lab.create({ hosts: 1 })
  try {
    const [a, b] = [
      { subnet: '10.5.160.0-24', publicIp: '172.16.0.60', mac: '02:fa:4e:00:00:60' },
      { subnet: '10.5.161.0-24', publicIp: '172.16.0.61', mac: '02:fa:4e:00:00:61' },
    ]
    await lab.putPeers(a, b)
    lab.host(1).start()
    await lab.waitConverged(2)
    await lab.putPeers({ ...a, mac: b.mac })
    await lab.putPeers({ ...b, mac: a.mac })
    await lab
      .host(1)
      .waitForKernel(
        'the swapped MACs',
        (view) =>
          holdsPeer(view, { ...a, mac: b.mac }) &&
          holdsPeer(view, { ...b, mac: a.mac }) &&
          view.fdb.length === 2,
      )
    await lab.waitConverged(2)
  } finally {
    await lab.close()
  }
})

test('if the network may cover the underlay, no peer may cover an address that the host needs', async () => {
  const lab = await Lab.create({
    hosts: 2,
    config:
      '{"Network":"192.168.0.0/16","SubnetMin":"192.168.100.0","SubnetMax":"192.168.120.0","Backend":{"Type":"vxlan"}}',
  })
  try {
    for (const host of lab.hosts) host.start({ flags: { 'allow-network-overlap': 'true' } })
    await lab.waitConverged()
    const host = lab.host(1)
    const routes = () => host.exec('ip', 'route')
    const before = await routes()
    const lie = { ...ELSE, subnet: '192.168.77.0-24' }
    await lab.putPeers(lie)
    expect(await waitRejected(host, lie.subnet)).toMatch(
      /covers 192\.168\.77\.\d+, the (address of etcd|gateway)/,
    )
    await lab.deletePeer(lie)
    const late = { ...ELSE, subnet: '192.168.88.0-24' }
    await lab.putPeers(late)
    await host.waitForKernel('a peer that is no lie yet', (view) => holdsPeer(view, late))
    await host.exec('ip', 'address', 'add', '192.168.88.7/32', 'dev', 'lo')
    expect(await waitRejected(host, late.subnet)).toMatch(/covers 192\.168\.88\.7, an address of this host/)
    await host.waitUntil('its route is gone', async () => (await routes()) === before)
    await host.exec('ip', 'address', 'delete', '192.168.88.7/32', 'dev', 'lo')
    await host.waitForKernel('the peer again', (view) => holdsPeer(view, late))
  } finally {
    await lab.close()
  }
})
