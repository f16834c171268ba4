import type { KernelObjects, ObservedObjects, Route } from '../../../src/model/kernel'
import { ODD_DESTINATION, ROUTE_PROTOCOL, routeKey } from '../../../src/model/kernel'
import type { Peer } from '../../../src/model/lease'
import { compareObjects, foreignObjects } from '../../../src/plan/compare'
import { desiredObjects } from '../../../src/plan/desired'
import { hw, ip, ip6, net, net6 } from './support'

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
  neighbours: new Map(),
  fdb: new Map(),
  nexthops: new Map(),
  routes: new Map(),
}

/** Everything but what is in sync. */
const differences = (observed: KernelObjects, wanted = desired) =>
  compareObjects(wanted, observed).filter(({ state }) => state !== 'in-sync')

test('what is as it should be is in sync, each object of each peer', () => {
  const compared = compareObjects(desired, desired)
  expect(differences(desired)).toEqual([])
  expect(compared.map(({ kind }) => kind).sort()).toEqual(
    ['fdb', 'fdb', 'neighbour', 'neighbour', 'nexthop', 'nexthop', 'route', 'route'].sort(),
  )
})

test('of a device with nothing on it all is missing; without peers all there is is too much', () => {
  expect(compareObjects(desired, NOTHING).map(({ state }) => state)).toEqual(Array(8).fill('missing'))
  expect(compareObjects(NOTHING, desired).map(({ state }) => state)).toEqual(Array(8).fill('extra'))
})

test('what is there in another form is wrong, and is told with what is there', () => {
  const [first] = peers
  const other = hw('02:00:00:00:00:99')
  const route: Route = {
    destination: net('10.5.2.0/24'),
    metric: 0,
    tos: 0,
    protocol: 3,
    target: { kind: 'gateway', gateway: ip('10.5.2.0'), onlink: true },
  }
  expect(
    differences({
      neighbours: new Map([...desired.neighbours, [ip('10.5.2.0'), other]]),
      fdb: new Map([...desired.fdb, [first?.mac ?? other, [ip('192.168.77.12'), ODD_DESTINATION]]]),
      nexthops: new Map([...desired.nexthops, [ip('10.5.2.0') as number, ip('10.5.9.0')]]),
      routes: new Map([...desired.routes, [routeKey(route.destination), [route]]]),
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
      kind: 'neighbour',
      object: '10.5.2.0 lladdr 02:00:00:00:00:02',
      state: 'wrong',
      found: '10.5.2.0 lladdr 02:00:00:00:00:99',
    },
    {
      kind: 'fdb',
      object: '02:00:00:00:00:02 dst 192.168.77.12',
      state: 'wrong',
      found: '02:00:00:00:00:02 dst 192.168.77.12 and elsewhere',
    },
  ])
})

test('a further route to a peer is too much, beside the one that is right', () => {
  const further: Route = {
    destination: net('10.5.2.0/24'),
    metric: 50,
    tos: 0,
    protocol: ROUTE_PROTOCOL,
    target: { kind: 'other' },
  }
  const key = routeKey(further.destination)
  const routes = new Map([...desired.routes, [key, [...(desired.routes.get(key) ?? []), further]] as const])
  expect(differences({ ...desired, routes })).toEqual([
    { kind: 'route', object: '10.5.2.0/24 metric 50 proto 79', state: 'extra' },
  ])
})

test('routes of others into the network and their nexthops are foreign; the bridge, and what lies elsewhere, is not', () => {
  const route = (text: string, linkIndex: number, metric = 0) => ({
    destination: net(text),
    metric,
    linkIndex,
    hasGateway: false,
  })
  const observed: Pick<ObservedObjects, 'takenNexthops'> = { takenNexthops: new Set([168100352]) }
  const around = {
    network: net('10.5.0.0/16'),
    subnet: net('10.5.1.0/24'),
    linkIndex: 7,
    linkName: (index: number | undefined) => `link${index}`,
  }
  const routes = [
    route('10.5.1.0/24', 3),
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
    'fd00:5:0:2:: lladdr 02:00:00:00:06:02',
    '02:00:00:00:06:02 dst fd77::12',
  ])
})
