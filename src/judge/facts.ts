/**
 * The facts that the doctor can know of a host. The edges find them (gather/sources.ts), and pure checks
 * judge them (checks/). Each fact is there, or a problem says why it is not.
 */
import type { PrefixesDocument } from '../api/documents'
import type { Status } from '../api/status'
import type { Family, IpAddress, MacAddress, Prefix } from '../model/address'
import type { NetworkConfig } from '../model/config/network-config'
import type { DockerNetwork } from '../model/docker'
import type { EngineFiles } from '../model/engines'
import type { BridgeNetfilter } from '../model/firewall'
import type { Greeting } from '../model/greeting'
import type { HostEntry } from '../model/host-record'
import type { HostAddress, ObservedLink } from '../model/kernel/link'
import type { KernelObjects } from '../model/kernel/objects'
import type { DefaultRoute, RouteLookup, UnderlayRoute } from '../model/kernel/route'
import type { ObservedWireguard } from '../model/kernel/wireguard'
import type { Lease, LeaseSubnet, Slot, UnreadableLease, WireguardAnnouncement } from '../model/lease'
import type { Destination, GroupsEntry, ObservedBridge } from '../model/multicast'
import type { PacketFilter } from '../model/packet-filter'
import type { Found, Result } from '../model/result'

/** The value of each fact. A new fact begins here; the compiler then asks for its source. */
export interface FactValues {
  readonly daemon: DaemonFacts
  /** Why the last daemon ended; `undefined` where it did not end for a reason. */
  readonly lastExit: LastExitFact | undefined
  /** The daemon's unit; `undefined` where systemd does not know it. */
  readonly service: ServiceFact | undefined
  readonly etcd: EtcdFacts
  /** The network config in etcd. */
  readonly config: NetworkConfig
  /**
   * Seconds that this host's lease has left in etcd; `undefined` for a reservation, and where there is no
   * lease.
   */
  readonly leaseLife: number | undefined
  /** What an endpoint of etcd shows to anyone who connects. */
  readonly greeting: Greeting
  /** Of etcd, as this host has them and as etcd shows its own. */
  readonly certificates: readonly CertificateFact[]
  /** How many seconds etcd's clock is ahead of this host's. */
  readonly clock: { readonly endpoint: string; readonly aheadSeconds: number }
  readonly kernel: KernelFacts
  /** `undefined` where the device for multicast does not exist. */
  readonly multicast: MulticastFacts | undefined
  /** `undefined` where the network config asks for no encryption, and where there is no WireGuard device. */
  readonly wireguard: readonly WireguardFacts[] | undefined
  /**
   * address -> the way there; `undefined` where there is no way. The addresses are the PublicIPs of peers,
   * one address in each peer's subnet, and one in each prefix that this host announces. An address whose
   * look-up failed is left out.
   */
  readonly ways: ReadonlyMap<IpAddress, RouteLookup | undefined>
  /** What hosts announce besides their subnets, as the daemon judges it. */
  readonly prefixes: PrefixesDocument
  readonly forwarding: ForwardingFact
  /**
   * interface name, `all` or `default` -> 0 none, 1 strict, 2 loose (kernel:
   * Documentation/networking/ip-sysctl.rst)
   */
  readonly rpFilter: ReadonlyMap<string, number>
  /** interface name, or `all` -> its own switches; an unreadable one is left out */
  readonly switches: ReadonlyMap<string, LinkSwitches>
  /** Connections that the kernel tracks, and the most that it can track. */
  readonly conntrack: { readonly count: number; readonly max: number }
  readonly bridgeNetfilter: BridgeNetfilter
  /** Processes called dockerd in this network namespace; the start in milliseconds since 1970. */
  readonly dockerd: readonly { readonly pid: number; readonly startedAt: number }[]
  /** What the dockerd of this host says; `undefined` where none runs. */
  readonly docker: DockerFacts | undefined
  /** The networks of Podman and CNI, by their files. */
  readonly engines: EngineFiles
  /** Whether CNI is configured here: containers may get a bridge of its, when the first one starts. */
  readonly cni: boolean
  readonly firewall: PacketFilter
  readonly subnetFile: SubnetFileFacts
  /** One round of probes; the next three facts are its parts. */
  readonly probing: ProbingFact
  readonly probes: readonly ProbeFact[]
  readonly containerProbes: readonly ContainerProbe[]
  /** Losses that the kernel counted during the probes: counter -> packets, for counters that grew. */
  readonly counted: ReadonlyMap<string, number>
}

export type FactName = keyof FactValues

/** What the doctor knows without a look at the host. */
export interface Given {
  /** Milliseconds since 1970. */
  readonly now: number
  readonly etcdPrefix: string
  readonly runDirectory: string
  /** As the operator gave them; empty for none. */
  readonly etcdEndpoints: readonly string[]
  /** Addresses of etcd that are known without DNS. */
  readonly etcdAddresses: readonly IpAddress[]
}

/** All facts; one that was not asked for has the code {@link NOT_ASKED}. */
export type Facts = Given & { readonly [F in FactName]: Result<FactValues[F]> }

/**
 * The facts that a check, or the source of a fact, declares: those it needs are there, those it uses may be
 * missing.
 */
export type Known<N extends FactName, U extends FactName = never> = Given & {
  readonly [F in N]: Found<FactValues[F]>
} & Pick<Facts, U>

/** Code of a missing fact: this user may not read it. */
export const NO_RIGHTS = 'no-rights'
/** Code of a missing fact: this user may not read where etcd is. */
export const ETCD_UNKNOWN = 'etcd-unknown'
/** Code of a missing fact: it does not concern this host. */
export const NEEDLESS = 'needless'
/** Code of a missing fact: no check that was asked for needs it. */
export const NOT_ASKED = 'not-asked'

/** The part of the daemon's status document that checks judge. */
export type DaemonFacts = Pick<
  Status,
  | 'version'
  | 'problems'
  | 'problemDetails'
  | 'peers'
  | 'daemon'
  | 'network'
  | 'lease'
  | 'encryption'
  | 'identity'
>

/** One peer as the daemon reports it. */
export type PeerWord = Status['peers'][number]

export interface EtcdFacts {
  readonly endpoint: string
  /** Of several reads the fastest, in milliseconds. */
  readonly latencyMs: number
  /** JSON text; `undefined` where there is none. */
  readonly config: string | undefined
  readonly leases: readonly Lease[]
  readonly unreadable: readonly UnreadableLease[]
  /** The records of enrolled hosts. */
  readonly hosts?: readonly HostEntry[] | undefined
  /** The multicast groups that hosts announce. */
  readonly groups?: readonly GroupsEntry[] | undefined
}

export interface CertificateFact {
  /** Which: `the client certificate`. */
  readonly name: string
  readonly path: string
  /** Milliseconds since 1970. */
  readonly notAfter: number
}

/** One family's device, and the objects of peers on it. */
export interface DeviceFacts {
  readonly family: Family
  readonly link: ObservedLink
  readonly objects: KernelObjects
}

/** What the kernel has for multicast between hosts. */
export interface MulticastFacts {
  readonly link: ObservedLink
  /** The hosts to which the device sends copies of groups that have no list of their own. */
  readonly destinations: readonly IpAddress[]
  /** Lists of groups, told by the MAC of the group. */
  readonly lists?: readonly Destination[]
  /** The groups that may leave, for each family whose rules ask for that. */
  readonly wanted?: Readonly<Partial<Record<Family, readonly IpAddress[]>>>
  /** Names of the chains in the device's table; `undefined` where this user may not read them. */
  readonly chains: readonly string[] | undefined
  /** All bridges. */
  readonly bridges: readonly ObservedBridge[]
}

/** One WireGuard device of the overlay, by its name. */
export interface WireguardFacts {
  readonly slot: Slot
  readonly link: ObservedLink
  /** `undefined` for a link of another kind. */
  readonly device: ObservedWireguard | undefined
  /** Whether IPv6 packets to the device leave by it; `undefined` in a network without IPv6. */
  readonly hasRule6: boolean | undefined
}

export interface KernelFacts {
  readonly links: readonly ObservedLink[]
  readonly addresses: readonly HostAddress[]
  readonly defaultRoutes: readonly DefaultRoute[]
  /** Of the main table and both families, without overlayd's own. */
  readonly routes: readonly UnderlayRoute[]
  readonly devices: readonly DeviceFacts[]
}

/** Whether the kernel forwards packets; `undefined` where that cannot be read. */
export interface ForwardingFact {
  readonly ipv4: boolean | undefined
  readonly ipv6: boolean | undefined
}

/**
 * Sysctls of one link that decide whether it takes packets (kernel: Documentation/networking/ip-sysctl.rst).
 */
export interface LinkSwitches {
  /** net.ipv4.conf.LINK.forwarding: for packets that arrive by the link. */
  readonly forwarding?: boolean | undefined
  /** net.ipv6.conf.LINK.disable_ipv6 */
  readonly noIpv6?: boolean | undefined
}

export interface DockerFacts {
  /** Of the driver `bridge`. */
  readonly networks: readonly DockerNetwork[]
}

export interface SubnetFileFacts extends LeaseSubnet {
  readonly path: string
  readonly mtu: number | undefined
  /** Whether overlayd masquerades; `undefined` where the file does not say. */
  readonly ipMasq?: boolean | undefined
  /** Milliseconds since 1970. */
  readonly writtenAt: number
}

/** A host that receives packets from this one: as etcd has it or, without etcd, the kernel. */
export interface PeerFact {
  readonly family: Family
  readonly subnet: Prefix
  readonly publicIp: IpAddress
  readonly mac: MacAddress
  /** As in its lease. */
  readonly wireguard?: WireguardAnnouncement
}

/** The result of some pings. */
export interface PingFact {
  readonly sent: number
  readonly received: number
  /** Mean, in milliseconds. */
  readonly rttMs?: number
}

/** What became of a datagram to the peer's VXLAN port. */
export type UdpFact =
  /** No answer and no error, as it should be. */
  | 'silent'
  /** This host's own firewall did not let it out (EPERM). */
  | 'blocked'
  /** The peer says that no program listens there (ICMP port unreachable). */
  | 'refused'
  /** There is no way there. */
  | 'unreachable'

export interface ProbeFact {
  /** {@link peerKey} */
  readonly peer: string
  /**
   * To the VTEP's address, through the overlay: as large as the device takes, and 64 bytes. The small one is
   * left out where no large one was lost.
   */
  readonly overlayFull: PingFact
  readonly overlaySmall?: PingFact
  /**
   * To the PublicIP, past the overlay. The large one is as large as the overlay's largest packet. It is sent
   * where the overlay lost some; with many peers the small one too.
   */
  readonly underlaySmall?: PingFact
  readonly underlayFull?: PingFact
  readonly udp?: UdpFact
  /** The largest packet that reaches the PublicIP, in bytes. It is searched where large ones are lost. */
  readonly pathMtu?: number
  /**
   * Where no ping was answered: whether a TCP connection was answered or refused, through the overlay and
   * past it.
   */
  readonly overlayTcp?: boolean
  readonly underlayTcp?: boolean
}

/** A ping from a container of this host to a peer: the only probe that the kernel forwards. */
export interface ContainerProbe {
  readonly peer: string
  /** The container's address. */
  readonly from: string
  readonly ping: PingFact
}

/** The parts of one round of probes: each has its own reason to be missing. */
export interface ProbingFact {
  readonly probes: Result<readonly ProbeFact[]>
  readonly containers: Result<readonly ContainerProbe[]>
  readonly counted: ReadonlyMap<string, number>
}

/** How systemd sees the daemon's unit (org.freedesktop.systemd1(5)). */
export interface ServiceFact {
  /** `overlayd.service` */
  readonly unit: string
  /** `activating (auto-restart)` */
  readonly state: string
  /** `success`, `exit-code`, `signal`, `watchdog`, `oom-kill`, `timeout`, ... */
  readonly result: string
  /** How the main process ended last: `exit status 1`, `signal 9`; `undefined` while the first one runs. */
  readonly ended: string | undefined
  /** Restarts by systemd itself since someone started the unit. */
  readonly restarts: number
  /** Seconds since the main process was started; `undefined` where none runs. */
  readonly runsSeconds: number | undefined
  /** The last line of the journal that is an error, else the last line; `undefined` where it is not read. */
  readonly lastLine: string | undefined
}

/** Why the last daemon ended. */
export interface LastExitFact {
  /** ISO 8601. */
  readonly at: string
  readonly reason: string
  readonly fix?: string | undefined
  /** Ends for a reason since a daemon was last ready. */
  readonly times: number
}
