/** What a host does to hold a lease: decided from what etcd has, done elsewhere. */
import {
  type Family,
  familyOf,
  formatIp,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6,
  type Ipv6Prefix,
  ipv4,
  isUnicastMac,
  type MacAddress,
  type Prefix,
  prefixesOverlap,
  prefixSize,
} from '../model/address'
import { OverlayError } from '../model/errors'
import type { LinkSpec } from '../model/kernel'
import { isReservation, type Lease, type LeaseSubnet, type LeaseValue, type Vtep } from '../model/lease'
import type { NetworkConfig, SubnetRange } from '../model/network-config'
import { allocateSubnet, isLeasable, type Random } from './allocate'
import type { Underlay } from './underlay'

export type LeasePlan =
  /** The lease of this host fits: keep it. */
  | { readonly kind: 'reuse'; readonly lease: Lease }
  /**
   * None fits: create one. `outgrown` are ours of an earlier config. Those in the way hold a part of the new subnets, so they
   * must be deleted before; the others afterwards.
   */
  | {
      readonly kind: 'create'
      readonly subnet: LeaseSubnet
      readonly inTheWay: readonly Lease[]
      readonly outgrown: readonly Lease[]
    }

/** Who asks for a lease. */
export interface HostIdentity {
  /** What leases are told by: PublicIP, or PublicIPv6 in a network without IPv4. */
  readonly publicIp: IpAddress
  /** The subnets this host had before, from subnet.env. */
  readonly previous: { readonly ipv4: Ipv4Prefix | undefined; readonly ipv6: Ipv6Prefix | undefined }
  /** Which leases are this host's; without it those with its address. */
  readonly isOurs?: (lease: Lease) => boolean
  /** The key of the one that counts most after a reservation. */
  readonly preferred?: string | undefined
  /** Subnets that etcd refused us just now: taken by keys that cannot be read, or by someone who was faster. */
  readonly refused: readonly LeaseSubnet[]
}

/** Whether a lease says that it is that host's (flannel: by PublicIP alone; PublicIPv6 where a network has no IPv4). */
export const isLeaseOf = ({ value }: Lease, publicIp: IpAddress): boolean =>
  familyOf(publicIp) === 'IPv4' ? value.publicIp === publicIp : value.publicIpv6 === publicIp

/**
 * Chooses the lease for a host in flannel's order: its own (first in key order), the previous subnets, free ones at random
 * (flannel: pkg/subnet/etcd/local_manager.go). Unlike there, a reservation counts more than a lease, and a host whose network gains or loses
 * a family keeps the subnet of the other.
 * @throws {OverlayError} `out-of-subnets`
 */
export function planOwnLease(
  config: NetworkConfig,
  leases: readonly Lease[],
  host: HostIdentity,
  random: Random,
): LeasePlan {
  const isOurs = host.isOurs ?? ((lease: Lease) => isLeaseOf(lease, host.publicIp))
  const weight = (lease: Lease): number => (isReservation(lease) ? 2 : lease.key === host.preferred ? 1 : 0)
  const ours = leases.filter(isOurs).sort((a, b) => weight(b) - weight(a) || (a.key < b.key ? -1 : 1))
  const fitting = ours.find((lease) => fitsConfig(config, lease))
  if (fitting !== undefined) return { kind: 'reuse', lease: fitting }
  const taken = [
    ...leases.filter((lease) => !ours.includes(lease)).map(({ subnet }) => subnet),
    ...host.refused,
  ]
  const before = ours.map(({ subnet }) => subnet)
  const ipv4 =
    config.ipv4 &&
    choose(config.ipv4, present(taken, 'ipv4'), [...present(before, 'ipv4'), host.previous.ipv4], random)
  // Of hosts that choose at the same moment no two get the same IPv4 half: with the one beside it they get no same IPv6 half either.
  const beside = ipv4 && config.ipv4 && config.ipv6 && counterpart(config.ipv4, ipv4, config.ipv6)
  const ipv6 =
    config.ipv6 &&
    choose(
      config.ipv6,
      present(taken, 'ipv6'),
      [...present(before, 'ipv6'), host.previous.ipv6, beside],
      random,
    )
  const subnet: LeaseSubnet = { ipv4, ipv6 }
  const inTheWay = ours.filter((lease) => overlaps(lease.subnet, subnet))
  return { kind: 'create', subnet, inTheWay, outgrown: ours.filter((lease) => !inTheWay.includes(lease)) }
}

/** Whether a host can keep a lease under that config. */
export const fitsConfig = (config: NetworkConfig, { subnet }: Lease): boolean =>
  fits(config.ipv4, subnet.ipv4) && fits(config.ipv6, subnet.ipv6)

/** A lease fits when it has a leasable subnet of each family that the network has, and none of another. */
const fits = (range: SubnetRange | undefined, subnet: Prefix | undefined): boolean =>
  range === undefined || subnet === undefined ? range === subnet : isLeasable(range, subnet)

function present<Half extends keyof LeaseSubnet>(
  subnets: readonly LeaseSubnet[],
  half: Half,
): NonNullable<LeaseSubnet[Half]>[] {
  return subnets.flatMap((subnet) => subnet[half] ?? [])
}

function choose<Address extends IpAddress>(
  range: SubnetRange<Address>,
  taken: readonly Prefix<Address>[],
  previous: readonly (Prefix<Address> | undefined)[],
  random: Random,
): Prefix<Address> {
  const leasable = previous.find((subnet) => subnet !== undefined && isLeasable(range, subnet))
  const subnet = allocateSubnet(range, taken, leasable, random)
  if (subnet !== undefined) return subnet
  throw new OverlayError(
    'out-of-subnets',
    `no /${range.subnetLength} is free between ${formatIp(range.subnetMin)} and ${formatIp(range.subnetMax)} of ${formatPrefix(range.network)}: ${taken.length} are leased`,
    'delete leases of hosts that are gone, or enlarge the network',
  )
}

/** The subnet of the other family at the same place in its range; it may lie behind the end of that. */
function counterpart(
  from: SubnetRange<Ipv4>,
  { address, length }: Ipv4Prefix,
  to: SubnetRange<Ipv6>,
): Ipv6Prefix {
  const place = BigInt(address - from.subnetMin) / prefixSize('IPv4', length)
  const start = to.subnetMin + place * prefixSize('IPv6', to.subnetLength)
  return { address: start as Ipv6, length: to.subnetLength }
}

function overlaps(a: LeaseSubnet, b: LeaseSubnet): boolean {
  const meet = (x: Prefix | undefined, y: Prefix | undefined): boolean =>
    x !== undefined && y !== undefined && prefixesOverlap(x, y)
  return meet(a.ipv4, b.ipv4) || meet(a.ipv6, b.ipv6)
}

/** What a host announces. */
export function leaseValue(
  { backend: { vni, multicast } }: NetworkConfig,
  underlay: Underlay,
  links: readonly LinkSpec[],
): LeaseValue {
  const vtep = (family: Family): Vtep | undefined => {
    const link = links.find(({ local }) => familyOf(local) === family)
    // One device carries the multicast of both families: that of the half which comes first.
    const carries = multicast !== undefined && link === links[0]
    return link && { vni, mac: link.mac, ...(carries && { multicast }) }
  }
  return {
    publicIp: underlay.ipv4?.public ?? ipv4(0),
    publicIpv6: underlay.ipv6?.public,
    backendType: 'vxlan',
    vtep: vtep('IPv4'),
    vtep6: vtep('IPv6'),
  }
}

/**
 * Chooses the device's MAC, which is kept for as long as anything remembers it: the existing device's, else our lease's, else the state
 * file's, else a new one. A MAC that another host announces is never kept.
 */
export function chooseMac(
  known: {
    readonly device: MacAddress | undefined
    readonly lease: MacAddress | undefined
    readonly state?: MacAddress | undefined
  },
  others: readonly LeaseValue[],
  fresh: () => MacAddress,
): MacAddress {
  const foreign = new Set(others.flatMap(({ vtep, vtep6 }) => [vtep?.mac, vtep6?.mac]))
  const usable = (mac: MacAddress | undefined): mac is MacAddress =>
    mac !== undefined && isUnicastMac(mac) && !foreign.has(mac)
  const kept = [known.device, known.lease, known.state].find(usable)
  if (kept !== undefined) return kept
  let mac = fresh()
  while (!usable(mac)) mac = fresh()
  return mac
}
