/** The prefixes that are routed to peers now, of one family. */
import type { Prefix } from '../../model/address'
import { type RouteKey, routeKey, routePrefix } from '../../model/kernel/route'
import { type Carrier, sameCarriers } from './carriers'

/** A prefix, and the peers that get its packets: the first of them owns the route. */
export interface RoutedPrefix {
  readonly prefix: Prefix
  readonly carriers: readonly Carrier[]
}

const NONE: readonly Prefix[] = []
const NOBODY: readonly Carrier[] = []

export class RoutedPrefixes {
  #carriers = new Map<RouteKey, readonly Carrier[]>()
  /** Key of the lease of the peer that owns the route -> prefixes. */
  #prefixes = new Map<string, readonly Prefix[]>()
  /** The same of the other peers that share. */
  #shared = new Map<string, readonly Prefix[]>()

  /** The key of the lease of the peer that owns the route. */
  peerOf(key: RouteKey): string | undefined {
    return this.carriersOf(key)[0]?.peer
  }

  /** The peers that get the packets to a prefix. */
  carriersOf(key: RouteKey): readonly Carrier[] {
    return this.#carriers.get(key) ?? NOBODY
  }

  /** The prefixes whose routes the peer of a lease owns. */
  of(peer: string): readonly Prefix[] {
    return this.#prefixes.get(peer) ?? NONE
  }

  /** The prefixes that the peer of a lease gets packets to: those of {@link of}, and of routes of others. */
  sharedBy(peer: string): readonly Prefix[] {
    const [own, shared] = [this.of(peer), this.#shared.get(peer)]
    return shared === undefined ? own : [...own, ...shared]
  }

  /** Whether a prefix is routed to several peers. */
  get isShared(): boolean {
    return this.#shared.size > 0
  }

  /** All prefixes that are routed to peers. */
  *all(): Generator<Prefix> {
    for (const prefixes of this.#prefixes.values()) yield* prefixes
  }

  /**
   * Routes one prefix.
   * @param to empty for to none
   * @returns whether they are others
   */
  route(prefix: Prefix, to: readonly Carrier[]): boolean {
    const key = routeKey(prefix)
    const carriers = to.length === 1 ? to.map(({ peer }) => ({ peer, weight: 1 })) : to
    const before = this.carriersOf(key)
    if (sameCarriers(before, carriers)) return false
    for (const [at, { peer }] of before.entries()) drop(at === 0 ? this.#prefixes : this.#shared, peer, key)
    if (carriers.length === 0) this.#carriers.delete(key)
    else this.#carriers.set(key, carriers)
    for (const [at, { peer }] of carriers.entries())
      add(at === 0 ? this.#prefixes : this.#shared, peer, prefix)
    return true
  }

  /**
   * Routes these prefixes, and no others.
   * @returns the prefixes whose peers are others, or that have come or gone
   */
  replace(routed: readonly RoutedPrefix[]): RouteKey[] {
    const now = new Set(routed.map(({ prefix }) => routeKey(prefix)))
    const gone = [...this.#carriers.keys()].filter((key) => !now.has(key))
    const changed = routed.filter(({ prefix, carriers }) => this.route(prefix, carriers))
    for (const key of gone) this.route(routePrefix(key), NOBODY)
    return [...changed.map(({ prefix }) => routeKey(prefix)), ...gone]
  }
}

/** A pass may be at the list of before: so there is a new one. */
function drop(index: Map<string, readonly Prefix[]>, peer: string, key: RouteKey): void {
  const left = (index.get(peer) ?? NONE).filter((each) => routeKey(each) !== key)
  if (left.length === 0) index.delete(peer)
  else index.set(peer, left)
}

function add(index: Map<string, readonly Prefix[]>, peer: string, prefix: Prefix): void {
  index.set(peer, [...(index.get(peer) ?? NONE), prefix])
}
