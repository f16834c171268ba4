/**
 * Feeds the leases in etcd to the peer tables, in pieces of a few milliseconds. Removals are held back if
 * etcd may be wrong.
 */
import { performance } from 'node:perf_hooks'
import type { RegistryUpdate } from '../../etcd/follow/updates'
import { formatIp, formatMac, formatPrefix } from '../../model/address'
import { type Lease, type Revision, subnetsOfKey, type UnreadableLease } from '../../model/lease'
import type { PeerChange } from '../../plan/peers/claim'
import { DelayedRemovals, HELD_REASON } from '../../plan/peers/delayed-removals'
import { giveWay, inTurns } from '../loop/give-way'
import type { Overlay } from '../overlay/overlay'
import type { Logger } from '../tell/logger'
import type { NodeParts } from './parts'
import type { LeaseEvent, SortedEvents, SortedUpdate } from './sort-update'
import { Verdicts } from './verdicts'

/** Verdicts checked in one turn of the event loop. */
const PIECE = 500

const OWN_IS_GONE = 'our own lease went with them'
const STORE_REPLACED = 'etcd holds an older or another state than before'

/**
 * Whether etcd is followed. `receivedAt`: when the update being applied arrived, in monotonic milliseconds.
 */
type Following =
  | { readonly kind: 'away' }
  | { readonly kind: 'following' }
  | { readonly kind: 'taking'; readonly receivedAt: number | undefined }

export class Feed {
  readonly verdicts: Verdicts
  readonly holdBack: DelayedRemovals
  #following: Following = { kind: 'following' }
  #generation = 0

  /**
   * @param revision revision of the listing that the peer tables are filled from
   * @param grace milliseconds for which doubtful removals are held back
   * @param changed called after each change of peers
   */
  constructor(
    private readonly parts: NodeParts,
    private revision: Revision,
    grace: number,
    private readonly log: Logger,
    private readonly changed: () => void,
  ) {
    this.holdBack = new DelayedRemovals(grace)
    this.verdicts = new Verdicts(log)
  }

  /** A number that grows with every change of a peer. */
  get generation(): number {
    return this.#generation
  }

  /** When the next held-back peers are due for removal, in monotonic milliseconds; Infinity for never. */
  get due(): number {
    return this.#following.kind === 'away' ? Number.POSITIVE_INFINITY : this.holdBack.nextDue
  }

  /**
   * Applies an update. The caller applies one update at a time.
   * @throws the signal's reason
   */
  async apply(update: SortedUpdate, signal: AbortSignal): Promise<void> {
    if (update.kind === 'lost') {
      this.#following = { kind: 'away' }
      return
    }
    if (this.#following.kind === 'away') this.holdBack.extend(performance.now())
    if (update.kind === 'events') {
      this.#following = { kind: 'taking', receivedAt: update.receivedAt }
      this.revision = update.revision
      await this.#applyEvents(update.sorted, signal)
    } else {
      this.#following = { kind: 'taking', receivedAt: undefined }
      this.revision = update.snapshot.revision
      await this.#applySnapshot(update, signal)
    }
    this.#following = { kind: 'following' }
  }

  /** Removes the held-back peers whose time is over. */
  letGoDue(): void {
    if (this.#following.kind !== 'away') this.#letGo(this.holdBack.takeDue(performance.now()))
  }

  /** Hands changes of peers that do not come from an update to the reconciler, and logs them. */
  peersChanged(overlay: Overlay, changes: readonly PeerChange[]): void {
    this.#program(overlay, changes)
    for (const _ of this.#logChanges(overlay, changes));
  }

  /** Counts changes of peers that the reconciler already has. */
  recordChanges(changes: readonly PeerChange[]): void {
    if (changes.length === 0) return
    this.#generation += changes.length
    this.changed()
  }

  /** Logs new verdicts after all leases were judged again. */
  reviewVerdicts(): void {
    this.verdicts.review(this.parts.overlays, (key) => this.holdBack.has(key))
  }

  async #applyEvents({ leases, hosts: changes, ofKey }: SortedEvents, signal: AbortSignal): Promise<void> {
    const { lease: own, overlays, proof } = this.parts
    for (const event of ofKey(own.own.key)) {
      if (event.kind === 'removed') own.observe(undefined, { revision: event.modRevision })
      else own.observe(event.lease)
    }
    const gone = [...leases].flatMap(([key, { kind }]) =>
      kind === 'removed' && this.#isPeer(key) ? key : [],
    )
    const ownIsGone = leases.get(own.own.key)?.kind === 'removed'
    this.#judge(gone, ownIsGone && !this.#isDrained ? OWN_IS_GONE : undefined)
    for (const [key, { kind }] of leases) if (kind !== 'removed') this.#release(key)
    const all = [...leases.values()]
    const written = all.flatMap((event) => (event.kind === 'lease' ? event.lease : []))
    for (const overlay of overlays) {
      const kept = all.map((event) => this.#unlessHeld(overlay, event))
      const taken = await inTurns(overlay.peers.applying(kept), signal)
      // In the same turn as the changes above, so that no reader sees only a part of them.
      const changes = [...taken, ...this.#evictHeldBackRivals(overlay, written)]
      this.#program(overlay, changes)
      // The reconciler runs first: a new peer waits for it, and for no line of the log.
      await giveWay(signal)
      await inTurns(this.#logChanges(overlay, changes), signal)
      for (const [i, event] of all.entries()) {
        if (i % PIECE === PIECE - 1) await giveWay(signal)
        if (event.kind === 'removed') this.verdicts.forget(overlay, event.key)
        else this.verdicts.report(overlay, event.lease.key)
      }
    }
    // After the leases: a host that has signed its lease at the same time is not dropped for a moment.
    if (!proof.hosts.apply(changes)) return
    for (const overlay of overlays) this.peersChanged(overlay, overlay.peers.pin(proof.hosts.pins))
    this.reviewVerdicts()
  }

  async #applySnapshot(
    { snapshot, replaced = false }: Extract<RegistryUpdate, { kind: 'snapshot' }>,
    signal: AbortSignal,
  ): Promise<void> {
    const { lease, overlays, proof } = this.parts
    const { leases, unreadable, moreMisnamed } = snapshot
    const listed: (Lease | UnreadableLease)[] = [...leases, ...unreadable]
    const own = listed.find(({ key }) => key === lease.own.key)
    lease.observe(own, { revision: snapshot.revision, anew: replaced })
    const keys = new Set(listed.map(({ key }) => key))
    for (const key of this.holdBack.keys()) if (keys.has(key)) this.#release(key)
    const known = new Set(overlays.flatMap(({ peers }) => [...peers.peers()].map(({ key }) => key)))
    const ownIsGone = own === undefined && !this.#isDrained
    const doubt = replaced ? STORE_REPLACED : ownIsGone ? OWN_IS_GONE : undefined
    this.#judge(
      [...known].filter((key) => !keys.has(key)),
      doubt,
    )
    // A function, because a held-back peer may be removed while the listing is judged.
    const bad = () => ({
      leases: [...unreadable, ...this.holdBack.keys().map((key) => this.#heldLease(key))],
      moreMisnamed,
    })
    for (const overlay of overlays) {
      const taken = await inTurns(overlay.peers.resetting(leases, bad, proof.hosts.pins), signal)
      const changes = [...taken, ...this.#evictHeldBackRivals(overlay, leases)]
      this.#program(overlay, changes)
      await inTurns(this.#logChanges(overlay, changes), signal)
    }
    this.reviewVerdicts()
    // The listing gave their place to a lease with a better claim.
    this.#letGo(this.holdBack.keys().filter((key) => !this.#isPeer(key)))
  }

  /** Holds back removals that are in doubt. */
  #judge(gone: readonly string[], doubt: string | undefined): void {
    const peers = Math.max(...this.parts.overlays.map((overlay) => overlay.peers.size))
    const before = this.holdBack.size
    this.holdBack.judge({ gone, peers, doubt }, performance.now())
    if (this.holdBack.size === before) return
    const seconds = Math.ceil((this.holdBack.lastDue - performance.now()) / 1000)
    this.log.warn(
      `peers: ${this.holdBack.size} disappeared from etcd; kept for ${seconds} s in case etcd is wrong: ` +
        this.holdBack.reason,
      { kind: 'peers-held', about: gone.flatMap(subnetsOfKey) },
    )
  }

  /** Ends the delay of a key that is in etcd again. */
  #release(key: string): void {
    if (!this.holdBack.release(key) || this.holdBack.size > 0) return
    this.log.info('peers: none is held back any more: all are in etcd again, or gone', {
      kind: 'peers-let-go',
    })
  }

  /** Removes held-back peers. */
  #letGo(keys: readonly string[]): void {
    if (keys.length === 0) return
    for (const key of keys) this.holdBack.release(key)
    this.log.info(`peers: ${keys.length} held-back peers are removed: etcd still has no lease of them`, {
      kind: 'peers-let-go',
      about: keys.flatMap(subnetsOfKey),
    })
    for (const overlay of this.parts.overlays) {
      this.peersChanged(
        overlay,
        keys.flatMap((key) => overlay.peers.remove(key)),
      )
    }
  }

  /** Whether this host has given its lease back, so that its key is meant to be absent. */
  get #isDrained(): boolean {
    return this.parts.lease.state.kind === 'drained'
  }

  #isPeer(key: string): boolean {
    return this.parts.overlays.some(({ peers }) => peers.peer(key) !== undefined)
  }

  /**
   * Stands for the lease of a held-back peer: the peer table keeps a peer as it is while its lease is
   * unreadable.
   */
  #heldLease(key: string): UnreadableLease {
    return { key, reason: HELD_REASON, modRevision: this.revision }
  }

  /** The event for the peer table. For the removal of a held-back peer it is one that keeps the peer. */
  #unlessHeld({ peers }: Overlay, event: LeaseEvent): LeaseEvent {
    const isHeld =
      event.kind === 'removed' && this.holdBack.has(event.key) && peers.peer(event.key) !== undefined
    return isHeld ? { kind: 'unreadable', lease: this.#heldLease(event.key) } : event
  }

  /**
   * Removes held-back peers that a written lease waits for, unless the lease also waits for a peer that is
   * not held back.
   */
  #evictHeldBackRivals({ peers }: Overlay, claimants: readonly Lease[]): PeerChange[] {
    const changes: PeerChange[] = []
    /** MAC and PublicIP of a claim -> a rival that is not held back. One such rival of many is enough. */
    const inTheWay = new Map<string, string>()
    for (const { key: claimant } of this.holdBack.size === 0 ? [] : claimants) {
      const claim = peers.claimOf(claimant)
      if (claim === undefined) continue
      const { mac, publicIp } = claim
      const known = inTheWay.get(`${mac} ${publicIp}`)
      if (known !== undefined && peers.peer(known)?.mac === mac && !this.holdBack.has(known)) continue
      const rivals: string[] = []
      for (const rival of peers.rivalsOf(claimant)) {
        rivals.push(rival.key)
        if (this.holdBack.has(rival.key)) continue
        if (rival.mac === mac && rival.publicIp !== publicIp) inTheWay.set(`${mac} ${publicIp}`, rival.key)
        rivals.length = 0
        break
      }
      for (const change of peers.apply(rivals.map((key) => ({ kind: 'removed', key })))) changes.push(change)
      for (const key of rivals) if (!this.#isPeer(key)) this.#release(key)
    }
    return changes
  }

  /** Hands changes of peers to the reconciler. */
  #program(overlay: Overlay, changes: readonly PeerChange[]): void {
    const now = performance.now()
    for (const { before, after } of changes) {
      if (before === undefined && after !== undefined) this.holdBack.joined(after.key, now)
    }
    const receivedAt = this.#following.kind === 'taking' ? this.#following.receivedAt : undefined
    overlay.reconciler.peersChanged(changes, this.revision, receivedAt)
    this.recordChanges(changes)
  }

  /** Logs changes of peers, in pieces of a few milliseconds. */
  *#logChanges(overlay: Overlay, changes: readonly PeerChange[]): Generator<void, void> {
    if (changes.length > 0) this.log.info(summarize(changes))
    for (const [i, { before, after }] of changes.entries()) {
      if (i % PIECE === PIECE - 1) yield
      const peer = after ?? before
      if (peer === undefined) continue
      const isAccepted = after !== undefined && overlay.peers.reasonAgainst(peer.key) === undefined
      if (isAccepted && this.verdicts.isRejected(overlay, peer.key)) this.verdicts.report(overlay, peer.key)
      const what = before === undefined ? 'joined' : after === undefined ? 'left' : 'changed'
      const about = [formatPrefix(peer.subnet), formatIp(peer.publicIp)]
      this.log.debug(`peer ${what}: ${about.join(' at ')} with ${formatMac(peer.mac)}`, {
        kind: `peer-${what}`,
        about,
      })
    }
  }
}

/** One line for any number of changes: `peers: 2 joined, 1 left`. */
function summarize(changes: readonly PeerChange[]): string {
  const joined = changes.filter(({ before }) => before === undefined).length
  const left = changes.filter(({ after }) => after === undefined).length
  const changed = changes.length - joined - left
  const parts = [
    joined > 0 && `${joined} joined`,
    left > 0 && `${left} left`,
    changed > 0 && `${changed} changed`,
  ]
  const [only] = changes
  const one = changes.length === 1 ? (only?.after ?? only?.before) : undefined
  const detail = one === undefined ? '' : `: ${formatPrefix(one.subnet)} at ${formatIp(one.publicIp)}`
  return `peers: ${parts.filter(Boolean).join(', ')}${detail}`
}
