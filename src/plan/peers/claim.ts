/** The claim of one lease to a subnet, a MAC and a PublicIP, and the judgement on a lease by itself. */
import {
  type Family,
  familyOf,
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  isUnicast,
  isUnicastMac,
  type MacAddress,
  type Prefix,
  prefixContains,
  prefixesOverlap,
  samePrefix,
} from '../../model/address'
import type { SubnetRange } from '../../model/config/network-config'
import {
  familyLease,
  type Lease,
  type Peer,
  type Revision,
  sameAnnouncement,
  sameSigned,
  type UnreadableLease,
} from '../../model/lease'

/** The properties of the network that a peer must fit. */
export interface OverlayNetwork {
  readonly range: SubnetRange
  readonly vni: number
  /**
   * Whether the network may cover underlay addresses. Then only a PublicIP in the peer's own subnet or ours
   * is refused.
   */
  readonly overlap?: boolean
}

/** The properties of this host that a peer must not clash with. */
export interface OwnIdentity {
  readonly key: string
  readonly subnet: Prefix
  readonly publicIp: IpAddress
  readonly mac: MacAddress
}

/** One peer that joined (`before` undefined), left (`after` undefined) or changed. */
export interface PeerChange {
  readonly before: Peer | undefined
  readonly after: Peer | undefined
}

/** An address that this host must reach outside of the overlay. */
export interface ProtectedAddress {
  readonly address: IpAddress
  /** Description that follows the address: `the address of etcd`. */
  readonly what: string
}

export interface Rejection {
  readonly reason: string
  /** Set if the lease may become valid when this host changes: the lease as read, or its claim. */
  readonly lease?: Lease
  readonly claim?: Claim
  /** Whether the key names no subnet. */
  readonly misnamed?: true
}

/** The subnet and MAC that a valid lease asks for. */
export interface Claim {
  readonly peer: Peer
  /**
   * Revision at which the claim was made. Older claims are judged first; writing the same again keeps the
   * age.
   */
  readonly since: Revision
}

/** A change of a lease's key. */
export type LeaseEvent =
  | { readonly kind: 'lease'; readonly lease: Lease }
  | { readonly kind: 'unreadable'; readonly lease: UnreadableLease }
  | { readonly kind: 'removed'; readonly key: string; readonly misnamed?: true }

/** The unreadable keys of a listing. */
export interface Unreadable {
  readonly leases: readonly UnreadableLease[]
  /** Number of further keys that name no subnet. */
  readonly moreMisnamed?: number | undefined
}

/** Checks a lease by itself: everything except clashes with other peers and protected addresses. */
export function judgeAlone(
  lease: Lease,
  { range, vni, overlap }: OverlayNetwork,
  own: OwnIdentity,
): Peer | string {
  const { network } = range
  const family = familyOf(network.address)
  const { ip, data } = FIELDS[family]
  const leased = familyLease(lease, family)
  if (leased === undefined) return `it has no ${family} subnet`
  const { subnet, publicIp, vtep } = leased
  const place = misplaced(subnet, range)
  if (place !== undefined) return place
  if (prefixesOverlap(subnet, own.subnet)) {
    return `subnet ${formatPrefix(subnet)} overlaps our own ${formatPrefix(own.subnet)}`
  }
  const { backendType } = lease.value
  if (backendType !== 'vxlan') return `BackendType "${backendType}" is not vxlan`
  if (publicIp === undefined) return `it has no ${ip}`
  if (!isUnicast(publicIp)) return `${ip} ${formatIp(publicIp)} is not a unicast address`
  if (publicIp === own.publicIp) return ownAddress(publicIp)
  const inside = overlap ? [subnet, own.subnet] : [network]
  const absurd = inside.find((prefix) => prefixContains(prefix, publicIp))
  if (absurd !== undefined) {
    const what = overlap ? 'subnet' : 'network'
    return `${ip} ${formatIp(publicIp)} lies inside the overlay ${what} ${formatPrefix(absurd)}`
  }
  if (vtep === undefined) return `${data} has no usable VNI and VtepMAC`
  if (vtep.vni !== vni) return `VNI ${vtep.vni} is not the network's ${vni}`
  if (!isUnicastMac(vtep.mac)) return `VtepMAC ${formatMac(vtep.mac)} is not a unicast address`
  if (vtep.mac === own.mac) return `VtepMAC ${formatMac(vtep.mac)} is our own`
  const { multicast, wireguard } = vtep
  return {
    key: lease.key,
    subnet,
    publicIp,
    mac: vtep.mac,
    ...(multicast !== undefined && { multicast }),
    ...(wireguard !== undefined && { wireguard }),
    ...(lease.signed !== undefined && { signed: lease.signed }),
  }
}

/** Why a subnet does not belong to the network; `undefined` if it does. */
export function misplaced(subnet: Prefix, { network, subnetLength }: SubnetRange): string | undefined {
  if (!prefixContains(network, subnet.address) || subnet.length <= network.length) {
    return `subnet ${formatPrefix(subnet)} is outside the network ${formatPrefix(network)}`
  }
  return subnet.length === subnetLength
    ? undefined
    : `subnet ${formatPrefix(subnet)} is not a /${subnetLength}`
}

export function samePeer(a: Peer | undefined, b: Peer | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return (
    samePlace(a, b) &&
    a.multicast === b.multicast &&
    sameAnnouncement(a.wireguard, b.wireguard) &&
    sameSigned(a.signed, b.signed)
  )
}

/** Whether packets reach both in the same way. */
export const samePlace = (a: Peer, b: Peer): boolean =>
  a.publicIp === b.publicIp && a.mac === b.mac && samePrefix(a.subnet, b.subnet)

/** The claim of a peer. It keeps its age while its lease asks for the same place. */
export function claimOf(peer: Peer, revision: Revision, before: Claim | undefined): Claim {
  return { peer, since: before !== undefined && samePlace(before.peer, peer) ? before.since : revision }
}

/** Sorts claims into the order in which they are judged. */
export function oldestFirst(claims: readonly Claim[]): Claim[] {
  return [...claims].sort((a, b) => (a.since < b.since ? -1 : 1))
}

/** Names of the lease's fields of each family. */
export const FIELDS: Readonly<Record<Family, { readonly ip: string; readonly data: string }>> = {
  IPv4: { ip: 'PublicIP', data: 'BackendData' },
  IPv6: { ip: 'PublicIPv6', data: 'BackendV6Data' },
}

export const ownAddress = (publicIp: IpAddress): string =>
  `${FIELDS[familyOf(publicIp)].ip} ${formatIp(publicIp)} is our own`
