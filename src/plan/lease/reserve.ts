/** Decides how an operator's reservation is written to etcd. Others carry the decision out. */
import {
  type Family,
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6,
  type Ipv6Prefix,
  ipv4,
  isUnicast,
  isUnicastMac,
  type MacAddress,
  type Prefix,
  prefixContains,
  prefixesOverlap,
  samePrefix,
} from '../../model/address'
import { evictLease } from '../../model/commands'
import { type NetworkConfig, type SubnetRange, subnetRanges } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import {
  familyLease,
  formatLeaseSubnet,
  isReservation,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  type Vtep,
} from '../../model/lease'
import { familiesOf } from '../reconcile/desired'
import { isLeasable, type Random } from './allocate'
import { chooseMac, fitsConfig, isLeaseOf, planOwnLease } from './own-lease'

/** The host to reserve for, and what the operator chose for it. */
export interface ReservationRequest {
  /** One per family of the network. */
  readonly publicIp: Ipv4 | undefined
  readonly publicIpv6: Ipv6 | undefined
  /** MAC of the IPv4 device; of the IPv6 device if the network has no IPv4. */
  readonly mac: MacAddress | undefined
  readonly subnet: { readonly ipv4: Ipv4Prefix | undefined; readonly ipv6: Ipv6Prefix | undefined }
  /** Subnets that etcd just refused. */
  readonly refused: readonly LeaseSubnet[]
}

export type ReservationPlan =
  /** The host has such a reservation already. */
  | { readonly kind: 'unchanged'; readonly lease: Lease }
  /** The host has a lease: make it a reservation, with its present value. */
  | { readonly kind: 'convert'; readonly lease: Lease }
  | { readonly kind: 'create'; readonly subnet: LeaseSubnet; readonly value: LeaseValue }

/**
 * Plans a reservation. flanneld can read the result: a lease names exactly the families of the network.
 * @throws {OverlayError} `reserve` if the host cannot have what is asked for; `out-of-subnets`
 */
export function planReservation(
  config: NetworkConfig,
  leases: readonly Lease[],
  request: ReservationRequest,
  random: Random,
  freshMac: () => MacAddress,
): ReservationPlan {
  const publicIp = checkAddresses(config, request)
  const asked = chooseAmong(config, leases, publicIp, request)
  const host = {
    publicIp,
    previous: request.subnet,
    refused: request.refused,
    ...(asked !== undefined && { preferred: [asked.key] }),
  }
  const plan = planOwnLease(config, leases, host, random)
  if (plan.kind === 'reuse') {
    checkOwn(config, plan.lease, publicIp, request)
    return { kind: isReservation(plan.lease) ? 'unchanged' : 'convert', lease: plan.lease }
  }
  const [outgrown] = [...plan.inTheWay, ...plan.outgrown]
  if (outgrown !== undefined) {
    throw refusal(
      `${formatIp(publicIp)} has ${formatLeaseSubnet(outgrown.subnet)}, ` +
        'which does not fit the network config',
      `start overlayd there, which moves it, or delete ${outgrown.key} first`,
    )
  }
  for (const range of subnetRanges(config)) {
    const wanted = typeof range.network.address === 'number' ? request.subnet.ipv4 : request.subnet.ipv6
    if (wanted !== undefined) checkSubnet(range, leases, wanted)
  }
  return { kind: 'create', subnet: plan.subnet, value: newValue(config, leases, request, freshMac) }
}

/**
 * Chooses among several leases that name the host. One may belong to another host, which can write anything
 * into its own lease.
 * @returns the one the operator means; `undefined` if there are fewer than two
 */
function chooseAmong(
  config: NetworkConfig,
  leases: readonly Lease[],
  publicIp: IpAddress,
  { subnet: { ipv4, ipv6 } }: ReservationRequest,
): Lease | undefined {
  const naming = leases.filter((lease) => isLeaseOf(lease, publicIp) && fitsConfig(config, lease))
  if (naming.length < 2) return undefined
  const is = (wanted: Prefix | undefined, has: Prefix | undefined): boolean =>
    wanted !== undefined && has !== undefined && samePrefix(wanted, has)
  const meant = naming.find(({ subnet }) => is(ipv4, subnet.ipv4) || is(ipv6, subnet.ipv6))
  if (meant !== undefined) return meant
  const names = naming.map(({ subnet }) => formatLeaseSubnet(subnet)).join(', ')
  throw refusal(
    `${formatIp(publicIp)} is named by ${naming.length} leases: ${names}`,
    'name its own one with --subnet (overlayctl lease on that host shows it), and remove the others',
  )
}

function newValue(
  { ipv4: has4, ipv6: has6, backend: { vni } }: NetworkConfig,
  leases: readonly Lease[],
  { publicIp = ipv4(0), publicIpv6, mac }: ReservationRequest,
  freshMac: () => MacAddress,
): LeaseValue {
  if (mac !== undefined) checkMac(mac, leases)
  const values = leases.map(({ value }) => value)
  const vtep = (chosen: MacAddress | undefined): Vtep => ({
    vni,
    mac: chosen ?? chooseMac({ device: undefined, lease: undefined }, values, freshMac),
  })
  return {
    publicIp,
    publicIpv6: has6 && publicIpv6,
    backendType: 'vxlan',
    vtep: has4 && vtep(mac),
    vtep6: has6 && vtep(has4 ? undefined : mac),
  }
}

/** @returns the address that identifies the host */
function checkAddresses(config: NetworkConfig, { publicIp, publicIpv6 }: ReservationRequest): IpAddress {
  const given = [
    checkAddress(config.ipv4, publicIp, 'IPv4', '--public-ip'),
    checkAddress(config.ipv6, publicIpv6, 'IPv6', '--public-ipv6'),
  ]
  const identity = given.find((address) => address !== undefined)
  if (identity === undefined) throw refusal('the network has no family', 'correct the network config')
  return identity
}

function checkAddress(
  range: SubnetRange | undefined,
  address: IpAddress | undefined,
  family: Family,
  flag: string,
): IpAddress | undefined {
  if (range === undefined) {
    if (address === undefined) return undefined
    throw refusal(`${flag} is given, but the network has no ${family}`, 'leave it out')
  }
  if (address === undefined) throw refusal(`${flag} is missing, but the network has ${family}`, 'give it')
  if (isUnicast(address) && !prefixContains(range.network, address)) return address
  throw refusal(
    `${formatIp(address)} is not an address where a host can be reached ` +
      `outside of the network ${formatPrefix(range.network)}`,
    "give the host's address on the underlay",
  )
}

/** How a host gives its lease back, or how the lease of a host that is gone is deleted. */
const letGo = (own: Lease): string =>
  'on that host systemctl stop overlayd && overlayctl teardown --lease, ' +
  `or if the host is gone ${evictLease(own.subnet)}`

/**
 * Checks a host's lease against the request. It never gets another subnet this way: its containers would lose
 * their addresses.
 */
function checkOwn(config: NetworkConfig, own: Lease, publicIp: IpAddress, request: ReservationRequest): void {
  const has = `${formatIp(publicIp)} has ${formatLeaseSubnet(own.subnet)}`
  const isOther = (wanted: Prefix | undefined, held: Prefix | undefined): boolean =>
    wanted !== undefined && (held === undefined || !samePrefix(wanted, held))
  const { subnet, mac } = request
  if (isOther(subnet.ipv4, own.subnet.ipv4) || isOther(subnet.ipv6, own.subnet.ipv6)) {
    throw refusal(
      `${has}, not ${formatLeaseSubnet(subnet)}`,
      `leave out the subnet to reserve the one it has, or give that up first: ${letGo(own)}`,
    )
  }
  const vteps = familiesOf(config).map((family) => familyLease(own, family)?.vtep)
  if (vteps.includes(undefined)) {
    throw refusal(
      `${has} for the backend ${JSON.stringify(own.value.backendType)}, with no VXLAN data that can be read`,
      `give it up first: ${letGo(own)}`,
    )
  }
  const known = vteps[0]?.mac
  if (mac !== undefined && known !== undefined && mac !== known) {
    throw refusal(
      `${has} with the MAC ${formatMac(known)}, not ${formatMac(mac)}`,
      'leave out --mac: the MAC is the one its device has',
    )
  }
}

function checkSubnet(range: SubnetRange, leases: readonly Lease[], subnet: Prefix): void {
  if (!isLeasable(range, subnet)) {
    const { subnetLength, subnetMin, subnetMax } = range
    throw refusal(
      `${formatPrefix(subnet)} is not a subnet of this network`,
      `choose a /${subnetLength} from ${formatIp(subnetMin)} to ${formatIp(subnetMax)}`,
    )
  }
  const other = leases.find(({ subnet: { ipv4, ipv6 } }) =>
    [ipv4, ipv6].some((held) => held !== undefined && prefixesOverlap(held, subnet)),
  )
  if (other === undefined) return
  throw refusal(
    `${formatPrefix(subnet)} is taken: ${other.key} belongs to ${formatIp(other.value.publicIp)}`,
    'choose another, or leave it out',
  )
}

function checkMac(mac: MacAddress, leases: readonly Lease[]): void {
  const owner = leases.find(({ value }) => value.vtep?.mac === mac || value.vtep6?.mac === mac)
  if (isUnicastMac(mac) && owner === undefined) return
  throw refusal(
    owner === undefined
      ? `${formatMac(mac)} is not a MAC that a device can have`
      : `the MAC ${formatMac(mac)} belongs to ${formatIp(owner.value.publicIp)}`,
    'leave out --mac for a random one, which the host will use',
  )
}

const refusal = (message: string, fix: string): OverlayError => new OverlayError('reserve', message, fix)
