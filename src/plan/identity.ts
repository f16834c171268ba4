/**
 * Which leases are this host's. flannel goes by PublicIP alone, so that two hosts with one address share a subnet and write over each other, and
 * a host whose address changed loses its own. Here a lease has to know the host by something else too: the MAC of a device that is there, or
 * what the state file remembers. Where only one of the two says so, its owner is asked whether it lives.
 */
import { formatIp, formatMac, type IpAddress, type MacAddress } from '../model/address'
import { OverlayError } from '../model/errors'
import type { HostFacts } from '../model/host-facts'
import { formatLeaseSubnet, isReservation, type Lease, sameHost } from '../model/lease'
import { isLeaseOf } from './own-lease'

/** What this host knows of itself. */
export interface Evidence {
  readonly publicIp: IpAddress
  /** MACs of the devices that exist. */
  readonly devices: { readonly ipv4: MacAddress | undefined; readonly ipv6: MacAddress | undefined }
  /** The lease that the state file remembers. */
  readonly remembered: Lease | undefined
  /** Whether the state file was written by this machine as it is now, not by one it was copied from. */
  readonly sameMachine: boolean
}

/**
 * - `ours`: beyond doubt
 * - `doubtful`: it has our PublicIP and does not know us; it is ours if its owner is gone
 * - `moved`: it is the one we remember, under another PublicIP: ours if we moved, another's if we are a copy
 * - `other`: of another host
 */
export type Claim = 'ours' | 'doubtful' | 'moved' | 'other'

/** Judges one lease. */
export function judgeClaim(lease: Lease, { publicIp, devices, remembered, sameMachine }: Evidence): Claim {
  const isRemembered =
    remembered !== undefined && remembered.key === lease.key && sameVteps(remembered, lease)
  if (!isLeaseOf(lease, publicIp)) {
    return isRemembered && !isReservation(lease) && remembered.etcdLease === lease.etcdLease
      ? 'moved'
      : 'other'
  }
  // A reservation is an operator's word, and nobody renews it: there is no telling whether its host lives.
  if (isReservation(lease) || (isRemembered && sameMachine)) return 'ours'
  const { vtep, vtep6 } = lease.value
  const hasDevice = isSame(vtep?.mac, devices.ipv4) || isSame(vtep6?.mac, devices.ipv6)
  return hasDevice ? 'ours' : 'doubtful'
}

const isSame = (a: MacAddress | undefined, b: MacAddress | undefined): boolean => a !== undefined && a === b

/** Whether both name the same devices, and at least one. */
function sameVteps(a: Lease, b: Lease): boolean {
  const addressless = (lease: Lease) => ({
    ...lease.value,
    publicIp: b.value.publicIp,
    publicIpv6: b.value.publicIpv6,
  })
  return (b.value.vtep ?? b.value.vtep6) !== undefined && sameHost(addressless(a), addressless(b))
}

/** How what the state file says of its machine differs from this one; `undefined` when it does not. */
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
  // A digest says nothing to anyone.
  return name === 'machine id' ? 'the machine id is another' : `the ${name} was ${then} and is ${is}`
}

/** Another live host announces our address: whoever wrote over the other's lease would cut off its containers. */
export class IdentityConflict extends OverlayError {
  constructor(
    readonly lease: Lease,
    publicIp: IpAddress,
  ) {
    const mac = (lease.value.vtep ?? lease.value.vtep6)?.mac
    super(
      'identity-conflict',
      `${lease.key} has our address ${formatIp(publicIp)} and belongs to another host that is alive, with the MAC ${mac === undefined ? 'unknown' : formatMac(mac)}`,
      `give one of the two hosts another address (--public-ip, --iface); if the other one is not wanted, stop it and delete ${lease.key} (${formatLeaseSubnet(lease.subnet)})`,
    )
  }
}
