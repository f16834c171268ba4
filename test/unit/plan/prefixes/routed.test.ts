import { formatPrefix } from '../../../../src/model/address'
import { emptyObjects } from '../../../../src/model/kernel/objects'
import { routePrefix } from '../../../../src/model/kernel/route'
import { PeerTable } from '../../../../src/plan/peers/peer-table'
import { compareSlice, passSlices } from '../../../../src/plan/reconcile/compare-slice'
import { applyOperation } from '../../../../src/plan/reconcile/diff'
import { addPeer, emptyScope, type Scope } from '../../../../src/plan/reconcile/scope'
import { hw, ip, ipv4Range, lease, net } from '../support'

const subnet = net('10.5.1.0/24')
const OWN = { key: 'own', subnet, publicIp: ip('192.168.77.11'), mac: hw('02:00:00:00:00:01') }
const PREFIX = net('192.0.2.0/24')

function setUp() {
  const table = new PeerTable({ range: ipv4Range(), vni: 1 }, OWN)
  const [two, three] = [lease('10.5.2.0/24'), lease('10.5.3.0/24')]
  table.reset([two, three], [])
  const memory = emptyObjects()
  const wanted = {
    subnet,
    blackhole: false,
    routing: {
      style: 'nexthop',
      directLink: () => undefined,
      prefixesOf: (peer) => table.prefixesOf(peer),
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
  expect(table.routed.replace([{ prefix: PREFIX, peer: two.key }])).toHaveLength(1)
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
  table.routed.replace([{ prefix: PREFIX, peer: two.key }])
  full()
  const moved = table.routed.replace([{ prefix: PREFIX, peer: three.key }])
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
  expect(table.routed.replace([{ prefix: PREFIX, peer: three.key }])).toEqual([])
})

test('the route of a prefix goes before the nexthop of a peer that leaves', () => {
  const { table, two, full, scoped, routes } = setUp()
  table.routed.replace([{ prefix: PREFIX, peer: two.key }])
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
  table.routed.replace([{ prefix: PREFIX, peer: 'nobody' }])
  full()
  expect(routes()).toEqual(['10.5.2.0/24', '10.5.3.0/24'])
})
