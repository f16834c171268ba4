/** Leases: what a host announces of itself in etcd under `<prefix>/subnets/`. */
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

declare const brand: unique symbol

/** An etcd store revision. Revisions of one cluster only grow. */
export type Revision = bigint & { readonly [brand]: 'Revision' }
/** An etcd lease id in decimal, as the client library gives it; `'0'` is no lease. */
export type EtcdLeaseId = string & { readonly [brand]: 'EtcdLeaseId' }

/** The id of a key that is bound to no etcd lease: what flannel calls a reservation (Documentation/reservations.md). */
export const NO_ETCD_LEASE = '0' as EtcdLeaseId

/** Life time that is asked for a lease, in seconds (flannel: pkg/subnet/etcd/local_manager.go). */
export const LEASE_TTL_SECONDS = 86_400

/** The subnets a key names, one of each family that its network has; never none. */
export interface LeaseSubnet {
  readonly ipv4: Ipv4Prefix | undefined
  readonly ipv6: Ipv6Prefix | undefined
}

/** One VXLAN tunnel end point of a host, as far as its lease says it. */
export interface Vtep {
  readonly vni: number
  readonly mac: MacAddress
  /** The VNI by which its containers' multicast is exchanged; absent for a host that takes no part, as all of flannel's do. */
  readonly multicast?: number
}

/** A lease's value. `vtep` and `vtep6` are known only for `backendType` vxlan with readable data. */
export interface LeaseValue {
  /** 0.0.0.0 on a host of a network without IPv4. */
  readonly publicIp: Ipv4
  readonly publicIpv6: Ipv6 | undefined
  /** Compared case-sensitively; only `vxlan` is ours. */
  readonly backendType: string
  readonly vtep: Vtep | undefined
  readonly vtep6: Vtep | undefined
}

/** A lease that could be read. */
export interface Lease {
  readonly key: string
  readonly subnet: LeaseSubnet
  readonly value: LeaseValue
  readonly etcdLease: EtcdLeaseId
  readonly modRevision: Revision
}

/** A key under `subnets/` whose name or value could not be read; it hides no other. */
export interface UnreadableLease {
  readonly key: string
  readonly reason: string
  readonly modRevision: Revision
}

/** One family's half of a lease, as it stands there. */
export interface LeaseHalf {
  readonly subnet: Prefix
  readonly publicIp: IpAddress | undefined
  readonly vtep: Vtep | undefined
}

/** The half of that family; `undefined` when the key names no subnet of it. */
export function leaseHalf({ subnet, value }: Lease, family: Family): LeaseHalf | undefined {
  if (family === 'IPv4') {
    return subnet.ipv4 && { subnet: subnet.ipv4, publicIp: value.publicIp, vtep: value.vtep }
  }
  return subnet.ipv6 && { subnet: subnet.ipv6, publicIp: value.publicIpv6, vtep: value.vtep6 }
}

/** The subnets in words: `10.5.12.0/24 and fd00:5:0:37::/64`. */
export const formatLeaseSubnet = ({ ipv4, ipv6 }: LeaseSubnet): string =>
  [ipv4, ipv6]
    .filter((subnet) => subnet !== undefined)
    .map(formatPrefix)
    .join(' and ')

/** One family's half of a lease that passed validation: another host we send packets to. */
export interface Peer {
  readonly key: string
  readonly subnet: Prefix
  readonly publicIp: IpAddress
  readonly mac: MacAddress
  /** As in {@link Vtep}. */
  readonly multicast?: number
}

/** A lease that is in etcd and not followed, and why. */
export interface RejectedLease {
  readonly key: string
  readonly reason: string
  /** True while the kernel still has the peer as it was when its lease was last good. */
  readonly keepsLastGood: boolean
}

/** Whether an operator keeps the lease for its host: it is bound to no etcd lease, so it never ends by itself. */
export const isReservation = ({ etcdLease }: Lease): boolean => etcdLease === NO_ETCD_LEASE

/** Whether two values announce the same. */
export const sameLeaseValue = (a: LeaseValue, b: LeaseValue): boolean =>
  sameHost(a, b) && a.vtep?.multicast === b.vtep?.multicast && a.vtep6?.multicast === b.vtep6?.multicast

/** Whether two values are of one host: what else it takes part in may differ, for a flanneld on it writes nothing of that. */
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
