/**
 * The peers of this host in one family: the valid leases of other hosts. An invalid lease is rejected with a
 * reason and affects no other. A peer whose lease becomes invalid stays as it was last valid until its key is
 * deleted.
 */

import { familyOf, type IpAddress, type MacAddress, type Prefix, prefixContains } from '../../model/address'
import type { RouteKey } from '../../model/kernel/route'
import {
  familyLease,
  type Lease,
  type Peer,
  type RejectedLease,
  type UnreadableLease,
} from '../../model/lease'
import type { PrefixCarrier } from '../objects/kind'
import { RoutedPrefixes } from '../prefixes/routed'
import { Pins } from '../trust/pins'
import {
  type Claim,
  claimOf,
  judgeAlone,
  type LeaseEvent,
  misplaced,
  type OverlayNetwork,
  type OwnIdentity,
  ownAddress,
  type PeerChange,
  type ProtectedAddress,
  type Rejection,
  samePeer,
  samePlace,
  type Unreadable,
} from './claim'
import { ATTEMPTS, ClaimBook, type Gathered } from './claim-book'
import { fillBook, PIECE } from './fill-book'
import type { PeerView } from './peer-view'
import { Surroundings } from './surroundings'

/**
 * Every valid lease is a claim on its subnet and its MAC. Claims are judged oldest first, so a newer lease
 * never displaces an older one: a claim that is admitted holds, one that clashes waits. While a lease waits
 * or is invalid, its peer stays as it was when last valid. A host whose lease waits has given up its former
 * subnet and MAC: another host may claim them. Events lead to the same table as a listing of their outcome.
 *
 * Whoever may write to etcd decides how many leases have one MAC or one PublicIP. So no operation on a lease
 * iterates over all leases that share them.
 */
export class PeerTable implements PeerView {
  /** What is routed to peers besides their subnets. */
  readonly routed = new RoutedPrefixes()
  #book: ClaimBook
  readonly #surroundings = new Surroundings()
  /** What the leases of pinned subnets have to prove. */
  #pins = Pins.NONE
  #generation = 0
  readonly #danger = (peer: Peer): string | undefined => this.#dangerOf(peer)

  /** @param network what leases are checked against; the family of its range is that of the table */
  constructor(
    private network: OverlayNetwork,
    private own: OwnIdentity,
  ) {
    this.#book = new ClaimBook(this.#danger)
  }

  /** This host has another address: no peer may have it, and the former one is free for peers. */
  moveTo(publicIp: IpAddress): PeerChange[] {
    this.own = { ...this.own, publicIp }
    return this.#judgeAgain()
  }

  /**
   * Sets the addresses that no peer's subnet may cover, because a route to it would cut this host off from
   * them. Addresses outside of the network or in our own subnet are ignored: peers cannot cover them.
   * @param links prefixes on this host's links: no host has their first and last addresses
   */
  protect(addresses: readonly ProtectedAddress[], links: readonly Prefix[] = []): PeerChange[] {
    const { network } = this.network.range
    const endangered = addresses.filter(
      ({ address }) => prefixContains(network, address) && !prefixContains(this.own.subnet, address),
    )
    return this.#surroundings.adopt(endangered, links) ? this.#judgeAgain() : []
  }

  /**
   * Other identities are pinned. A peer that is not proven by them is not kept: packets to its subnet go
   * nowhere until its lease is signed.
   */
  pin(pins: Pins): PeerChange[] {
    const changed = pins.changesFrom(this.#pins)
    this.#pins = pins
    const family = familyOf(this.network.range.network.address)
    return this.#book.mayJudgeAnew(changed, family) ? this.#judgeAgain() : []
  }

  /**
   * The network has changed: rejected leases may be valid now. A peer that would be rejected now stays as it
   * was last valid, like one whose lease becomes invalid.
   */
  moveInto(network: OverlayNetwork): PeerChange[] {
    const former = this.network
    this.network = { ...former, ...network }
    return this.#judgeAgain(({ subnet }) =>
      network.vni === former.vni
        ? misplaced(subnet, network.range)
        : `its VNI is not known to be the network's ${network.vni} yet`,
    )
  }

  /** A number that grows whenever the table, or what leases are checked against, changes. */
  get generation(): number {
    return this.#generation
  }

  get size(): number {
    return this.#book.peers.size
  }

  /** The peer of that lease. */
  peer(key: string): Peer | undefined {
    return this.#book.peers.get(key)
  }

  peers(): IterableIterator<Peer> {
    return this.#book.peers.values()
  }

  *rejected(): Generator<RejectedLease> {
    for (const [key, { reason }] of this.#book.rejected) {
      yield { key, reason, keepsLastGood: this.#book.peers.has(key) }
    }
  }

  /** Number of further keys that name no subnet; only the first of them are kept. */
  get moreMisnamed(): number {
    return this.#book.moreMisnamed
  }

  /** Why the lease under that key is not followed; `undefined` if it is followed or does not exist. */
  reasonAgainst(key: string): string | undefined {
    return this.#book.rejected.get(key)?.reason
  }

  /** What the lease under that key claims while it waits for a place that another has; else `undefined`. */
  claimOf(key: string): Peer | undefined {
    return this.#book.waiting.get(key)?.peer
  }

  /** The peers that keep the lease under that key waiting; none if it is followed or invalid. */
  rivalsOf(key: string): Iterable<Peer> {
    const claim = this.#book.waiting.get(key)
    return claim === undefined ? [] : this.#book.rivals(claim.peer)
  }

  /** The peer with that subnet address. */
  peerAt(subnet: IpAddress): Peer | undefined {
    return this.#book.peerAt(subnet)
  }

  /** A peer with that MAC. All peers with one MAC have the same PublicIP. */
  peerWithMac(mac: MacAddress): Peer | undefined {
    return this.#book.peerWithMac(mac)
  }

  peerOfPrefix(key: RouteKey): Peer | undefined {
    const peer = this.routed.peerOf(key)
    return peer === undefined ? undefined : this.peer(peer)
  }

  prefixesOf({ key }: Peer): readonly Prefix[] {
    return this.routed.of(key)
  }

  sharedBy({ key }: Peer): readonly Prefix[] {
    return this.routed.sharedBy(key)
  }

  carriersOf(key: RouteKey): readonly PrefixCarrier[] {
    return this.routed.carriersOf(key).flatMap(({ peer: lease, weight }) => {
      const peer = this.peer(lease)
      return peer === undefined ? [] : [{ peer, weight }]
    })
  }

  get isShared(): boolean {
    return this.routed.isShared
  }

  /** Replaces the table by a complete listing: leases that are not in it are gone. */
  reset(leases: readonly Lease[], unreadable: readonly UnreadableLease[]): PeerChange[] {
    return toTheEnd(this.resetting(leases, () => ({ leases: unreadable })))
  }

  /**
   * {@link reset} in pieces of a few milliseconds. The table keeps its content until the end. If this host's
   * own data change meanwhile, the work starts again.
   * @param unreadable called at each start
   * @param pins of the same listing
   */
  *resetting(
    leases: readonly Lease[],
    unreadable: () => Unreadable,
    pins = this.#pins,
  ): Generator<void, PeerChange[]> {
    return yield* this.#building(function* (this: PeerTable) {
      const rejected = new Map<string, Rejection>()
      const claims: Claim[] = []
      const { held, waiting } = this.#book
      const reject = (key: string, rejection: Rejection): void => {
        rejected.set(key, rejection)
        const lastGood = held.get(key)
        if (lastGood !== undefined) claims.push(lastGood)
      }
      for (const [i, lease] of leases.entries()) {
        if (i % (pins.size === 0 ? PIECE : PIECE_OF_PROOFS) === 0) yield
        const { key } = lease
        if (key === this.own.key) continue
        const peer = this.#judge(lease, pins)
        if (typeof peer === 'string') reject(key, { reason: peer, lease })
        else claims.push(claimOf(peer, lease.modRevision, held.get(key) ?? waiting.get(key)))
      }
      const { leases: bad, moreMisnamed = 0 } = unreadable()
      for (const { key, reason, misnamed } of bad)
        if (key !== this.own.key) reject(key, { reason, ...(misnamed && { misnamed: true }) })
      return { claims, rejected, moreMisnamed, pins }
    })
  }

  /** Applies a new or changed lease. */
  put(lease: Lease): PeerChange[] {
    return this.apply([{ kind: 'lease', lease }])
  }

  /** Applies that a lease exists but is unreadable. */
  putUnreadable(lease: UnreadableLease): void {
    this.apply([{ kind: 'unreadable', lease }])
  }

  /** Applies that a lease is gone. */
  remove(key: string): PeerChange[] {
    return this.apply([{ kind: 'removed', key }])
  }

  /**
   * Applies events of several keys, at most one per key. Places that become free are reassigned once, for all
   * events.
   */
  apply(events: readonly LeaseEvent[]): PeerChange[] {
    return toTheEnd(this.applying(events))
  }

  /** {@link apply} in pieces of a few milliseconds if there are many events; see {@link resetting}. */
  *applying(events: readonly LeaseEvent[]): Generator<void, PeerChange[]> {
    if (events.length <= Math.max(PIECE, this.#book.size / 16)) return this.#applyAtOnce(events)
    return yield* this.#building(function* (this: PeerTable) {
      const { held, waiting, rejected: before } = this.#book
      const rejected = new Map([...before].filter(([key]) => !waiting.has(key)))
      const claims = new Map([...held, ...waiting])
      let { moreMisnamed } = this.#book
      for (const [i, event] of events.entries()) {
        if (i % PIECE === 0) yield
        const key = event.kind === 'removed' ? event.key : event.lease.key
        if (key === this.own.key) continue
        const isKept = before.has(key)
        rejected.delete(key)
        if (event.kind === 'removed') {
          claims.delete(key)
          if (event.misnamed && !isKept) moreMisnamed = Math.max(0, moreMisnamed - 1)
          continue
        }
        const peer = event.kind === 'lease' ? this.#judge(event.lease) : event.lease.reason
        if (typeof peer === 'string') {
          if (waiting.has(key)) claims.delete(key)
          const { lease } = event
          const misnamed = 'reason' in lease ? lease.misnamed : undefined
          rejected.set(key, {
            reason: peer,
            ...(!('reason' in lease) && { lease }),
            ...(misnamed && { misnamed: true }),
          })
          continue
        }
        const known = held.get(key) ?? waiting.get(key)
        // Delete and set again: claims of equal age are judged in the order of these events.
        claims.delete(key)
        if (event.kind === 'lease') claims.set(key, claimOf(peer, event.lease.modRevision, known))
      }
      return { claims: [...claims.values()], rejected, moreMisnamed }
    })
  }

  #applyAtOnce(events: readonly LeaseEvent[]): PeerChange[] {
    this.#generation += 1
    const book = this.#book
    const free: Claim[] = []
    const fresh: { readonly claim: Claim; readonly lastGood: Peer | undefined }[] = []
    for (const event of events) {
      const key = event.kind === 'removed' ? event.key : event.lease.key
      if (key === this.own.key && event.kind !== 'removed') continue
      if (event.kind === 'removed') {
        if (event.misnamed && !book.rejected.has(key)) book.moreMisnamed = Math.max(0, book.moreMisnamed - 1)
        book.accept(key)
        book.stopWaiting(key)
        const held = book.held.get(key)
        book.forget(key)
        if (held !== undefined) free.push(held)
        continue
      }
      if (event.kind === 'unreadable') {
        const { reason, misnamed } = event.lease
        book.stopWaiting(key)
        book.reject(key, { reason, ...(misnamed && { misnamed: true }) }, misnamed?.isNew)
        continue
      }
      const { lease } = event
      const peer = this.#judge(lease)
      if (typeof peer === 'string') {
        book.stopWaiting(key)
        book.reject(key, { reason: peer, lease })
        continue
      }
      const waits = book.waiting.get(key)
      if (waits !== undefined && samePlace(waits.peer, peer)) {
        // The claim keeps its age, so it is judged before newer ones when a place becomes free.
        book.waiting.set(key, { ...waits, peer })
        continue
      }
      book.accept(key)
      const held = book.held.get(key)
      if (held !== undefined && samePeer(held.peer, peer)) continue
      if (held !== undefined && samePlace(held.peer, peer)) {
        book.renew(held, peer)
        continue
      }
      const claim = claimOf(peer, lease.modRevision, undefined)
      const lastGood = book.peers.get(key)
      book.stopWaiting(key)
      book.forget(key)
      if (held !== undefined) free.push(held)
      fresh.push({ claim, lastGood })
    }
    // Free places go to waiting claims first: they are older than the new ones.
    book.reassign(free)
    for (const { claim } of fresh) book.judge(claim)
    for (const { claim, lastGood } of fresh)
      if (book.waiting.has(claim.peer.key)) book.keepLastGood(claim.peer.key, lastGood)
    return book.changes()
  }

  /**
   * Judges all leases again, after this host or the network changed.
   * @param objection why a claim that was valid may no longer be
   */
  #judgeAgain(objection: (peer: Peer) => string | undefined = () => undefined): PeerChange[] {
    this.#generation += 1
    const { held, waiting, rejected: before, moreMisnamed } = this.#book
    const rejected = new Map<string, Rejection>()
    const claims = new Map<string, Claim>()
    const sort = (key: string, claim: Claim): void => {
      const reason = this.#dangerOf(claim.peer) ?? objection(claim.peer)
      if (reason === undefined) claims.set(key, claim)
      else rejected.set(key, { reason, claim })
    }
    for (const [key, claim] of [...held, ...waiting]) sort(key, claim)
    for (const [key, rejection] of before) {
      if (waiting.has(key)) continue
      const { lease, claim } = rejection
      const peer = lease && this.#judge(lease)
      if (claim !== undefined) sort(key, claim)
      else if (lease === undefined) rejected.set(key, rejection)
      else if (typeof peer === 'string') rejected.set(key, { reason: peer, lease })
      else if (peer !== undefined) claims.set(key, claimOf(peer, lease.modRevision, undefined))
    }
    return toTheEnd(this.#rebuild({ claims: [...claims.values()], rejected, moreMisnamed }))
  }

  /**
   * Builds a new book in pieces and replaces the present one at the end. If the table changes meanwhile, it
   * starts again. The last attempt runs in one piece, so that it ends.
   */
  *#building(gather: (this: PeerTable) => Generator<void, Gathered>): Generator<void, PeerChange[]> {
    for (let attempt = 1; ; attempt++) {
      const generation = this.#generation
      const isLast = attempt === ATTEMPTS
      const changes = yield* this.#attempt(gather, () => !isLast && generation !== this.#generation, isLast)
      if (changes !== undefined) return changes
    }
  }

  *#attempt(
    gather: (this: PeerTable) => Generator<void, Gathered>,
    isStale: () => boolean,
    inOnePiece: boolean,
  ): Generator<void, PeerChange[] | undefined> {
    const pieces = this.#gatherAndRebuild(gather, isStale)
    for (;;) {
      const { done, value } = pieces.next()
      if (done) return value
      if (!inOnePiece) yield
      if (isStale()) return undefined
    }
  }

  *#gatherAndRebuild(
    gather: (this: PeerTable) => Generator<void, Gathered>,
    isStale: () => boolean,
  ): Generator<void, PeerChange[] | undefined> {
    const gathered = yield* gather.call(this)
    if (isStale()) return undefined
    const changes = yield* this.#rebuild(gathered)
    this.#generation += 1
    return changes
  }

  /** Judges all claims into a new book, which replaces the present one at the end. */
  *#rebuild(gathered: Gathered): Generator<void, PeerChange[]> {
    const { pins = this.#pins } = gathered
    const book = new ClaimBook(this.#danger)
    const changes = yield* fillBook(book, gathered, this.#book.peers, (peer) => this.#dangerOf(peer, pins))
    this.#book = book
    this.#pins = pins
    return changes
  }

  /** Checks a lease by itself: everything except clashes with other peers. */
  #judge(lease: Lease, pins = this.#pins): Peer | string {
    const subnet = familyLease(lease, familyOf(this.network.range.network.address))?.subnet
    // Also of a lease that is refused for another reason, so that none of before it is taken.
    if (subnet !== undefined) pins.note(subnet, lease.signed)
    const peer = judgeAlone(lease, this.network, this.own)
    if (typeof peer === 'string') return peer
    return this.#dangerOf(peer, pins) ?? pins.objectionToLease(peer.subnet, peer.signed) ?? peer
  }

  /**
   * Why a peer would cut this host off, cannot exist, or is not the one that is pinned, independent of the
   * rest of its lease.
   */
  #dangerOf(peer: Peer, pins = this.#pins): string | undefined {
    const { publicIp, subnet, signed } = peer
    if (publicIp === this.own.publicIp) return ownAddress(publicIp)
    return this.#surroundings.objection(peer) ?? pins.objection(subnet, signed)
  }
}

/** Leases processed in one piece where a signature of each may have to be checked. */
const PIECE_OF_PROOFS = 20

function toTheEnd<T>(pieces: Generator<void, T>): T {
  for (;;) {
    const { done, value } = pieces.next()
    if (done) return value
  }
}
