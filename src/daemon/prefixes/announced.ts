/**
 * The prefixes that hosts announce in etcd: judges them, and has the winners routed to their peers by the
 * reconcilers.
 */
import type { Family, Prefix } from '../../model/address'
import { routeKey } from '../../model/kernel/route'
import type { EtcdLeaseId, Peer, Revision } from '../../model/lease'
import { type Announcement, type PrefixClaim, type PrefixEntry, prefixName } from '../../model/prefixes'
import type { BlockBasis } from '../../plan/prefixes/block'
import { StandingTable } from '../../plan/prefixes/standing-table'
import { isFollowed, type Judged, judgePrefix, type Standing } from '../../plan/prefixes/standings'
import type { SortedUpdate } from '../node/sort-update'
import type { Logger } from '../tell/logger'
import { type AnnouncedView, hostNameOf, leaseKeyOf } from './announced-view'
import { ClaimRules } from './claim-rules'
import { EntryBook, type PrefixListing } from './entry-book'
import { Judging } from './judging'
import { PrefixNews } from './prefix-news'
import { PrefixRoutes } from './prefix-routes'

export class AnnouncedPrefixes {
  readonly #book = new EntryBook()
  readonly #standings: StandingTable
  readonly #rules: ClaimRules
  readonly #routes: PrefixRoutes
  readonly #judging: Judging

  constructor(
    private readonly view: AnnouncedView,
    log: Logger,
  ) {
    const news = new PrefixNews(log)
    const standings = new StandingTable(this.ownName)
    const rules = new ClaimRules(view)
    const routes = new PrefixRoutes(view, standings, news)
    this.#standings = standings
    this.#rules = rules
    this.#routes = routes
    this.#judging = new Judging(view, { claims: this.#book.claims, rules, standings, routes, news })
  }

  /** The name below `subnets/` of this host's lease. */
  get ownName(): string {
    return hostNameOf(this.view.own.key)
  }

  /** Up to which revision the entries are known; `undefined` until etcd has listed them. */
  get revision(): Revision | undefined {
    return this.#book.revision
  }

  /** When the next announcement ends, in monotonic milliseconds; Infinity for never. */
  get due(): number {
    return this.#judging.due
  }

  /** How all claims stand, in no order. */
  standings(): Iterable<Judged> {
    return this.#standings.all()
  }

  /** The same in order, for people: see {@link StandingTable.inOrder}. */
  get judged(): readonly Judged[] {
    return this.#standings.inOrder()
  }

  /** Entries that cannot be read. */
  get unreadable(): readonly PrefixEntry[] {
    return this.#book.unreadable
  }

  /** Entries that are not kept, for there are too many. */
  get more(): number {
    return this.#book.more
  }

  /** A number that grows with every change of what hosts announce. */
  get generation(): number {
    return this.#book.generation
  }

  /** What hosts announce, as far as it can be read. */
  claims(): Iterable<PrefixClaim> {
    return this.#book.claims.all()
  }

  /** The claims of this host. */
  ownClaims(): PrefixClaim[] {
    return [...this.#book.claims.ofHost(this.ownName)]
  }

  /** The claim of this host to a prefix, as far as it can be read. */
  ownClaim(prefix: Prefix): PrefixClaim | undefined {
    for (const claim of this.#book.claims.ofPrefix(routeKey(prefix)))
      if (claim.host === this.ownName) return claim
    return undefined
  }

  /** The claims of this host that win, alone or together with others. */
  get ownWins(): readonly PrefixClaim[] {
    return this.#standings.ownWins
  }

  /** How the claim of this host to a prefix stands; `undefined` where etcd has told of none. */
  ownStanding(prefix: Prefix): Standing | undefined {
    return this.#standings.of(routeKey(prefix)).find(({ claim }) => claim.host === this.ownName)?.standing
  }

  /** Whether this host gets the packets to a prefix once it announces it so, by what is known now. */
  wouldWin(announcement: Announcement): boolean {
    const key = routeKey(announcement.prefix)
    if (this.objectionToOwn(announcement.prefix) !== undefined) return false
    const rivals = this.#standings
      .of(key)
      .flatMap(({ claim, standing }) =>
        claim.host === this.ownName || standing.kind === 'refused' ? [] : [claim],
      )
    const former = this.ownClaim(announcement.prefix)
    const own: PrefixClaim = { ...(former ?? this.#nextClaim(announcement.prefix)), announcement }
    return judgePrefix([...rivals, own], () => undefined).some(
      ({ claim, standing }) => claim === own && isFollowed(standing),
    )
  }

  /** A claim that this host is about to make: it will be the youngest. */
  #nextClaim(prefix: Prefix): Omit<PrefixClaim, 'announcement'> {
    const youngest = NEVER as Revision
    const name = `${this.ownName}/${prefixName(prefix)}`
    return { name, host: this.ownName, modRevision: youngest, claimedAt: youngest, etcdLease: NO_LEASE }
  }

  /** Why this host may not announce a prefix; `undefined` if it may. */
  objectionToOwn(prefix: Prefix): string | undefined {
    return this.#rules.objectionToOwn(prefix)
  }

  /** Takes what probing has found: see {@link PrefixRoutes.probed}. */
  probed(isUnreachable: (peer: Peer) => boolean): void {
    this.#routes.probed(isUnreachable)
  }

  /** Whether a host shares a prefix, and gets no packets of this host, for this host does not reach it. */
  isLeftOut(claim: PrefixClaim): boolean {
    return this.#routes.isLeftOut(claim)
  }

  /**
   * What a further subnet of this host is chosen by, as it is known up to {@link revision}; `undefined` where
   * the network lacks the family.
   */
  blockBasis(family: Family): BlockBasis | undefined {
    return this.#rules.blockBasis(family, this.claims())
  }

  /** The claim of another host to a further subnet that overlaps a prefix. */
  rivalOf(prefix: Prefix): PrefixClaim | undefined {
    return this.#book.rivalOf(prefix, this.ownName)
  }

  /** Waits until everything up to a revision of etcd is known. @throws the signal's reason */
  reached(revision: Revision, signal: AbortSignal): Promise<void> {
    return this.#book.reached(revision, signal)
  }

  /** @param reviewed called after each slice of claims that was judged */
  onReview(reviewed: () => void): void {
    this.#judging.onJudged(reviewed)
  }

  /** @param isHeld whether the peer of that lease is held back though its lease is gone from etcd */
  holdWith(isHeld: (leaseKey: string) => boolean): void {
    this.#book.holdWith((host) => isHeld(leaseKeyOf(this.view, host)))
  }

  /** Takes a listing, in pieces of a few milliseconds, and judges the first slice of what it changes. */
  *listing(listing: PrefixListing): Generator<void, void> {
    yield* this.#book.listing(listing)
    yield
    yield* this.#judging.listed()
  }

  /**
   * Takes an update in pieces of a few milliseconds, after the peers have taken it. Events have one piece.
   * @returns whether it was about prefixes
   */
  *taking(update: SortedUpdate): Generator<void, boolean> {
    if (update.kind === 'lost') return false
    if (update.kind === 'snapshot') {
      const { prefixes, morePrefixes = 0, revision } = update.snapshot
      if (prefixes !== undefined) yield* this.listing({ entries: prefixes, more: morePrefixes, revision })
      return true
    }
    const { prefixes } = update.sorted
    this.#book.apply(prefixes, update.revision)
    if (prefixes.length === 0) return false
    this.#judging.changed(update.receivedAt)
    return true
  }

  /** Judges all claims again: see {@link Judging.all}. */
  review(): void {
    if (this.#book.size === 0 && this.#standings.size === 0) return
    this.#book.letGo()
    this.#judging.all()
  }

  /** Judges what is left of the last review. @throws the signal's reason */
  settle(signal: AbortSignal): Promise<void> {
    return this.#judging.settle(signal)
  }
}

/** A revision that no etcd reaches. */
const NEVER = 2n ** 63n
const NO_LEASE = '0' as EtcdLeaseId
