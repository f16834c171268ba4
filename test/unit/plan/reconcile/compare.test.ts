import type { ObservedLink } from '../../../../src/model/kernel/link'
import type { KernelObjects, ObservedObjects } from '../../../../src/model/kernel/objects'
import { UNKNOWN_TARGET } from '../../../../src/model/kernel/objects'
import type { Route } from '../../../../src/model/kernel/route'
import { ROUTE_PROTOCOL, routeKey } from '../../../../src/model/kernel/route'
import type { Peer } from '../../../../src/model/lease'
import {
  compareObjects,
  compareOverlay,
  foreignObjects,
  type ObservedPlace,
} from '../../../../src/plan/reconcile/compare'
import { desiredObjects, hostObjects } from '../../../../src/plan/reconcile/desired'
import { to } from '../../../support/operations'
import { hw, ip, ip6, net, net6 } from '../support'

const peer = (subnet: string, publicIp: string, mac: string): Peer => ({
  key: subnet,
  subnet: net(subnet),
  publicIp: ip(publicIp),
  mac: hw(mac),
})
const peers = [
  peer('10.5.2.0/24', '192.168.77.12', '02:00:00:00:00:02'),
  peer('10.5.3.0/24', '192.168.77.13', '02:00:00:00:00:03'),
]
const desired = desiredObjects(peers, { style: 'nexthop', directLink: () => undefined })
const NOTHING: KernelObjects = {
  neighbour: new Map(),
  fdb: new Map(),
  nexthop: new Map(),
  route: new Map(),
  proxy: new Map(),
}

/** All rows that are not in sync. */
const differences = (observed: KernelObjects, wanted = desired) =>
  compareObjects(wanted, observed).filter(({ state }) => state !== 'in-sync')

test('each object of each peer that is as desired is in sync', () => {
  const compared = compareObjects(desired, desired)
  expect(differences(desired)).toEqual([])
  expect(compared.map(({ kind }) => kind).sort()).toEqual(
    ['fdb', 'fdb', 'neighbour', 'neighbour', 'nexthop', 'nexthop', 'route', 'route'].sort(),
  )
})

test('on an empty device all objects are missing; without peers all objects are extra', () => {
  expect(compareObjects(desired, NOTHING).map(({ state }) => state)).toEqual(Array(8).fill('missing'))
  expect(compareObjects(NOTHING, desired).map(({ state }) => state)).toEqual(Array(8).fill('extra'))
})

test('an object with another value is wrong, and its value is reported', () => {
  const [first] = peers
  const other = hw('02:00:00:00:00:99')
  const route: Route = {
    destination: net('10.5.2.0/24'),
    metric: 0,
    tos: 0,
    mtu: 0,
    protocol: 3,
    target: { kind: 'gateway', gateway: ip('10.5.2.0'), onlink: true },
  }
  expect(
    differences({
      neighbour: new Map([...desired.neighbour, [ip('10.5.2.0'), other]]),
      fdb: new Map([...desired.fdb, [first?.mac ?? other, [to(ip('192.168.77.12')), UNKNOWN_TARGET]]]),
      nexthop: new Map([...desired.nexthop, [ip('10.5.2.0') as number, ip('10.5.9.0')]]),
      route: new Map([...desired.route, [routeKey(route.destination), [route]]]),
      proxy: new Map(),
    }),
  ).toEqual([
    {
      kind: 'route',
      object: '10.5.2.0/24 through nexthop 168100352 proto 79',
      state: 'wrong',
      found: '10.5.2.0/24 via 10.5.2.0 proto 3',
    },
    {
      kind: 'nexthop',
      object: '168100352 via 10.5.2.0',
      state: 'wrong',
      found: '168100352 via 10.5.9.0',
    },
    {
      kind: 'fdb',
      object: '02:00:00:00:00:02 dst 192.168.77.12',
      state: 'wrong',
      found: '02:00:00:00:00:02 dst 192.168.77.12 and elsewhere',
    },
    {
      kind: 'neighbour',
      object: '10.5.2.0 lladdr 02:00:00:00:00:02',
      state: 'wrong',
      found: '10.5.2.0 lladdr 02:00:00:00:00:99',
    },
  ])
})

test('an entry over another link is wrong, even to the same address', () => {
  const [first] = peers
  const wanted = desiredObjects(peers, {
    style: 'nexthop',
    directLink: () => undefined,
    wayOf: ({ publicIp }) => ({ kind: 'tunnel', link: 9, destination: publicIp }),
  })
  const observed = new Map([
    ...wanted.fdb,
    [first?.mac ?? hw('02:00:00:00:00:99'), [to(ip('192.168.77.12'), 7)]],
  ])
  expect(differences({ ...wanted, fdb: observed }, wanted)).toEqual([
    {
      kind: 'fdb',
      object: '02:00:00:00:00:02 dst 192.168.77.12 via link 9',
      state: 'wrong',
      found: '02:00:00:00:00:02 dst 192.168.77.12 via link 7',
    },
  ])
})

test('a further route to a peer is extra, beside the right one', () => {
  const further: Route = {
    destination: net('10.5.2.0/24'),
    metric: 50,
    tos: 0,
    mtu: 0,
    protocol: ROUTE_PROTOCOL,
    target: { kind: 'other' },
  }
  const key = routeKey(further.destination)
  const routes = new Map([...desired.route, [key, [...(desired.route.get(key) ?? []), further]] as const])
  expect(differences({ ...desired, route: routes })).toEqual([
    { kind: 'route', object: '10.5.2.0/24 metric 50 proto 79', state: 'extra' },
  ])
})

test('foreign routes into the network are reported; the bridge, and routes elsewhere, are not', () => {
  const route = (text: string, linkIndex: number, metric = 0) => ({
    destination: net(text),
    metric,
    linkIndex,
    hasGateway: false,
  })
  const observed: Pick<ObservedObjects, 'takenNexthops'> = { takenNexthops: new Set([168100352]) }
  const around = {
    network: net('10.5.0.0/16'),
    subnets: [net('10.5.1.0/24'), net('10.5.240.0/26')],
    linkIndex: 7,
    linkName: (index: number | undefined) => `link${index}`,
  }
  const routes = [
    route('10.5.1.0/24', 3),
    route('10.5.240.0/27', 5),
    route('10.5.2.128/25', 4, 20),
    route('10.5.3.0/24', 7),
    route('10.0.0.0/8', 4),
    route('0.0.0.0/0', 2),
    route('192.168.77.0/24', 2),
  ]
  expect(foreignObjects(around, routes, observed)).toEqual([
    { kind: 'route', object: '10.5.2.128/25 dev link4 metric 20', state: 'foreign' },
    { kind: 'nexthop', object: '168100352', state: 'foreign' },
  ])
})

test('IPv6 is compared alike', () => {
  const six: Peer = {
    key: 'k',
    subnet: net6('fd00:5:0:2::/64'),
    publicIp: ip6('fd77::12'),
    mac: hw('02:00:00:00:06:02'),
  }
  const wanted = desiredObjects([six], { style: 'gateway', directLink: () => undefined })
  expect(differences(wanted, wanted)).toEqual([])
  expect(differences(NOTHING, wanted).map(({ object }) => object)).toEqual([
    'fd00:5:0:2::/64 via fd00:5:0:2:: metric 1024 proto 79',
    '02:00:00:00:06:02 dst fd77::12',
    'fd00:5:0:2:: lladdr 02:00:00:00:06:02',
  ])
})

describe('a whole family', () => {
  const device = (more: Partial<ObservedLink> = {}): ObservedLink => ({
    index: 3,
    name: 'flannel.1',
    mac: hw('02:00:00:00:00:01'),
    mtu: 1450,
    up: true,
    kind: 'vxlan',
    vxlan: {
      vni: 1,
      port: 8472,
      local: ip('192.168.77.11'),
      parent: 2,
      group: undefined,
      learning: false,
      gbp: false,
      l2miss: false,
    },
    ...more,
  })
  const place = (link: ObservedLink | undefined, more: Partial<ObservedPlace> = {}): ObservedPlace => ({
    name: 'flannel.1',
    network: net('10.5.0.0/16'),
    subnets: [net('10.5.7.0/24')],
    links: link === undefined ? [] : [link],
    link,
    routes: [],
    objects: { ...desired, takenNexthops: new Set() },
    ...more,
  })
  const first = (link: ObservedLink | undefined) => compareOverlay(desired, place(link))[0]

  test('begins with its device', () => {
    expect(first(device())).toEqual({ kind: 'device', object: 'flannel.1', state: 'in-sync' })
    expect(first(undefined)).toMatchObject({ state: 'missing' })
    expect(first(device({ up: false }))).toMatchObject({ state: 'wrong', found: 'down' })
    expect(first(device({ kind: 'dummy', vxlan: undefined }))).toMatchObject({
      state: 'wrong',
      found: 'of kind dummy',
    })
  })

  test('ends with the objects of other programs, if the network is known', () => {
    const routes = [{ destination: net('10.5.9.0/24'), metric: 0, linkIndex: 3, hasGateway: false }]
    const elsewhere = device({ index: 2, name: 'eth0' })
    const view = { routes: routes.map((route) => ({ ...route, linkIndex: 2 })), links: [elsewhere] }
    expect(compareOverlay(desired, place(device(), view)).at(-1)).toEqual({
      kind: 'route',
      object: '10.5.9.0/24 dev eth0',
      state: 'foreign',
    })
    const unknown = compareOverlay(desired, place(device(), { ...view, network: undefined }))
    expect(unknown.filter(({ state }) => state === 'foreign')).toEqual([])
  })
})

test('the blackhole of the own subnet is desired if its option is on', () => {
  const routing = { style: 'nexthop', directLink: () => undefined } as const
  const subnet = net('10.5.7.0/24')
  const routesOf = (blackhole: boolean) => [
    ...hostObjects(peers, routing, { subnet, blackhole }).route.keys(),
  ]
  expect(routesOf(true)).toEqual([...routesOf(false), routeKey(subnet)])
  expect(hostObjects(peers, routing, undefined)).toEqual(desired)
})
