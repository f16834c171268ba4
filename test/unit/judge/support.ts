/** The facts of a healthy host with one peer, for tests that change single facts. */

import { problemText, type StatusProblem } from '../../../src/api/problems'
import { readNftObjects } from '../../../src/firewall/nft-json'
import { readSaved } from '../../../src/firewall/xtables'
import {
  type DaemonFacts,
  type EtcdFacts,
  type FactName,
  type Facts,
  type FactValues,
  type KernelFacts,
  NEEDLESS,
  type PeerWord,
  type ProbeFact,
} from '../../../src/judge/facts'
import { readConfig } from '../../../src/judge/overlay'
import {
  type Ipv4,
  ipv4,
  mac,
  networkOf,
  type Prefix,
  parseIpv4,
  parseIpv4Prefix,
} from '../../../src/model/address'
import type { ObservedLink } from '../../../src/model/kernel/link'
import type { KernelObjects } from '../../../src/model/kernel/objects'
import { ROUTE_PROTOCOL, routeKey } from '../../../src/model/kernel/route'
import type { EtcdLeaseId, Lease, Revision } from '../../../src/model/lease'
import type { PacketFilter } from '../../../src/model/packet-filter'
import { type Failed, failed, found, problemOf } from '../../../src/model/result'
import { nexthopId } from '../../../src/plan/objects/nexthop'

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
  neighbour: new Map([[PEER.subnet.address, PEER_MAC]]),
  proxy: new Map(),
  fdb: new Map([[PEER_MAC, [{ address: PEER.publicIp, via: 0 }]]]),
  nexthop: new Map([[nexthopId(PEER.subnet.address), PEER.subnet.address]]),
  route: new Map([
    [
      routeKey(PEER.subnet),
      [
        {
          destination: PEER.subnet,
          metric: 0,
          tos: 0,
          protocol: ROUTE_PROTOCOL,
          mtu: 0,
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

export const ETCD: EtcdFacts = {
  endpoint: 'http://192.0.2.2:2379',
  latencyMs: 1.2,
  config: CONFIG,
  leases: LEASES,
  unreadable: [],
}

export const DAEMON: DaemonFacts = {
  version: '0.1.0',
  problems: [],
  peers: [],
  daemon: { running: true, phase: 'running' },
  network: {
    etcdPrefix: '/coreos.com/network',
    network: '10.5.0.0/16',
    subnetLength: 24,
    backend: 'vxlan',
    vni: 1,
  },
  lease: { subnet: '10.5.7.0/24', state: 'held' },
}

/** Problems that the daemon reports, as in the status document. */
export const reporting = (...problems: readonly StatusProblem[]) => ({
  problems: problems.map(problemText),
  problemDetails: [...problems],
})

/** The fields of a peer that a test sets. */
export type GivenPeer = Pick<PeerWord, 'subnet' | 'state'> & Partial<PeerWord>

/** One peer as the daemon reports it, with defaults for the other fields. */
export const word = (given: GivenPeer): PeerWord => ({
  publicIp: '-',
  mac: '-',
  ...given,
})

const GIVEN = {
  now: NOW,
  etcdPrefix: '/coreos.com/network',
  runDirectory: '/run/overlayd',
  etcdEndpoints: [],
  etcdAddresses: [ip('192.0.2.2')],
}

/** The facts of a healthy host. */
export const WELL: FactValues = {
  daemon: DAEMON,
  lastExit: undefined,
  service: undefined,
  etcd: ETCD,
  config: readConfig(ETCD, GIVEN.etcdPrefix),
  leaseLife: 86_000,
  greeting: { endpoint: 'http://192.0.2.2:2379', aheadSeconds: 0, certificateEnds: undefined },
  certificates: [],
  clock: { endpoint: 'http://192.0.2.2:2379', aheadSeconds: 0 },
  kernel: KERNEL,
  multicast: undefined,
  wireguard: undefined,
  ways: new Map([
    [PEER.publicIp, { linkIndex: UNDERLAY, source: ip('192.0.2.11') }],
    [ip('10.5.42.2'), { linkIndex: DEVICE, source: ip('10.5.7.0') }],
  ]),
  prefixes: { schema: 1, allowed: [], prefixes: [] },
  forwarding: { ipv4: true, ipv6: false },
  rpFilter: new Map([['all', 0]]),
  switches: new Map(),
  conntrack: { count: 10, max: 1000 },
  bridgeNetfilter: { present: true, ipv4: true, ipv6: true },
  dockerd: [],
  docker: { networks: [] },
  engines: { files: [], problems: [], unread: [] },
  cni: false,
  firewall: { chains: [], unread: [] },
  subnetFile: {
    path: '/run/flannel/subnet.env',
    ipv4: prefix('10.5.7.0/24'),
    ipv6: undefined,
    mtu: 1450,
    ipMasq: true,
    writtenAt: NOW - 60_000,
  },
  probing: { probes: found([GOOD_PROBE]), containers: found([]), counted: new Map() },
  probes: [GOOD_PROBE],
  containerProbes: [],
  counted: new Map(),
}

/** A fact that could not be gathered. */
export const missing = (text: string, code = 'unknown'): Failed => failed({ part: 'test', code, text })

/** The facts that a test changes: a value each, or {@link missing}. */
export type Changes = { readonly [F in FactName]?: FactValues[F] | Failed }

const isMissing = (change: unknown): change is Failed =>
  typeof change === 'object' && change !== null && 'ok' in change && change.ok === false

/** Facts that depend on the changed facts. */
function derived({ etcd = ETCD, probes }: Changes): Changes {
  const config = (): Changes => {
    if (isMissing(etcd)) return { config: etcd, leaseLife: etcd }
    try {
      return { config: readConfig(etcd, GIVEN.etcdPrefix) }
    } catch (error) {
      return { config: failed(problemOf('config', error)) }
    }
  }
  return { ...config(), ...(isMissing(probes) && { counted: missing('no peer was probed', NEEDLESS) }) }
}

/** @param changes the facts that differ from those of a healthy host */
export function facts(changes: Changes = {}): Facts {
  const all = { ...WELL, ...derived(changes), ...changes }
  const results = Object.entries(all).map(([name, value]) => [name, isMissing(value) ? value : found(value)])
  return { ...GIVEN, ...Object.fromEntries(results) }
}

/** Rules of iptables from the lines of iptables-save: table name -> lines. */
export const saved = (
  tables: Readonly<Record<string, readonly string[]>>,
  unread: PacketFilter['unread'] = [],
): Changes => {
  const text = Object.entries(tables).map(([table, lines]) =>
    [`*${table}`, ...lines, 'COMMIT', ''].join('\n'),
  )
  return { firewall: { chains: readSaved(text.join(''), 'IPv4', 'iptables').chains, unread } }
}

/** Rules of nft from objects of its JSON. */
export const nft = (...objects: readonly object[]): Changes => ({
  firewall: { chains: readNftObjects(objects, new Map()), unread: [] },
})
