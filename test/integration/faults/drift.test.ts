/** Objects that someone deletes, changes or adds on our device are put right, also if the event was lost. */
import type { Revision } from '../../../src/model/lease'
import { DUAL_STACK_CONFIG, ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { dualPeer, leaseKey } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { hw, ip, lease } from '../../unit/plan/support'
import { run } from '../kernel/network'
import { kernelOfFile, makeReconciler } from './reconciler-site'

jest.setTimeout(patient(120_000))

const FAKES = Array.from({ length: 5 }, (_, number) => dualPeer(number))
const [PEER = dualPeer(0)] = FAKES
const { device, device6 } = Host
const gateway = PEER.subnet.replace('-24', '')
const gateway6 = PEER.six?.subnet.replace('-64', '') ?? ''
const mac6 = PEER.six?.mac ?? ''
const ip6 = PEER.six?.publicIp ?? ''
/** The number of an address is the id of its nexthop. */
const id = String(ip(gateway))

/** How long each repair took: what happened -> milliseconds. */
const repairs: [string, number][] = []
afterAll(() => {
  const lines = repairs.map(([what, took]) => `${took.toFixed(0).padStart(6)} ms  ${what}`)
  process.stdout.write(`time until right again, as iproute2 sees it:\n${lines.join('\n')}\n`)
})

/**
 * All objects of the daemon on a host, without what may differ: interface indexes, and link-local addresses,
 * which come late.
 */
async function state(host: Host): Promise<string> {
  const commands = [device, device6].flatMap((name): [string, ...string[]][] => [
    ['ip', '-d', '-o', 'link', 'show', 'dev', name],
    ['ip', '-o', 'address', 'show', 'dev', name, 'scope', 'global'],
    ['ip', 'neigh', 'show', 'dev', name, 'nud', 'permanent'],
    ['bridge', 'fdb', 'show', 'dev', name],
    ['ip', 'route', 'show', 'dev', name],
    ['ip', '-6', 'route', 'show', 'dev', name, 'proto', '79'],
    ['ip', 'nexthop', 'show', 'dev', name],
  ])
  const settings = [
    'net/ipv4/ip_forward',
    'net/ipv6/conf/all/forwarding',
    `net/ipv4/conf/${device}/forwarding`,
  ]
  const shown = await Promise.all([
    ...commands.map((command) => host.exec(...command).catch(() => 'gone')),
    host.exec('ip', 'route', 'show', 'proto', '79'),
    ...settings.map((name) => host.exec('cat', `/proc/sys/${name}`).catch(() => 'gone')),
  ])
  return shown.map((text) => text.trimEnd().split('\n').map(withoutIndex).sort().join('\n')).join('\n\n')
}
const withoutIndex = (line: string): string => line.replace(/^\d+: /, '').replace(/ +$/, '')

describe('drift on a host', () => {
  let lab: Lab
  let host: Host
  let intact: string
  let key: string
  let revision: string

  const ownRevision = async (): Promise<string> =>
    (await lab.client.get(key).exec()).kvs[0]?.mod_revision ?? 'gone'

  beforeAll(async () => {
    lab = await Lab.create({ hosts: 2, config: DUAL_STACK_CONFIG })
    await lab.putPeers(...FAKES)
    for (const each of lab.hosts) each.start()
    await lab.waitConverged(FAKES.length)
    for (const each of lab.hosts) await each.addContainer()
    host = lab.host(1)
    await host.exec('ip', 'link', 'add', 'elsewhere', 'type', 'bridge')
    await lab.addNamespace('aside')
    intact = await state(host)
    const { subnet, ipv6Subnet } = await host.subnetEnv()
    const six = ipv6Subnet.replace(/1\/64$/, '-64')
    key = leaseKey(ETCD_PREFIX, `${subnet.replace(/1\/24$/, '0-24')}&${six}`)
    revision = await ownRevision()
  })
  afterAll(() => lab?.close())

  async function expectIntact(what: string): Promise<void> {
    const started = performance.now()
    await waitFor(
      `${what} to be right again`,
      async () => {
        const now = await state(host)
        return now === intact || new Pending(`${now}\n--- instead of\n${intact}`)
      },
      { timeoutMs: 20_000, context: () => host.daemon.tail() },
    )
    repairs.push([what, performance.now() - started])
  }

  test.each<[string, ...string[]]>([
    ['route deleted', `ip route delete ${gateway}/24`],
    ['route by another gateway', `ip route replace ${gateway}/24 via 10.5.151.0 dev ${device} onlink`],
    ['route of another protocol', `ip route replace ${gateway}/24 nhid ${id} proto static`],
    ['route moved to another link', `ip route replace ${gateway}/24 via 192.168.77.99 dev eth0 proto 79`],
    [
      'second route with a metric',
      `ip route add ${gateway}/24 via 10.5.151.0 dev ${device} onlink metric 50`,
    ],
    [
      'foreign destination over our device',
      `ip route add 198.51.100.0/24 via 10.5.151.0 dev ${device} onlink`,
    ],
    ['nexthop object deleted', `ip nexthop delete id ${id}`],
    [
      'nexthop object with another gateway',
      `ip nexthop replace id ${id} via 10.5.151.0 dev ${device} onlink`,
    ],
    ['nexthop object on another link', `ip nexthop replace id ${id} via 192.168.77.99 dev eth0`],
    ['nexthop object added', `ip nexthop add id 77 via 10.5.151.0 dev ${device} onlink`],
    ['neighbour deleted', `ip neigh delete ${gateway} dev ${device}`],
    ['neighbour with another MAC', `ip neigh replace ${gateway} lladdr 02:00:00:00:00:99 dev ${device}`],
    ['neighbour not permanent', `ip neigh replace ${gateway} lladdr ${PEER.mac} dev ${device} nud reachable`],
    ['neighbour added', `ip neigh add 10.5.177.0 lladdr 02:00:00:00:00:99 dev ${device} nud permanent`],
    ['FDB entry deleted', `bridge fdb delete ${PEER.mac} dev ${device} dst ${PEER.publicIp}`],
    ['FDB entry with another destination', `bridge fdb replace ${PEER.mac} dev ${device} dst 172.16.9.9`],
    ['FDB entry with a port', `bridge fdb replace ${PEER.mac} dev ${device} dst ${PEER.publicIp} port 4789`],
    ['FDB entry with a VNI', `bridge fdb replace ${PEER.mac} dev ${device} dst ${PEER.publicIp} vni 7`],
    [
      'FDB entry with an interface',
      `bridge fdb replace ${PEER.mac} dev ${device} dst ${PEER.publicIp} via eth0`,
    ],
    ['FDB entry to nowhere', `bridge fdb replace ${PEER.mac} dev ${device} dst 0.0.0.0`],
    ['FDB entry not permanent', `bridge fdb replace ${PEER.mac} dev ${device} dst ${PEER.publicIp} static`],
    ['FDB entry added', `bridge fdb add 02:00:00:00:00:99 dev ${device} dst 172.16.9.9 port 4789`],
    ['FDB entry of all MACs', `bridge fdb append 00:00:00:00:00:00 dev ${device} dst 172.16.9.9`],
    ['addresses deleted', `ip address flush dev ${device}`],
    ['address added', `ip address add 10.5.177.0/32 dev ${device}`],
    ['device with another MAC', `ip link set ${device} address 02:00:00:00:00:99`],
    ['device with another MTU', `ip link set ${device} mtu 1400`],
    ['device down', `ip link set ${device} down`],
    ['device down and up', `ip link set ${device} down`, `ip link set ${device} up`],
    ['device deleted', `ip link delete ${device}`],
    ['device renamed', `ip link set ${device} name mine`],
    ['device in a bridge', `ip link set ${device} master elsewhere`],
    ['device in another namespace', `ip link set ${device} netns aside`],
    ['device that learns', `ip link set ${device} type vxlan learning`],
    ['IPv4 forwarding off', 'sysctl -qw net.ipv4.ip_forward=0'],
    ['IPv4 forwarding of the device off', `sysctl -qw net/ipv4/conf/${device}/forwarding=0`],
    ['IPv6 forwarding off', 'sysctl -qw net.ipv6.conf.all.forwarding=0'],
    ['IPv6 route deleted', `ip route delete ${gateway6}/64`],
    [
      'IPv6 route by another gateway',
      `ip route replace ${gateway6}/64 via fd00:5:0:1001:: dev ${device6} onlink`,
    ],
    [
      'IPv6 neighbour with another MAC',
      `ip neigh replace ${gateway6} lladdr 02:00:00:00:00:99 dev ${device6}`,
    ],
    ['IPv6 FDB entry deleted', `bridge fdb delete ${mac6} dev ${device6} dst ${ip6}`],
    ['IPv6 FDB entry with a port', `bridge fdb replace ${mac6} dev ${device6} dst ${ip6} port 4789`],
    ['IPv6 address added', `ip address add fd00:5:0:77::/128 dev ${device6}`],
    ['IPv6 device deleted', `ip link delete ${device6}`],
    ['IPv6 device renamed', `ip link set ${device6} name mine6`],
  ])('%s: right again', async (what, ...commands) => {
    for (const command of commands) {
      const [program = '', ...args] = command.split(' ')
      await host.exec(program, ...args)
    }
    await expectIntact(what)
  })

  test('an FDB entry that goes through a nexthop object is replaced too', async () => {
    await host.exec('ip', 'nexthop', 'add', 'id', '5', 'via', '192.168.77.12', 'fdb')
    await host.exec('ip', 'nexthop', 'add', 'id', '6', 'group', '5', 'fdb')
    await host.exec('bridge', 'fdb', 'delete', PEER.mac, 'dev', device, 'dst', PEER.publicIp)
    await expectIntact('FDB entry deleted')
    const [shown] = [await state(host)]
    expect(shown).toBe(intact)
    await host.exec('bridge', 'fdb', 'add', '02:00:00:00:00:98', 'dev', device, 'nhid', '6')
    await expectIntact('FDB entry through a nexthop')
    for (const number of ['6', '5']) await host.exec('ip', 'nexthop', 'delete', 'id', number)
  })

  test('meanwhile the MACs stayed, nothing was published anew, and traffic flows', async () => {
    await lab.waitConverged(FAKES.length)
    expect(await ownRevision()).toBe(revision)
    const [[here], [there]] = [lab.host(1).containers, lab.host(2).containers]
    if (here === undefined || there === undefined) throw new Error('a host has no container')
    expect(await lab.ping(here, there, { count: 10 })).toMatchObject({ received: 10, lost: 0 })
    const six = { namespace: here.namespace, address: there.address6 ?? '' }
    expect(await lab.ping(here, six, { count: 10 })).toMatchObject({ received: 10, lost: 0 })
  })

  test('a blackhole yields to the bridge in either order, comes back, and goes with its flag', async () => {
    const other = lab.host(2)
    const subnet = (await other.subnetEnv()).subnet.replace('.1/', '.0/')
    const blackholes = () => other.exec('ip', 'route', 'show', 'type', 'blackhole')
    const reach = async () => {
      const [[here], [there]] = [host.containers, other.containers]
      if (here === undefined || there === undefined) throw new Error('a host has no container')
      expect(await lab.ping(here, there, { count: 5 })).toMatchObject({ received: 5 })
    }
    await other.stop()
    // The bridge has the subnet already.
    other.start({ flags: { 'ip-blackhole-route': 'true' } })
    await other.waitConverged(FAKES.length + 1)
    const [route] = (await blackholes()).trim().split('\n')
    expect(route).toMatch(new RegExp(`^blackhole ${subnet} proto 79 metric 4294967295`))
    await reach()
    await other.exec('ip', 'route', 'delete', 'blackhole', subnet)
    await other.waitUntil('the blackhole is back', async () => (await blackholes()).trim() === route?.trim())
    // The bridge gets the subnet after it.
    const bridge = subnet.replace('.0/', '.1/')
    await other.exec('ip', 'address', 'delete', bridge, 'dev', 'docker0')
    await other.exec('ip', 'address', 'add', bridge, 'dev', 'docker0')
    await reach()
    expect((await blackholes()).trim()).toBe(route?.trim())
    await other.stop()
    other.start()
    await other.waitConverged(FAKES.length + 1)
    expect((await blackholes()).trim()).toBe('')
    await reach()
  })
})

describe('drift of direct routes', () => {
  test('is right again, also after the link was down, of which the kernel tells no route', async () => {
    const lab = await Lab.create({
      hosts: 2,
      config:
        '{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan","DirectRouting":true}}',
    })
    try {
      await lab.startAll()
      const host = lab.host(1)
      const subnet = (await lab.host(2).subnetEnv()).subnet.replace('.1/', '.0/')
      const shown = () => host.exec('ip', 'route', 'show', subnet)
      const intact = await shown()
      expect(intact).toContain('dev eth0')
      const commands: readonly string[][] = [
        [`ip route delete ${subnet}`],
        [`ip route replace ${subnet} via 192.168.77.99 dev eth0 proto 79`],
        [`ip route add ${subnet} via 192.168.77.99 dev eth0 proto 79 metric 9`],
        ['ip link set eth0 down', 'ip link set eth0 up', 'ip route add default via 192.168.77.1'],
      ]
      for (const steps of commands) {
        for (const step of steps) {
          const [program = '', ...args] = step.split(' ')
          await host.exec(program, ...args)
        }
        const started = performance.now()
        await host.waitUntil(`${steps[0]} is undone`, async () => (await shown()) === intact, 30_000)
        repairs.push([`direct routing: ${steps[0]}`, performance.now() - started])
      }
    } finally {
      await lab.close()
    }
  })
})

describe('drift whose event was lost', () => {
  let end: AbortController
  let running: Promise<void>

  // Written before the hooks of the kernel, so that it runs before the kernel is closed.
  afterAll(async () => {
    end?.abort()
    await running
    run('ip link delete flannel.1')
  })
  const kernel = kernelOfFile()
  beforeAll(async () => {
    // The reconciler gets no notification of the kernel.
    const { peers, reconciler } = await makeReconciler(kernel(), { forward: true, options: { period: 300 } })
    const changes = peers.reset([lease('10.5.2.0/24', { publicIp: '192.0.2.9' })], [])
    reconciler.peersChanged(changes, 1n as Revision)
    end = new AbortController()
    await reconciler.syncAll(end.signal)
    running = reconciler.run(end.signal, { every: Number.POSITIVE_INFINITY, tell: () => undefined })
  })

  const objects = () =>
    [
      'ip -o -4 address show dev flannel.1',
      'ip route show dev flannel.1',
      'ip neigh show dev flannel.1 nud permanent',
      'bridge fdb show dev flannel.1',
      'ip nexthop show dev flannel.1',
      'ip route show proto 79',
      'ip -d -o link show dev flannel.1',
      'cat /proc/sys/net/ipv6/conf/flannel.1/accept_ra /proc/sys/net/ipv4/ip_forward',
    ]
      .map((command) => {
        try {
          return run(command).replace(/^\d+: /gm, '')
        } catch {
          return 'gone'
        }
      })
      .join('\n')

  test.each([
    'ip route delete 10.5.2.0/24',
    'ip route replace 10.5.2.0/24 via 192.0.2.77 dev under0 proto 79',
    'ip neigh delete 10.5.2.0 dev flannel.1',
    'bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.9 port 4789',
    `ip nexthop delete id ${ip('10.5.2.0')}`,
    'ip address flush dev flannel.1',
    'ip link set flannel.1 mtu 1400',
    'ip link set flannel.1 down',
    'ip link delete flannel.1',
    'ip link set flannel.1 name other',
    'sysctl -qw net/ipv6/conf/flannel.1/accept_ra=1',
    'sysctl -qw net.ipv4.ip_forward=0',
  ])('%s: right again within the period', async (command) => {
    const intact = objects()
    expect([hw('02:00:00:00:00:02'), intact.includes('gone')]).toEqual([0x020000000002, false])
    run(command)
    await waitFor(
      'it to be right again',
      () => objects() === intact || new Pending(`${objects()}\n---\n${intact}`),
      {
        timeoutMs: 20_000,
      },
    )
  })
})
