/** Which subnet a host gets: flannel's order of preference, but uniform over everything that is free. */
import { type Ipv4Prefix, ipv4, networkOf, prefixesOverlap, prefixSize } from '../model/address'
import type { NetworkConfig } from '../model/network-config'

/** A source of uniform numbers in [0, 1), such as Math.random. */
export type Random = () => number

/** True when a subnet could have been leased under this config: of its length, aligned, from SubnetMin to SubnetMax. */
export function isLeasable(config: NetworkConfig, subnet: Ipv4Prefix): boolean {
  return (
    subnet.length === config.subnetLength &&
    networkOf(subnet.address, subnet.length).address === subnet.address &&
    subnet.address >= config.subnetMin &&
    subnet.address <= config.subnetMax
  )
}

/**
 * Chooses a free subnet: the previous one when it is still leasable and overlaps no other, else any free one with equal chance.
 * @param taken the subnets of all leases, of whatever length
 * @param previous what this host had before (subnet.env)
 * @returns `undefined` when nothing is free
 */
export function allocateSubnet(
  config: NetworkConfig,
  taken: readonly Ipv4Prefix[],
  previous: Ipv4Prefix | undefined,
  random: Random,
): Ipv4Prefix | undefined {
  if (previous !== undefined && isLeasable(config, previous)) {
    if (!taken.some((other) => prefixesOverlap(other, previous))) return previous
  }
  const size = Number(prefixSize('IPv4', config.subnetLength))
  const count = (config.subnetMax - config.subnetMin) / size + 1
  const gaps = freeGaps(config, taken, count)
  const free = gaps.reduce((sum, gap) => sum + gap.length, 0)
  let choice = Math.floor(random() * free)
  for (const gap of gaps) {
    if (choice < gap.length) {
      return {
        address: ipv4(config.subnetMin + (gap.first + choice) * size),
        length: config.subnetLength,
      }
    }
    choice -= gap.length
  }
  return undefined
}

/** The runs of free subnets, as indexes from SubnetMin; memory and time grow with the leases, not with the network. */
function freeGaps(
  config: NetworkConfig,
  taken: readonly Ipv4Prefix[],
  count: number,
): { first: number; length: number }[] {
  const size = Number(prefixSize('IPv4', config.subnetLength))
  const blocks = taken
    .map((prefix) => {
      const start = networkOf(prefix.address, prefix.length).address - config.subnetMin
      return {
        first: Math.floor(start / size),
        last: Math.floor((start + Number(prefixSize('IPv4', prefix.length)) - 1) / size),
      }
    })
    .sort((a, b) => a.first - b.first)
  const gaps: { first: number; length: number }[] = []
  let next = 0
  for (const block of [...blocks, { first: count, last: count }]) {
    const end = Math.min(block.first, count)
    if (end > next) gaps.push({ first: next, length: end - next })
    next = Math.max(next, block.last + 1)
  }
  return gaps
}
