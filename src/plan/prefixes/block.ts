/** Chooses a further subnet for a host: a free block of what the network config sets aside. */
import { addressAfter, familyOf, networkOf, type Prefix, prefixSize } from '../../model/address'
import { LONGEST_NETWORK, LONGEST_NETWORK6 } from '../../model/docker'
import { failed, found, type Result } from '../../model/result'
import { allocateSubnet, type Random } from '../lease/allocate'
import { isWithin } from './rules'

/** What a block is chosen by; all prefixes are of one family. */
export interface BlockBasis {
  readonly network: Prefix
  /** Length of the subnets that hosts lease. */
  readonly subnetLength: number
  /** Ranges of the network config. */
  readonly allowed: readonly Prefix[]
  /** What the block must not overlap: subnets of hosts, claims, networks of this host's links. */
  readonly taken: readonly Prefix[]
}

const CODE = 'lease-add'

/**
 * The first allowed range inside of the network that has room gives the block; in it each free block has the
 * same chance. A range outside of the network gives none: what leaves it is not masqueraded.
 * @param length of the block
 */
export function chooseBlock(
  { network, allowed, taken }: Omit<BlockBasis, 'subnetLength'>,
  length: number,
  random: Random,
): Result<Prefix> {
  const family = familyOf(network.address)
  const refuse = (text: string, fix: string) => failed({ part: CODE, code: CODE, text, fix })
  const ranges = allowed.filter((range) => isWithin(range, network))
  const [widest] = ranges.map((range) => range.length).sort((a, b) => a - b)
  if (widest === undefined)
    return refuse(
      `the network config sets no ${family} range inside of the network aside`,
      `add one to Prefixes.Allowed, outside of ${family === 'IPv4' ? 'SubnetMin' : 'IPv6SubnetMin'} to ` +
        `${family === 'IPv4' ? 'SubnetMax' : 'IPv6SubnetMax'}: overlayctl config set`,
    )
  const longest = family === 'IPv4' ? LONGEST_NETWORK : LONGEST_NETWORK6
  if (length < widest || length > longest)
    return refuse(
      `a block of /${length} cannot be taken from what is set aside`,
      `use --length from ${widest} to ${longest}`,
    )
  for (const range of ranges.filter((each) => each.length <= length)) {
    const size = prefixSize(family, length)
    const subnetMax = addressAfter(range.address, prefixSize(family, range.length) - size)
    const blocks = { network: range, subnetLength: length, subnetMin: range.address, subnetMax }
    const block = allocateSubnet(blocks, taken, undefined, random)
    if (block !== undefined) return found(networkOf(block.address, block.length))
  }
  return refuse(
    `no block of /${length} is free in what the network config sets aside`,
    'use a longer --length, or set more aside: Prefixes.Allowed, overlayctl config set',
  )
}
