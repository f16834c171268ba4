/** How the claims of each prefix stand, and which prefixes this host or several hosts get packets to. */
import type { RouteKey } from '../../model/kernel/route'
import type { PrefixClaim } from '../../model/prefixes'
import { byAge, followedOf, type Judged, judgePrefix } from './standings'

/** What a new judgement of one prefix has changed. */
export interface Rejudged {
  /** The claims that got the packets before, the best first. */
  readonly before: readonly PrefixClaim[]
  /** Those that get them now. */
  readonly winners: readonly PrefixClaim[]
  /** Claims that are refused, and were not before. */
  readonly refused: readonly Refusal[]
}

/** A claim that is not followed. */
export interface Refusal {
  readonly claim: PrefixClaim
  readonly reason: string
}

const NONE: readonly Judged[] = []

export class StandingTable {
  /** Prefix -> how its claims stand, the best first. */
  readonly #judged = new Map<RouteKey, readonly Judged[]>()
  /** Prefixes that several hosts share, this host or others. */
  readonly #shared = new Set<RouteKey>()
  readonly #ownWins = new Map<RouteKey, PrefixClaim>()

  /** @param ownName the name below `subnets/` of this host's lease */
  constructor(private readonly ownName: string) {}

  /** Number of prefixes that somebody claims. */
  get size(): number {
    return this.#judged.size
  }

  /** Prefixes that somebody claims. */
  prefixes(): Iterable<RouteKey> {
    return this.#judged.keys()
  }

  /** How all claims stand, in no order. */
  *all(): Generator<Judged> {
    for (const judged of this.#judged.values()) yield* judged
  }

  /**
   * The same in order, for people: those of one prefix are together, the best first; the prefix with the
   * oldest claim is the first.
   */
  inOrder(): readonly Judged[] {
    const oldest = (judged: readonly Judged[]): PrefixClaim | undefined =>
      judged.map(({ claim }) => claim).reduce((a, b) => (byAge(a, b) < 0 ? a : b))
    return [...this.#judged.values()]
      .map((judged) => ({ judged, claim: oldest(judged) }))
      .sort((a, b) => (a.claim && b.claim ? byAge(a.claim, b.claim) : 0))
      .flatMap(({ judged }) => judged)
  }

  /** How the claims of one prefix stand, the best first. */
  of(key: RouteKey): readonly Judged[] {
    return this.#judged.get(key) ?? NONE
  }

  /** The claims whose hosts get the packets to a prefix, the best first. */
  winnersOf(key: RouteKey): readonly PrefixClaim[] {
    return followedOf(this.of(key))
  }

  /** Prefixes that several hosts share, this host or others. */
  get shared(): ReadonlySet<RouteKey> {
    return this.#shared
  }

  /** The claims of this host that win, alone or together with others. */
  get ownWins(): readonly PrefixClaim[] {
    return [...this.#ownWins.values()]
  }

  /** Whether this host gets the packets to a prefix, alone or together with others. */
  isOwn(key: RouteKey): boolean {
    return this.#ownWins.has(key)
  }

  /**
   * Judges the claims of one prefix anew.
   * @param objection as for {@link judgePrefix}
   */
  judge(
    key: RouteKey,
    rivals: Iterable<PrefixClaim>,
    objection: (claim: PrefixClaim) => string | undefined,
  ): Rejudged {
    const before = this.of(key)
    const judged = judgePrefix(rivals, objection)
    if (judged.length === 0) this.#judged.delete(key)
    else this.#judged.set(key, judged)
    const winners = followedOf(judged)
    const own = winners.find(({ host }) => host === this.ownName)
    if (own !== undefined) this.#ownWins.set(key, own)
    else this.#ownWins.delete(key)
    if (winners.length > 1) this.#shared.add(key)
    else this.#shared.delete(key)
    return { before: followedOf(before), winners, refused: newlyRefused(before, judged) }
  }
}

function newlyRefused(before: readonly Judged[], now: readonly Judged[]): readonly Refusal[] {
  return now.flatMap(({ claim, standing }): readonly Refusal[] => {
    if (standing.kind !== 'refused') return []
    const wasRefused = before.some(
      (each) => each.claim.name === claim.name && each.standing.kind === 'refused',
    )
    return wasRefused ? [] : [{ claim, reason: standing.reason }]
  })
}
