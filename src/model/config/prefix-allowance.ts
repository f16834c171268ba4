/** `Prefixes` of the network config: which prefixes hosts may announce besides their subnets. */
import {
  addressAfter,
  familyOf,
  formatIp,
  formatPrefix,
  type IpAddress,
  type Prefix,
  prefixContains,
  prefixesOverlap,
  prefixSize,
} from '../address'

/** Why a range cannot be allowed, and what to write instead. */
export interface Objection {
  readonly reason: string
  readonly fix: string
}

/** The range that the subnets of one family are taken from. */
interface LeasedRange {
  readonly network: Prefix
  readonly subnetLength: number
  readonly subnetMin: IpAddress
  readonly subnetMax: IpAddress
}

/**
 * Why a range cannot be set aside for announced prefixes; `undefined` if it can. It has to lie outside of the
 * network, or inside of it where no subnet can be leased.
 * @param range of the same family; `undefined` where the network has none
 */
export function objectionTo(allowed: Prefix, range: LeasedRange | undefined): Objection | undefined {
  const text = formatPrefix(allowed)
  const family = familyOf(allowed.address)
  if (range === undefined)
    return { reason: `${text} is of ${family}, which the network does not have`, fix: `remove ${text}` }
  const { network, subnetLength, subnetMin, subnetMax } = range
  if (!prefixesOverlap(allowed, network)) return undefined
  if (allowed.length < network.length || !prefixContains(network, allowed.address)) {
    const fix = 'write only those parts of it that hosts are to announce'
    return { reason: `${text} contains the network ${formatPrefix(network)}`, fix }
  }
  const last = addressAfter(subnetMax, prefixSize(family, subnetLength) - 1n)
  const end = addressAfter(allowed.address, prefixSize(family, allowed.length) - 1n)
  if (end < subnetMin || allowed.address > last) return undefined
  const names = family === 'IPv4' ? 'SubnetMin and SubnetMax' : 'IPv6SubnetMin and IPv6SubnetMax'
  return {
    reason: `${text} overlaps the subnets that hosts lease, ${formatIp(subnetMin)} to ${formatIp(last)}`,
    fix: `set ${names} so that it lies outside of them, or choose another range`,
  }
}
