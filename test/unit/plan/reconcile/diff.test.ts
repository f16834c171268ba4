import fc from 'fast-check'
import type { IpAddress, Ipv4, MacAddress } from '../../../../src/model/address'
import { ipv4 } from '../../../../src/model/address'
import type { LinkSpec, ObservedLink } from '../../../../src/model/kernel/link'
import {
  type ForwardingTarget,
  type KernelObjects,
  type ObjectOperation,
  operationName,
  proxyKey,
  UNKNOWN_TARGET,
} from '../../../../src/model/kernel/objects'
import { type Route, type RouteKey, routeKey } from '../../../../src/model/kernel/route'
import { describeOperation } from '../../../../src/model/kernel/words'
import type { Peer } from '../../../../src/model/lease'
import type { Way } from '../../../../src/model/way'
import { checkMtu } from '../../../../src/plan/config/check-mtu'
import { describeShortage } from '../../../../src/plan/host/underlay-room'
import { blackholeRoute } from '../../../../src/plan/objects/route'
import {
  desiredAddress,
  desiredLink,
  desiredObjects,
  overlayMtu,
  type RouteStyle,
} from '../../../../src/plan/reconcile/desired'
import { applyOperation, diffObjects } from '../../../../src/plan/reconcile/diff'
import { diffAddresses, diffLink } from '../../../../src/plan/reconcile/diff-link'
import {
  addObject,
  addPeer,
  emptyScope,
  isEmptyScope,
  peersIn,
  restrict,
} from '../../../../src/plan/reconcile/scope'
import { orphansOf, type Slice, slicesOf } from '../../../../src/plan/reconcile/slices'
import { removeRoute, to } from '../../../support/operations'
import { runs } from '../../support/runs'
import { config, dualConfig, hw, ip, ip6, net, net6, remember } from '../support'

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
const wants = (peers: Iterable<Peer>, style: RouteStyle, wayOf?: (peer: Peer) => Way): KernelObjects =>
  desiredObjects(peers, { style, directLink: indirect, ...(wayOf && { wayOf }) })

const nothing = wants([], 'nexthop')
const kinds = (operations: readonly ObjectOperation[]) => operations.map(operationName)

test('a peer is a neighbour, FDB entry, nexthop and route, added in this order, removed in reverse', () => {
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
    mtu: 0,
    protocol: 3,
    target: { kind: 'gateway', gateway: ip('10.5.2.0'), onlink: true },
  }
  const observed = {
    ...wanted,
    nexthop: new Map(),
    route: new Map([[routeKey(flannels.destination), [flannels]]]),
  }
  expect(diffObjects(wanted, observed)).toMatchObject([
    { do: 'set', kind: 'nexthop' },
    { do: 'set', kind: 'route', replace: true },
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

describe('the way of a peer', () => {
  const key = hw('02:00:00:00:00:02')
  const address = ip('192.168.77.2')
  const tunnel = (link: number): Way => ({ kind: 'tunnel', link, destination: address })
  const by = (way: Way): KernelObjects => wants([peer(2)], 'nexthop', () => way)
  const inClear = by({ kind: 'clear' })
  const there = (...targets: readonly ForwardingTarget[]): KernelObjects => ({
    ...inClear,
    fdb: new Map([[key, targets]]),
  })
  const words = (wanted: KernelObjects, observed: KernelObjects) =>
    diffObjects(wanted, observed).map(describeOperation)
  const SET_9 = 'set the FDB entry of 02:00:00:00:00:02 to 192.168.77.2 via link 9'

  test('is in clear by default, and changes by one replaced FDB entry', () => {
    expect(by({ kind: 'clear' })).toEqual(wants([peer(2)], 'nexthop'))
    expect(words(by(tunnel(9)), inClear)).toEqual([SET_9])
    expect(words(by(tunnel(9)), by(tunnel(7)))).toEqual([SET_9])
    expect(words(inClear, by(tunnel(9)))).toEqual(['set the FDB entry of 02:00:00:00:00:02 to 192.168.77.2'])
    expect(diffObjects(by(tunnel(9)), by(tunnel(9)))).toEqual([])
  })

  test('leads to the VXLAN source of the peer', () => {
    const inside = by({ kind: 'tunnel', link: 9, destination: ip('10.0.0.2') })
    expect(inside.fdb).toEqual(new Map([[key, [to(ip('10.0.0.2'), 9)]]]))
  })

  test('may be none: then only the FDB entry goes, all of it at once', () => {
    const none = by({ kind: 'none' })
    expect(none).toEqual({ ...inClear, fdb: new Map() })
    expect(words(none, inClear)).toEqual(['delete the FDB entry of 02:00:00:00:00:02 to 192.168.77.2'])
    expect(words(none, there(to(address), to(address, 7), to(address, 9)))).toEqual([
      'delete the FDB entry of 02:00:00:00:00:02 to 192.168.77.2 via link 7',
    ])
  })

  // The kernel refuses to delete a destination by name once its link is gone.
  test('a destination over another link that no replacement reaches goes with all others', () => {
    expect(words(by(tunnel(9)), there(to(address, 9), to(address, 7)))).toEqual([
      'delete the FDB entry of 02:00:00:00:00:02 to 192.168.77.2 via link 7',
      SET_9,
    ])
    expect(words(by(tunnel(9)), there(to(address, 7), to(ip('192.168.77.99'))))).toEqual([
      SET_9,
      'delete the FDB entry of 02:00:00:00:00:02 to 192.168.77.99',
    ])
  })

  test('of a direct peer has no FDB entry', () => {
    const direct = desiredObjects([peer(2)], {
      style: 'nexthop',
      directLink: () => 2,
      wayOf: () => tunnel(9),
    })
    expect(direct.fdb.size).toBe(0)
  })
})

test('a route with another metric is removed after ours is added', () => {
  const wanted = wants([peer(2)], 'nexthop')
  const stray: Route = {
    destination: net('10.5.2.0/24'),
    metric: 5,
    tos: 0,
    mtu: 0,
    protocol: 3,
    target: { kind: 'other' },
  }
  const observed = { ...nothing, route: new Map([[routeKey(stray.destination), [stray]]]) }
  const changes = diffObjects(wanted, observed)
  expect(changes.at(-2)).toMatchObject({ do: 'set', kind: 'route', replace: false })
  expect(changes.at(-1)).toEqual(removeRoute(stray))
})

describe('a foreign FDB entry', () => {
  const odd = new Map([[hw('02:00:00:00:00:02'), [UNKNOWN_TARGET]]])

  test('is removed before ours is added', () => {
    const wanted = wants([peer(2)], 'nexthop')
    expect(diffObjects(wanted, { ...wanted, fdb: odd }).map(describeOperation)).toEqual([
      'delete the FDB entry of 02:00:00:00:00:02, which is unlike ours',
      'set the FDB entry of 02:00:00:00:00:02 to 192.168.77.2',
    ])
  })

  test('for a MAC that no peer has is removed', () => {
    expect(diffObjects(nothing, { ...nothing, fdb: odd }).map(describeOperation)).toEqual([
      'delete the FDB entry of 02:00:00:00:00:02, which is unlike ours',
    ])
  })
})

test('a peer whose nexthop id is taken by another program has a route that names its gateway', () => {
  const { nexthop: nexthops, route: routes } = desiredObjects([peer(2), peer(3)], {
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

  test('has a route past the device and no other object', () => {
    expect(diffObjects(direct, nothing).map(describeOperation)).toEqual([
      'add the route to 10.5.2.0/24 via 192.168.77.2 on interface 2 proto 79',
    ])
  })

  test('becomes direct, and indirect again, by replacing its route, and leaves no other objects', () => {
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

test('a direct IPv6 route goes first, because it hides the gateway of its successor from the kernel', () => {
  const six: Peer = { ...peer(2), subnet: net6('fd00:5:0:3e::/64'), publicIp: ip6('fd77::12') }
  const direct = desiredObjects([six], { style: 'gateway', directLink: () => 2 })
  const indirectly = wants([six], 'gateway')
  expect(diffObjects(indirectly, direct).map(describeOperation)).toEqual([
    'set neighbour fd00:5:0:3e:: to 02:00:00:00:00:02',
    'set the FDB entry of 02:00:00:00:00:02 to fd77::12',
    'delete the route to fd00:5:0:3e::/64 via fd77::12 on interface 2 metric 1024 proto 79',
    'add the route to fd00:5:0:3e::/64 via fd00:5:0:3e:: metric 1024 proto 79',
  ])
  expect(diffObjects(direct, indirectly).map(describeOperation)[0]).toBe(
    'replace the route to fd00:5:0:3e::/64 via fd77::12 on interface 2 metric 1024 proto 79',
  )
})

test('an IPv6 peer has a route with a gateway and the metric of flannel', () => {
  const six: Peer = { ...peer(2), subnet: net6('fd00:5:0:3e::/64'), publicIp: ip6('fd77::12') }
  expect(diffObjects(wants([six], 'gateway'), nothing).map(describeOperation)).toEqual([
    'set neighbour fd00:5:0:3e:: to 02:00:00:00:00:02',
    'set the FDB entry of 02:00:00:00:00:02 to fd77::12',
    'add the route to fd00:5:0:3e::/64 via fd00:5:0:3e:: metric 1024 proto 79',
  ])
})

test('the blackhole has the highest metric of all routes to the subnet', () => {
  const route = blackholeRoute(net('10.5.1.0/24'))
  expect(route).toMatchObject({ metric: 0xffffffff, target: { kind: 'blackhole' } })
})

// Few different values, so that random states collide often.
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
  mtu: fc.constantFrom(0, 1350),
  target: someTarget,
})
const sameJson = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
const someState: fc.Arbitrary<KernelObjects> = fc.record({
  neighbour: fc.array(fc.tuple(someIp, someMac)).map((entries) => new Map(entries)),
  fdb: fc
    .array(
      fc.tuple(
        someMac,
        fc.uniqueArray(
          fc.record({ address: fc.oneof(someIp, fc.constant(ipv4(0))), via: fc.constantFrom(0, 0, 7, 9) }),
          { minLength: 1, maxLength: 3, comparator: sameJson },
        ),
      ),
    )
    .map((entries) => new Map<MacAddress, readonly ForwardingTarget[]>(entries)),
  nexthop: fc.array(fc.tuple(someIp, someIp)).map((entries) => new Map<number, Ipv4>(entries)),
  route: fc.uniqueArray(someRoute, { comparator: sameJson, maxLength: 12 }).map((routes) => {
    const grouped = new Map<RouteKey, Route[]>()
    for (const route of routes) {
      const key = routeKey(route.destination)
      grouped.set(key, [...(grouped.get(key) ?? []), route])
    }
    return grouped as ReadonlyMap<RouteKey, readonly Route[]>
  }),
  proxy: fc
    .array(fc.record({ address: someIp, link: fc.constantFrom(7, 9) }))
    .map((entries) => new Map(entries.map((entry) => [proxyKey(entry), entry]))),
})
const somePeers: fc.Arbitrary<Peer[]> = fc
  .uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 6 })
  .map((numbers) =>
    numbers.map((n) =>
      peer(n, { subnet: { address: ipv4(0x0a050000 + n * 256), length: 24 }, mac: n as MacAddress }),
    ),
  )
const someStyle = fc.constantFrom<RouteStyle>('nexthop', 'gateway')
const someWay: fc.Arbitrary<Way> = fc.oneof(
  fc.constantFrom<Way>({ kind: 'clear' }, { kind: 'none' }),
  fc.record({ kind: fc.constant('tunnel' as const), link: fc.constantFrom(7, 9), destination: someIp }),
)
/** The way of each peer, by its MAC. */
const someWays = fc.array(someWay, { minLength: 7, maxLength: 7 }).map(
  (ways) =>
    (each: Peer): Way =>
      ways[each.mac] ?? { kind: 'clear' },
)

/** Maps sorted, so that equal states are equal texts. */
const normal = (state: KernelObjects) => ({
  neighbour: [...state.neighbour].sort(),
  fdb: [...state.fdb].sort(([a], [b]) => a - b),
  nexthop: [...state.nexthop].sort(),
  route: [...state.route].sort(([a], [b]) => (a < b ? -1 : 1)),
  proxy: [...state.proxy.keys()].sort(),
})

test('applying the diff of any two states leads from one to the other', () => {
  fc.assert(
    fc.property(somePeers, someStyle, someWays, someState, (peers, style, wayOf, observed) => {
      const desired = wants(peers, style, wayOf)
      const state = remember(observed)
      for (const operation of diffObjects(desired, observed)) applyOperation(state, operation)
      expect(normal(state)).toEqual(normal(desired))
      expect(diffObjects(desired, state)).toEqual([])
    }),
    { numRuns: runs(200, 50_000) },
  )
})

test('no object of an unchanged peer is touched', () => {
  fc.assert(
    fc.property(somePeers, somePeers, someStyle, (before, after, style) => {
      const stays = before.filter((old) => after.some((now) => now.key === old.key))
      const scope = emptyScope()
      for (const each of stays) addPeer(scope, each)
      const changes = diffObjects(wants(after, style), wants(before, style))
      const touched = emptyScope()
      for (const operation of changes) addObject(touched, operation)
      expect([...touched.neighbour].filter((key) => scope.neighbour.has(key))).toEqual([])
      expect([...touched.route].filter((key) => scope.route.has(key))).toEqual([])
    }),
  )
})

test('the diff of a scope is the part of the whole diff within that scope', () => {
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
          addObject(touched, operation)
          return (
            [...touched.neighbour].some((key) => scope.neighbour.has(key)) ||
            [...touched.fdb].some((key) => scope.fdb.has(key)) ||
            [...touched.nexthop].some((key) => scope.nexthop.has(key)) ||
            [...touched.route].some((key) => scope.route.has(key))
          )
        })
        expect(new Set(part.map(describeOperation))).toEqual(new Set(whole.map(describeOperation)))
      },
    ),
  )
  expect(isEmptyScope(emptyScope())).toBe(true)
})

test('a pass in slices makes the same changes as the whole diff, each once', () => {
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
    { numRuns: runs(200, 50_000) },
  )
})

// The kernel deletes the routes of a deleted nexthop.
test('the route of a peer that leaves during a pass is removed before its nexthop', () => {
  const state = wants([peer(2), peer(3)], 'nexthop')
  let peers = [peer(2), peer(3)]
  const lookup = lookupIn(() => peers)
  const size = state.route.size
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

  test('has the name and MTU of flannel', () => {
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
    const jumbo = { ...underlay, link: { ...underlay.link, mtu: 9216 } }
    expect(overlayMtu(sized, jumbo)).toBe(8950)
  })

  test('never has a larger MTU than the underlay carries, whatever the config says', () => {
    const wants = (MTU: number) => config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', MTU } })
    const on = (mtu: number) => ({ ...underlay, link: { ...underlay.link, mtu } })
    expect(overlayMtu(wants(1501), on(1500))).toBe(1450)
    expect(overlayMtu(wants(1500), on(1500))).toBe(1450)
    expect(overlayMtu(wants(1499), on(1500))).toBe(1449)
    expect(overlayMtu(wants(65535), on(65536))).toBe(65485)
    expect(overlayMtu(config(), on(65536))).toBe(65485)
    expect(overlayMtu(config(), { ...on(65536), carrier: { mtu: 1500, name: 'eth1' } })).toBe(1450)
    expect(describeShortage(wants(1500), on(1500))).toBeUndefined()
    expect(describeShortage(wants(9001), on(1500))).toMatch(
      /^Backend.MTU is 9001, and eth0 carries 1500: this host uses 1500/,
    )
  })

  test.each([
    ['IPv4 at its minimum', config(), 118, undefined],
    ['IPv4 below', config(), 117, /IPv4 overlay needs 68 bytes, but the MTU 117 of eth0 leaves 67$/],
    ['IPv6 at its minimum', dualConfig(), 1350, undefined],
    ['IPv6 below', dualConfig(), 1349, /IPv6 overlay needs 1280 bytes, but the MTU 1349 of eth0 leaves 1279/],
  ])('needs an underlay large enough: %s', (_what, wanted, mtu, refusal) => {
    const check = () => checkMtu(wanted, { ...underlay, link: { ...underlay.link, mtu } })
    if (refusal === undefined) expect(check).not.toThrow()
    else expect(check).toThrow(refusal)
  })

  test('of IPv6 has an MTU 20 bytes smaller, and subnet.env has the smallest MTU of the devices', () => {
    const link = desiredLink(dualConfig(), underlay, underlay.ipv6.local, hw('02:00:00:00:00:06'))
    expect(link).toMatchObject({ name: 'flannel-v6.1', mtu: 1430, local: ip6('fd77::11') })
    expect(overlayMtu(dualConfig(), underlay)).toBe(1430)
    expect(desiredAddress(net6('fd00:5:0:3e::/64'))).toEqual(net6('fd00:5:0:3e::/128'))
  })

  test('is created if it does not exist, and left alone if it is right', () => {
    expect(diffLink(wanted, undefined)).toEqual([{ kind: 'create-link', link: wanted }])
    expect(diffLink(wanted, observed)).toEqual([])
  })

  test('is corrected in place if the kernel allows that', () => {
    expect(
      diffLink(wanted, { ...vxlan({ learning: true }), mtu: 1200, mac: hw('02:00:00:00:00:77') }),
    ).toEqual([
      { kind: 'change-link', index: 9, name: 'flannel.1', mac: wanted.mac, mtu: 1450, learning: false },
    ])
    expect(diffLink(wanted, { ...observed, master: 5 })).toEqual([
      { kind: 'change-link', index: 9, name: 'flannel.1', detach: true },
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
  ])('is made again if %j cannot be corrected', (fields) => {
    expect(diffLink(wanted, vxlan(fields)).map(({ kind }) => kind)).toEqual(['delete-link', 'create-link'])
  })

  test('keeps its port unless the config names one', () => {
    expect(diffLink(wanted, vxlan({ port: 4789 }))).toEqual([])
    expect(diffLink({ ...wanted, port: 8472 }, vxlan({ port: 4789 }))).toHaveLength(2)
  })

  test('is not made if a device of another kind has its name', () => {
    const bridge = { ...observed, kind: 'bridge', vxlan: undefined }
    expect(() => diffLink(wanted, bridge)).toThrow(
      'interface flannel.1 exists and is of kind bridge, not vxlan',
    )
  })

  test.each<[string, string, boolean]>([
    ['with a prefix, which makes the kernel add a route', '192.0.2.9/24', true],
    ['that another interface has too', '192.168.77.11/32', true],
    ['that nothing else has', '192.0.2.9/32', false],
  ])('loses or keeps a foreign address %s', (_what, text, goes) => {
    const address = (each: string) => ({ linkIndex: 9, address: net(each), scope: 'global' as const })
    const elsewhere = new Set([ip('192.168.77.11')])
    const link = { ...observed, up: true }
    expect(
      diffAddresses(
        net('10.5.1.0/32'),
        net('10.5.0.0/16'),
        link,
        [address('10.5.1.0/32'), address(text)],
        elsewhere,
      ),
    ).toEqual(goes ? [{ kind: 'delete-address', index: 9, address: net(text) }] : [])
  })

  test('gets its address and comes up, and loses the address of an earlier subnet', () => {
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
