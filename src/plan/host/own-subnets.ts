/**
 * The subnets of one host, which its containers have their addresses from: those of its lease, and further
 * ones. Whoever asks whether something is on "our subnet" asks here.
 */
import { type IpAddress, type Prefix, prefixContains } from '../../model/address'
import type { Announcement } from '../../model/prefixes'
import { isFollowed, type Standing } from '../prefixes/standings'

/**
 * The further subnets that a host has: the blocks that it holds, without those that other hosts do not route
 * to it. A block that was taken just now, of which etcd has not told yet, is the host's.
 * @param held what the host announces
 * @param standing how its claim to a prefix stands; `undefined` where that is not known yet
 * @returns in order
 */
export const furtherSubnets = (
  held: Iterable<Announcement>,
  standing: (prefix: Prefix) => Standing | undefined,
): readonly Prefix[] =>
  Array.from(held)
    .filter(({ further, prefix }) => {
      const how = standing(prefix)
      return further === true && (how === undefined || isFollowed(how))
    })
    .map(({ prefix }) => prefix)
    .sort((a, b) => (a.address < b.address ? -1 : 1))

/** All subnets of a host, those of its lease first. */
export const ownSubnets = (leased: readonly Prefix[], further: readonly Prefix[] = []): readonly Prefix[] => [
  ...leased,
  ...further,
]

/** The subnet of a host that an address is in; `undefined` where it is in none of them. */
export const subnetWith = <P extends Prefix>(own: readonly P[], address: IpAddress): P | undefined =>
  own.find((subnet) => prefixContains(subnet, address))
