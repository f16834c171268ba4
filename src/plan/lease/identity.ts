/**
 * Decides which leases are this host's. flannel goes by PublicIP alone: two hosts with one address share a
 * subnet and overwrite each other, and a host whose address changed loses its own lease. Here a lease must
 * match the host by something else too: the MAC of an existing device, or the state file. If only one of the
 * two matches, the daemon asks the lease's owner whether it is alive.
 *
 * PublicIP and MAC are public in etcd, and whoever may write one key may write them into it. So a host that
 * remembers its subnet takes no lease of another subnet because of those two. It moves only if its subnet no
 * longer fits or belongs to another host, or if an operator says so.
 */
import {
  formatIp,
  formatMac,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  type MacAddress,
  type Prefix,
  prefixesOverlap,
  samePrefix,
} from '../../model/address'
import { evictLease } from '../../model/commands'
import type { NetworkConfig, SubnetRange } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import type { HostFacts } from '../../model/host-facts'
import { isReservation, type Lease, type LeaseSubnet, sameHost } from '../../model/lease'
import { isLeasable } from './allocate'
import { isLeaseOf } from './own-lease'

/** What this host knows about itself. */
export interface Evidence {
  readonly publicIp: IpAddress
  /** MACs of the existing devices. */
  readonly devices: { readonly ipv4: MacAddress | undefined; readonly ipv6: MacAddress | undefined }
  /** The lease in the state file. */
  readonly remembered: Lease | undefined
  /**
   * Whether the state file was written by this machine in its present state, not by one it was copied from.
   */
  readonly sameMachine: boolean
  /** The last subnet of this host, if the config still allows it; see {@link rememberedSubnet}. */
  readonly subnet: Partial<LeaseSubnet>
}

/**
 * - `ours`: certain
 * - `doubtful`: it has our PublicIP, but nothing else of ours; it is ours if its owner is gone
 * - `moved`: it is the remembered one, or has our device and subnet, but another PublicIP; it is ours if this
 *   host moved, another's if this host is a copy
 * - `named`: it names us, by what anyone can write; it is ours if an operator says so, or if nothing is
 *   remembered
 * - `other`: it belongs to another host
 */
export type Claim = 'ours' | 'doubtful' | 'moved' | 'named' | 'other'

/** Judges one lease. */
export function judgeClaim(lease: Lease, evidence: Evidence): Claim {
  const { publicIp, devices, remembered, sameMachine, subnet } = evidence
  const isRemembered = isRememberedLease(lease, evidence)
  const { vtep, vtep6 } = lease.value
  const hasDevice = isSame(vtep?.mac, devices.ipv4) || isSame(vtep6?.mac, devices.ipv6)
  if (!isLeaseOf(lease, publicIp)) {
    if (isReservation(lease)) return 'other'
    const isSameLease = isRemembered && remembered?.etcdLease === lease.etcdLease
    // A device cannot be copied as a file can: together with the subnet, its MAC proves as much as the state
    // file.
    return isSameLease || (hasDevice && isOfSubnet(lease, subnet)) ? 'moved' : 'other'
  }
  if (isRemembered && sameMachine) return 'ours'
  if (isOfSubnet(lease, subnet)) {
    // Nobody renews a reservation, so there is no way to tell whether its host is alive.
    return hasDevice || isReservation(lease) ? 'ours' : 'doubtful'
  }
  if (isReservation(lease)) return 'named'
  if (!hasDevice) return 'doubtful'
  return hasMemory(subnet) ? 'named' : 'ours'
}

/** Whether it is exactly the lease in the state file, whichever machine wrote that. */
export const isRememberedLease = (lease: Lease, { remembered }: Evidence): boolean =>
  remembered !== undefined && remembered.key === lease.key && sameVteps(remembered, lease)

/** Whether a lease has the last subnet of this host, in each family that is known. */
export function isOfSubnet({ subnet }: Lease, { ipv4, ipv6 }: Evidence['subnet']): boolean {
  const agrees = (had: Prefix | undefined, has: Prefix | undefined): boolean =>
    had === undefined || (has !== undefined && samePrefix(had, has))
  return (ipv4 ?? ipv6) !== undefined && agrees(ipv4, subnet.ipv4) && agrees(ipv6, subnet.ipv6)
}

export const hasMemory = ({ ipv4, ipv6 }: Evidence['subnet']): boolean => (ipv4 ?? ipv6) !== undefined

/** Whether no other lease overlaps the subnet. */
export function isFree({ ipv4, ipv6 }: Evidence['subnet'], others: readonly Lease[]): boolean {
  const meet = (a: Prefix | undefined, b: Prefix | undefined): boolean =>
    a !== undefined && b !== undefined && prefixesOverlap(a, b)
  return !others.some(({ subnet }) => meet(ipv4, subnet.ipv4) || meet(ipv6, subnet.ipv6))
}

/** Sorts leases of this host: remembered ones first, and a reservation before a lease. */
export function bestFirst(leases: readonly Lease[], evidence: Evidence): Lease[] {
  const place = (lease: Lease): number => {
    if (isOfSubnet(lease, evidence.subnet)) return isRememberedLease(lease, evidence) ? 0 : 1
    if (isRememberedLease(lease, evidence)) return 2
    return isReservation(lease) ? 3 : 4
  }
  return [...leases].sort((a, b) => place(a) - place(b) || (a.key < b.key ? -1 : 1))
}

/** Places where a subnet may be remembered. */
export interface SubnetSources {
  /** Addresses of the devices: the subnet's first address is among them, and possibly others. */
  readonly devices: { readonly ipv4: readonly Ipv4[]; readonly ipv6: readonly Ipv6[] }
  /** The state file's subnet, if this machine wrote it. */
  readonly state: LeaseSubnet | undefined
  readonly subnetEnv: Partial<LeaseSubnet>
}

/**
 * The last subnet of this host: from its device, else from the state file, else from subnet.env. Only subnets
 * that the config allows count.
 */
export function rememberedSubnet(
  config: Pick<NetworkConfig, 'ipv4' | 'ipv6'>,
  { devices, state, subnetEnv }: SubnetSources,
): Evidence['subnet'] {
  return {
    ipv4: rememberedHalf(config.ipv4, devices.ipv4, [state?.ipv4, subnetEnv.ipv4]),
    ipv6: rememberedHalf(config.ipv6, devices.ipv6, [state?.ipv6, subnetEnv.ipv6]),
  }
}

function rememberedHalf<A extends IpAddress>(
  range: SubnetRange<A> | undefined,
  addresses: readonly A[],
  written: readonly (Prefix<A> | undefined)[],
): Prefix<A> | undefined {
  if (range === undefined) return undefined
  const usable = (subnet: Prefix<A> | undefined): subnet is Prefix<A> =>
    subnet !== undefined && isLeasable(range, subnet)
  const carried = addresses.map((address) => ({ address, length: range.subnetLength })).filter(usable)
  const noted = written.filter(usable)
  // If the device has several addresses, prefer one that is recorded too.
  return noted.find((subnet) => carried.some((each) => samePrefix(each, subnet))) ?? carried[0] ?? noted[0]
}

const isSame = (a: MacAddress | undefined, b: MacAddress | undefined): boolean => a !== undefined && a === b

/** Whether both name the same devices, and at least one device. */
function sameVteps(a: Lease, b: Lease): boolean {
  const addressless = (lease: Lease) => ({
    ...lease.value,
    publicIp: b.value.publicIp,
    publicIpv6: b.value.publicIpv6,
  })
  return (b.value.vtep ?? b.value.vtep6) !== undefined && sameHost(addressless(a), addressless(b))
}

/** How the machine recorded in the state file differs from this one; `undefined` if it does not. */
export function differenceOf(recorded: HostFacts, now: HostFacts): string | undefined {
  const pairs: readonly (readonly [string, string | undefined, string | undefined])[] = [
    ['machine id', recorded.machine, now.machine],
    ['MAC of the underlay interface', recorded.linkMac, now.linkMac],
    ['underlay address', recorded.ipv4?.local, now.ipv4?.local],
    ['PublicIP', recorded.ipv4?.public, now.ipv4?.public],
    ['underlay IPv6 address', recorded.ipv6?.local, now.ipv6?.local],
    ['PublicIPv6', recorded.ipv6?.public, now.ipv6?.public],
  ]
  const found = pairs.find(([, then, is]) => then !== undefined && is !== undefined && then !== is)
  if (found === undefined) return undefined
  const [name, then, is] = found
  // The hash itself means nothing to people.
  return name === 'machine id' ? 'the machine id differs' : `the ${name} was ${then} and is ${is}`
}

/** Another live host announces our address. If we overwrote its lease, its containers would be cut off. */
export class IdentityConflict extends OverlayError {
  constructor(
    readonly lease: Lease,
    publicIp: IpAddress,
  ) {
    const mac = (lease.value.vtep ?? lease.value.vtep6)?.mac
    super(
      'identity-conflict',
      `${lease.key} has our address ${formatIp(publicIp)} and belongs to another host that is alive, ` +
        `with the MAC ${mac === undefined ? 'unknown' : formatMac(mac)}`,
      'give one of the two hosts another address (--public-ip, --iface); if the other host is not needed, ' +
        'stop it for good (on it: systemctl stop overlayd && overlayctl teardown --lease), ' +
        `then: ${evictLease(lease.subnet)}`,
    )
  }
}
