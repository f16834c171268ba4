import type { InterfaceAddress, ObservedLink } from '../../../../src/model/kernel/link'
import type { Route } from '../../../../src/model/kernel/route'
import { desiredIptables } from '../../../../src/plan/firewall/firewall'
import { diffIptables } from '../../../../src/plan/firewall/iptables'
import {
  describeIptablesInput,
  deviceNames,
  type KnownNetwork,
  namesThisHost,
  noFirewall,
  ownLinks,
  ownProxies,
  ownRoutes,
  wireguardVnis,
} from '../../../../src/plan/host/teardown'
import { config, dualConfig, hw, ip, lease, net, net6 } from '../support'

const link = (index: number, name: string, vni?: number): ObservedLink => ({
  index,
  name,
  mac: hw(`02:00:00:00:00:${`${index}`.padStart(2, '0')}`),
  mtu: 1450,
  up: true,
  kind: vni === undefined ? undefined : 'vxlan',
  vxlan:
    vni === undefined
      ? undefined
      : {
          vni,
          port: 8472,
          local: undefined,
          parent: undefined,
          group: undefined,
          learning: false,
          gbp: false,
          l2miss: false,
        },
})
const address = (linkIndex: number, text: string): InterfaceAddress => ({
  linkIndex,
  address: net(text),
  scope: 'global',
})

const links = [
  link(1, 'lo'),
  link(2, 'eth0'),
  link(3, 'flannel.1', 1),
  link(4, 'flannel-v6.1', 1),
  link(5, 'flannel.2', 2),
  // A further network of this host, a tunnel of another program, and a bridge with a name like ours.
  link(6, 'flannel.9', 9),
  link(7, 'vxlan1', 1),
  link(8, 'flannel.3'),
]
const addresses = [
  address(3, '10.5.7.0/32'),
  address(5, '10.5.8.0/32'),
  address(6, '10.9.7.0/32'),
  address(7, '10.5.9.1/24'),
]
/** A WireGuard device. */
const tunnel = (index: number, name: string): ObservedLink => ({ ...link(index, name), kind: 'wireguard' })

const names = (known: KnownNetwork) => ownLinks(known, links, addresses).map((own) => own.link.name)
const unknown: KnownNetwork = { config: undefined, networks: [], fallbackVni: undefined }

test.each<[string, KnownNetwork, string[]]>([
  [
    'by the config: its devices, and those of an earlier config in its network',
    { ...unknown, config: config() },
    ['flannel.1', 'flannel-v6.1', 'flannel.2'],
  ],
  [
    'of another network of the host',
    { ...unknown, config: config({ Network: '10.9.0.0/16', Backend: { Type: 'vxlan', VNI: 9 } }) },
    ['flannel.9'],
  ],
  [
    'by subnet.env alone: those with an address of its network',
    { ...unknown, networks: [net('10.5.0.0/16')] },
    ['flannel.1', 'flannel.2'],
  ],
  ['by nothing but the default', { ...unknown, fallbackVni: 1 }, ['flannel.1', 'flannel-v6.1']],
  ['by nothing at all', unknown, []],
  [
    'of a config whose device name belongs to another program',
    { ...unknown, config: config({ Network: '10.7.0.0/16', Backend: { Type: 'vxlan', VNI: 3 } }) },
    [],
  ],
])('devices %s', (_what, known, expected) => {
  expect(names(known)).toEqual(expected)
})

test('the default VNI is used only if nothing is known', () => {
  expect(deviceNames({ ...unknown, fallbackVni: 1 })).toEqual(['flannel.1', 'flannel-v6.1'])
  expect(deviceNames({ ...unknown, networks: [net('10.5.0.0/16')], fallbackVni: 1 })).toEqual([])
  expect(
    deviceNames({ ...unknown, config: dualConfig({ Backend: { Type: 'vxlan', VNI: 7 } }), fallbackVni: 1 }),
  ).toEqual(['flannel.7', 'flannel-v6.7'])
})

test("direct routes are ours inside our networks, and another network's elsewhere", () => {
  const route = (destination: Route['destination']): Route => ({
    destination,
    metric: 0,
    tos: 0,
    protocol: 79,
    mtu: 0,
    target: { kind: 'direct', gateway: ip('192.168.77.12'), link: 2 },
  })
  const routes = [net('10.5.9.0/24'), net('10.9.0.0/24'), net('10.0.0.0/8'), net6('fd00:5:0:9::/64')].map(
    route,
  )
  expect(ownRoutes({ ...unknown, config: config() }, routes)).toEqual([routes[0]])
  expect(ownRoutes({ ...unknown, config: dualConfig() }, routes)).toEqual([routes[0], routes[3]])
  expect(ownRoutes({ ...unknown, networks: [net('10.9.0.0/16')] }, routes)).toEqual([routes[1]])
  expect(ownRoutes(unknown, routes)).toEqual([])
  // Announced prefixes may lie outside of the network.
  const allows = config({ Network: '10.5.0.0/16', Prefixes: { Allowed: ['10.9.0.0/20'] } })
  expect(ownRoutes({ ...unknown, config: allows }, routes)).toEqual([routes[0], routes[1]])
  const proxies = [ip('10.5.240.7'), ip('10.9.0.7'), ip('10.9.16.7')].map((address) => ({ address, link: 4 }))
  expect(ownProxies({ ...unknown, config: allows }, proxies)).toEqual(proxies.slice(0, 2))
})

test("a lease is this host's by the MAC of its device or by its address", () => {
  const own = [{ family: 'IPv4' as const, link: link(3, 'flannel.1', 1) }]
  const host = [address(2, '192.168.77.11/24')]
  expect(namesThisHost(lease('10.5.7.0/24', { mac: '02:00:00:00:00:03' }), own, [])).toBe(true)
  expect(namesThisHost(lease('10.5.7.0/24', { publicIp: '192.168.77.11' }), [], host)).toBe(true)
  expect(namesThisHost(lease('10.5.7.0/24'), own, host)).toBe(false)
})

test('our firewall chains, their calls and our rules in other chains are removed', () => {
  const request = noFirewall(['flannel.1', 'flannel-v6.1'], undefined)
  const filter = [
    ':FORWARD DROP [0:0]',
    ':DOCKER-USER - [0:0]',
    ':FLANNEL-FWD - [0:0]',
    '-A FORWARD -j DOCKER-USER',
    '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    '-A DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT',
    '-A DOCKER-USER -s 10.9.0.0/16 -i flannel.9 -m comment --comment overlayd -j ACCEPT',
    '-A DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -j ACCEPT',
    '-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
  ]
  const input = diffIptables(desiredIptables(request, 'IPv4'), request.links, new Map([['filter', filter]]))
  expect(describeIptablesInput('IPv4', input ?? '')).toEqual([
    'iptables rule FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD (table filter)',
    'iptables chain FLANNEL-FWD (table filter)',
    'iptables rule DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT (table filter)',
  ])
  const nothing = new Map([['filter' as const, filter.filter((line) => !/FLANNEL|overlayd/.test(line))]])
  expect(diffIptables(desiredIptables(request, 'IPv4'), request.links, nothing)).toBeUndefined()
})

describe('WireGuard devices and rules are ours', () => {
  const vnis = (
    known: KnownNetwork,
    more: readonly ObservedLink[] = [],
    at: readonly InterfaceAddress[] = [],
  ) => {
    const [all, places] = [
      [...links, ...more],
      [...addresses, ...at],
    ]
    return wireguardVnis(known, ownLinks(known, all, places), all, places)
  }

  test('by the VNI of the config, whether there is a device or not, and by those of former VXLAN devices', () => {
    const known = { config: config(), networks: [], fallbackVni: 1 }
    expect(vnis(known)).toEqual([1, 2])
    expect(wireguardVnis(known, [], [], [])).toEqual([1])
  })

  test('by an address of the network in subnet.env, where etcd is silent and the VXLAN device is gone', () => {
    const known = { config: undefined, networks: [net('10.5.0.0/16')], fallbackVni: 1 }
    const more = [tunnel(20, 'fl-wg.5'), tunnel(21, 'fl-wgb.6'), tunnel(22, 'fl-wg.7'), tunnel(23, 'wg0')]
    const at = [address(20, '10.5.7.0/32'), address(21, '10.5.7.0/32'), address(23, '10.5.7.0/32')]
    expect(vnis(known, more, at)).toEqual([1, 2, 5, 6])
    expect(vnis({ ...known, config: config() }, more, at)).toEqual([1, 2])
  })

  test('by nothing where a guess might hit another network', () => {
    expect(
      wireguardVnis({ config: undefined, networks: [], fallbackVni: undefined }, [], links, addresses),
    ).toEqual([])
  })
})
