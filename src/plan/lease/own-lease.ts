/** Decides how a host gets a lease, from what is in etcd. Others carry the decision out. */
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
  samePrefix,
} from '../../model/address'
import type { NetworkConfig, SubnetRange } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import type { LinkSpec } from '../../model/kernel/link'
import { isReservation, type Lease, type LeaseSubnet, type LeaseValue, type Vtep } from '../../model/lease'
import { type Ability, announcementOf } from '../encryption/encryption-plan'
import type { Underlay } from '../host/underlay'
import { allocateSubnet, isLeasable, type Random } from './allocate'

export type LeasePlan =
  /** The lease of this host fits: keep it. */
  | { readonly kind: 'reuse'; readonly lease: Lease }
  /**
   * None fits: create one. `inTheWay` are our leases that overlap the new subnets and must be deleted before.
   * `outgrown` are our other leases, of an earlier config, to be deleted afterwards.
   */
  | {
      readonly kind: 'create'
      readonly subnet: LeaseSubnet
      readonly inTheWay: readonly Lease[]
      readonly outgrown: readonly Lease[]
    }

/** The host that needs a lease. */
export interface HostIdentity {
  /** The address that identifies leases: PublicIP, or PublicIPv6 in a network without IPv4. */
  readonly publicIp: IpAddress
  /** The subnets this host had before, from subnet.env. */
  readonly previous: { readonly ipv4: Ipv4Prefix | undefined; readonly ipv6: Ipv6Prefix | undefined }
  /** Whether a lease is this host's; default: by its address. */
  readonly isOurs?: (lease: Lease) => boolean
  /** Keys of preferred leases, best first. */
  readonly preferred?: readonly string[]
  /** Prefixes of this host outside of the overlay. A subnet within them is used only if no other is free. */
  readonly avoid?: readonly Prefix[]
  /** Subnets that etcd just refused: taken by unreadable keys, or by a faster host. */
  readonly refused: readonly LeaseSubnet[]
}

/** Whether a lease names that host (flannel: by PublicIP alone; PublicIPv6 if the network has no IPv4). */
export const isLeaseOf = ({ value }: Lease, publicIp: IpAddress): boolean =>
  familyOf(publicIp) === 'IPv4' ? value.publicIp === publicIp : value.publicIpv6 === publicIp

/**
 * Chooses the lease for a host in flannel's order: its own (first in key order), the previous subnets, random
 * free ones (flannel: pkg/subnet/etcd/local_manager.go). Unlike in flannel, preferred ones come first and a
 * reservation before a lease. A host whose network gains or loses a family keeps the subnet of the other
 * family.
 * @throws {OverlayError} `out-of-subnets`
 */
export function planOwnLease(
  config: NetworkConfig,
  leases: readonly Lease[],
  host: HostIdentity,
  random: Random,
): LeasePlan {
  const isOurs = host.isOurs ?? ((lease: Lease) => isLeaseOf(lease, host.publicIp))
  // Map and Set, not arrays: whoever may write to etcd decides how many leases name us.
  const places = new Map(host.preferred?.map((key, place) => [key, place]))
  const place = (lease: Lease): number =>
    places.get(lease.key) ?? places.size + (isReservation(lease) ? 0 : 1)
  const ours = leases.filter(isOurs).sort((a, b) => place(a) - place(b) || (a.key < b.key ? -1 : 1))
  const fitting = ours.find((lease) => fitsConfig(config, lease))
  if (fitting !== undefined) return { kind: 'reuse', lease: fitting }
  const known = new Set(ours)
  const taken = [...leases.filter((lease) => !known.has(lease)).map(({ subnet }) => subnet), ...host.refused]
  const before = ours.map(({ subnet }) => subnet)
  const avoid = host.avoid ?? []
  const ipv4 =
    config.ipv4 &&
    choose(
      config.ipv4,
      present(taken, 'ipv4'),
      avoid.filter(isIpv4Prefix),
      [...present(before, 'ipv4'), host.previous.ipv4],
      random,
    )
  // No two hosts that choose at the same time get the same IPv4 subnet. So the IPv6 subnet at the same place
  // in its range is theirs alone too.
  const beside = ipv4 && config.ipv4 && config.ipv6 && counterpart(config.ipv4, ipv4, config.ipv6)
  const ipv6 =
    config.ipv6 &&
    choose(
      config.ipv6,
      present(taken, 'ipv6'),
      avoid.filter(isIpv6Prefix),
      [...present(before, 'ipv6'), host.previous.ipv6, beside],
      random,
    )
  const subnet: LeaseSubnet = { ipv4, ipv6 }
  const isInTheWay = (lease: Lease): boolean => overlaps(lease.subnet, subnet)
  return {
    kind: 'create',
    subnet,
    inTheWay: ours.filter(isInTheWay),
    outgrown: ours.filter((lease) => !isInTheWay(lease)),
  }
}

/** A host got another subnet than it had; its containers still have addresses of the former one. */
export interface Move {
  readonly from: LeaseSubnet
  readonly reason: string
}

/**
 * Whether a host has moved, and why. Gaining or losing a family is no move.
 * @param others leases of other hosts
 * @param isAppointed whether an operator reserved the new subnet for this host
 */
export function findMove(
  config: NetworkConfig,
  had: LeaseSubnet,
  lease: Lease,
  others: readonly Lease[],
  isAppointed: boolean,
): Move | undefined {
  const differs = (a: Prefix | undefined, b: Prefix | undefined): boolean =>
    a !== undefined && b !== undefined && !samePrefix(a, b)
  const now = lease.subnet
  if (!differs(had.ipv4, now.ipv4) && !differs(had.ipv6, now.ipv6)) return undefined
  const isLost = (range: SubnetRange | undefined, subnet: Prefix | undefined): boolean =>
    range !== undefined && subnet !== undefined && !isLeasable(range, subnet)
  const holder = others.find(({ key, subnet }) => key !== lease.key && overlaps(subnet, had))
  const reason = isAppointed
    ? 'an operator has reserved it for this host'
    : isLost(config.ipv4, had.ipv4) || isLost(config.ipv6, had.ipv6)
      ? 'the former one does not fit the network config'
      : holder === undefined
        ? 'the former one was not available'
        : `the former one now belongs to another host (${holder.key})`
  return { from: had, reason }
}

/** Whether a host can keep a lease with that config. */
export const fitsConfig = (config: NetworkConfig, { subnet }: Lease): boolean =>
  fits(config.ipv4, subnet.ipv4) && fits(config.ipv6, subnet.ipv6)

/** Whether a subnet is leasable in a range; a family without a range must have no subnet. */
const fits = (range: SubnetRange | undefined, subnet: Prefix | undefined): boolean =>
  range === undefined || subnet === undefined ? range === subnet : isLeasable(range, subnet)

function present<Field extends keyof LeaseSubnet>(
  subnets: readonly LeaseSubnet[],
  field: Field,
): NonNullable<LeaseSubnet[Field]>[] {
  return subnets.flatMap((subnet) => subnet[field] ?? [])
}

function choose<Address extends IpAddress>(
  range: SubnetRange<Address>,
  taken: readonly Prefix<Address>[],
  avoid: readonly Prefix<Address>[],
  previous: readonly (Prefix<Address> | undefined)[],
  random: Random,
): Prefix<Address> {
  const leasable = previous.find((subnet) => subnet !== undefined && isLeasable(range, subnet))
  const elsewhere =
    avoid.length === 0 ? undefined : allocateSubnet(range, [...taken, ...avoid], leasable, random)
  const subnet = elsewhere ?? allocateSubnet(range, taken, leasable, random)
  if (subnet !== undefined) return subnet
  throw new OverlayError(
    'out-of-subnets',
    `no /${range.subnetLength} is free between ${formatIp(range.subnetMin)} and ` +
      `${formatIp(range.subnetMax)} of ${formatPrefix(range.network)}: ${taken.length} are leased`,
    'delete leases of hosts that are gone, or enlarge the network',
  )
}

const isIpv4Prefix = (prefix: Prefix): prefix is Ipv4Prefix => typeof prefix.address === 'number'
const isIpv6Prefix = (prefix: Prefix): prefix is Ipv6Prefix => typeof prefix.address === 'bigint'

/** The subnet of the other family at the same index in its range. It may lie beyond the end of that range. */
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

/** The lease value that a host announces. */
export function leaseValue(
  config: NetworkConfig,
  underlay: Underlay,
  devices: readonly { readonly family: Family; readonly link: LinkSpec; readonly publicIp: IpAddress }[],
  ability: Ability | undefined,
): LeaseValue {
  const { vni, multicast } = config.backend
  const vtep = (family: Family): Vtep | undefined => {
    const device = devices.find((each) => each.family === family)
    if (device === undefined) return undefined
    const { link, publicIp } = device
    // One device carries the multicast of both families: that of the first family.
    const carries = multicast !== undefined && device === devices[0]
    const wireguard = announcementOf(ability, link.local, publicIp)
    return {
      vni,
      mac: link.mac,
      ...(carries && { multicast }),
      ...(wireguard !== undefined && { wireguard }),
    }
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
 * Chooses the device's MAC. It is kept as long as anything remembers it: the existing device's, else our
 * lease's, else the state file's, else a new one. A MAC that another host announces is never kept.
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
