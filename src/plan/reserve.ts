/** What an operator's reservation means for etcd: decided from what etcd has, done elsewhere. */
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
} from '../model/address'
import { OverlayError } from '../model/errors'
import {
  formatLeaseSubnet,
  isReservation,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  leaseHalf,
  type Vtep,
} from '../model/lease'
import { type NetworkConfig, type SubnetRange, subnetRanges } from '../model/network-config'
import { isLeasable, type Random } from './allocate'
import { familiesOf } from './desired'
import { chooseMac, planOwnLease } from './own-lease'

/** For whom, and what of it the operator chose. */
export interface ReservationRequest {
  /** One for each family that the network has. */
  readonly publicIp: Ipv4 | undefined
  readonly publicIpv6: Ipv6 | undefined
  /** Of the IPv4 device, or of the IPv6 one where the network has no IPv4. */
  readonly mac: MacAddress | undefined
  readonly subnet: { readonly ipv4: Ipv4Prefix | undefined; readonly ipv6: Ipv6Prefix | undefined }
  /** Subnets that etcd refused us just now. */
  readonly refused: readonly LeaseSubnet[]
}

export type ReservationPlan =
  /** The host has it. */
  | { readonly kind: 'unchanged'; readonly lease: Lease }
  /** The host has a lease: make it a reservation, with the value it has. */
  | { readonly kind: 'convert'; readonly lease: Lease }
  | { readonly kind: 'create'; readonly subnet: LeaseSubnet; readonly value: LeaseValue }

/**
 * Decides it. Whatever comes of it, each flanneld can read: a lease names what a network with its families wants, and no more.
 * @throws {OverlayError} `reserve` when the host cannot have what is asked for; `out-of-subnets`
 */
export function planReservation(
  config: NetworkConfig,
  leases: readonly Lease[],
  request: ReservationRequest,
  random: Random,
  freshMac: () => MacAddress,
): ReservationPlan {
  const publicIp = checkAddresses(config, request)
  const host = { publicIp, previous: request.subnet, refused: request.refused }
  const plan = planOwnLease(config, leases, host, random)
  if (plan.kind === 'reuse') {
    checkOwn(config, plan.lease, publicIp, request)
    return { kind: isReservation(plan.lease) ? 'unchanged' : 'convert', lease: plan.lease }
  }
  const [outgrown] = [...plan.inTheWay, ...plan.outgrown]
  if (outgrown !== undefined) {
    throw refusal(
      `${formatIp(publicIp)} has ${formatLeaseSubnet(outgrown.subnet)}, which does not fit the network config`,
      `start overlayd there, which moves it, or delete ${outgrown.key} first`,
    )
  }
  for (const range of subnetRanges(config)) {
    const wanted = typeof range.network.address === 'number' ? request.subnet.ipv4 : request.subnet.ipv6
    if (wanted !== undefined) checkSubnet(range, leases, wanted)
  }
  return { kind: 'create', subnet: plan.subnet, value: newValue(config, leases, request, freshMac) }
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

/** @returns the one that the host is known by */
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
    throw refusal(`${flag} is given, and the network has no ${family}`, 'leave it out')
  }
  if (address === undefined) throw refusal(`${flag} is missing, and the network has ${family}`, 'give it')
  if (isUnicast(address) && !prefixContains(range.network, address)) return address
  throw refusal(
    `${formatIp(address)} is no address at which a host can be reached from outside the network ${formatPrefix(range.network)}`,
    "give the host's address on the underlay",
  )
}

/** The host has a lease; it is never given another by the way, for its containers would lose their addresses. */
function checkOwn(config: NetworkConfig, own: Lease, publicIp: IpAddress, request: ReservationRequest): void {
  const has = `${formatIp(publicIp)} has ${formatLeaseSubnet(own.subnet)}`
  const isOther = (wanted: Prefix | undefined, held: Prefix | undefined): boolean =>
    wanted !== undefined && (held === undefined || !samePrefix(wanted, held))
  const { subnet, mac } = request
  if (isOther(subnet.ipv4, own.subnet.ipv4) || isOther(subnet.ipv6, own.subnet.ipv6)) {
    throw refusal(
      `${has}, not ${formatLeaseSubnet(subnet)}`,
      `ask for no subnet to reserve what it has, or stop the host and delete ${own.key} first`,
    )
  }
  const vteps = familiesOf(config).map((family) => leaseHalf(own, family)?.vtep)
  if (vteps.includes(undefined)) {
    throw refusal(
      `${has} for the backend ${JSON.stringify(own.value.backendType)}, with no VXLAN data that can be read`,
      `stop the host and delete ${own.key} first`,
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
      `${formatPrefix(subnet)} is no subnet of this network`,
      `choose a /${subnetLength} from ${formatIp(subnetMin)} to ${formatIp(subnetMax)}`,
    )
  }
  const other = leases.find(({ subnet: { ipv4, ipv6 } }) =>
    [ipv4, ipv6].some((held) => held !== undefined && prefixesOverlap(held, subnet)),
  )
  if (other === undefined) return
  throw refusal(
    `${formatPrefix(subnet)} is taken: ${other.key} belongs to ${formatIp(other.value.publicIp)}`,
    'choose another, or ask for none',
  )
}

function checkMac(mac: MacAddress, leases: readonly Lease[]): void {
  const owner = leases.find(({ value }) => value.vtep?.mac === mac || value.vtep6?.mac === mac)
  if (isUnicastMac(mac) && owner === undefined) return
  throw refusal(
    owner === undefined
      ? `${formatMac(mac)} is no address that a device can have`
      : `the MAC ${formatMac(mac)} belongs to ${formatIp(owner.value.publicIp)}`,
    'leave out --mac for a random one, which the host then takes',
  )
}

const refusal = (message: string, fix: string): OverlayError => new OverlayError('reserve', message, fix)
