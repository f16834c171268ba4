/**
 * The prefixes that hosts announce in etcd: judges them, and has the winners routed to their peers by the
 * reconcilers.
 */
import { performance } from 'node:perf_hooks'
import { type Family, familyOf, formatPrefix, type Prefix, samePrefix } from '../../model/address'
import { count } from '../../model/count'
import { type RouteKey, routeKey, routePrefix } from '../../model/kernel/route'
import type { Lease, Revision } from '../../model/lease'
import { type Announcement, isClaim, type PrefixClaim, type PrefixEntry } from '../../model/prefixes'
import type { ProtectedAddress } from '../../plan/peers/claim'
import { objectionAgainst, type Rules, rulesFrom } from '../../plan/prefixes/rules'
import { isOlder, type Judged, judgeClaims } from '../../plan/prefixes/standings'
import type { SortedUpdate } from '../node/sort-update'
import type { Overlay } from '../overlay/overlay'
import type { Logger } from '../tell/logger'

/** Changes that are logged one by one. */
const MOST_LOGGED = 20

/** Longest time that a timer of Node takes, in milliseconds. */
const LONGEST_WAIT = 2 ** 31 - 1

/** What of the other parts is read. */
export interface AnnouncedView {
  readonly overlays: readonly Overlay[]
  readonly own: Lease
  /** Addresses that this host needs: etcd, gateways. */
  readonly surroundings: readonly ProtectedAddress[]
}

export class AnnouncedPrefixes {
  /** name -> entry */
  #entries = new Map<string, PrefixEntry>()
  /** Names that are gone from etcd together with the leases of their hosts, which are held back. */
  #kept: ReadonlySet<string> = new Set()
  #judged: readonly Judged[] = []
  /** Prefix -> the host that gets its packets. */
  #winners: ReadonlyMap<RouteKey, string> = new Map()
  /** Names of the claims that are refused. */
  #refused: ReadonlySet<string> = new Set()
  #more = 0
  #revision: Revision | undefined
  /** Monotonic milliseconds. */
  #due = Number.POSITIVE_INFINITY
  #isHeld = (_leaseKey: string): boolean => false
  #reviewed = (): void => undefined
  #ownWins: readonly PrefixClaim[] = []
  #generation = 0

  constructor(
    private readonly view: AnnouncedView,
    private readonly log: Logger,
  ) {}

  /** Up to which revision the entries are known; `undefined` until etcd has listed them. */
  get revision(): Revision | undefined {
    return this.#revision
  }

  /** When the next announcement ends, in monotonic milliseconds; Infinity for never. */
  get due(): number {
    return this.#due
  }

  /** How all claims stand; those of one prefix are together, the best first. */
  get judged(): readonly Judged[] {
    return this.#judged
  }

  /** Entries that cannot be read. */
  get unreadable(): readonly PrefixEntry[] {
    return [...this.#entries.values()].filter(({ reason }) => reason !== undefined)
  }

  /** Entries that are not kept, for there are too many. */
  get more(): number {
    return this.#more
  }

  /** The name below `subnets/` of this host's lease. */
  get ownName(): string {
    return this.#nameOf(this.view.own.key)
  }

  /** A number that grows with every change of what hosts announce. */
  get generation(): number {
    return this.#generation
  }

  /** What hosts announce, as far as it can be read. */
  claims(): PrefixClaim[] {
    return [...this.#entries.values()].filter(isClaim)
  }

  /** The claims of this host. */
  ownClaims(): PrefixClaim[] {
    return this.claims().filter(({ host }) => host === this.ownName)
  }

  /** The claims of this host that win. */
  get ownWins(): readonly PrefixClaim[] {
    return this.#ownWins
  }

  /** Whether this host gets the packets to a prefix once it announces it so, by what is known now. */
  wouldWin({ prefix, priority }: Announcement): boolean {
    if (this.objectionToOwn(prefix) !== undefined) return false
    const rivals = this.#judged.filter(({ claim }) => samePrefix(claim.announcement.prefix, prefix))
    const former = rivals.find(({ claim }) => claim.host === this.ownName)?.claim
    return rivals.every(({ claim, standing }) => {
      if (claim === former || standing.kind === 'refused') return true
      const other = claim.announcement.priority
      return priority > other || (priority === other && former !== undefined && isOlder(former, claim))
    })
  }

  /** @param reviewed called after each review of the claims */
  onReview(reviewed: () => void): void {
    this.#reviewed = reviewed
  }

  /** @param isHeld whether the peer of that lease is held back though its lease is gone from etcd */
  holdWith(isHeld: (leaseKey: string) => boolean): void {
    this.#isHeld = isHeld
  }

  /**
   * Takes a listing, before anything is put into the kernel.
   * @param revision of etcd; `undefined` where the entries are those of a state file
   */
  list(entries: readonly PrefixEntry[] | undefined, more = 0, revision?: Revision): void {
    if (entries === undefined) return
    const listed = new Map(entries.map((entry) => [entry.name, entry]))
    const held = [...this.#entries].filter(([name]) => !listed.has(name) && this.#isHeldName(name))
    if (!areSame(listed, this.#entries)) this.#generation += 1
    this.#entries = new Map([...listed, ...held])
    this.#kept = new Set(held.map(([name]) => name))
    this.#more = more
    this.#revision = revision
    this.review()
  }

  /**
   * Takes an update, after the peers have taken it.
   * @returns whether it was about prefixes
   */
  take(update: SortedUpdate): boolean {
    if (update.kind === 'lost') return false
    if (update.kind === 'snapshot') {
      const { prefixes, morePrefixes, revision } = update.snapshot
      this.list(prefixes, morePrefixes, revision)
      return true
    }
    this.#revision = update.revision
    const { prefixes } = update.sorted
    if (prefixes.length === 0) return false
    this.#generation += 1
    const kept = new Set(this.#kept)
    for (const event of prefixes) {
      const name = event.kind === 'prefix' ? event.prefix.name : event.name
      kept.delete(name)
      if (event.kind === 'prefix') this.#entries.set(name, event.prefix)
      else if (this.#isHeldName(name)) kept.add(name)
      else this.#entries.delete(name)
    }
    this.#kept = kept
    this.review(update.receivedAt)
    return true
  }

  /**
   * Judges all claims again: peers, the network config or this host's addresses have changed.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  review(heardAt?: number): void {
    if (this.#entries.size === 0 && this.#judged.length === 0) return
    for (const name of this.#kept) if (!this.#isHeldName(name)) this.#entries.delete(name)
    this.#kept = new Set([...this.#kept].filter((name) => this.#entries.has(name)))
    const now = Date.now()
    const claims = this.claims()
    const rules = new Map(this.view.overlays.map((overlay) => [overlay.spec.family, this.#rulesOf(overlay)]))
    this.#judged = judgeClaims(claims, (claim) => this.#objection(claim, rules, now))
    this.#due = dueOf(claims, now)
    this.#ownWins = this.#judged.flatMap(({ claim, standing }) =>
      standing.kind === 'wins' && claim.host === this.ownName ? [claim] : [],
    )
    for (const { spec, peers, reconciler } of this.view.overlays) {
      const routed = this.#judged.flatMap(({ claim: { host, announcement }, standing }) => {
        const isRouted = standing.kind === 'wins' && host !== this.ownName
        const { prefix } = announcement
        return isRouted && familyOf(prefix.address) === spec.family ? { prefix, peer: this.#keyOf(host) } : []
      })
      reconciler.rerouted(peers.routed.replace(routed), heardAt)
    }
    this.#reviewed()
    this.#logChanges()
  }

  #objection(claim: PrefixClaim, rules: ReadonlyMap<Family, OverlayRules>, now: number): string | undefined {
    const { prefix, until } = claim.announcement
    const family = familyOf(prefix.address)
    const found = rules.get(family)
    if (found === undefined) return `the network has no ${family}`
    if (until !== undefined && until <= now) return 'its time is over'
    if (claim.host === this.ownName) return objectionAgainst(prefix, found.own)
    const { peers } = found.overlay
    if (peers.peer(this.#keyOf(claim.host)) === undefined) return 'its host has no lease that is followed'
    return objectionAgainst(prefix, found.others)
  }

  /** Why this host may not announce a prefix; `undefined` if it may. */
  objectionToOwn(prefix: Prefix): string | undefined {
    const family = familyOf(prefix.address)
    const overlay = this.view.overlays.find(({ spec }) => spec.family === family)
    if (overlay === undefined) return `the network has no ${family}`
    return objectionAgainst(prefix, this.#rulesOf(overlay).own)
  }

  #rulesOf(overlay: Overlay): OverlayRules {
    const { spec, peers, addresses } = overlay
    const { family, allowed, subnet, link } = spec
    const { surroundings } = this.view
    const { links } = addresses
    const basis = { family, allowed, subnet, underlay: link.local, links, surroundings, peers: peers.peers() }
    return { overlay, ...rulesFrom(basis) }
  }

  #isHeldName(name: string): boolean {
    return this.#isHeld(this.#keyOf(name.slice(0, name.indexOf('/'))))
  }

  #keyOf(host: string): string {
    const { key } = this.view.own
    return key.slice(0, key.lastIndexOf('/') + 1) + host
  }

  #nameOf(key: string): string {
    return key.slice(key.lastIndexOf('/') + 1)
  }

  #logChanges(): void {
    const former = this.#winners
    const now = new Map<RouteKey, string>()
    const refused = new Set<string>()
    const news: { readonly claim: PrefixClaim; readonly reason: string }[] = []
    for (const { claim, standing } of this.#judged) {
      if (standing.kind === 'wins') now.set(routeKey(claim.announcement.prefix), claim.host)
      if (standing.kind !== 'refused') continue
      refused.add(claim.name)
      if (!this.#refused.has(claim.name)) news.push({ claim, reason: standing.reason })
    }
    this.#winners = now
    this.#refused = refused
    const changed = [...now].flatMap(([key, host]) => (former.get(key) === host ? [] : key))
    for (const key of former.keys()) if (!now.has(key)) changed.push(key)
    if (changed.length > MOST_LOGGED)
      this.log.info(`prefixes: ${count(changed.length, 'prefix', 'prefixes')} moved, came or went`, {
        kind: 'prefix-moved',
      })
    for (const key of changed.length > MOST_LOGGED ? [] : changed) {
      const [from, to] = [former.get(key), now.get(key)]
      const prefix = formatPrefix(routePrefix(key))
      const was = from === undefined ? '' : `, and was behind ${from}`
      const text = to === undefined ? `is behind no host now${was}` : `is behind ${to} now${was}`
      this.log.info(`prefixes: ${prefix} ${text}`, { kind: 'prefix-moved', about: [prefix] })
    }
    for (const { claim, reason } of news.slice(0, MOST_LOGGED))
      this.log.warn(`prefixes: ${claim.name} is not followed: ${reason}`, {
        kind: 'prefix-refused',
        about: [formatPrefix(claim.announcement.prefix)],
      })
  }
}

interface OverlayRules {
  readonly overlay: Overlay
  /** For this host's own announcements. */
  readonly own: Rules
  /** For those of others: this host does not give its own addresses away. */
  readonly others: Rules
}

const areSame = (a: ReadonlyMap<string, PrefixEntry>, b: ReadonlyMap<string, PrefixEntry>): boolean =>
  a.size === b.size && [...a].every(([name, { modRevision }]) => b.get(name)?.modRevision === modRevision)

function dueOf(claims: readonly PrefixClaim[], now: number): number {
  let due = Number.POSITIVE_INFINITY
  for (const { announcement } of claims)
    if (announcement.until !== undefined && announcement.until > now) due = Math.min(due, announcement.until)
  return due === Number.POSITIVE_INFINITY ? due : performance.now() + Math.min(due - now, LONGEST_WAIT)
}
