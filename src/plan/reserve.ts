/** What an operator's reservation means for etcd: decided from what etcd has, done elsewhere. */
import {
  formatIpv4,
  formatMac,
  formatPrefix,
  type Ipv4,
  type Ipv4Prefix,
  isUnicast,
  isUnicastMac,
  type MacAddress,
  prefixContains,
  prefixesOverlap,
  samePrefix,
} from '../model/address'
import { OverlayError } from '../model/errors'
import { isReservation, type Lease, type LeaseValue } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { isLeasable, type Random } from './allocate'
import { chooseMac, planOwnLease } from './own-lease'

/** For whom, and what of it the operator chose. */
export interface ReservationRequest {
  readonly publicIp: Ipv4
  readonly mac: MacAddress | undefined
  readonly subnet: Ipv4Prefix | undefined
  /** Subnets that etcd refused us just now. */
  readonly refused: readonly Ipv4Prefix[]
}

export type ReservationPlan =
  /** The host has it. */
  | { readonly kind: 'unchanged'; readonly lease: Lease }
  /** The host has a lease: make it a reservation, with the value it has. */
  | { readonly kind: 'convert'; readonly lease: Lease }
  | { readonly kind: 'create'; readonly subnet: Ipv4Prefix; readonly value: LeaseValue }

/**
 * Decides it.
 * @throws {OverlayError} `reserve` when the host cannot have what is asked for; `out-of-subnets`
 */
export function planReservation(
  config: NetworkConfig,
  leases: readonly Lease[],
  request: ReservationRequest,
  random: Random,
  freshMac: () => MacAddress,
): ReservationPlan {
  const { publicIp, refused } = request
  checkAddress(config, publicIp)
  const plan = planOwnLease(config, leases, { publicIp, previous: request.subnet, refused }, random)
  if (plan.kind === 'reuse') {
    checkOwn(plan.lease, request)
    return { kind: isReservation(plan.lease) ? 'unchanged' : 'convert', lease: plan.lease }
  }
  if (request.subnet !== undefined) checkSubnet(config, leases, request.subnet)
  const others = leases.filter((lease) => lease.value.publicIp !== publicIp)
  const mac = request.mac ?? chooseMac(NOTHING_KNOWN, valuesOf(others), freshMac)
  checkMac(mac, others)
  const vtep = { vni: config.backend.vni, mac }
  return {
    kind: 'create',
    subnet: request.subnet ?? plan.subnet,
    value: { publicIp, publicIpv6: undefined, backendType: 'vxlan', vtep, vtep6: undefined },
  }
}

const NOTHING_KNOWN = { device: undefined, lease: undefined }

const valuesOf = (leases: readonly Lease[]): LeaseValue[] => leases.map(({ value }) => value)

function checkAddress({ network }: NetworkConfig, publicIp: Ipv4): void {
  if (isUnicast(publicIp) && !prefixContains(network, publicIp)) return
  throw refusal(
    `${formatIpv4(publicIp)} is no address at which a host can be reached from outside the network ${formatPrefix(network)}`,
    "give the host's address on the underlay",
  )
}

/** The host has a lease; it is never given another by the way, for its containers would lose their addresses. */
function checkOwn(
  { key, subnet, value }: Lease,
  { publicIp, mac, subnet: wanted }: ReservationRequest,
): void {
  const has = `${formatIpv4(publicIp)} has ${formatPrefix(subnet.ipv4)}`
  if (wanted !== undefined && !samePrefix(wanted, subnet.ipv4)) {
    throw refusal(
      `${has}, not ${formatPrefix(wanted)}`,
      `leave out --subnet to reserve what it has, or stop the host and delete ${key} first`,
    )
  }
  if (value.vtep === undefined) {
    throw refusal(
      `${has} for the backend ${JSON.stringify(value.backendType)}, with no VXLAN data that can be read`,
      `stop the host and delete ${key} first`,
    )
  }
  if (mac !== undefined && mac !== value.vtep.mac) {
    throw refusal(
      `${has} with the MAC ${formatMac(value.vtep.mac)}, not ${formatMac(mac)}`,
      'leave out --mac: the MAC is the one its device has',
    )
  }
}

function checkSubnet(config: NetworkConfig, leases: readonly Lease[], subnet: Ipv4Prefix): void {
  if (!isLeasable(config, subnet)) {
    const { subnetLength, subnetMin, subnetMax } = config
    throw refusal(
      `${formatPrefix(subnet)} is no subnet of this network`,
      `choose a /${subnetLength} from ${formatIpv4(subnetMin)} to ${formatIpv4(subnetMax)}`,
    )
  }
  const other = leases.find((lease) => prefixesOverlap(lease.subnet.ipv4, subnet))
  if (other === undefined) return
  throw refusal(
    `${formatPrefix(subnet)} is taken: ${other.key} belongs to ${formatIpv4(other.value.publicIp)}`,
    'choose another, or leave out --subnet',
  )
}

function checkMac(mac: MacAddress, others: readonly Lease[]): void {
  const owner = others.find(({ value }) => value.vtep?.mac === mac)
  if (isUnicastMac(mac) && owner === undefined) return
  throw refusal(
    owner === undefined
      ? `${formatMac(mac)} is no address that a device can have`
      : `the MAC ${formatMac(mac)} belongs to ${formatIpv4(owner.value.publicIp)}`,
    'leave out --mac for a random one, which the host then takes',
  )
}

const refusal = (message: string, fix: string): OverlayError => new OverlayError('reserve', message, fix)
