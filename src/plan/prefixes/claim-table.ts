/**
 * All claims, by prefix and by host. A prefix is judged by its own claims alone, so that a change costs the
 * same with any number of other prefixes.
 */
import { type RouteKey, routeKey } from '../../model/kernel/route'
import { MOST_OF_HOST, type PrefixClaim } from '../../model/prefixes'
import { byAge, tooMany } from './standings'

type Claims = Map<string, PrefixClaim>

const NONE: ReadonlyMap<string, PrefixClaim> = new Map()

export class ClaimTable {
  /** Name -> claim. */
  readonly #claims: Claims = new Map()
  readonly #ofPrefix = new Map<RouteKey, Claims>()
  readonly #ofHost = new Map<string, Claims>()
  /** Host that announces too many -> names of the claims that are not followed for that reason. */
  readonly #excess = new Map<string, ReadonlySet<string>>()
  /** Prefixes whose claims have changed. */
  #touched = new Set<RouteKey>()
  /** Hosts with other claims than before, which announce too many or did. */
  #crowded = new Set<string>()
  /** Name -> when the announcement ends, in milliseconds since 1970; only those that end by themselves. */
  readonly #ends = new Map<string, number>()
  /** The next of the ends, and when it was looked for; `undefined` where it has to be looked for. */
  #next: { readonly end: number; readonly at: number } | undefined

  get size(): number {
    return this.#claims.size
  }

  all(): Iterable<PrefixClaim> {
    return this.#claims.values()
  }

  /** Prefixes that somebody claims. */
  prefixes(): Iterable<RouteKey> {
    return this.#ofPrefix.keys()
  }

  hosts(): Iterable<string> {
    return this.#ofHost.keys()
  }

  ofPrefix(key: RouteKey): Iterable<PrefixClaim> {
    return (this.#ofPrefix.get(key) ?? NONE).values()
  }

  ofHost(host: string): Iterable<PrefixClaim> {
    return (this.#ofHost.get(host) ?? NONE).values()
  }

  /** Why a claim is not followed, whatever it is about; `undefined` if it is. */
  excess({ host, name }: PrefixClaim): string | undefined {
    return this.#excess.get(host)?.has(name) === true ? tooMany(host) : undefined
  }

  /**
   * When the next announcement ends, in milliseconds since 1970; Infinity for never. The ends are gone
   * through only where the next one has come or has been withdrawn.
   * @param now in milliseconds since 1970; earlier than before where the clock was set back
   */
  nextEnd(now: number): number {
    if (this.#next === undefined || this.#next.end <= now || now < this.#next.at) {
      let end = Number.POSITIVE_INFINITY
      for (const each of this.#ends.values()) if (each > now && each < end) end = each
      this.#next = { end, at: now }
    }
    return this.#next.end
  }

  /** Adds a claim, or replaces the one of that name. */
  set(claim: PrefixClaim): void {
    if (this.#claims.get(claim.name) === claim) return
    this.delete(claim.name)
    this.#claims.set(claim.name, claim)
    const key = routeKey(claim.announcement.prefix)
    add(this.#ofPrefix, key, claim)
    add(this.#ofHost, claim.host, claim)
    this.#touch(key, claim.host)
    const { until } = claim.announcement
    if (until === undefined) return
    this.#ends.set(claim.name, until)
    if (this.#next !== undefined && until < this.#next.end) this.#next = undefined
  }

  delete(name: string): void {
    const claim = this.#claims.get(name)
    if (claim === undefined) return
    this.#claims.delete(name)
    const key = routeKey(claim.announcement.prefix)
    remove(this.#ofPrefix, key, name)
    this.#touch(key, claim.host)
    remove(this.#ofHost, claim.host, name)
    if (this.#ends.get(name) === this.#next?.end) this.#next = undefined
    this.#ends.delete(name)
  }

  /** The prefixes that have to be judged since the last call. */
  takeTouched(): Set<RouteKey> {
    for (const host of this.#crowded) this.#recount(host)
    this.#crowded = new Set()
    const touched = this.#touched
    this.#touched = new Set()
    return touched
  }

  #touch(key: RouteKey, host: string): void {
    this.#touched.add(key)
    const { size } = this.#ofHost.get(host) ?? NONE
    if (size > MOST_OF_HOST || this.#excess.has(host)) this.#crowded.add(host)
  }

  #recount(host: string): void {
    const claims = this.#ofHost.get(host) ?? NONE
    const before = this.#excess.get(host)
    const now = tooManyOf(claims)
    if (now.size === 0) this.#excess.delete(host)
    else this.#excess.set(host, now)
    for (const [name, { announcement }] of claims)
      if ((before?.has(name) ?? false) !== now.has(name)) this.#touched.add(routeKey(announcement.prefix))
  }
}

/** Names of the claims of one host that are too many: the youngest. */
function tooManyOf(claims: ReadonlyMap<string, PrefixClaim>): ReadonlySet<string> {
  if (claims.size <= MOST_OF_HOST) return new Set()
  const inOrder = [...claims.values()].sort(byAge)
  return new Set(inOrder.slice(MOST_OF_HOST).map(({ name }) => name))
}

function add<Key>(index: Map<Key, Claims>, key: Key, claim: PrefixClaim): void {
  const claims = index.get(key)
  if (claims === undefined) index.set(key, new Map([[claim.name, claim]]))
  else claims.set(claim.name, claim)
}

function remove<Key>(index: Map<Key, Claims>, key: Key, name: string): void {
  const claims = index.get(key)
  claims?.delete(name)
  if (claims?.size === 0) index.delete(key)
}
