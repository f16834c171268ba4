/** The facts of a host that is well, with one peer; tests change what they are about. */
import {
  type Ipv4,
  ipv4,
  mac,
  networkOf,
  type Prefix,
  parseIpv4,
  parseIpv4Prefix,
} from '../../../../src/model/address'
import { type KernelObjects, type ObservedLink, ROUTE_PROTOCOL, routeKey } from '../../../../src/model/kernel'
import type { EtcdLeaseId, Lease, Revision } from '../../../../src/model/lease'
import { nexthopId } from '../../../../src/plan/desired'
import type { Facts, KernelFacts, ProbeFact } from '../../../../src/plan/doctor/facts'

export const ip = (text: string): Ipv4 => parseIpv4(text) ?? ipv4(0)
export const prefix = (text: string): Prefix<Ipv4> => parseIpv4Prefix(text) ?? networkOf(ipv4(0), 0)

export const UNDERLAY = 2
export const DEVICE = 3
const OTHER = 4
export const OWN_MAC = mac(0x02_00_00_00_00_01)
export const PEER_MAC = mac(0x02_00_00_00_00_02)

const PEER = { subnet: prefix('10.5.42.0/24'), publicIp: ip('192.0.2.12') }
export const NOW = Date.parse('2026-01-01T00:00:00Z')

export function lease(
  subnet: string,
  publicIp: string,
  macAddress = PEER_MAC,
  more: Partial<Lease> = {},
): Lease {
  return {
    key: `/coreos.com/network/subnets/${subnet.replace('/', '-')}`,
    subnet: { ipv4: prefix(subnet), ipv6: undefined },
    value: {
      publicIp: ip(publicIp),
      publicIpv6: undefined,
      backendType: 'vxlan',
      vtep: { vni: 1, mac: macAddress },
      vtep6: undefined,
    },
    etcdLease: '77' as EtcdLeaseId,
    modRevision: 1n as Revision,
    ...more,
  }
}

export const LEASES = [lease('10.5.7.0/24', '192.0.2.11', OWN_MAC), lease('10.5.42.0/24', '192.0.2.12')]

export const link = (index: number, name: string, more: Partial<ObservedLink> = {}): ObservedLink => ({
  index,
  name,
  mac: OWN_MAC,
  mtu: 1500,
  up: true,
  kind: undefined,
  vxlan: undefined,
  ...more,
})

export const DEVICE_LINK = link(DEVICE, 'flannel.1', {
  mtu: 1450,
  kind: 'vxlan',
  vxlan: {
    vni: 1,
    port: 8472,
    local: ip('192.0.2.11'),
    parent: UNDERLAY,
    group: undefined,
    learning: false,
    gbp: false,
    l2miss: false,
  },
})

const OBJECTS: KernelObjects = {
  neighbours: new Map([[PEER.subnet.address, PEER_MAC]]),
  fdb: new Map([[PEER_MAC, [PEER.publicIp]]]),
  nexthops: new Map([[nexthopId(PEER.subnet.address), PEER.subnet.address]]),
  routes: new Map([
    [
      routeKey(PEER.subnet),
      [
        {
          destination: PEER.subnet,
          metric: 0,
          tos: 0,
          protocol: ROUTE_PROTOCOL,
          target: { kind: 'nexthop', id: nexthopId(PEER.subnet.address) },
        },
      ],
    ],
  ]),
}

export const address = (linkIndex: number, text: string) => ({
  linkIndex,
  address: prefix(text),
  scope: 'global' as const,
  permanent: true,
  temporary: false,
  deprecated: false,
  tentative: false,
  duplicate: false,
})

export const route = (destination: string, linkIndex: number, hasGateway = false, metric = 0) => ({
  destination: prefix(destination),
  metric,
  linkIndex,
  hasGateway,
})

export const KERNEL: KernelFacts = {
  links: [link(UNDERLAY, 'eth0'), DEVICE_LINK, link(OTHER, 'tun0')],
  addresses: [address(UNDERLAY, '192.0.2.11/24'), address(DEVICE, '10.5.7.0/32')],
  defaultRoutes: [{ family: 'IPv4', linkIndex: UNDERLAY, gateway: ip('192.0.2.1') }],
  routes: [route('0.0.0.0/0', UNDERLAY, true), route('192.0.2.0/24', UNDERLAY)],
  devices: [{ family: 'IPv4', link: DEVICE_LINK, objects: OBJECTS }],
}

const PINGS = { sent: 3, received: 3, rttMs: 0.3 }
export const LOST = { sent: 3, received: 0 }
export const GOOD_PROBE: ProbeFact = { peer: '10.5.42.0/24', overlayFull: PINGS, underlaySmall: PINGS }

export const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'

export const ETCD = {
  endpoint: 'http://192.0.2.2:2379',
  latencyMs: 1.2,
  config: CONFIG,
  leases: LEASES,
  unreadable: [],
  timeToLive: new Map([['77', 86_000]]),
}

export const DAEMON = {
  version: '0.1.0',
  problems: [],
  daemon: { phase: 'running' },
  network: { network: '10.5.0.0/16', subnetLength: 24, vni: 1 },
  lease: { subnet: '10.5.7.0/24', state: 'held' },
}

export const HOST = {
  ipForward: true,
  ipv6Forward: false,
  rpFilter: new Map([['all', 0]]),
  conntrack: { count: 10, max: 1000 },
  bridgeNetfilter: { present: true, ipv4: true, ipv6: true },
  dockerd: [],
}

/** @param changes what is different from a host that is well */
export const facts = (changes: Partial<Facts> = {}): Facts => ({
  now: NOW,
  etcdPrefix: '/coreos.com/network',
  runDirectory: '/run/overlayd',
  etcdAddresses: [ip('192.0.2.2')],
  daemon: { value: DAEMON },
  etcd: { value: ETCD },
  certificates: { value: [] },
  clock: { value: { endpoint: 'http://192.0.2.2:2379', aheadSeconds: 0 } },
  kernel: { value: KERNEL },
  host: HOST,
  firewall: { value: { iptables: new Map(), ruleset: '' } },
  subnetFile: {
    value: {
      path: '/run/flannel/subnet.env',
      ipv4: prefix('10.5.7.0/24'),
      ipv6: undefined,
      mtu: 1450,
      writtenAt: NOW - 60_000,
    },
  },
  ways: new Map([
    [PEER.publicIp, { linkIndex: UNDERLAY, source: ip('192.0.2.11') }],
    [ip('10.5.42.2'), { linkIndex: DEVICE, source: ip('10.5.7.0') }],
  ]),
  probes: { value: [GOOD_PROBE] },
  ...changes,
})
