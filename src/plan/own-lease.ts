/** What a host does to hold a lease: decided from what etcd has, done elsewhere. */
import {
  formatIpv4,
  formatPrefix,
  type Ipv4,
  type Ipv4Prefix,
  isUnicastMac,
  type MacAddress,
} from '../model/address'
import { OverlayError } from '../model/errors'
import { isReservation, type Lease, type LeaseValue } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { allocateSubnet, isLeasable, type Random } from './allocate'

export type LeasePlan =
  /** The lease with our PublicIP fits: keep it. */
  | { readonly kind: 'reuse'; readonly lease: Lease }
  /** None fits: create one. `outgrown` are ours of an earlier config, to be deleted afterwards. */
  | { readonly kind: 'create'; readonly subnet: Ipv4Prefix; readonly outgrown: readonly Lease[] }

/** Who asks for a lease. */
export interface HostIdentity {
  readonly publicIp: Ipv4
  /** The subnet this host had before, from subnet.env. */
  readonly previous: Ipv4Prefix | undefined
  /** Subnets that etcd refused us just now: taken by keys that cannot be read, or by someone who was faster. */
  readonly refused: readonly Ipv4Prefix[]
}

/**
 * Chooses the lease for a host in flannel's order: its own (by PublicIP; a reservation, else the first in key order), the previous subnet, a
 * free one at random (flannel: pkg/subnet/etcd/local_manager.go).
 * @throws {OverlayError} `out-of-subnets`
 */
export function planOwnLease(
  config: NetworkConfig,
  leases: readonly Lease[],
  host: HostIdentity,
  random: Random,
): LeasePlan {
  const ours = leases
    .filter((lease) => lease.value.publicIp === host.publicIp)
    .sort((a, b) => Number(isReservation(b)) - Number(isReservation(a)) || (a.key < b.key ? -1 : 1))
  const fitting = ours.find(
    (lease) => lease.subnet.ipv6 === undefined && isLeasable(config, lease.subnet.ipv4),
  )
  if (fitting !== undefined) return { kind: 'reuse', lease: fitting }
  const others = leases.filter((lease) => !ours.includes(lease)).map((lease) => lease.subnet.ipv4)
  const subnet = allocateSubnet(config, [...others, ...host.refused], host.previous, random)
  if (subnet === undefined) {
    throw new OverlayError(
      'out-of-subnets',
      `no /${config.subnetLength} is free between ${formatIpv4(config.subnetMin)} and ${formatIpv4(config.subnetMax)} of ${formatPrefix(config.network)}: ${leases.length} leases exist`,
      'delete leases of hosts that are gone, or enlarge Network',
    )
  }
  return { kind: 'create', subnet, outgrown: ours }
}

/**
 * Chooses the device's MAC, which is kept for as long as anything remembers it: the existing device's, else our lease's, else a new
 * one. A MAC that another host announces is never kept.
 */
export function chooseMac(
  known: { readonly device: MacAddress | undefined; readonly lease: MacAddress | undefined },
  others: readonly LeaseValue[],
  fresh: () => MacAddress,
): MacAddress {
  const foreign = new Set(others.map((value) => value.vtep?.mac))
  const usable = (mac: MacAddress | undefined): mac is MacAddress =>
    mac !== undefined && isUnicastMac(mac) && !foreign.has(mac)
  if (usable(known.device)) return known.device
  if (usable(known.lease)) return known.lease
  let mac = fresh()
  while (!usable(mac)) mac = fresh()
  return mac
}
