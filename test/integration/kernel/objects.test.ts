import { type Ipv4, type Ipv6, ipv4, mac } from '../../../src/model/address'
import { type ObjectOperation, operationName, proxyKey } from '../../../src/model/kernel/objects'
import { ROUTE_PROTOCOL, type Route, routeKey } from '../../../src/model/kernel/route'
import { patient } from '../../lab/patience'
import { remove, removeRoute, set, setRoute, to } from '../../support/operations'
import {
  address,
  deviceForEachTest,
  openKernel,
  PARENT,
  peerOperations,
  routeOf,
  run,
  show,
  testPeer,
} from './network'

jest.setTimeout(patient(30_000))

const site = deviceForEachTest()

const peer = testPeer(1)
const other = testPeer(2)

/** Applies the operations twice, and expects no refusal. */
async function applyTwice(...operations: ObjectOperation[]): Promise<void> {
  expect(await site.kernel.apply(site.index, operations)).toEqual([])
  expect(await site.kernel.apply(site.index, operations)).toEqual([])
}

const only = (address: Ipv4, length = 24) => routeKey({ address, length })

test('neighbours', async () => {
  await applyTwice(set('neighbour', peer.subnet, other.mac))
  await applyTwice(set('neighbour', peer.subnet, peer.mac))
  run(`ip neighbour add 192.0.2.77 lladdr 02:00:00:00:00:77 dev ${PARENT}`)
  run('ip neighbour add 10.99.0.1 lladdr 02:00:00:00:00:78 dev flannel.1 nud reachable')
  expect((await site.kernel.observe('IPv4', site.index)).neighbour).toEqual(
    new Map([[peer.subnet, peer.mac]]),
  )
  expect(show('ip -j neighbour show 10.16.1.0 dev flannel.1')).toEqual([
    { dst: '10.16.1.0', lladdr: '02:01:00:00:00:01', state: ['PERMANENT'] },
  ])
  await applyTwice(remove('neighbour', peer.subnet, peer.mac))
  expect((await site.kernel.observe('IPv4', site.index)).neighbour.size).toBe(0)
})

test('forwarding entries', async () => {
  await applyTwice(set('fdb', peer.mac, to(other.publicIp)))
  await applyTwice(set('fdb', peer.mac, to(peer.publicIp)))
  run(`ip link add rival type vxlan id 2 dev ${PARENT} dstport 8472`)
  run('bridge fdb add 02:00:00:00:00:55 dst 192.0.2.55 dev rival')
  run('bridge fdb append 00:00:00:00:00:00 dst 192.0.2.66 dev flannel.1')
  run('bridge fdb append 00:00:00:00:00:00 dst 192.0.2.67 dev flannel.1')
  try {
    expect((await site.kernel.observe('IPv4', site.index)).fdb).toEqual(
      new Map([
        [peer.mac, [to(peer.publicIp)]],
        [mac(0), [to(address('192.0.2.66')), to(address('192.0.2.67'))]],
      ]),
    )
    expect(show('bridge -j fdb show dev flannel.1')).toContainEqual(
      expect.objectContaining({
        mac: '02:01:00:00:00:01',
        dst: '172.16.0.1',
        state: 'permanent',
        flags: ['self'],
      }),
    )
    // Nothing is deleted if the MAC has another destination by now.
    await applyTwice(remove('fdb', peer.mac, to(other.publicIp)))
    await applyTwice(remove('fdb', mac(0), to(address('192.0.2.66'))))
    expect((await site.kernel.observe('IPv4', site.index)).fdb).toEqual(
      new Map([
        [peer.mac, [to(peer.publicIp)]],
        [mac(0), [to(address('192.0.2.67'))]],
      ]),
    )
    await applyTwice(remove('fdb', peer.mac, to(peer.publicIp)))
    expect((await site.kernel.observe('IPv4', site.index)).fdb.has(peer.mac)).toBe(false)
  } finally {
    run('ip link delete rival')
  }
})

describe('a forwarding entry with a link of its own', () => {
  const entryOf = async (): Promise<unknown> =>
    (await site.kernel.observe('IPv4', site.index)).fdb.get(peer.mac)
  const indexOf = (name: string): number => show(`ip -j link show dev ${name}`)[0]?.['ifindex'] as number
  let link: number

  beforeEach(() => {
    run('ip link add tunnel0 type veth peer name tunnel1')
    link = indexOf('tunnel0')
  })
  afterEach(() => {
    const isThere = show('ip -j link show').some(({ ifname }) => ifname === 'tunnel0')
    if (isThere) run('ip link delete tunnel0')
  })

  test('changes its link in place, and the address with it', async () => {
    await applyTwice(set('fdb', peer.mac, to(peer.publicIp)))
    await applyTwice(set('fdb', peer.mac, to(peer.publicIp, link)))
    expect(await entryOf()).toEqual([to(peer.publicIp, link)])
    expect(show('bridge -j fdb show dev flannel.1')).toContainEqual(
      expect.objectContaining({ mac: '02:01:00:00:00:01', dst: '172.16.0.1', viaIf: 'tunnel0' }),
    )
    await applyTwice(set('fdb', peer.mac, to(other.publicIp, indexOf('tunnel1'))))
    expect(await entryOf()).toEqual([to(other.publicIp, indexOf('tunnel1'))])
    await applyTwice(set('fdb', peer.mac, to(peer.publicIp)))
    expect(await entryOf()).toEqual([to(peer.publicIp)])
  })

  test('keeps a link that is gone until it is replaced, and can be deleted nevertheless', async () => {
    await applyTwice(
      set('fdb', peer.mac, to(peer.publicIp, link)),
      set('fdb', other.mac, to(other.publicIp, link)),
    )
    run('ip link delete tunnel0')
    expect(await entryOf()).toEqual([to(peer.publicIp, link)])
    expect(
      await site.kernel.apply(site.index, [set('fdb', peer.mac, to(peer.publicIp, link))]),
    ).toMatchObject([{ cause: 'gone', errno: 'EADDRNOTAVAIL' }])
    await applyTwice(set('fdb', peer.mac, to(peer.publicIp)))
    await applyTwice(remove('fdb', other.mac, to(other.publicIp, link)))
    expect((await site.kernel.observe('IPv4', site.index)).fdb).toEqual(
      new Map([[peer.mac, [to(peer.publicIp)]]]),
    )
  })
})

test('nexthops', async () => {
  const add = (replace: boolean, gateway = peer.subnet): ObjectOperation =>
    set('nexthop', 7, gateway, replace)
  await applyTwice(add(true, other.subnet))
  await applyTwice(add(true))
  const [failure] = await site.kernel.apply(site.index, [add(false, other.subnet)])
  expect(failure?.error).toMatchObject({ errnoName: 'EEXIST' })
  run(`ip nexthop add id 8 via 192.0.2.9 dev ${PARENT}`)
  run('ip nexthop add id 9 dev flannel.1')
  run('ip nexthop add id 10 blackhole')
  run('ip nexthop add id 11 group 7')
  expect((await site.kernel.observe('IPv4', site.index)).nexthop).toEqual(
    new Map([
      [7, peer.subnet],
      [9, ipv4(0)],
    ]),
  )
  expect(show('ip -j nexthop show id 7')).toEqual([
    expect.objectContaining({ id: 7, gateway: '10.16.1.0', dev: 'flannel.1', flags: ['onlink'] }),
  ])
  await applyTwice(remove('nexthop', 7, peer.subnet), remove('nexthop', 9, ipv4(0)))
  expect((await site.kernel.observe('IPv4', site.index)).nexthop.size).toBe(0)
  for (const id of [8, 10]) run(`ip nexthop delete id ${id}`)
})

test('a route through a nexthop object looks as users of flannel know it', async () => {
  expect(await site.kernel.apply(site.index, peerOperations(peer))).toEqual([])
  expect(show('ip -j route show 10.16.1.0/24')).toEqual([
    expect.objectContaining({
      dst: '10.16.1.0/24',
      gateway: '10.16.1.0',
      dev: 'flannel.1',
      flags: ['onlink'],
    }),
  ])
  expect(run('ip route show 10.16.1.0/24')).toBe(
    '10.16.1.0/24 nhid 10001 via 10.16.1.0 dev flannel.1 proto 79 onlink \n',
  )
  expect((await site.kernel.observe('IPv4', site.index)).route).toEqual(
    new Map([[only(peer.subnet), [routeOf(peer)]]]),
  )
  await applyTwice(removeRoute(routeOf(peer)))
  expect((await site.kernel.observe('IPv4', site.index)).route.size).toBe(0)
})

test('a route with an MTU is seen with it, and gets another one in place', async () => {
  expect(await site.kernel.apply(site.index, peerOperations(peer))).toEqual([])
  for (const mtu of [1350, 1280, 0]) {
    const wanted = { ...routeOf(peer), mtu }
    await applyTwice(setRoute(wanted, true))
    expect((await site.kernel.observe('IPv4', site.index)).route).toEqual(
      new Map([[only(peer.subnet), [wanted]]]),
    )
    expect(run('ip route show 10.16.1.0/24').includes(`mtu ${mtu}`)).toBe(mtu !== 0)
  }
  await applyTwice(removeRoute(routeOf(peer)))
})

test('routes of flannel are seen, replaced in place, and deleted exactly', async () => {
  run('ip route add 10.16.1.0/24 via 10.16.1.0 dev flannel.1 onlink proto boot')
  run('ip route add 10.16.1.0/24 via 10.16.1.0 dev flannel.1 onlink proto boot metric 9')
  run('ip route add 10.16.2.0/24 dev flannel.1 proto static')
  run('ip route add 10.16.3.0/24 via 10.16.3.0 dev flannel.1 onlink table 100')
  run('ip route add 10.16.4.0/24 via 192.0.2.4')
  run('ip route add blackhole 10.16.5.0/24')
  const flannel = (metric: number): Route => ({ ...routeOf(peer, 'gateway'), metric, protocol: 3 })
  expect((await site.kernel.observe('IPv4', site.index)).route).toEqual(
    new Map([
      [only(peer.subnet), [flannel(0), flannel(9)]],
      [only(other.subnet), [{ ...routeOf(other), protocol: 4, target: { kind: 'other' } }]],
    ]),
  )
  const [neighbour, entry, nexthop] = peerOperations(peer)
  if (neighbour === undefined || entry === undefined || nexthop === undefined)
    throw new Error('three are wanted')
  await site.kernel.apply(site.index, [neighbour, entry, nexthop])
  await applyTwice(setRoute(routeOf(peer), true))
  expect((await site.kernel.observe('IPv4', site.index)).route.get(only(peer.subnet))).toEqual([
    routeOf(peer),
    flannel(9),
  ])
  await applyTwice(
    removeRoute(flannel(9)),
    removeRoute({ ...routeOf(other), protocol: 4, target: { kind: 'other' } }),
    removeRoute(flannel(0)),
  )
  expect((await site.kernel.observe('IPv4', site.index)).route).toEqual(
    new Map([[only(peer.subnet), [routeOf(peer)]]]),
  )
  expect(show('ip -j route show table 100').length).toBe(1)
  expect(show('ip -j route show 10.16.4.0/24').length).toBe(1)
  for (const route of ['10.16.4.0/24', 'blackhole 10.16.5.0/24']) run(`ip route delete ${route}`)
})

test("a stranger's route of the same prefix is neither overwritten nor deleted", async () => {
  run('ip route add 10.16.1.0/24 via 192.0.2.4')
  try {
    const failures = await site.kernel.apply(site.index, peerOperations(peer))
    expect(failures.map(({ operation }) => operationName(operation))).toEqual(['set-route'])
    expect(failures[0]?.error).toMatchObject({
      errnoName: 'EEXIST',
      message:
        'cannot add the route to 10.16.1.0/24 through nexthop 10001 proto 79: file already exists (EEXIST)',
    })
    const plain = routeOf(peer, 'gateway')
    expect((await site.kernel.apply(site.index, [setRoute(plain)])).length).toBe(1)
    await applyTwice(removeRoute(routeOf(peer)), removeRoute(plain))
    expect(run('ip route show 10.16.1.0/24')).toBe(`10.16.1.0/24 via 192.0.2.4 dev ${PARENT} \n`)
  } finally {
    run('ip route delete 10.16.1.0/24')
  }
})

test('without nexthop objects there are plain routes', async () => {
  const plain = await openKernel({ nexthopObjects: 'off' })
  try {
    expect([site.kernel.nexthopObjects, plain.nexthopObjects]).toEqual([true, false])
    run('ip nexthop add id 7 via 10.16.2.0 dev flannel.1 onlink')
    const route = routeOf(peer, 'gateway')
    expect(await plain.apply(site.index, [setRoute(route)])).toEqual([])
    expect(await plain.observe('IPv4', site.index)).toMatchObject({
      nexthop: new Map(),
      route: new Map([[only(peer.subnet), [route]]]),
    })
    expect(run('ip route show 10.16.1.0/24')).toBe(
      '10.16.1.0/24 via 10.16.1.0 dev flannel.1 proto 79 onlink \n',
    )
  } finally {
    plain.close()
  }
})

test('the poison ones of 200 operations fail, and nothing else', async () => {
  const poison = (n: number) => n % 17 === 0 || n === 63 || n === 127 || n === 199
  const operations = Array.from({ length: 200 }, (_, n): ObjectOperation => {
    const address = poison(n) ? ipv4(0xe0000001) : testPeer(n).subnet // no gateway may be a multicast group
    return poison(n) ? set('nexthop', n + 1, address, true) : set('neighbour', address, testPeer(n).mac)
  })
  const failures = await site.kernel.apply(site.index, operations)
  expect(failures.map(({ operation }) => operation)).toEqual(operations.filter((_, n) => poison(n)))
  expect((await site.kernel.observe('IPv4', site.index)).neighbour.size).toBe(
    operations.filter((_, n) => !poison(n)).length,
  )
})

test('what has ended by its signal can be done again', async () => {
  const operations = Array.from({ length: 1000 }, (_, n) => testPeer(n)).flatMap(peerOperations)
  const controller = new AbortController()
  setImmediate(() => controller.abort(new Error('enough')))
  await expect(site.kernel.apply(site.index, operations, controller.signal)).rejects.toThrow('enough')
  await expect(site.kernel.observe('IPv4', site.index, undefined, controller.signal)).rejects.toThrow(
    'enough',
  )
  const { neighbour: neighbours } = await site.kernel.observe('IPv4', site.index)
  expect(neighbours.size).toBeGreaterThan(0)
  expect(neighbours.size).toBeLessThan(1000)
})

test.each([
  ['IPv4', { address: ipv4(0xc0000207), length: 32 }, '192.0.2.7', 0],
  ['IPv6', { address: 0xfd000009_0000_0000_0000_0000_0000_0007n as Ipv6, length: 128 }, 'fd00:9::7', 1024],
] as const)(
  'a route to another link, and a proxy neighbour there, %s',
  async (family, destination, text, metric) => {
    const { index: link } = (await site.kernel.link(PARENT)) ?? { index: 0 }
    const network = { address: destination.address, length: destination.length - 8 }
    const elsewhere = { network, routes: true, proxies: true, links: [] }
    const target = { kind: 'link', link } as const
    const local: Route = { destination, metric, tos: 0, protocol: ROUTE_PROTOCOL, target, mtu: 0 }
    const entry = { address: destination.address, link }
    const version = family === 'IPv4' ? '-4' : '-6'
    // A stranger's entry is not ours.
    run(`ip neigh add proxy ${text.replace('7', '8')} dev ${PARENT}`)
    await applyTwice(setRoute(local, true), set('proxy', proxyKey(entry), entry))
    expect(show(`ip -j ${version} route show ${text}`)).toEqual([
      expect.objectContaining({
        dst: text,
        dev: PARENT,
        protocol: '79',
        ...(family === 'IPv4' && { scope: 'link' }),
      }),
    ])
    const { route, proxy } = await site.kernel.observe(family, site.index, elsewhere)
    expect([...route.values()]).toEqual([[local]])
    expect(proxy).toEqual(new Map([[proxyKey(entry), entry]]))
    expect(await site.kernel.proxies(family)).toEqual([entry])
    await applyTwice(removeRoute(local), remove('proxy', proxyKey(entry), entry))
    expect((await site.kernel.observe(family, site.index, elsewhere)).route.size).toBe(0)
    expect(await site.kernel.proxies(family)).toEqual([])
    run(`ip neigh delete proxy ${text.replace('7', '8')} dev ${PARENT}`)
  },
)

test('10,000 peers are programmed and read back', async () => {
  const peers = Array.from({ length: 10_000 }, (_, n) => testPeer(n))
  expect(await site.kernel.apply(site.index, peers.flatMap(peerOperations))).toEqual([])
  expect(await site.kernel.observe('IPv4', site.index)).toEqual({
    neighbour: new Map(peers.map(({ subnet, mac }) => [subnet, mac])),
    fdb: new Map(peers.map(({ mac, publicIp }) => [mac, [to(publicIp)]])),
    nexthop: new Map(peers.map(({ nexthop, subnet }) => [nexthop, subnet])),
    route: new Map(peers.map((peer) => [only(peer.subnet), [routeOf(peer)]])),
    proxy: new Map(),
    takenNexthops: new Set(),
  })
})
