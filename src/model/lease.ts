/** Leases: the entries by which hosts announce themselves in etcd under `<prefix>/subnets/`. */
import {
  type Family,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6,
  type Ipv6Prefix,
  type MacAddress,
  type Prefix,
} from './address'
import type { WireguardKey } from './kernel/wireguard'

declare const brand: unique symbol

/** An etcd store revision. Within one cluster, revisions only grow. */
export type Revision = bigint & { readonly [brand]: 'Revision' }
/** An etcd lease id in decimal, as the client library gives it. `'0'` stands for no lease. */
export type EtcdLeaseId = string & { readonly [brand]: 'EtcdLeaseId' }

/**
 * The lease id of a key that is bound to no etcd lease: flannel's reservation
 * (Documentation/reservations.md).
 */
export const NO_ETCD_LEASE = '0' as EtcdLeaseId

/** Life time to request for a lease, in seconds (flannel: pkg/subnet/etcd/local_manager.go). */
export const LEASE_TTL_SECONDS = 86_400

/** The subnets named by a key, one per family of its network; at least one is set. */
export interface LeaseSubnet {
  readonly ipv4: Ipv4Prefix | undefined
  readonly ipv6: Ipv6Prefix | undefined
}

/** One VXLAN tunnel end point of a host, as far as its lease describes it. */
export interface Vtep {
  readonly vni: number
  readonly mac: MacAddress
  /**
   * VNI for its containers' multicast. Absent on hosts that do not take part, which includes all flannel
   * hosts.
   */
  readonly multicast?: number
  /** Absent on hosts that do not encrypt, which includes all flannel hosts. */
  readonly wireguard?: WireguardAnnouncement
}

/** Which of a host's two WireGuard devices. */
export type Slot = 0 | 1
export const SLOTS: readonly Slot[] = [0, 1]
export const slotOf = (turn: number): Slot => (turn % 2 === 0 ? 0 : 1)
/** The last turn: 31 bits. */
export const LAST_TURN = 0x7fffffff

/**
 * How packets reach a host encrypted. Each host has two keys, one for each slot, so that a change of keys is
 * a move from one device to the other.
 */
export interface WireguardAnnouncement {
  /**
   * Counts changes of keys. Two hosts use the slot of the larger turn of theirs. A host that leaves a slot
   * takes a turn above those of all hosts, so that all of them leave that slot with it.
   */
  readonly turn: number
  /** UDP port of slot 0; slot 1 has the next one. */
  readonly port: number
  readonly keys: readonly [WireguardKey, WireguardKey]
  /** Source address of the host's VXLAN packets, where it is not the PublicIP: behind NAT. */
  readonly source?: IpAddress
}

/** An Ed25519 signature (RFC 8032): 64 bytes in base64 with padding, 88 characters. */
export type LeaseSignature = string & { readonly [brand]: 'LeaseSignature' }

/** What the host of a lease has signed: all bytes of the value but the signature itself. */
export interface SignedLease {
  /** The value's text without the signature. */
  readonly text: string
  readonly signature: LeaseSignature
  /** As in {@link LeaseValue}; part of the text. */
  readonly serial?: number
}

/** The last serial: the last millisecond that a date can have (ECMAScript, 21.4.1.1). */
export const LAST_SERIAL = 8_640_000_000_000_000

/** A lease's value. `vtep` and `vtep6` are set only for `backendType` vxlan with readable data. */
export interface LeaseValue {
  /** 0.0.0.0 on a host of a network without IPv4. */
  readonly publicIp: Ipv4
  readonly publicIpv6: Ipv6 | undefined
  /** Compared case-sensitively; only `vxlan` is supported. */
  readonly backendType: string
  readonly vtep: Vtep | undefined
  readonly vtep6: Vtep | undefined
  /**
   * Grows with each other value that the host signs, from 1 to {@link LAST_SERIAL}: the time of the signature
   * in milliseconds since 1970, or one more than the serial before. Absent where nothing is signed, and in
   * what an overlayd of before has signed.
   */
  readonly serial?: number
  /** By the identity of the host. Absent on hosts that prove none, which includes all flannel hosts. */
  readonly signature?: LeaseSignature
}

/** A readable lease. */
export interface Lease {
  readonly key: string
  readonly subnet: LeaseSubnet
  readonly value: LeaseValue
  readonly etcdLease: EtcdLeaseId
  readonly modRevision: Revision
  /** Absent where the value has no signature. */
  readonly signed?: SignedLease
}

/** A key under `subnets/` whose name or value is unreadable. It does not affect other leases. */
export interface UnreadableLease {
  readonly key: string
  readonly reason: string
  readonly modRevision: Revision
  /** Set if the key names no subnet and so never was a lease. `isNew`: the key was just created. */
  readonly misnamed?: { readonly isNew: boolean }
}

/** Most keys naming no subnet whose names are kept. There may be any number; the rest is only counted. */
export const MOST_MISNAMED = 200

/** One family's part of a lease, unchecked. */
export interface FamilyLease {
  readonly subnet: Prefix
  readonly publicIp: IpAddress | undefined
  readonly vtep: Vtep | undefined
}

/** The part of a lease of one family; `undefined` if its key names no subnet of that family. */
export function familyLease({ subnet, value }: Lease, family: Family): FamilyLease | undefined {
  if (family === 'IPv4') {
    return subnet.ipv4 && { subnet: subnet.ipv4, publicIp: value.publicIp, vtep: value.vtep }
  }
  return subnet.ipv6 && { subnet: subnet.ipv6, publicIp: value.publicIpv6, vtep: value.vtep6 }
}

/** The subnets as text: `10.5.12.0/24 and fd00:5:0:37::/64`. */
export const formatLeaseSubnet = ({ ipv4, ipv6 }: LeaseSubnet): string =>
  [ipv4, ipv6]
    .filter((subnet) => subnet !== undefined)
    .map(formatPrefix)
    .join(' and ')

/** The subnets in the name of a key, spelled with `/`. A name that is not a subnet is unchanged. */
export const subnetsOfKey = (key: string): string[] =>
  key
    .slice(key.lastIndexOf('/') + 1)
    .split('&')
    .map((name) => name.replace(/-(?=\d+$)/, '/'))

/** One family's part of a valid lease: another host that we send packets to. */
export interface Peer {
  readonly key: string
  readonly subnet: Prefix
  readonly publicIp: IpAddress
  readonly mac: MacAddress
  /** As in {@link Vtep}. */
  readonly multicast?: number
  /** As in {@link Vtep}. */
  readonly wireguard?: WireguardAnnouncement
  /** As in {@link Lease}. */
  readonly signed?: SignedLease
}

/** A lease in etcd that is not followed, and why. */
export interface RejectedLease {
  readonly key: string
  readonly reason: string
  /** Whether the kernel still has the peer as it was when its lease was last valid. */
  readonly keepsLastGood: boolean
}

/**
 * The states of a host's own lease. `held`: the key is ours. `lost`: the key is gone. `conflict`: the key
 * names another host. `drained`: an operator gave the lease back (`overlayctl drain`).
 */
export const LEASE_STATES = ['held', 'lost', 'conflict', 'drained'] as const

/** Whether an operator reserved the lease: it is bound to no etcd lease, so it never ends by itself. */
export const isReservation = ({ etcdLease }: Lease): boolean => etcdLease === NO_ETCD_LEASE

/** The host a subnet is reserved for, by the addresses that the host announces. */
export interface ReservedFor {
  readonly publicIp: Ipv4 | undefined
  readonly publicIpv6: Ipv6 | undefined
}

/** Whether two values announce the same, including multicast, encryption and the signature. */
export const sameLeaseValue = (a: LeaseValue, b: LeaseValue): boolean =>
  sameHost(a, b) && sameExtras(a.vtep, b.vtep) && sameExtras(a.vtep6, b.vtep6) && a.signature === b.signature

export const sameSigned = (a: SignedLease | undefined, b: SignedLease | undefined): boolean =>
  a === b || (a?.signature === b?.signature && a?.text === b?.text)

const sameExtras = (a: Vtep | undefined, b: Vtep | undefined): boolean =>
  a?.multicast === b?.multicast && sameAnnouncement(a?.wireguard, b?.wireguard)

export const sameAnnouncement = (
  a: WireguardAnnouncement | undefined,
  b: WireguardAnnouncement | undefined,
): boolean => a === b || (a !== undefined && b !== undefined && sameKeys(a, b) && a.source === b.source)

/** Whether two announcements differ in nothing but the source address. */
export const sameKeys = (a: WireguardAnnouncement, b: WireguardAnnouncement): boolean =>
  a.turn === b.turn && a.port === b.port && a.keys[0] === b.keys[0] && a.keys[1] === b.keys[1]

/**
 * Whether two values belong to one host. Multicast and encryption may differ: a flanneld on that host does
 * not write them.
 */
export function sameHost(a: LeaseValue, b: LeaseValue): boolean {
  return (
    a.publicIp === b.publicIp &&
    a.publicIpv6 === b.publicIpv6 &&
    a.backendType === b.backendType &&
    sameVtep(a.vtep, b.vtep) &&
    sameVtep(a.vtep6, b.vtep6)
  )
}

function sameVtep(a: Vtep | undefined, b: Vtep | undefined): boolean {
  return a?.vni === b?.vni && a?.mac === b?.mac
}
