/** Chooses the subnet of a host: in flannel's order of preference, but uniformly among all free ones. */
import {
  addressAfter,
  familyOf,
  type IpAddress,
  isNetwork,
  networkOf,
  type Prefix,
  prefixesOverlap,
  prefixSize,
} from '../../model/address'
import type { SubnetRange } from '../../model/config/network-config'

/** A source of uniform numbers in [0, 1), such as Math.random. */
export type Random = () => number

/** Whether a subnet could be leased from this range: right length, aligned, from SubnetMin to SubnetMax. */
export function isLeasable(range: SubnetRange, subnet: Prefix): boolean {
  return (
    familyOf(subnet.address) === familyOf(range.network.address) &&
    subnet.length === range.subnetLength &&
    isNetwork(subnet) &&
    subnet.address >= range.subnetMin &&
    subnet.address <= range.subnetMax
  )
}

/**
 * Chooses a free subnet: the previous one if it is still leasable and overlaps no other, else any free one
 * with equal probability.
 * @param taken the subnets of all leases of this family, of any length
 * @param previous the subnet this host had before (subnet.env)
 * @returns `undefined` if nothing is free
 */
export function allocateSubnet<Address extends IpAddress>(
  range: SubnetRange<Address>,
  taken: readonly Prefix<Address>[],
  previous: Prefix<Address> | undefined,
  random: Random,
): Prefix<Address> | undefined {
  if (previous !== undefined && isLeasable(range, previous)) {
    if (!taken.some((other) => prefixesOverlap(other, previous))) return previous
  }
  const size = prefixSize(familyOf(range.network.address), range.subnetLength)
  const gaps = freeGaps(range, taken)
  const free = gaps.reduce((sum, gap) => sum + gap.length, 0n)
  let choice = below(free, random)
  for (const gap of gaps) {
    if (choice < gap.length) {
      const address = addressAfter(range.subnetMin, (gap.first + choice) * size)
      return { address, length: range.subnetLength }
    }
    choice -= gap.length
  }
  return undefined
}

/** A uniform integer below a limit. A double has 53 random bits; a larger limit needs two doubles. */
function below(limit: bigint, random: Random): bigint {
  if (limit <= Number.MAX_SAFE_INTEGER) return BigInt(Math.floor(random() * Number(limit)))
  const bits = (): bigint => BigInt(Math.floor(random() * 2 ** 53))
  return (limit * ((bits() << 53n) | bits())) >> 106n
}

/**
 * The runs of free subnets, as indexes from SubnetMin. Memory and time grow with the leases, not with the
 * network.
 */
function freeGaps(
  { network, subnetLength, subnetMin, subnetMax }: SubnetRange,
  taken: readonly Prefix[],
): { first: bigint; length: bigint }[] {
  const family = familyOf(network.address)
  const size = prefixSize(family, subnetLength)
  const origin = BigInt(subnetMin)
  const count = (BigInt(subnetMax) - origin) / size + 1n
  const blocks = taken
    .map(({ address, length }) => {
      const start = BigInt(networkOf(address, length).address) - origin
      return {
        first: floorDivide(start, size),
        last: floorDivide(start + prefixSize(family, length) - 1n, size),
      }
    })
    .sort((a, b) => (a.first < b.first ? -1 : 1))
  const gaps: { first: bigint; length: bigint }[] = []
  let next = 0n
  for (const block of [...blocks, { first: count, last: count }]) {
    const end = block.first < count ? block.first : count
    if (end > next) gaps.push({ first: next, length: end - next })
    if (block.last >= next) next = block.last + 1n
  }
  return gaps
}

/** Division rounded down. Bigints round towards zero, but a subnet below SubnetMin has a negative index. */
const floorDivide = (a: bigint, b: bigint): bigint => (a < 0n ? (a - b + 1n) / b : a / b)
