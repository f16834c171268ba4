/** What the doctor knows of a host: gathered once at the edges, judged by pure checks. Each part is there, or it is said why not. */
import type { Family, IpAddress, MacAddress, Prefix } from '../../model/address'
import type { BridgeNetfilter, IptablesListing } from '../../model/firewall'
import type {
  DefaultRoute,
  HostAddress,
  KernelObjects,
  ObservedLink,
  RouteLookup,
  UnderlayRoute,
} from '../../model/kernel'
import type { Lease, UnreadableLease } from '../../model/lease'
import type { Destination, GroupsEntry, ObservedBridge } from '../../model/multicast'

/** Something that was looked for. */
export type Fact<T> =
  | { readonly value: T; readonly missing?: never }
  | {
      readonly value?: never
      /** Why it is not known, for people. */
      readonly missing: string
      /** Of an OverlayError; for programs. */
      readonly code?: string
      readonly fix?: string
    }

/** What of the daemon's status document matters here; that document fits it. */
export interface DaemonFacts {
  readonly version: string
  readonly problems: readonly string[]
  readonly daemon: { readonly phase: string; readonly uptimeSeconds?: number | undefined }
  readonly network?:
    | {
        readonly network?: string | undefined
        readonly subnetLength?: number | undefined
        readonly ipv6Network?: string | undefined
        readonly ipv6SubnetLength?: number | undefined
        readonly vni: number
        readonly port?: number | undefined
      }
    | undefined
  readonly lease?:
    | {
        readonly subnet?: string | undefined
        readonly ipv6Subnet?: string | undefined
        readonly state: string
      }
    | undefined
}

export interface EtcdFacts {
  readonly endpoint: string
  /** Of several questions the fastest answer, in milliseconds. */
  readonly latencyMs: number
  /** JSON text. */
  readonly config: string | undefined
  readonly leases: readonly Lease[]
  readonly unreadable: readonly UnreadableLease[]
  /** What hosts say of multicast groups. */
  readonly groups?: readonly GroupsEntry[] | undefined
  /** etcd lease id -> seconds left, of the leases that may be ours; a lease that etcd does not know is not there */
  readonly timeToLive: ReadonlyMap<string, number>
}

export interface CertificateFact {
  /** Which: `the client certificate`. */
  readonly name: string
  readonly path: string
  /** Milliseconds since 1970. */
  readonly notAfter: number
}

/** One family's device and what peers have on it. */
export interface DeviceFacts {
  readonly family: Family
  readonly link: ObservedLink
  readonly objects: KernelObjects
}

/** What there is for multicast between hosts. */
export interface MulticastFacts {
  readonly link: ObservedLink
  /** The hosts that it sends copies to of what has no list of its own. */
  readonly destinations: readonly IpAddress[]
  /** The lists of MACs that have one. */
  readonly lists?: readonly Destination[]
  /** The groups that may leave, of families in which rules ask for that. */
  readonly wanted?: Readonly<Partial<Record<Family, readonly IpAddress[]>>>
  /** Names of the chains in its table; `undefined` where they may not be read. */
  readonly chains: readonly string[] | undefined
  /** All bridges. */
  readonly bridges: readonly ObservedBridge[]
}

export interface KernelFacts {
  readonly links: readonly ObservedLink[]
  readonly addresses: readonly HostAddress[]
  readonly defaultRoutes: readonly DefaultRoute[]
  /** Of the main table and both families, ours not among them. */
  readonly routes: readonly UnderlayRoute[]
  readonly devices: readonly DeviceFacts[]
  /** Only where the network config asks for it and its device is there. */
  readonly multicast?: MulticastFacts
}

export interface HostFacts {
  readonly ipForward: boolean | undefined
  readonly ipv6Forward: boolean | undefined
  /** interface name, or `all` -> 0 none, 1 strict, 2 loose (kernel: Documentation/networking/ip-sysctl.rst) */
  readonly rpFilter: ReadonlyMap<string, number>
  /** `undefined` where connections are not tracked. */
  readonly conntrack: { readonly count: number; readonly max: number } | undefined
  readonly bridgeNetfilter: BridgeNetfilter | undefined
  /** Processes called dockerd in this network namespace; the start in milliseconds since 1970. */
  readonly dockerd: readonly { readonly pid: number; readonly startedAt: number }[]
}

export interface FirewallFacts {
  /** `undefined` where the program is not there or failed. */
  readonly iptables: ReadonlyMap<Family, IptablesListing>
  /** What `nft -a list ruleset` prints; `undefined` where it cannot be told. */
  readonly ruleset: string | undefined
}

export interface SubnetFileFacts {
  readonly path: string
  readonly ipv4: Prefix | undefined
  readonly ipv6: Prefix | undefined
  readonly mtu: number | undefined
  /** Milliseconds since 1970. */
  readonly writtenAt: number
}

/** A host that packets are sent to, as etcd or, without it, the kernel has it. */
export interface PeerFact {
  readonly family: Family
  readonly subnet: Prefix
  readonly publicIp: IpAddress
  readonly mac: MacAddress
}

/** How pings went. */
export interface PingFact {
  readonly sent: number
  readonly received: number
  /** Mean, in milliseconds. */
  readonly rttMs?: number
}

/** What became of a datagram to the peer's VXLAN port. */
export type UdpFact =
  /** Nobody said anything, as it should be. */
  | 'silent'
  /** This host's own firewall did not let it out (EPERM). */
  | 'blocked'
  /** The peer says that nobody listens there (ICMP port unreachable). */
  | 'refused'
  /** There is no way there. */
  | 'unreachable'

export interface ProbeFact {
  /** {@link peerKey} */
  readonly peer: string
  /** To the VTEP's address, through the overlay: as large as the device takes, and 64 bytes. The small one is left out where no large one was lost. */
  readonly overlayFull: PingFact
  readonly overlaySmall?: PingFact
  /** To the PublicIP, past the overlay. The large one is what the overlay makes of its largest packet; sent where the overlay lost some, and of many peers the small one too. */
  readonly underlaySmall?: PingFact
  readonly underlayFull?: PingFact
  readonly udp?: UdpFact
  /** The largest packet that reaches the PublicIP, in bytes; looked for where large ones are lost. */
  readonly pathMtu?: number
}

export interface Facts {
  /** Milliseconds since 1970. */
  readonly now: number
  readonly etcdPrefix: string
  readonly runDirectory: string
  /** Addresses of etcd that are known without DNS. */
  readonly etcdAddresses: readonly IpAddress[]
  readonly daemon: Fact<DaemonFacts>
  readonly etcd: Fact<EtcdFacts>
  /** Those that this host has and etcd shows. */
  readonly certificates: Fact<readonly CertificateFact[]>
  /** How far etcd's clock is before ours. */
  readonly clock: Fact<{ readonly endpoint: string; readonly aheadSeconds: number }>
  readonly kernel: Fact<KernelFacts>
  readonly host: HostFacts
  readonly firewall: Fact<FirewallFacts>
  readonly subnetFile: Fact<SubnetFileFacts>
  /** address -> the way there; `undefined` where there is none. Of peers: their PublicIPs, and an address in each subnet. */
  readonly ways: ReadonlyMap<IpAddress, RouteLookup | undefined>
  readonly probes: Fact<readonly ProbeFact[]>
}
