import { formatPrefix, type IpAddress } from '../../../../src/model/address'
import { emptyObjects } from '../../../../src/model/kernel/objects'
import { type RouteKey, routeKey, routePrefix, type SharedMember } from '../../../../src/model/kernel/route'
import type { Peer } from '../../../../src/model/lease'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { compareSlice, passSlices } from '../../../../src/plan/reconcile/compare-slice'
import { desiredObjects } from '../../../../src/plan/reconcile/desired'
import { applyOperation } from '../../../../src/plan/reconcile/diff'
import { addPeer, emptyScope, type Scope } from '../../../../src/plan/reconcile/scope'
import { hw, ip, ipv4Range, lease, net } from '../support'

const subnet = net('10.5.1.0/24')
const OWN = { key: 'own', subnet, publicIp: ip('192.168.77.11'), mac: hw('02:00:00:00:00:01') }
const PREFIX = net('192.0.2.0/24')

function setUp() {
  const table = new PeerTable({ range: ipv4Range(), vni: 1 }, OWN)
  const two = lease('10.5.2.0/24')
  const three = lease('10.5.3.0/24', { publicIp: '192.168.77.13', mac: '02:00:00:00:00:03' })
  table.reset([two, three], [])
  const memory = emptyObjects()
  const wanted = {
    subnet,
    blackhole: false,
    routing: {
      style: 'nexthop',
      directLink: () => undefined,
      prefixesOf: (peer) => table.prefixesOf(peer),
      carriersOf: (key) => table.carriersOf(key),
    },
  } as const satisfies Parameters<typeof compareSlice>[2]
  const apply = (slices: Parameters<typeof compareSlice>[0][]) =>
    slices.flatMap((slice) => {
      const operations = compareSlice(slice, memory, wanted)
      for (const operation of operations) applyOperation(memory, operation)
      return operations
    })
  const full = () => apply([...passSlices(table.peers(), memory, { subnet, table, failed: emptyScope })])
  const scoped = (scope: Scope) => apply([{ peers: table.peers(), scope }])
  const routes = () => [...memory.route.keys()].map((key) => formatPrefix(routePrefix(key))).sort()
  return { table, two, three, memory, full, scoped, routes }
}

test('a prefix is a route to its peer, which a full pass makes, keeps and removes', () => {
  const { table, two, full, routes, memory } = setUp()
  expect(table.routed.replace([{ prefix: PREFIX, carriers: [{ peer: two.key, weight: 1 }] }])).toHaveLength(1)
  full()
  expect(routes()).toEqual(['10.5.2.0/24', '10.5.3.0/24', '192.0.2.0/24'])
  expect(full()).toEqual([])
  const [route] = [...memory.route.values()]
    .flat()
    .filter(({ destination }) => destination.address === PREFIX.address)
  expect(route?.target).toEqual({ kind: 'nexthop', id: ip('10.5.2.0') })
  table.routed.replace([])
  expect(full()).toEqual([expect.objectContaining({ do: 'delete', kind: 'route' })])
  expect(routes()).toEqual(['10.5.2.0/24', '10.5.3.0/24'])
})

test('a prefix that moves is one replaced route, and nothing else is looked at', () => {
  const { table, two, three, full, scoped } = setUp()
  table.routed.replace([{ prefix: PREFIX, carriers: [{ peer: two.key, weight: 1 }] }])
  full()
  const moved = table.routed.replace([{ prefix: PREFIX, carriers: [{ peer: three.key, weight: 1 }] }])
  const scope = emptyScope()
  for (const key of moved) scope.route.add(key)
  expect(scoped(scope)).toEqual([
    expect.objectContaining({
      do: 'set',
      kind: 'route',
      replace: true,
      value: expect.objectContaining({ target: { kind: 'nexthop', id: ip('10.5.3.0') } }),
    }),
  ])
  expect(table.routed.replace([{ prefix: PREFIX, carriers: [{ peer: three.key, weight: 1 }] }])).toEqual([])
})

test('the route of a prefix goes before the nexthop of a peer that leaves', () => {
  const { table, two, full, scoped, routes } = setUp()
  table.routed.replace([{ prefix: PREFIX, carriers: [{ peer: two.key, weight: 1 }] }])
  full()
  const [change] = table.remove(two.key)
  if (change?.before === undefined) throw new Error('the peer was there')
  const scope = emptyScope()
  addPeer(scope, change.before, table.prefixesOf(change.before))
  const kinds = scoped(scope).map((operation) => `${operation.do} ${operation.kind}`)
  expect(kinds.indexOf('delete nexthop')).toBeGreaterThan(kinds.lastIndexOf('delete route'))
  expect(kinds.filter((kind) => kind === 'delete route')).toHaveLength(2)
  expect(routes()).toEqual(['10.5.3.0/24'])
})

test('a prefix of a peer that is not there is no route', () => {
  const { table, full, routes } = setUp()
  table.routed.replace([{ prefix: PREFIX, carriers: [{ peer: 'nobody', weight: 1 }] }])
  full()
  expect(routes()).toEqual(['10.5.2.0/24', '10.5.3.0/24'])
})

const SHARED = (carriers: readonly [peer: string, weight: number][]) => [
  { prefix: PREFIX, carriers: carriers.map(([peer, weight]) => ({ peer, weight })) },
]
const member = (gateway: string, weight: number) => ({
  target: { kind: 'gateway', gateway: ip(gateway), onlink: true },
  weight,
})
/** Compares the routes alone of which a change tells. */
function change(table: ReturnType<typeof setUp>['table'], routed: ReturnType<typeof SHARED>): Scope {
  const scope = emptyScope()
  for (const key of table.routed.replace(routed)) scope.route.add(key)
  return scope
}

test('a prefix that peers share is one route, which is replaced in one step whoever comes or goes', () => {
  const { table, two, three, full, scoped } = setUp()
  table.routed.replace(SHARED([[two.key, 1]]))
  full()
  const both = scoped(
    change(
      table,
      SHARED([
        [two.key, 1],
        [three.key, 5],
      ]),
    ),
  )
  const members = [member('10.5.2.0', 1), member('10.5.3.0', 5)]
  const target = { kind: 'shared', members }
  expect(both).toEqual([
    expect.objectContaining({ do: 'set', replace: true, value: expect.objectContaining({ target }) }),
  ])
  expect(full()).toEqual([])
  expect(table.isShared).toBe(true)
  expect(scoped(change(table, SHARED([[three.key, 5]])))).toEqual([
    expect.objectContaining({
      do: 'set',
      replace: true,
      value: expect.objectContaining({ target: { kind: 'nexthop', id: ip('10.5.3.0') } }),
    }),
  ])
  expect(full()).toEqual([])
  expect(table.isShared).toBe(false)
})

test('the order in which the kernel has the gateways means nothing; a weight does', () => {
  const { table, two, three, full, memory } = setUp()
  table.routed.replace(
    SHARED([
      [two.key, 1],
      [three.key, 5],
    ]),
  )
  full()
  const turn = (change: (members: readonly SharedMember[]) => readonly SharedMember[]) => {
    const key = routeKey(PREFIX)
    const [route] = memory.route.get(key) ?? []
    if (route?.target.kind !== 'shared') throw new Error('it is shared')
    memory.route.set(key, [{ ...route, target: { kind: 'shared', members: change(route.target.members) } }])
  }
  turn((members) => members.toReversed())
  expect(full()).toEqual([])
  turn((members) => members.map((each) => ({ ...each, weight: 1 })))
  expect(full()).toEqual([expect.objectContaining({ do: 'set', kind: 'route', replace: true })])
})

test('of a shared route, each peer has it compared again; the smallest MTU is that of the route', () => {
  const { table, two, three } = setUp()
  table.routed.replace(
    SHARED([
      [two.key, 1],
      [three.key, 1],
    ]),
  )
  const [first, second] = [table.peer(two.key), table.peer(three.key)]
  if (first === undefined || second === undefined) throw new Error('both are there')
  expect([first, second].map((peer) => table.prefixesOf(peer).length)).toEqual([1, 0])
  expect([first, second].map((peer) => table.sharedBy(peer).length)).toEqual([1, 1])
  const routing = {
    style: 'gateway',
    directLink: (address: IpAddress) => (address === second.publicIp ? 7 : undefined),
    mtuOf: (peer: Peer) => (peer === second ? 1300 : 0),
    prefixesOf: (peer: Peer) => table.prefixesOf(peer),
    carriersOf: (key: RouteKey) => table.carriersOf(key),
  } as const
  const [route] = desiredObjects(table.peers(), routing).route.get(routeKey(PREFIX)) ?? []
  expect(route?.mtu).toBe(1300)
  expect(route?.target).toMatchObject({
    members: [{ target: { kind: 'gateway' } }, { target: { kind: 'direct', link: 7 } }],
  })
})
