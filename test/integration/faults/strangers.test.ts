/**
 * Objects of others on a host are never touched, through a whole life of the daemon. The daemon reports an
 * object that is in its way.
 */
import { holdsPeer } from '../../lab/kernel-view'
import { Host, Lab } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { foreignState } from '../../support/snapshot'

jest.setTimeout(patient(120_000))

const config = (DirectRouting: boolean): string =>
  JSON.stringify({
    Network: '10.5.0.0/16',
    SubnetMax: '10.5.99.0',
    Backend: { Type: 'vxlan', DirectRouting },
  })
const [ROUTED, NUMBERED, PLAIN, COMES] = [fakePeer(0), fakePeer(1), fakePeer(2), fakePeer(3)]
/** 10.5.151.0: the id that the nexthop of NUMBERED would have. */
const TAKEN_ID = ((10 << 24) | (5 << 16) | (151 << 8)) >>> 0

let lab: Lab
afterEach(() => lab?.close())

/** Lines about our objects: on our device, or to the other host without encapsulation. */
const isOurs = (line: string): boolean =>
  /flannel\.1\b/.test(line) || /^10\.5\.\d+\.0\/24 via 192\.168\.77\.12 dev eth0 proto 79/.test(line)

const STRANGERS = [
  'link add stranger0 type veth peer name stranger1',
  'link set stranger0 up',
  'link set stranger1 up',
  'link add name stranger-br type bridge',
  'link add vxlan7 type vxlan id 7 dev eth0 local 192.168.77.11 dstport 4789',
  'link set vxlan7 up',
  'address add 198.51.100.1/24 dev stranger0',
  'address add 10.9.9.9/32 dev stranger0',
  'address add fd99::1/64 dev stranger0 nodad',
  'neigh add 198.51.100.2 lladdr 02:00:00:00:99:02 dev stranger0 nud permanent',
  'neigh add fd99::2 lladdr 02:00:00:00:99:02 dev stranger0 nud permanent',
  'neigh add 198.51.100.3 lladdr 02:00:00:00:99:03 dev vxlan7 nud permanent',
  'route add 203.0.113.0/24 via 198.51.100.2 dev stranger0 proto static',
  // Routes with our protocol outside of our network.
  'route add 203.0.114.0/24 via 198.51.100.2 dev stranger0 proto 79',
  'route add 10.6.0.0/16 via 198.51.100.2 dev stranger0 proto 79',
  'route add fd98::/64 via fd99::2 dev stranger0 proto static',
  // Routes of other programs in our network.
  'route add 10.5.150.0/24 via 198.51.100.2 dev stranger0 proto static',
  'route add 10.5.152.0/24 via 198.51.100.2 dev stranger0 proto bgp metric 20',
  'route add 10.5.0.0/16 via 198.51.100.2 dev stranger0 proto bgp metric 20',
  'route add 10.5.153.0/24 via 198.51.100.2 dev stranger0 table 100',
  'route add blackhole 192.0.2.0/24',
  'nexthop add id 1 via 198.51.100.2 dev stranger0 proto bgp',
  'nexthop add id 2 via 198.51.100.3 dev stranger0 proto bgp',
  'nexthop add id 3 group 1/2',
  `nexthop add id ${TAKEN_ID} via 198.51.100.2 dev stranger0 proto bgp`,
  'route add 203.0.115.0/24 nhid 3',
  'rule add from 198.51.100.0/24 table 100 priority 100',
  '-6 rule add from fd99::/64 table 100 priority 100',
]

test('no byte of others changes during start, churn, repair, restart and config changes', async () => {
  lab = await Lab.create({ hosts: 2, config: config(false) })
  const host = lab.host(1)
  // One command each: in a batch, iproute2 6.1 gives a route the protocol of an earlier route.
  for (const line of STRANGERS) await host.exec('ip', ...line.split(' '))
  await host.exec('bridge', 'fdb', 'add', '02:00:00:00:99:03', 'dev', 'vxlan7', 'dst', '192.168.77.99')
  // Waits until the links have come to rest.
  await host.waitUntil('IPv6 of the links is ready', async () => {
    const shown = await host.exec('ip', '-6', 'address', 'show', 'tentative')
    return shown.trim() === '' && (await host.exec('ip', 'link', 'show', 'stranger0')).includes('state UP')
  })
  const before = await foreignState(host, isOurs)
  const expectUntouched = async () => expect(await foreignState(host, isOurs)).toEqual(before)

  await lab.putPeers(ROUTED, NUMBERED, PLAIN)
  for (const each of lab.hosts) each.start()
  const failing = await host.waitForStatus('the route in the way is named', ({ peers }) =>
    peers.some(({ state, reason }) => state === 'failing' && (reason ?? '').includes('stranger0')),
  )
  expect(failing.peers.filter(({ state }) => state === 'failing')).toEqual([
    expect.objectContaining({
      subnet: '10.5.150.0/24',
      reason: expect.stringContaining(
        "someone else's route is in the way: 10.5.150.0/24 via 198.51.100.2 dev stranger0 proto static; remove it (ip route delete 10.5.150.0/24 via 198.51.100.2 dev stranger0 proto static)",
      ),
    }),
  ])
  await host.waitForStatus(
    'all others are there',
    ({ peers }) => peers.filter(({ state }) => state === 'ok').length === 3,
  )
  // The nexthop id is taken, so the route names its gateway itself.
  const view = await host.kernel()
  expect(view.routes).toContain('10.5.151.0/24 via 10.5.151.0 onlink')
  expect(view.nexthops).not.toContain('10.5.151.0')
  expect(holdsPeer(view, PLAIN)).toBe(true)
  await expectUntouched()

  await lab.putPeers(COMES)
  await host.waitForKernel('a peer that comes', (now) => holdsPeer(now, COMES))
  await host.exec('ip', 'route', 'delete', '10.5.152.0/24', 'proto', '79')
  await host.exec('ip', 'link', 'delete', Host.device)
  await host.waitForKernel('all repaired', (now) => holdsPeer(now, PLAIN) && holdsPeer(now, COMES))
  await lab.deletePeer(COMES)
  await host.waitForKernel('it leaves', (now) => !holdsPeer(now, COMES))
  await expectUntouched()

  for (const direct of [true, false]) {
    await lab.putConfig(config(direct))
    await host.restart()
    await host.waitForStatus(
      'restarted',
      ({ peers, daemon }) =>
        daemon.phase === 'running' && peers.filter(({ state }) => state === 'ok').length === 3,
    )
    const line = await host.exec('ip', 'route', 'show', 'proto', '79')
    expect(line.includes('via 192.168.77.12 dev eth0')).toBe(direct)
    await expectUntouched()
  }

  // Once the other programs make room, our objects follow at once, also in place of the route by gateway.
  await host.exec('ip', 'route', 'delete', '10.5.150.0/24', 'dev', 'stranger0')
  await host.exec('ip', 'nexthop', 'delete', 'id', String(TAKEN_ID))
  await host.waitForKernel('all peers', (now) =>
    [ROUTED, NUMBERED, PLAIN].every((peer) => holdsPeer(now, peer)),
  )
  await lab.host(1).waitConverged(4)
  // Objects of others that come back find the place taken or take the place, and are left alone.
  await host.exec(
    'ip',
    'route',
    'replace',
    '10.5.150.0/24',
    'via',
    '198.51.100.2',
    'dev',
    'stranger0',
    'proto',
    'static',
  )
  await host.waitForStatus('the route in the way is named again', ({ peers }) =>
    peers.some(({ subnet, state }) => subnet === '10.5.150.0/24' && state === 'failing'),
  )
  expect(await host.exec('ip', 'route', 'show', '10.5.150.0/24')).toContain('dev stranger0 proto static')
})

test.each([
  [
    'our name',
    'link add flannel.1 type bridge',
    /flannel\.1 exists and is of kind bridge.*ip link del flannel\.1/s,
  ],
  [
    'our VNI and port',
    'link add other type vxlan id 1 dev eth0 local 192.168.77.11 dstport 8472',
    /the device other already uses VNI 1 on UDP port 8472.*ip link delete other/s,
  ],
])('a device of someone else with %s is named, and stays', async (_, command, message) => {
  lab = await Lab.create({ hosts: 1 })
  const host = lab.host(1)
  await ipBatch(host.namespace, [command])
  const before = await host.exec('ip', '-d', 'link', 'show')
  host.start()
  // The daemon waits until the other program makes room, and gives the reason.
  const { problems } = await host.waitForStatus('what is in the way', ({ daemon }) =>
    ['name-taken', 'vni-in-use'].includes(daemon.waiting?.code ?? ''),
  )
  expect(problems.join()).toMatch(message)
  expect(host.daemon.output).toMatch(message)
  expect(await host.exec('ip', '-d', 'link', 'show')).toBe(before)
})
