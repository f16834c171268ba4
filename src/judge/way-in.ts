/**
 * What the daemon itself judges all the time of the doctor's checks: whether this host's containers have a
 * bridge on the host's subnet, and whether packets of the overlay get out and in. The checks are the doctor's
 * own, over facts that the daemon has at hand.
 */
import { reportNetwork, reportSubnets } from '../api/status-parts'
import {
  type Family,
  familyOf,
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6,
  type Ipv6Prefix,
  ipv4,
  type Prefix,
} from '../model/address'
import type { NetworkConfig } from '../model/config/network-config'
import type { HostAddress, ObservedLink } from '../model/kernel/link'
import type { RouteLookup, UnderlayRoute } from '../model/kernel/route'
import {
  type Lease,
  type LeaseSubnet,
  NO_ETCD_LEASE,
  type Peer,
  type Revision,
  type Vtep,
} from '../model/lease'
import type { PacketFilter } from '../model/packet-filter'
import { failed, found, type Result } from '../model/result'
import { BRIDGE_CHECKS } from './checks/bridge'
import { FIREWALL_CHECKS } from './checks/firewall'
import { HOST_CHECKS } from './checks/host'
import { ROUTE_CHECKS } from './checks/routes'
import {
  type DeviceFacts,
  type FactName,
  type Facts,
  type FactValues,
  type Known,
  NOT_ASKED,
  type PeerWord,
} from './facts'
import type { Check, Finding, Outcome } from './finding'

/** The checks, by the doctor's names, in the order of causes before effects. */
export const WAY_IN_CHECKS = ['routes', 'forwarding', 'firewall', 'bridge'] as const
export type WayInCheck = (typeof WAY_IN_CHECKS)[number]

const CHECKS: readonly Check[] = [...ROUTE_CHECKS, ...HOST_CHECKS, ...FIREWALL_CHECKS, ...BRIDGE_CHECKS]

/** A peer of the sample that is looked at, and how packets leave for it. */
export interface SampledPeer {
  readonly family: Family
  readonly peer: Peer
  readonly encryption: PeerWord['encryption']
  /** Whether it is in every sample. Rules, which seldom tell peers apart, are judged for these alone. */
  readonly isFixed: boolean
}

/** What the daemon knows of this host. */
export interface WayInView {
  /** Milliseconds since 1970. */
  readonly now: number
  readonly etcdPrefix: string
  readonly runDirectory: string
  readonly config: NetworkConfig
  /** This host's lease. */
  readonly own: Lease
  /** Its further subnets. */
  readonly further: readonly Prefix[]
  /** Some of the peers. */
  readonly peers: readonly SampledPeer[]
  readonly links: readonly ObservedLink[]
  readonly addresses: readonly HostAddress[]
  /** Routes of others, in the main table and inside of the network. */
  readonly routes: readonly UnderlayRoute[]
  /** Our devices, with the objects of the sampled peers. */
  readonly devices: readonly DeviceFacts[]
  /** Ways to the sampled peers; empty while the kernel is being programmed. */
  readonly ways: ReadonlyMap<IpAddress, RouteLookup | undefined>
  readonly forwarding: FactValues['forwarding']
  readonly switches: FactValues['switches']
  readonly firewall: Result<PacketFilter>
  readonly subnetFile: LeaseSubnet & { readonly path: string; readonly mtu: number }
  readonly cni: boolean
}

export interface WayInFinding {
  readonly check: WayInCheck
  /** The doctor's. */
  readonly code: string
  /** `problem`: this host is degraded. `warning`: it works in spite of it, or it may be as people want it. */
  readonly severity: 'problem' | 'warning'
  readonly text: string
  readonly fix: string
  /** Whether no packet of the overlay gets through, so that this host is not ready. */
  readonly isCut: boolean
}

/**
 * Findings that the doctor reports as faults, and that leave the daemon healthy: the kernel tells senders of
 * larger packets the MTU (ICMP, RFC 1191), so that most connections go on.
 */
const MILD: ReadonlySet<string> = new Set(['bridge-mtu'])

/** Findings that only probes can decide. */
const NOT_DECIDED: ReadonlySet<string> = new Set(['firewall-undecided', 'host-blocked'])

/** What the daemon has found, for status and metrics. */
export interface WayInReport {
  readonly findings: readonly WayInFinding[]
  /** Checks that could be made. */
  readonly made: ReadonlySet<WayInCheck>
}

/** The answer of one look: what is wrong, and which checks could be made. */
export interface WayInAnswer extends WayInReport {
  /** Peers that another route takes packets of: to be looked at in the next sample too. */
  readonly suspects: ReadonlySet<string>
  /** For the next look. */
  readonly memory: RulesMemory
}

/**
 * What rules were judged, and what came of it. Packets through 10,000 rules take 100 ms of one turn, and in
 * most looks nothing has changed that they depend on.
 */
export interface RulesMemory {
  /** Compared one by one, by identity. */
  readonly inputs: readonly unknown[]
  readonly outcome: Outcome
}

/** @param before the memory of the last look */
export function judgeWayIn(view: WayInView, before?: RulesMemory): WayInAnswer {
  const facts = factsOf(view)
  const made = new Set<WayInCheck>()
  const suspects = new Set<string>()
  const memory = judgeRules(view, before)
  const findings = WAY_IN_CHECKS.flatMap((name): WayInFinding[] => {
    const outcome = name === 'firewall' ? memory.outcome : make(name, facts)
    if ('skipped' in outcome) return []
    made.add(name)
    if (name === 'routes')
      for (const { explains } of outcome.findings)
        if (explains !== undefined && explains !== 'all') for (const key of explains) suspects.add(key)
    return outcome.findings
      .filter(({ code }) => !NOT_DECIDED.has(code))
      .map((finding) => findingOf(name, finding))
  })
  return { findings, made, suspects, memory }
}

function make(name: WayInCheck, facts: Facts): Outcome {
  const check = CHECKS.find((each) => each.name === name)
  if (check === undefined || !check.needs.every((need) => facts[need].ok))
    return { skipped: 'a fact is missing' }
  // The facts that it needs are there.
  return check.run(facts as Known<FactName>, [])
}

function judgeRules(view: WayInView, before: RulesMemory | undefined): RulesMemory {
  const peers = view.peers.filter(({ isFixed }) => isFixed)
  const inputs = [
    ...[view.firewall, view.links, view.addresses, view.config, view.own.value, view.devices.length],
    ...view.further,
    // The link by which a peer is reached directly is not among these.
    view.config.backend.directRouting ? Symbol('never the same') : undefined,
    ...peers.flatMap(({ peer, encryption }) => [peer, encryption]),
  ]
  const isSame =
    before?.inputs.length === inputs.length && before.inputs.every((each, i) => each === inputs[i])
  if (before !== undefined && isSame) return before
  return { inputs, outcome: make('firewall', factsOf({ ...view, peers })) }
}

const findingOf = (check: WayInCheck, finding: Finding): WayInFinding => ({
  check,
  code: finding.code,
  severity: finding.severity === 'fail' && !MILD.has(finding.code) ? 'problem' : 'warning',
  text: [finding.what, ...finding.evidence.slice(0, 1)].join(': '),
  fix: finding.fix,
  isCut: finding.severity === 'fail' && finding.explains === 'all',
})

/** The facts of the doctor, as far as the daemon has them. */
function factsOf(view: WayInView): Facts {
  const missing = failed({ part: 'way-in', code: NOT_ASKED, text: 'the daemon does not look at it' })
  const { config, own, further, links, addresses, routes, devices, subnetFile } = view
  return {
    now: view.now,
    etcdPrefix: view.etcdPrefix,
    runDirectory: view.runDirectory,
    etcdEndpoints: [],
    etcdAddresses: [],
    daemon: found({
      version: '',
      problems: [],
      peers: view.peers.map(wordOf),
      daemon: { running: true, phase: 'running' },
      network: reportNetwork(config, view.etcdPrefix),
      lease: { ...reportSubnets(own), state: 'held', further: further.map(formatPrefix) },
    }),
    config: found(config),
    etcd: found({
      endpoint: '',
      latencyMs: 0,
      config: undefined,
      leases: [own, ...leasesOf(view.peers, config)],
      unreadable: [],
    }),
    kernel: found({ links, addresses, defaultRoutes: [], routes, devices }),
    ways: found(view.ways),
    forwarding: found(view.forwarding),
    switches: found(view.switches),
    firewall: view.firewall,
    subnetFile: found({ ...subnetFile, writtenAt: 0 }),
    cni: found(view.cni),
    lastExit: missing,
    service: missing,
    leaseLife: missing,
    greeting: missing,
    certificates: missing,
    clock: missing,
    multicast: missing,
    prefixes: missing,
    wireguard: missing,
    rpFilter: missing,
    conntrack: missing,
    bridgeNetfilter: missing,
    dockerd: missing,
    docker: missing,
    engines: missing,
    probing: missing,
    probes: missing,
    containerProbes: missing,
    counted: missing,
  }
}

const wordOf = ({ peer, encryption }: SampledPeer): PeerWord => ({
  subnet: formatPrefix(peer.subnet),
  publicIp: formatIp(peer.publicIp),
  mac: formatMac(peer.mac),
  state: 'ok',
  ...(encryption !== undefined && { encryption }),
})

/** The leases that the peers come from, with the halves that are in the sample. */
function leasesOf(peers: readonly SampledPeer[], { backend: { vni } }: NetworkConfig): Lease[] {
  const leases = new Map<string, Lease>()
  for (const { peer } of peers) {
    const { key, subnet, publicIp, mac, wireguard } = peer
    const before = leases.get(key) ?? emptyLease(key)
    const vtep: Vtep = { vni, mac, ...(wireguard !== undefined && { wireguard }) }
    leases.set(
      key,
      isIpv4Prefix(subnet)
        ? {
            ...before,
            subnet: { ...before.subnet, ipv4: subnet },
            value: { ...before.value, publicIp: publicIp as Ipv4, vtep },
          }
        : {
            ...before,
            subnet: { ...before.subnet, ipv6: subnet as Ipv6Prefix },
            value: { ...before.value, publicIpv6: publicIp as Ipv6, vtep6: vtep },
          },
    )
  }
  return [...leases.values()]
}

const isIpv4Prefix = (prefix: Prefix): prefix is Ipv4Prefix => familyOf(prefix.address) === 'IPv4'

const emptyLease = (key: string): Lease => ({
  key,
  subnet: { ipv4: undefined, ipv6: undefined },
  value: {
    publicIp: ipv4(0),
    publicIpv6: undefined,
    backendType: 'vxlan',
    vtep: undefined,
    vtep6: undefined,
  },
  etcdLease: NO_ETCD_LEASE,
  modRevision: 0n as Revision,
})
