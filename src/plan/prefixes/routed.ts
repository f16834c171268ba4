/** The prefixes that are routed to peers now, of one family. */
import type { Prefix } from '../../model/address'
import { type RouteKey, routeKey } from '../../model/kernel/route'

/** A prefix, and the key of the lease of the peer that gets its packets. */
export interface RoutedPrefix {
  readonly prefix: Prefix
  readonly peer: string
}

const NONE: readonly Prefix[] = []

export class RoutedPrefixes {
  #peers = new Map<RouteKey, string>()
  #prefixes = new Map<string, readonly Prefix[]>()

  /** The key of the peer's lease. */
  peerOf(key: RouteKey): string | undefined {
    return this.#peers.get(key)
  }

  /** The prefixes that are routed to the peer of a lease. */
  of(peer: string): readonly Prefix[] {
    return this.#prefixes.get(peer) ?? NONE
  }

  /** All prefixes that are routed to peers. */
  *all(): Generator<Prefix> {
    for (const prefixes of this.#prefixes.values()) yield* prefixes
  }

  /**
   * Routes one prefix.
   * @param peer `undefined` for to none
   * @returns whether its peer is another one
   */
  route(prefix: Prefix, peer: string | undefined): boolean {
    const key = routeKey(prefix)
    const before = this.#peers.get(key)
    if (before === peer) return false
    if (before !== undefined) {
      // A pass may be at the list of before.
      const left = this.of(before).filter((each) => routeKey(each) !== key)
      if (left.length === 0) this.#prefixes.delete(before)
      else this.#prefixes.set(before, left)
    }
    if (peer === undefined) this.#peers.delete(key)
    else {
      this.#peers.set(key, peer)
      this.#prefixes.set(peer, [...this.of(peer), prefix])
    }
    return true
  }

  /**
   * Routes these prefixes, and no others.
   * @returns the prefixes whose peer is another one, or that have come or gone
   */
  replace(routed: readonly RoutedPrefix[]): RouteKey[] {
    const before = this.#peers
    const now = new Map(routed.map(({ prefix, peer }) => [routeKey(prefix), peer]))
    const changed = [...now].flatMap(([key, peer]) => (before.get(key) === peer ? [] : key))
    const gone = [...before.keys()].filter((key) => !now.has(key))
    if (changed.length + gone.length === 0) return []
    this.#peers = now
    const prefixes = new Map<string, Prefix[]>()
    for (const { prefix, peer } of routed) {
      const all = prefixes.get(peer)
      if (all === undefined) prefixes.set(peer, [prefix])
      else all.push(prefix)
    }
    this.#prefixes = prefixes
    return [...changed, ...gone]
  }
}
