/**
 * Which host gets the packets to each announced prefix. The outcome is a function of the keys in etcd, and
 * not of the order in which a host has heard of them. The kernel prefers the longest prefix; of several hosts
 * with one prefix the highest priority wins, then the older claim.
 */
import { type RouteKey, routeKey } from '../../model/kernel/route'
import { MOST_OF_HOST, type PrefixClaim } from '../../model/prefixes'

/** How a claim stands. */
export type Standing =
  | { readonly kind: 'wins' }
  | { readonly kind: 'waits'; readonly winner: PrefixClaim }
  | { readonly kind: 'refused'; readonly reason: string }

export interface Judged {
  readonly claim: PrefixClaim
  readonly standing: Standing
}

/**
 * Judges all claims.
 * @param objection why a claim is not followed, whatever others claim; `undefined` if it is
 * @returns the claims of one prefix together, the best of them first; the prefix with the oldest claim first
 */
export function judgeClaims(
  claims: Iterable<PrefixClaim>,
  objection: (claim: PrefixClaim) => string | undefined,
): Judged[] {
  const ranks = new Map<string, number>()
  const reasons = new Map<PrefixClaim, string>()
  const all = [...claims].sort(byAge)
  for (const claim of all) {
    const rank = (ranks.get(claim.host) ?? 0) + 1
    ranks.set(claim.host, rank)
    const tooMany = `${claim.host} announces more than ${MOST_OF_HOST} prefixes`
    const reason = rank > MOST_OF_HOST ? tooMany : objection(claim)
    if (reason !== undefined) reasons.set(claim, reason)
  }
  const ofPrefix = new Map<RouteKey, PrefixClaim[]>()
  for (const claim of all) {
    const key = routeKey(claim.announcement.prefix)
    const rivals = ofPrefix.get(key)
    if (rivals === undefined) ofPrefix.set(key, [claim])
    else rivals.push(claim)
  }
  return [...ofPrefix.values()].flatMap((rivals) => {
    rivals.sort(byPriority)
    const winner = rivals.find((claim) => !reasons.has(claim))
    return rivals.map((claim): Judged => {
      const reason = reasons.get(claim)
      if (reason !== undefined) return { claim, standing: { kind: 'refused', reason } }
      if (claim === winner || winner === undefined) return { claim, standing: { kind: 'wins' } }
      return { claim, standing: { kind: 'waits', winner } }
    })
  })
}

/** Two keys of one transaction have one age: then their names decide, which differ. */
const byAge = (a: PrefixClaim, b: PrefixClaim): number => {
  if (a.claimedAt !== b.claimedAt) return a.claimedAt < b.claimedAt ? -1 : 1
  return a.name < b.name ? -1 : 1
}

const byPriority = (a: PrefixClaim, b: PrefixClaim): number =>
  b.announcement.priority - a.announcement.priority || byAge(a, b)

/** Whether a claim wins over another one of the same priority. */
export const isOlder = (claim: PrefixClaim, other: PrefixClaim): boolean => byAge(claim, other) < 0

/** Why a claim waits for the winner. */
export function describeWait({ announcement }: PrefixClaim, winner: PrefixClaim): string {
  const { priority } = winner.announcement
  return priority > announcement.priority
    ? `${winner.host} announces it with priority ${priority}`
    : `${winner.host} announces it with the same priority, and has claimed it before`
}
