/** Which prefixes may be announced. */
import { familyOf, formatPrefix, type Prefix, prefixContains, prefixesOverlap } from '../../model/address'

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
