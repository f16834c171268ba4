import type { ObservedLink } from '../../../../src/model/kernel/link'
import type { DefaultRoute, UnderlayRoute } from '../../../../src/model/kernel/route'
import { carrierOf, isWayOut, roomOf, type Ways } from '../../../../src/plan/host/underlay-room'
import { hw, net } from '../support'

const link = (index: number, name: string, mtu: number, more: Partial<ObservedLink> = {}): ObservedLink => ({
  index,
  name,
  mac: hw('02:00:00:00:00:01'),
  mtu,
  up: true,
  kind: undefined,
  vxlan: undefined,
  ...more,
})
const lo = link(1, 'lo', 65_536, { loopback: true })
const links = [
  lo,
  link(2, 'eth0', 1500),
  link(3, 'eth1', 9000),
  link(4, 'docker0', 1400, { kind: 'bridge' }),
  link(5, 'flannel.1', 1300, { kind: 'vxlan' }),
  link(6, 'dummy0', 1200, { kind: 'dummy' }),
]
const none: Ways = { links, addresses: [], defaultRoutes: [], routes: [] }
const byDefault = (route: Partial<DefaultRoute>): DefaultRoute => ({
  family: 'IPv4',
  linkIndex: undefined,
  gateway: undefined,
  ...route,
})
const route = (more: Partial<UnderlayRoute>): UnderlayRoute => ({
  destination: net('10.9.0.0/16'),
  metric: 0,
  linkIndex: undefined,
  hasGateway: false,
  ...more,
})
const address = (linkIndex: number): Ways['addresses'][number] => ({
  linkIndex,
  address: net('10.9.0.0/16'),
  scope: 'global',
  permanent: true,
  temporary: false,
  deprecated: false,
  tentative: false,
  duplicate: false,
})

test('an interface that sends itself limits the packet size, which is never above that of IP', () => {
  for (const each of links) expect(isWayOut(each)).toBe(!['lo', 'dummy0'].includes(each.name))
  expect(isWayOut(link(7, 'blue', 65_575, { kind: 'vrf' }))).toBe(false)
  expect(carrierOf(link(2, 'eth0', 1500), none)).toBeUndefined()
  expect(roomOf({ link: link(2, 'eth0', 9000) })).toEqual({ name: 'eth0', mtu: 9000 })
  expect(roomOf({ link: lo })).toEqual({ name: 'lo', mtu: 65_535 })
  expect(roomOf({ link: lo, carrier: { name: 'eth0', mtu: 1500 } })).toEqual({ name: 'eth0', mtu: 1500 })
})

test.each<[string, Partial<Ways>, string | undefined]>([
  [
    'the default route',
    { defaultRoutes: [byDefault({ linkIndex: 3 })], routes: [route({ linkIndex: 2, hasGateway: true })] },
    'eth1',
  ],
  [
    'the smallest of several',
    { defaultRoutes: [byDefault({ linkIndex: 3 }), byDefault({ linkIndex: 2 })] },
    'eth0',
  ],
  ['a route over several links', { defaultRoutes: [byDefault({ linkIndexes: [3, 2] })] }, 'eth0'],
  [
    'routes with a gateway, if there is no default route',
    { routes: [route({ linkIndex: 4 }), route({ linkIndex: 3, hasGateway: true })] },
    'eth1',
  ],
  ['a route with a gateway over several links', { routes: [route({ linkIndexes: [3] })] }, 'eth1'],
  [
    'never our own device',
    { defaultRoutes: [byDefault({ linkIndex: 5 }), byDefault({ linkIndex: 3 })] },
    'eth1',
  ],
  [
    'an interface with an address that is not a bridge, if there is no route',
    { addresses: [1, 4, 3, 6].map(address) },
    'eth1',
  ],
  ['nothing', {}, undefined],
])('packets from an address on lo are carried by: %s', (_what, ways, name) => {
  expect(carrierOf(lo, { ...none, ...ways })?.name).toBe(name)
})
