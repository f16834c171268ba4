/**
 * Which host gets the packets to each announced prefix. The outcome is a function of the keys in etcd, and
 * not of the order in which a host has heard of them. The kernel prefers the longest prefix; of several hosts
 * with one prefix the highest priority wins, then the older claim. Hosts of the winner's priority share with
 * the winner if all of them, the winner too, have asked for it.
 */
import { type RouteKey, routeKey } from '../../model/kernel/route'
import { MOST_OF_HOST, MOST_SHARING, type PrefixClaim } from '../../model/prefixes'

/** How a claim stands. */
export type Standing =
  | { readonly kind: 'wins' }
  /** It gets a part of the packets. There are others of that prefix that share. */
  | { readonly kind: 'shares' }
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
    const reason = rank > MOST_OF_HOST ? tooMany(claim.host) : objection(claim)
    if (reason !== undefined) reasons.set(claim, reason)
  }
  const ofPrefix = new Map<RouteKey, PrefixClaim[]>()
  for (const claim of all) {
    const key = routeKey(claim.announcement.prefix)
    const rivals = ofPrefix.get(key)
    if (rivals === undefined) ofPrefix.set(key, [claim])
    else rivals.push(claim)
  }
  return [...ofPrefix.values()].flatMap((rivals) => judgePrefix(rivals, (claim) => reasons.get(claim)))
}

/**
 * Judges the claims of one prefix.
 * @param objection as for {@link judgeClaims}, and that its host announces too many
 * @returns the best first
 */
export function judgePrefix(
  rivals: Iterable<PrefixClaim>,
  objection: (claim: PrefixClaim) => string | undefined,
): Judged[] {
  const inOrder = [...rivals]
  if (inOrder.length > 1) inOrder.sort(byPriority)
  const reasons = inOrder.map(objection)
  const [winner, ...others] = inOrder.filter((_, at) => reasons[at] === undefined)
  const sharing = new Set(
    winner === undefined ? [] : others.filter((other) => isEqual(winner, other)).slice(0, MOST_SHARING - 1),
  )
  const best = sharing.size === 0 ? WINS : SHARES
  return inOrder.map((claim, at): Judged => {
    const reason = reasons[at]
    if (reason !== undefined) return { claim, standing: { kind: 'refused', reason } }
    if (winner === undefined || claim === winner) return { claim, standing: best }
    return { claim, standing: sharing.has(claim) ? SHARES : { kind: 'waits', winner } }
  })
}

const WINS: Standing = { kind: 'wins' }
const SHARES: Standing = { kind: 'shares' }

/** Whether a claim shares with the winner. */
const isEqual = ({ announcement: a }: PrefixClaim, { announcement: b }: PrefixClaim): boolean =>
  a.share !== undefined && b.share !== undefined && a.priority === b.priority

/** Whether its host gets packets to the prefix, alone or with others. */
export const isFollowed = ({ kind }: Standing): boolean => kind === 'wins' || kind === 'shares'

/** The claims whose hosts get the packets to a prefix, the best first. */
export const followedOf = (judged: readonly Judged[]): PrefixClaim[] =>
  judged.flatMap(({ claim, standing }) => (isFollowed(standing) ? [claim] : []))

/** Why the youngest claims of a host are not followed. */
export const tooMany = (host: string): string => `${host} announces more than ${MOST_OF_HOST} prefixes`

/** Two keys of one transaction have one age: then their names decide, which differ. */
export const byAge = (a: PrefixClaim, b: PrefixClaim): number => {
  if (a.claimedAt !== b.claimedAt) return a.claimedAt < b.claimedAt ? -1 : 1
  return a.name < b.name ? -1 : 1
}

const byPriority = (a: PrefixClaim, b: PrefixClaim): number =>
  b.announcement.priority - a.announcement.priority || byAge(a, b)

/** Why a claim waits for the winner. */
export function describeWait({ announcement }: PrefixClaim, winner: PrefixClaim): string {
  const { priority, share } = winner.announcement
  if (priority === announcement.priority && share !== undefined)
    return announcement.share === undefined
      ? `${winner.host} announces it with the same priority, ` +
          'and shares only with those who announce it with --share'
      : `${MOST_SHARING} hosts share it, which have claimed it before`
  return priority > announcement.priority
    ? `${winner.host} announces it with priority ${priority}`
    : `${winner.host} announces it with the same priority, and has claimed it before`
}
