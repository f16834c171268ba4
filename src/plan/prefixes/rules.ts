/** Which prefixes may be announced. */
import {
  addressBits,
  type Family,
  familyOf,
  formatPrefix,
  type IpAddress,
  networkOf,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import type { Peer } from '../../model/lease'
import type { ProtectedAddress } from '../peers/claim'

/** What no announced prefix may cover, or be a part of. */
export interface Occupied {
  readonly prefix: Prefix
  /** `the address of etcd` */
  readonly what: string
}

export interface Rules {
  /** Ranges of the network config, of all families. */
  readonly allowed: readonly Prefix[]
  readonly occupied: readonly Occupied[]
}

/** Why a prefix may not be announced; `undefined` if it may. */
export function objectionAgainst(prefix: Prefix, { allowed, occupied }: Rules): string | undefined {
  const family = familyOf(prefix.address)
  const ofFamily = allowed.filter(({ address }) => familyOf(address) === family)
  if (!ofFamily.some((range) => isWithin(prefix, range))) {
    return ofFamily.length === 0
      ? `the network config allows no ${family} prefix (Prefixes.Allowed)`
      : `it is inside of no range that the network config allows (Prefixes.Allowed: ${shown(ofFamily)})`
  }
  const found = occupied.find((other) => prefixesOverlap(prefix, other.prefix))
  return found && `it overlaps ${formatPrefix(found.prefix)}, ${found.what}`
}

/** Whether all addresses of a prefix are inside of a range. */
export const isWithin = (prefix: Prefix, range: Prefix): boolean =>
  prefix.length >= range.length && prefixContains(range, prefix.address)

/** Ranges named in a reason. */
const MOST_SHOWN = 4

const shown = (ranges: readonly Prefix[]): string =>
  [...ranges.slice(0, MOST_SHOWN).map(formatPrefix), ...(ranges.length > MOST_SHOWN ? ['...'] : [])].join()

/** What the rules of one family follow from. */
export interface RulesBasis {
  readonly family: Family
  /** Ranges of the network config, of that family. */
  readonly allowed: readonly Prefix[]
  /** Of this host. */
  readonly subnet: Prefix
  /** The address that packets between hosts leave from. */
  readonly underlay: IpAddress | undefined
  /** Addresses of this host's links, without those of overlay devices. */
  readonly links: readonly Prefix[]
  /** Addresses that this host needs: etcd, gateways. */
  readonly surroundings: readonly ProtectedAddress[]
  readonly peers: Iterable<Pick<Peer, 'subnet' | 'publicIp'>>
}

/**
 * The rules for this host's own announcements, and for those of others: it gives none of its addresses
 * away.
 */
export function rulesFrom(basis: RulesBasis): { readonly own: Rules; readonly others: Rules } {
  const { family, allowed, subnet, underlay, surroundings } = basis
  const isNear = ({ address, length }: Prefix): boolean =>
    allowed.some(
      (range) => prefixContains(range, address) || prefixContains({ address, length }, range.address),
    )
  const links = basis.links.map((prefix): Occupied => {
    const network = networkOf(prefix.address, prefix.length)
    return underlay !== undefined && prefixContains(network, underlay)
      ? { prefix: network, what: UNDERLAY }
      : { prefix: single(prefix.address), what: 'an address of this host' }
  })
  const needed: Occupied[] = [
    ...surroundings
      .filter(({ address }) => familyOf(address) === family)
      .map(({ address, what }) => ({ prefix: single(address), what })),
    ...links.filter(({ what }) => what === UNDERLAY),
    { prefix: subnet, what: 'the subnet of this host' },
  ]
  for (const peer of basis.peers) {
    needed.push({ prefix: peer.subnet, what: 'the subnet of a host' })
    needed.push({ prefix: single(peer.publicIp), what: 'the PublicIP of a host' })
  }
  const near = needed.filter(({ prefix }) => isNear(prefix))
  const local = links.filter(({ prefix, what }) => what !== UNDERLAY && isNear(prefix))
  return { own: { allowed, occupied: near }, others: { allowed, occupied: [...near, ...local] } }
}

const UNDERLAY = 'the underlay'

const single = (address: IpAddress): Prefix => ({ address, length: addressBits(familyOf(address)) })
