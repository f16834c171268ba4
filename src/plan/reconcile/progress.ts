/**
 * How far the kernel has followed the peers: which objects wait for a pass, which are in the pass that is
 * under way, and the revision of etcd of which all is in the kernel. Times are milliseconds of the monotonic
 * clock.
 */
import type { Prefix } from '../../model/address'
import type { ObjectId } from '../../model/kernel/objects'
import type { RouteKey } from '../../model/kernel/route'
import type { Peer, Revision } from '../../model/lease'
import type { PeerChange } from '../peers/claim'
import type { LocalChange } from '../prefixes/local-table'
import { addPeer, addScope, emptyScope, inScope, isEmptyScope, type Scope } from './scope'

export class Progress {
  /** Objects of peers that changed since the last pass began. */
  #pending = emptyScope()
  /** Objects that the pass under way, or the failed one, has taken. */
  #underWay = emptyScope()
  /** Whether there was a pass, or one is under way. */
  #hasBegun = false
  /** The last revision of the peers; and as it was when the pass under way took its scope. */
  #wanted: Revision | undefined
  #taken: Revision | undefined
  #reached: Revision | undefined
  /**
   * When the oldest change arrived that no pass has taken; and the oldest that the pass under way has taken.
   */
  #heardAt: number | undefined
  #since: number | undefined
  #hasFailed = false

  /**
   * Notes that peers changed.
   * @param heardAt when etcd's message arrived
   * @param prefixesOf besides its subnet that are routed to a peer
   */
  changed(
    changes: readonly PeerChange[],
    revision: Revision,
    heardAt: number,
    prefixesOf: (peer: Peer) => readonly Prefix[] = () => [],
  ): void {
    this.#wanted = revision
    if (changes.length === 0) {
      if (this.isSettled) this.#reached = revision
      return
    }
    this.#heardAt ??= heardAt
    // The first pass is over everything anyway.
    for (const { before, after } of this.#hasBegun ? changes : []) {
      if (before !== undefined) addPeer(this.#pending, before, prefixesOf(before))
      if (after !== undefined) addPeer(this.#pending, after, prefixesOf(after))
    }
  }

  /** Notes that the objects of a peer are to be compared again, though etcd told nothing of it. */
  touch(peer: Peer, prefixes: readonly Prefix[] = []): void {
    addPeer(this.#pending, peer, prefixes)
  }

  /**
   * Notes that prefixes are routed to another peer than before.
   * @param heardAt when etcd's message arrived
   */
  rerouted(prefixes: readonly RouteKey[], heardAt: number): void {
    if (prefixes.length === 0) return
    this.#heardAt ??= heardAt
    for (const key of prefixes) this.#pending.route.add(key)
  }

  /** Notes that objects of this host itself are to be others. */
  localChanged({ routes, proxies }: LocalChange): void {
    for (const key of routes) this.#pending.route.add(key)
    for (const key of proxies) this.#pending.proxy.add(key)
  }

  /**
   * The pass takes all objects that are pending. A pass may do so more than once.
   * @returns all that it has taken; the caller may add to it
   */
  begin(): Scope {
    this.#hasBegun = true
    addScope(this.#underWay, this.#pending)
    this.#pending = emptyScope()
    this.#taken = this.#wanted
    this.#since ??= this.#heardAt
    this.#heardAt = undefined
    return this.#underWay
  }

  /**
   * The pass has succeeded.
   * @returns milliseconds since the oldest change in it arrived; `undefined` when there was none
   */
  settled(now: number): number | undefined {
    // Updates that came meanwhile may have changed no peer.
    this.#reached = isEmptyScope(this.#pending) ? this.#wanted : this.#taken
    this.#underWay = emptyScope()
    this.#hasFailed = false
    const latency = this.#since === undefined ? undefined : now - this.#since
    this.#since = undefined
    return latency
  }

  /** The pass has failed: the objects that it has taken are pending again. */
  failed(): void {
    addScope(this.#pending, this.#underWay)
    this.#underWay = emptyScope()
    this.#hasFailed = true
  }

  get hasPending(): boolean {
    return !isEmptyScope(this.#pending)
  }

  /** Whether the kernel has all that is known of the peers, but for what it refuses. */
  get isSettled(): boolean {
    return this.#reached !== undefined && !this.#hasFailed && !this.hasPending && isEmptyScope(this.#underWay)
  }

  /** Objects that are pending or under way. */
  scopes(): readonly Scope[] {
    return [this.#pending, this.#underWay]
  }

  /** Whether the object is pending or under way: a difference there is nobody else's doing. */
  concerns(id: ObjectId): boolean {
    return inScope(this.#pending, id) || inScope(this.#underWay, id)
  }

  /**
   * Of this revision all is in the kernel, but for what it refuses; `undefined` until a pass has succeeded.
   */
  get revision(): Revision | undefined {
    return this.#reached
  }
}
