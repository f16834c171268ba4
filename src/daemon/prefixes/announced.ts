/**
 * The prefixes that hosts announce in etcd: judges them, and has the winners routed to their peers by the
 * reconcilers.
 */
import { EventEmitter, once } from 'node:events'
import { performance } from 'node:perf_hooks'
import {
  type Family,
  familyOf,
  formatPrefix,
  networkOf,
  type Prefix,
  prefixesOverlap,
} from '../../model/address'
import { count } from '../../model/count'
import { type RouteKey, routeAddress, routeKey, routePrefix } from '../../model/kernel/route'
import type { EtcdLeaseId, Lease, Peer, Revision } from '../../model/lease'
import {
  type Announcement,
  isClaim,
  MOST_OF_HOST,
  type PrefixClaim,
  type PrefixEntry,
  prefixName,
  sameAnnouncement,
} from '../../model/prefixes'
import type { ProtectedAddress } from '../../plan/peers/claim'
import type { PeerTable } from '../../plan/peers/peer-table'
import type { BlockBasis } from '../../plan/prefixes/block'
import { type Carrier, reachedOf } from '../../plan/prefixes/carriers'
import { ClaimTable } from '../../plan/prefixes/claim-table'
import { objectionAgainst, type Rules, rulesFrom } from '../../plan/prefixes/rules'
import { byAge, followedOf, isFollowed, type Judged, judgePrefix } from '../../plan/prefixes/standings'
import { giveWay } from '../loop/give-way'
import type { SortedUpdate } from '../node/sort-update'
import type { Overlay } from '../overlay/overlay'
import type { Logger } from '../tell/logger'

/**
 * Prefixes that are judged in one turn of the event loop: a few milliseconds. Those of one host that comes or
 * goes have one turn, so that no route is gone before its successor is known.
 */
const SLICE = 512
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
  readonly #claims = new ClaimTable()
  /** Prefix -> how its claims stand, the best first. */
  readonly #judged = new Map<RouteKey, readonly Judged[]>()
  /** Prefixes that have to be judged, the most urgent first. */
  #pending = new Set<RouteKey>()
  #rules: ReadonlyMap<Family, OverlayRules> = new Map()
  /** Host -> whether it was followed when its claims were judged last. */
  readonly #followed = new Map<string, boolean>()
  /** Whether the next slice has its turn already. */
  #isScheduled = false
  #moves: Move[] = []
  #refusals: Refusal[] = []
  #more = 0
  #revision: Revision | undefined
  /** Monotonic milliseconds. */
  #due = Number.POSITIVE_INFINITY
  #isHeld = (_leaseKey: string): boolean => false
  #reviewed = (): void => undefined
  /** Prefixes that several hosts share, this host or others. */
  readonly #shared = new Set<RouteKey>()
  #isUnreachable = (_peer: Peer): boolean => false
  readonly #ownWins = new Map<RouteKey, PrefixClaim>()
  /** Tells of each change of the revision. */
  readonly #progress = new EventEmitter()
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

  /** How all claims stand, in no order. */
  *standings(): Generator<Judged> {
    for (const judged of this.#judged.values()) yield* judged
  }

  /**
   * The same in order, for people: those of one prefix are together, the best first; the prefix with the
   * oldest claim is the first.
   */
  get judged(): readonly Judged[] {
    const oldest = (judged: readonly Judged[]): PrefixClaim | undefined =>
      judged.map(({ claim }) => claim).reduce((a, b) => (byAge(a, b) < 0 ? a : b))
    return [...this.#judged.values()]
      .map((judged) => ({ judged, claim: oldest(judged) }))
      .sort((a, b) => (a.claim && b.claim ? byAge(a.claim, b.claim) : 0))
      .flatMap(({ judged }) => judged)
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
  claims(): Iterable<PrefixClaim> {
    return this.#claims.all()
  }

  /** The claims of this host. */
  ownClaims(): PrefixClaim[] {
    return [...this.#claims.ofHost(this.ownName)]
  }

  /** The claims of this host that win, alone or together with others. */
  get ownWins(): readonly PrefixClaim[] {
    return [...this.#ownWins.values()]
  }

  /** Whether this host gets the packets to a prefix once it announces it so, by what is known now. */
  wouldWin(announcement: Announcement): boolean {
    const { prefix } = announcement
    if (this.objectionToOwn(prefix) !== undefined) return false
    const rivals = (this.#judged.get(routeKey(prefix)) ?? []).flatMap(({ claim, standing }) =>
      claim.host === this.ownName || standing.kind === 'refused' ? [] : [claim],
    )
    const former = [...this.#claims.ofPrefix(routeKey(prefix))].find(({ host }) => host === this.ownName)
    const own: PrefixClaim = { ...(former ?? this.#nextClaim(prefix)), announcement }
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

  /**
   * Takes what probing has found: a host that shares a prefix gets no packets to it while it is unreachable
   * and another one of those hosts is not.
   */
  probed(isUnreachable: (peer: Peer) => boolean): void {
    this.#isUnreachable = isUnreachable
    this.#reroute(this.#shared)
  }

  /**
   * What a further subnet of this host is chosen by, as it is known up to {@link revision}; `undefined` where
   * the network lacks the family.
   */
  blockBasis(family: Family): BlockBasis | undefined {
    const overlay = this.view.overlays.find(({ spec }) => spec.family === family)
    if (overlay === undefined) return undefined
    const { allowed, range } = overlay.spec
    const links = overlay.addresses.links.map(({ address, length }) => networkOf(address, length))
    const claimed = Array.from(this.#claims.all(), ({ announcement }) => announcement.prefix)
    const occupied = this.#rulesOf(overlay).own.occupied.map(({ prefix }) => prefix)
    return {
      network: range.network,
      subnetLength: range.subnetLength,
      allowed,
      taken: [...links, ...claimed, ...occupied].filter(({ address }) => familyOf(address) === family),
    }
  }

  /** The claim of another host to a further subnet that overlaps a prefix. */
  rivalOf(prefix: Prefix): PrefixClaim | undefined {
    for (const claim of this.#claims.all()) {
      const { further, prefix: other } = claim.announcement
      if (further !== true || claim.host === this.ownName) continue
      if (familyOf(other.address) === familyOf(prefix.address) && prefixesOverlap(other, prefix)) return claim
    }
    return undefined
  }

  /** Waits until everything up to a revision of etcd is known. @throws the signal's reason */
  async reached(revision: Revision, signal: AbortSignal): Promise<void> {
    while ((this.#revision ?? 0n) < revision) await once(this.#progress, 'revision', { signal })
  }

  #progressTo(revision: Revision | undefined): void {
    this.#revision = revision
    this.#progress.emit('revision')
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
   * Takes a listing, in pieces of a few milliseconds, before anything is put into the kernel.
   * @param revision of etcd; `undefined` where the entries are those of a state file
   */
  *listing(
    entries: readonly PrefixEntry[] | undefined,
    more = 0,
    revision?: Revision,
  ): Generator<void, void> {
    if (entries === undefined) return
    const listed = new Map(entries.map((entry) => [entry.name, entry]))
    const held = [...this.#entries].filter(([name]) => !listed.has(name) && this.#isHeldName(name))
    if (!areSame(listed, this.#entries)) this.#generation += 1
    const kept = new Set(held.map(([name]) => name))
    for (const name of this.#entries.keys()) if (!listed.has(name) && !kept.has(name)) this.#delete(name)
    let taken = 0
    for (const [name, entry] of listed) {
      if (!isSame(this.#entries.get(name), entry)) this.#set(name, entry)
      taken += 1
      if (taken % SLICE === 0) yield
    }
    this.#kept = kept
    this.#more = more
    this.#progressTo(revision)
    this.review()
  }

  /** The same in one piece. */
  list(entries: readonly PrefixEntry[] | undefined, more = 0, revision?: Revision): void {
    const pieces = this.listing(entries, more, revision)
    while (pieces.next().done !== true);
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
    this.#progressTo(update.revision)
    const { prefixes } = update.sorted
    if (prefixes.length === 0) return false
    this.#generation += 1
    const kept = new Set(this.#kept)
    for (const event of prefixes) {
      const name = event.kind === 'prefix' ? event.prefix.name : event.name
      kept.delete(name)
      if (event.kind === 'prefix') this.#set(name, event.prefix)
      else if (this.#isHeldName(name)) kept.add(name)
      else this.#delete(name)
    }
    this.#kept = kept
    this.#prepare()
    const urgent = [...this.#claims.takeTouched()]
    this.#pending = new Set([...urgent, ...this.#pending])
    this.#judgeSlice(update.receivedAt, urgent.length)
    return true
  }

  /**
   * Judges all claims again: peers, the network config or this host's addresses have changed. The first slice
   * is judged before it returns, and begins with the prefixes of hosts that have come or gone. The others
   * have turns of their own: see {@link settle}.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  review(heardAt?: number): void {
    if (this.#entries.size === 0 && this.#judged.size === 0) return
    for (const name of this.#kept) if (!this.#isHeldName(name)) this.#delete(name)
    this.#kept = new Set([...this.#kept].filter((name) => this.#entries.has(name)))
    this.#prepare()
    const urgent = [...this.#claims.takeTouched(), ...this.#ofChangedHosts()]
    this.#pending = new Set([
      ...urgent,
      // What an earlier review has left: reviews that follow closely must not keep it waiting for ever.
      ...this.#pending,
      ...this.#judged.keys(),
      ...this.#claims.prefixes(),
    ])
    this.#judgeSlice(heardAt, urgent.length)
  }

  /** Judges what is left of the last review. @throws the signal's reason */
  async settle(signal: AbortSignal): Promise<void> {
    while (this.#pending.size > 0) {
      await giveWay(signal)
      this.#judgeSlice()
    }
  }

  #set(name: string, entry: PrefixEntry): void {
    this.#entries.set(name, entry)
    if (isClaim(entry)) this.#claims.set(entry)
    else this.#claims.delete(name)
  }

  #delete(name: string): void {
    this.#entries.delete(name)
    this.#claims.delete(name)
  }

  /** Finds out what the judgement of each claim depends on. */
  #prepare(): void {
    this.#rules = new Map(this.view.overlays.map((overlay) => [overlay.spec.family, this.#rulesOf(overlay)]))
    this.#due = dueOf(this.#claims.all(), Date.now())
  }

  *#ofChangedHosts(): Generator<RouteKey> {
    for (const host of this.#followed.keys())
      if (this.#claims.ofHost(host)[Symbol.iterator]().next().done === true) this.#followed.delete(host)
    for (const host of this.#claims.hosts()) {
      const key = this.#keyOf(host)
      const isFollowed = this.view.overlays.some(({ peers }) => peers.peer(key) !== undefined)
      if (this.#followed.get(host) === isFollowed) continue
      this.#followed.set(host, isFollowed)
      for (const { announcement } of this.#claims.ofHost(host)) yield routeKey(announcement.prefix)
    }
  }

  /** Judges the most urgent prefixes, and has the next ones judged in another turn of the event loop. */
  #judgeSlice(heardAt?: number, urgent = 0): void {
    const now = Date.now()
    const most = Math.max(SLICE, Math.min(urgent, MOST_OF_HOST))
    const rerouted: Readonly<Record<Family, RouteKey[]>> = { IPv4: [], IPv6: [] }
    let judged = 0
    for (const key of this.#pending) {
      this.#pending.delete(key)
      const family = familyOf(routeAddress(key))
      if (this.#judge(key, now)) rerouted[family].push(key)
      judged += 1
      if (judged === most) break
    }
    for (const { spec, reconciler } of this.view.overlays) reconciler.rerouted(rerouted[spec.family], heardAt)
    this.#reviewed()
    if (this.#pending.size === 0) this.#logChanges()
    else if (!this.#isScheduled) {
      this.#isScheduled = true
      setImmediate(() => {
        this.#isScheduled = false
        this.#judgeSlice(heardAt)
      })
    }
  }

  /** @returns whether its packets go to another peer than before */
  #judge(key: RouteKey, now: number): boolean {
    const before = this.#judged.get(key) ?? []
    const judged = judgePrefix(
      this.#claims.ofPrefix(key),
      (claim) => this.#claims.excess(claim) ?? this.#objection(claim, now),
    )
    if (judged.length === 0) this.#judged.delete(key)
    else this.#judged.set(key, judged)
    const winners = followedOf(judged)
    const [from, to] = [hostsOf(followedOf(before)), hostsOf(winners)]
    if (from !== to) this.#moves.push({ key, from, to })
    for (const { claim, standing } of judged) {
      const isNews = !before.some(
        (each) => each.claim.name === claim.name && each.standing.kind === 'refused',
      )
      if (standing.kind === 'refused' && isNews) this.#refusals.push({ claim, reason: standing.reason })
    }
    const own = winners.find(({ host }) => host === this.ownName)
    if (own !== undefined) this.#ownWins.set(key, own)
    else this.#ownWins.delete(key)
    if (winners.length > 1) this.#shared.add(key)
    else this.#shared.delete(key)
    return this.#route(key)
  }

  /** Whether a host shares a prefix, and gets no packets of this host, for this host does not reach it. */
  isLeftOut({ host, announcement: { prefix } }: PrefixClaim): boolean {
    const key = routeKey(prefix)
    if (!this.#shared.has(key) || this.#ownWins.has(key)) return false
    const carriers = this.#peersOf(key)?.routed.carriersOf(key) ?? []
    return carriers.every(({ peer }) => peer !== this.#keyOf(host))
  }

  #peersOf(key: RouteKey): PeerTable | undefined {
    const family = familyOf(routeAddress(key))
    return this.view.overlays.find(({ spec }) => spec.family === family)?.peers
  }

  /** Routes a prefix as it was judged. @returns whether its packets go to other peers than before */
  #route(key: RouteKey): boolean {
    const peers = this.#peersOf(key)
    if (peers === undefined) return false
    const winners = followedOf(this.#judged.get(key) ?? [])
    // What this host has itself goes to no other one.
    const isOwn = winners.some(({ host }) => host === this.ownName)
    const carriers = (isOwn ? [] : winners).map(({ host, announcement }): Carrier => {
      return { peer: this.#keyOf(host), weight: announcement.share ?? 1 }
    })
    const isLost = (lease: string): boolean => {
      const peer = peers.peer(lease)
      return peer !== undefined && this.#isUnreachable(peer)
    }
    return peers.routed.route(routePrefix(key), reachedOf(carriers, isLost))
  }

  #reroute(keys: Iterable<RouteKey>): void {
    for (const { spec, reconciler } of this.view.overlays) {
      const { family } = spec
      const changed = [...keys].filter((key) => familyOf(routeAddress(key)) === family && this.#route(key))
      reconciler.rerouted(changed)
      for (const key of changed) this.#logReach(key)
    }
  }

  #logReach(key: RouteKey): void {
    const peers = this.#peersOf(key)
    const prefix = formatPrefix(routePrefix(key))
    const hosts = (peers?.routed.carriersOf(key) ?? []).map(({ peer }) => this.#nameOf(peer))
    this.log.warn(
      `prefixes: ${prefix}: by what probing has found, its packets go to ${hosts.join(' and ')}`,
      {
        kind: 'prefix-moved',
        about: [prefix],
      },
    )
  }

  #objection(claim: PrefixClaim, now: number): string | undefined {
    const { prefix, until } = claim.announcement
    const family = familyOf(prefix.address)
    const found = this.#rules.get(family)
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
    const [moves, refusals] = [this.#moves, this.#refusals]
    this.#moves = []
    this.#refusals = []
    if (moves.length > MOST_LOGGED)
      this.log.info(`prefixes: ${count(moves.length, 'prefix', 'prefixes')} moved, came or went`, {
        kind: 'prefix-moved',
      })
    for (const { key, from, to } of moves.length > MOST_LOGGED ? [] : moves) {
      const prefix = formatPrefix(routePrefix(key))
      const was = from === undefined ? '' : `, and was behind ${from}`
      const text = to === undefined ? `is behind no host now${was}` : `is behind ${to} now${was}`
      this.log.info(`prefixes: ${prefix} ${text}`, { kind: 'prefix-moved', about: [prefix] })
    }
    for (const { claim, reason } of refusals.slice(0, MOST_LOGGED))
      this.log.warn(`prefixes: ${claim.name} is not followed: ${reason}`, {
        kind: 'prefix-refused',
        about: [formatPrefix(claim.announcement.prefix)],
      })
  }
}

/** A prefix that has another winner; `undefined` for none. */
interface Move {
  readonly key: RouteKey
  readonly from: string | undefined
  readonly to: string | undefined
}

interface Refusal {
  readonly claim: PrefixClaim
  readonly reason: string
}

/** The hosts that get the packets, in words; `undefined` for none. */
const hostsOf = (winners: readonly PrefixClaim[]): string | undefined =>
  winners.length === 0 ? undefined : winners.map(({ host }) => host).join(' and ')

/** A revision that no etcd reaches. */
const NEVER = 2n ** 63n
const NO_LEASE = '0' as EtcdLeaseId

interface OverlayRules {
  readonly overlay: Overlay
  /** For this host's own announcements. */
  readonly own: Rules
  /** For those of others: this host does not give its own addresses away. */
  readonly others: Rules
}

const areSame = (a: ReadonlyMap<string, PrefixEntry>, b: ReadonlyMap<string, PrefixEntry>): boolean =>
  a.size === b.size && [...a].every(([name, entry]) => isSame(b.get(name), entry))

/** An etcd that was replaced may have another entry of the same revision. */
function isSame(a: PrefixEntry | undefined, b: PrefixEntry): boolean {
  if (a === undefined || a.modRevision !== b.modRevision) return false
  if (!isClaim(a) || !isClaim(b)) return a.reason === b.reason
  const { announcement, claimedAt, etcdLease } = a
  return (
    claimedAt === b.claimedAt && etcdLease === b.etcdLease && sameAnnouncement(announcement, b.announcement)
  )
}

function dueOf(claims: Iterable<PrefixClaim>, now: number): number {
  let due = Number.POSITIVE_INFINITY
  for (const { announcement } of claims)
    if (announcement.until !== undefined && announcement.until > now) due = Math.min(due, announcement.until)
  return due === Number.POSITIVE_INFINITY ? due : performance.now() + Math.min(due - now, LONGEST_WAIT)
}
