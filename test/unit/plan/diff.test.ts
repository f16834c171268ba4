import fc from 'fast-check'
import type { IpAddress, Ipv4, MacAddress } from '../../../src/model/address'
import { ipv4 } from '../../../src/model/address'
import { describeOperation } from '../../../src/model/describe-operation'
import {
  type KernelObjects,
  type LinkSpec,
  type ObjectOperation,
  type ObservedLink,
  ODD_DESTINATION,
  type Route,
  type RouteKey,
  routeKey,
} from '../../../src/model/kernel'
import type { Peer } from '../../../src/model/lease'
import {
  blackholeRoute,
  desiredAddress,
  desiredLink,
  desiredObjects,
  overlayMtu,
  type RouteStyle,
} from '../../../src/plan/desired'
import { applyOperation, diffAddresses, diffLink, diffObjects } from '../../../src/plan/diff'
import { addOperation, addPeer, emptyScope, isEmptyScope, peersIn, restrict } from '../../../src/plan/scope'
import { orphansOf, type Slice, slicesOf } from '../../../src/plan/slices'
import { config, dualConfig, hw, ip, ip6, net, net6, remember } from './support'

const peer = (n: number, fields: Partial<Peer> = {}): Peer => ({
  key: `peer${n}`,
  subnet: net(`10.5.${n}.0/24`),
  publicIp: ip(`192.168.77.${n}`),
  mac: hw(`02:00:00:00:00:${n.toString(16).padStart(2, '0')}`),
  ...fields,
})

const lookupIn = (peers: () => readonly Peer[]) => ({
  peerAt: (subnet: IpAddress) => peers().find((each) => each.subnet.address === subnet),
  peerWithMac: (mac: MacAddress) => peers().find((each) => each.mac === mac),
})

const indirect = () => undefined
const wants = (peers: Iterable<Peer>, style: RouteStyle): KernelObjects =>
  desiredObjects(peers, { style, directLink: indirect })

const nothing = wants([], 'nexthop')
const kinds = (operations: readonly ObjectOperation[]) => operations.map(({ kind }) => kind)

test('a peer is a neighbour, an FDB entry, a nexthop and a route, made in that order and removed in the opposite one', () => {
  const wanted = wants([peer(2)], 'nexthop')
  expect(kinds(diffObjects(wanted, nothing))).toEqual([
    'set-neighbour',
    'set-fdb',
    'set-nexthop',
    'set-route',
  ])
  expect(kinds(diffObjects(nothing, wanted))).toEqual([
    'delete-route',
    'delete-nexthop',
    'delete-fdb',
    'delete-neighbour',
  ])
  expect(diffObjects(wanted, wanted)).toEqual([])
})

test('without nexthop objects a route names its gateway', () => {
  const wanted = wants([peer(2)], 'gateway')
  expect(diffObjects(wanted, nothing).map(describeOperation)).toEqual([
    'set neighbour 10.5.2.0 to 02:00:00:00:00:02',
    'set the FDB entry of 02:00:00:00:00:02 to 192.168.77.2',
    'add the route to 10.5.2.0/24 via 10.5.2.0 proto 79',
  ])
})

test('flannel’s plain route is replaced in place', () => {
  const wanted = wants([peer(2)], 'nexthop')
  const flannels: Route = {
    destination: net('10.5.2.0/24'),
    metric: 0,
    tos: 0,
    protocol: 3,
    target: { kind: 'gateway', gateway: ip('10.5.2.0'), onlink: true },
  }
  const observed = {
    ...wanted,
    nexthops: new Map(),
    routes: new Map([[routeKey(flannels.destination), [flannels]]]),
  }
  expect(diffObjects(wanted, observed)).toMatchObject([
    { kind: 'set-nexthop' },
    { kind: 'set-route', replace: true },
  ])
})

test('a changed MAC sets the new entry before it removes the old one', () => {
  const changes = diffObjects(
    wants([peer(2, { mac: hw('02:00:00:00:00:99') })], 'nexthop'),
    wants([peer(2)], 'nexthop'),
  )
  expect(changes.map(describeOperation)).toEqual([
    'set neighbour 10.5.2.0 to 02:00:00:00:00:99',
    'set the FDB entry of 02:00:00:00:00:99 to 192.168.77.2',
    'delete the FDB entry of 02:00:00:00:00:02 to 192.168.77.2',
  ])
})

test('a changed PublicIP is one replaced FDB entry', () => {
  const changes = diffObjects(
    wants([peer(2, { publicIp: ip('192.168.77.99') })], 'nexthop'),
    wants([peer(2)], 'nexthop'),
  )
  expect(changes.map(describeOperation)).toEqual(['set the FDB entry of 02:00:00:00:00:02 to 192.168.77.99'])
})

test('a route of the same destination and another metric goes after ours is there', () => {
  const wanted = wants([peer(2)], 'nexthop')
  const stray: Route = {
    destination: net('10.5.2.0/24'),
    metric: 5,
    tos: 0,
    protocol: 3,
    target: { kind: 'other' },
  }
  const observed = { ...nothing, routes: new Map([[routeKey(stray.destination), [stray]]]) }
  const changes = diffObjects(wanted, observed)
  expect(changes.at(-2)).toMatchObject({ kind: 'set-route', replace: false })
  expect(changes.at(-1)).toEqual({ kind: 'delete-route', route: stray })
})

describe('an FDB entry unlike ours', () => {
  const odd = new Map([[hw('02:00:00:00:00:02'), [ODD_DESTINATION]]])

  test('goes before ours comes in its place', () => {
    const wanted = wants([peer(2)], 'nexthop')
    expect(diffObjects(wanted, { ...wanted, fdb: odd }).map(describeOperation)).toEqual([
      'delete the FDB entry of 02:00:00:00:00:02, which is unlike ours',
      'set the FDB entry of 02:00:00:00:00:02 to 192.168.77.2',
    ])
  })

  test('of a MAC that no peer has just goes', () => {
    expect(diffObjects(nothing, { ...nothing, fdb: odd }).map(describeOperation)).toEqual([
      'delete the FDB entry of 02:00:00:00:00:02, which is unlike ours',
    ])
  })
})

test('a peer whose nexthop id is someone else’s has a route that names its gateway', () => {
  const { nexthops, routes } = desiredObjects([peer(2), peer(3)], {
    style: 'nexthop',
    directLink: indirect,
    taken: new Set([ip('10.5.2.0')]),
  })
  expect([...nexthops.values()]).toEqual([ip('10.5.3.0')])
  expect([...routes.values()].flat().map(({ target }) => target.kind)).toEqual(['gateway', 'nexthop'])
})

describe('a direct peer', () => {
  const direct = desiredObjects([peer(2)], { style: 'nexthop', directLink: () => 2 })
  const indirectly = wants([peer(2)], 'nexthop')

  test('is a route past the device and nothing else', () => {
    expect(diffObjects(direct, nothing).map(describeOperation)).toEqual([
      'add the route to 10.5.2.0/24 via 192.168.77.2 on interface 2 proto 79',
    ])
  })

  test('becomes one, and ceases to be one, by a replaced route and without residue', () => {
    expect(diffObjects(direct, indirectly).map(describeOperation)).toEqual([
      'replace the route to 10.5.2.0/24 via 192.168.77.2 on interface 2 proto 79',
      'delete nexthop 168100352',
      'delete the FDB entry of 02:00:00:00:00:02 to 192.168.77.2',
      'delete neighbour 10.5.2.0',
    ])
    expect(diffObjects(indirectly, direct).map(describeOperation)).toEqual([
      'set neighbour 10.5.2.0 to 02:00:00:00:00:02',
      'set the FDB entry of 02:00:00:00:00:02 to 192.168.77.2',
      'add nexthop 168100352 via 10.5.2.0',
      'replace the route to 10.5.2.0/24 through nexthop 168100352 proto 79',
    ])
  })
})

test('a peer over IPv6 has a route with a gateway and the metric that flannel’s has', () => {
  const six: Peer = { ...peer(2), subnet: net6('fd00:5:0:3e::/64'), publicIp: ip6('fd77::12') }
  expect(diffObjects(wants([six], 'gateway'), nothing).map(describeOperation)).toEqual([
    'set neighbour fd00:5:0:3e:: to 02:00:00:00:00:02',
    'set the FDB entry of 02:00:00:00:00:02 to fd77::12',
    'add the route to fd00:5:0:3e::/64 via fd00:5:0:3e:: metric 1024 proto 79',
  ])
})

test('a blackhole loses to every other route to the subnet', () => {
  const route = blackholeRoute(net('10.5.1.0/24'))
  expect(route).toMatchObject({ metric: 0xffffffff, target: { kind: 'blackhole' } })
})

// Small number spaces, so that random states collide in every way.
const someIp = fc.integer({ min: 1, max: 6 }).map((n) => ipv4(0x0a050000 + n * 256))
const someMac = fc.integer({ min: 1, max: 6 }).map((n) => n as MacAddress)
const someTarget = fc.oneof(
  someIp.map((id) => ({ kind: 'nexthop', id: id as number }) as const),
  fc.record({ kind: fc.constant('gateway' as const), gateway: someIp, onlink: fc.boolean() }),
  fc.record({ kind: fc.constant('direct' as const), gateway: someIp, link: fc.integer({ min: 2, max: 3 }) }),
  fc.constant({ kind: 'blackhole' } as const),
  fc.constant({ kind: 'other' } as const),
)
const someRoute: fc.Arbitrary<Route> = fc.record({
  destination: fc.record({ address: someIp, length: fc.constantFrom(24, 25) }),
  metric: fc.constantFrom(0, 5),
  tos: fc.constantFrom(0, 8),
  protocol: fc.constantFrom(3, 79),
  target: someTarget,
})
const sameJson = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
const someState: fc.Arbitrary<KernelObjects> = fc.record({
  neighbours: fc.array(fc.tuple(someIp, someMac)).map((entries) => new Map(entries)),
  fdb: fc
    .array(fc.tuple(someMac, fc.uniqueArray(someIp, { minLength: 1, maxLength: 3 })))
    .map((entries) => new Map<MacAddress, readonly Ipv4[]>(entries)),
  nexthops: fc.array(fc.tuple(someIp, someIp)).map((entries) => new Map<number, Ipv4>(entries)),
  routes: fc.uniqueArray(someRoute, { comparator: sameJson, maxLength: 12 }).map((routes) => {
    const grouped = new Map<RouteKey, Route[]>()
    for (const route of routes) {
      const key = routeKey(route.destination)
      grouped.set(key, [...(grouped.get(key) ?? []), route])
    }
    return grouped as ReadonlyMap<RouteKey, readonly Route[]>
  }),
})
const somePeers: fc.Arbitrary<Peer[]> = fc
  .uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 6 })
  .map((numbers) =>
    numbers.map((n) =>
      peer(n, { subnet: { address: ipv4(0x0a050000 + n * 256), length: 24 }, mac: n as MacAddress }),
    ),
  )
const someStyle = fc.constantFrom<RouteStyle>('nexthop', 'gateway')

/** Maps in one order, so that equal states are equal texts. */
const normal = (state: KernelObjects) => ({
  neighbours: [...state.neighbours].sort(),
  fdb: [...state.fdb].sort(),
  nexthops: [...state.nexthops].sort(),
  routes: [...state.routes].sort(([a], [b]) => (a < b ? -1 : 1)),
})

test('applying the diff of any two states leads from one to the other', () => {
  fc.assert(
    fc.property(somePeers, someStyle, someState, (peers, style, observed) => {
      const desired = wants(peers, style)
      const state = remember(observed)
      for (const operation of diffObjects(desired, observed)) applyOperation(state, operation)
      expect(normal(state)).toEqual(normal(desired))
      expect(diffObjects(desired, state)).toEqual([])
    }),
    { numRuns: 500 },
  )
})

test('no object of a peer that stays as it is is touched', () => {
  fc.assert(
    fc.property(somePeers, somePeers, someStyle, (before, after, style) => {
      const stays = before.filter((old) => after.some((now) => now.key === old.key))
      const scope = emptyScope()
      for (const each of stays) addPeer(scope, each)
      const changes = diffObjects(wants(after, style), wants(before, style))
      const touched = emptyScope()
      for (const operation of changes) addOperation(touched, operation)
      expect([...touched.neighbours].filter((key) => scope.neighbours.has(key))).toEqual([])
      expect([...touched.routes].filter((key) => scope.routes.has(key))).toEqual([])
    }),
  )
})

test('the diff of a scope is that part of the whole diff', () => {
  fc.assert(
    fc.property(
      somePeers,
      someStyle,
      someState,
      fc.integer({ min: 1, max: 6 }),
      (peers, style, observed, n) => {
        const concerned = peer(n, {
          subnet: { address: ipv4(0x0a050000 + n * 256), length: 24 },
          mac: n as MacAddress,
        })
        const scope = emptyScope()
        addPeer(scope, concerned)
        const lookup = lookupIn(() => peers)
        const part = diffObjects(
          restrict(wants(peersIn(scope, lookup), style), scope),
          restrict(observed, scope),
        )
        const whole = diffObjects(wants(peers, style), observed).filter((operation) => {
          const touched = emptyScope()
          addOperation(touched, operation)
          return (
            [...touched.neighbours].some((key) => scope.neighbours.has(key)) ||
            [...touched.fdb].some((key) => scope.fdb.has(key)) ||
            [...touched.nexthops].some((key) => scope.nexthops.has(key)) ||
            [...touched.routes].some((key) => scope.routes.has(key))
          )
        })
        expect(new Set(part.map(describeOperation))).toEqual(new Set(whole.map(describeOperation)))
      },
    ),
  )
  expect(isEmptyScope(emptyScope())).toBe(true)
})

test('a pass in parts does what the whole diff does, and touches nothing twice', () => {
  fc.assert(
    fc.property(
      somePeers,
      someStyle,
      someState,
      fc.integer({ min: 1, max: 3 }),
      (peers, style, observed, size) => {
        const lookup = lookupIn(() => peers)
        const state = remember(observed)
        const done: string[] = []
        const take = ({ peers: some, scope }: Slice): void => {
          for (const operation of diffObjects(restrict(wants(some, style), scope), restrict(state, scope))) {
            done.push(describeOperation(operation))
            applyOperation(state, operation)
          }
        }
        for (const slice of slicesOf(peers, size)) take(slice)
        for (const scope of orphansOf(state, lookup, size)) take({ peers: [], scope })
        expect(normal(state)).toEqual(normal(wants(peers, style)))
        expect(done.toSorted()).toEqual(
          diffObjects(wants(peers, style), observed).map(describeOperation).sort(),
        )
      },
    ),
    { numRuns: 500 },
  )
})

test('the route of a peer that leaves after its route was looked at goes before its nexthop, which would take it along', () => {
  const state = wants([peer(2), peer(3)], 'nexthop')
  let peers = [peer(2), peer(3)]
  const lookup = lookupIn(() => peers)
  const size = state.routes.size
  const scopes = orphansOf(state, lookup, size)
  expect(scopes.next().value).toEqual(emptyScope())
  peers = [peer(3)]
  const { value: scope = emptyScope() } = scopes.next()
  expect(diffObjects(nothing, restrict(state, scope)).map(describeOperation)).toEqual([
    'delete the route to 10.5.2.0/24 through nexthop 168100352 proto 79',
    'delete nexthop 168100352',
  ])
})

describe('the device', () => {
  const underlay = {
    link: {
      index: 2,
      name: 'eth0',
      mac: hw('02:00:00:00:00:0a'),
      mtu: 1500,
      up: true,
      kind: undefined,
      vxlan: undefined,
    },
    ipv4: { local: ip('192.168.77.11'), public: ip('192.168.77.11') },
    ipv6: { local: ip6('fd77::11'), public: ip6('fd77::11') },
  }
  const wanted: LinkSpec = desiredLink(config(), underlay, underlay.ipv4.local, hw('02:00:00:00:00:01'))
  const observed: ObservedLink = {
    index: 9,
    name: 'flannel.1',
    mac: wanted.mac,
    mtu: 1450,
    up: true,
    kind: 'vxlan',
    vxlan: {
      vni: 1,
      port: 8472,
      local: wanted.local,
      parent: 2,
      group: undefined,
      learning: false,
      gbp: false,
      l2miss: false,
    },
  }
  const vxlan = (fields: object): ObservedLink => ({
    ...observed,
    vxlan: { ...observed.vxlan, ...fields } as ObservedLink['vxlan'],
  })

  test('is named and sized as flannel does', () => {
    expect(wanted).toEqual({
      name: 'flannel.1',
      mac: hw('02:00:00:00:00:01'),
      mtu: 1450,
      vni: 1,
      port: undefined,
      local: ip('192.168.77.11'),
      parent: 2,
      learning: false,
      gbp: false,
    })
    const sized = config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', MTU: 9000 } })
    expect(overlayMtu(sized, underlay)).toBe(8950)
  })

  test('of IPv6 has 20 bytes less to spare, and the smallest device is what containers are told', () => {
    const link = desiredLink(dualConfig(), underlay, underlay.ipv6.local, hw('02:00:00:00:00:06'))
    expect(link).toMatchObject({ name: 'flannel-v6.1', mtu: 1430, local: ip6('fd77::11') })
    expect(overlayMtu(dualConfig(), underlay)).toBe(1430)
    expect(desiredAddress(net6('fd00:5:0:3e::/64'))).toEqual(net6('fd00:5:0:3e::/128'))
  })

  test('is created when it is not there, and left alone when it is right', () => {
    expect(diffLink(wanted, undefined)).toEqual([{ kind: 'create-link', link: wanted }])
    expect(diffLink(wanted, observed)).toEqual([])
  })

  test('is corrected in place where that can be done', () => {
    expect(
      diffLink(wanted, { ...vxlan({ learning: true }), mtu: 1200, mac: hw('02:00:00:00:00:77') }),
    ).toEqual([
      { kind: 'change-link', index: 9, name: 'flannel.1', mac: wanted.mac, mtu: 1450, learning: false },
    ])
    const moved = { local: ip('192.168.77.12'), parent: 3 }
    expect(diffLink({ ...wanted, ...moved }, observed)).toEqual([
      { kind: 'change-link', index: 9, name: 'flannel.1', ...moved },
    ])
  })

  test.each([
    [{ vni: 2 }],
    [{ local: ip6('fd77::11') }],
    [{ group: ip('239.1.1.1') }],
    [{ l2miss: true }],
    [{ gbp: true }],
  ])('is made again when %j cannot be corrected', (fields) => {
    expect(diffLink(wanted, vxlan(fields)).map(({ kind }) => kind)).toEqual(['delete-link', 'create-link'])
  })

  test('keeps its port unless the config names one', () => {
    expect(diffLink(wanted, vxlan({ port: 4789 }))).toEqual([])
    expect(diffLink({ ...wanted, port: 8472 }, vxlan({ port: 4789 }))).toHaveLength(2)
  })

  test('is not taken from someone whose device has the name', () => {
    const bridge = { ...observed, kind: 'bridge', vxlan: undefined }
    expect(() => diffLink(wanted, bridge)).toThrow(
      'interface flannel.1 exists and is of kind bridge, not vxlan',
    )
  })

  test('gets its address and comes up; an earlier subnet’s address goes, a stranger’s stays', () => {
    const address = (text: string) => ({ linkIndex: 9, address: net(text), scope: 'global' as const })
    const operations = diffAddresses(
      desiredAddress(net('10.5.1.0/24')),
      net('10.5.0.0/16'),
      { ...observed, up: false },
      [address('10.5.7.0/32'), address('192.0.2.1/32')],
    )
    expect(operations.map(describeOperation)).toEqual([
      'add the address 10.5.1.0/32',
      'bring the device flannel.1 up',
      'delete the address 10.5.7.0/32',
    ])
  })
})
