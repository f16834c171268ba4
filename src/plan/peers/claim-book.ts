/** All claims of one family: which hold, which wait for another one, and which leases are rejected. */

import {
  type Family,
  formatIp,
  formatMac,
  formatPrefix,
  type IpAddress,
  type MacAddress,
  type Prefix,
} from '../../model/address'
import { familyLease, MOST_MISNAMED, type Peer } from '../../model/lease'
import type { Pins } from '../trust/pins'
import { type Claim, oldestFirst, type PeerChange, type Rejection, samePeer } from './claim'

/** The content of a new book. */
export interface Gathered {
  readonly claims: readonly Claim[]
  readonly rejected: ReadonlyMap<string, Rejection>
  readonly moreMisnamed: number
  /** The pins by which the leases were judged; absent for the present ones. */
  readonly pins?: Pins
}

/** Attempts at a work in pieces; the last one runs in one piece. */
export const ATTEMPTS = 3

/** The claims that hold, those that wait, and the rejected leases. */
export class ClaimBook {
  /** lease key -> peer: of claims that hold, and of leases kept as last valid */
  readonly peers = new Map<string, Peer>()
  /** lease key -> claim that holds; its peer is in `peers` */
  readonly held = new Map<string, Claim>()
  /** lease key -> claim that clashes with one that holds */
  readonly waiting = new Map<string, Claim>()
  /** lease key -> why it is rejected; waiting claims are included */
  readonly rejected = new Map<string, Rejection>()
  /** Number of rejected keys that name no subnet. */
  #misnamed = 0
  /** Number of further ones, which are only counted. */
  moreMisnamed = 0
  /** subnet address -> lease key, of the peers */
  readonly #bySubnet = new Map<IpAddress, string>()
  /**
   * MAC -> lease keys: of all peers, and of claims that hold. Several keys occur only for several leases of
   * one host.
   */
  readonly #byMac = new KeyIndex<MacAddress>()
  readonly #heldByMac = new KeyIndex<MacAddress>()
  /** subnet address, or MAC -> keys of leases that wait for it */
  readonly #waitingForSubnet = new KeyIndex<IpAddress>()
  readonly #waitingForMac = new KeyIndex<MacAddress>()
  /** lease key -> the peer before the current change; only peers that may have changed */
  #touched = new Map<string, Peer | undefined>()

  constructor(private readonly danger: (peer: Peer) => string | undefined) {}

  /** Number of claims. */
  get size(): number {
    return this.held.size + this.waiting.size
  }

  /** The peer with that subnet address. */
  peerAt(subnet: IpAddress): Peer | undefined {
    const key = this.#bySubnet.get(subnet)
    return key === undefined ? undefined : this.peers.get(key)
  }

  /** A peer with that MAC. All peers with one MAC have the same PublicIP. */
  peerWithMac(mac: MacAddress): Peer | undefined {
    const key = this.#byMac.first(mac)
    return key === undefined ? undefined : this.peers.get(key)
  }

  /**
   * Whether a verdict may be another one since the pins of these subnets changed. Mostly none is: a host has
   * signed before it is pinned.
   */
  mayJudgeAnew(subnets: readonly Prefix[], family: Family): boolean {
    const addresses = new Set(subnets.map(({ address }) => address))
    for (const address of addresses) {
      const peer = this.peerAt(address)
      if (peer !== undefined && this.danger(peer) !== undefined) return true
    }
    for (const { lease, claim } of this.rejected.values()) {
      const subnet = claim?.peer.subnet ?? (lease && familyLease(lease, family)?.subnet)
      if (subnet !== undefined && addresses.has(subnet.address)) return true
    }
    return [...this.waiting.values()].some(({ peer }) => addresses.has(peer.subnet.address))
  }

  /** @param isNew false for a key that names no subnet and existed before: it is counted already */
  reject(key: string, rejection: Rejection, isNew = true): void {
    const isMisnamed = rejection.misnamed === true && this.rejected.get(key)?.misnamed !== true
    if (isMisnamed && this.#misnamed >= MOST_MISNAMED) {
      if (isNew) this.moreMisnamed += 1
      return
    }
    if (isMisnamed) this.#misnamed += 1
    this.rejected.set(key, rejection)
  }

  accept(key: string): void {
    if (this.rejected.get(key)?.misnamed) this.#misnamed -= 1
    this.rejected.delete(key)
  }

  /**
   * Admits a claim, or lets it wait. Peers that are only kept as last valid give way. A rejected lease does
   * not wait.
   */
  judge(claim: Claim): void {
    const { peer } = claim
    const clash = this.#clash(peer, 'held')
    if (clash !== undefined) {
      // The lease itself is invalid now: it keeps its place only while nobody else has it, and waits for
      // none.
      if (this.rejected.has(peer.key)) return
      this.waiting.set(peer.key, claim)
      this.#waitingForSubnet.add(peer.subnet.address, peer.key)
      this.#waitingForMac.add(peer.mac, peer.key)
      this.reject(peer.key, { reason: clash })
      return
    }
    for (const other of this.rivals(peer)) this.forget(other.key)
    this.held.set(peer.key, claim)
    this.#heldByMac.add(peer.mac, peer.key)
    this.#admit(peer)
  }

  /**
   * Reassigns places that became free: judges all claims that depend on them, oldest first.
   * @param free claims that held the places
   */
  reassign(free: readonly Claim[]): void {
    const claims = this.#claimsAround(free.filter((claim) => this.#frees(claim)).map(({ peer }) => peer))
    const isWaiting = [...claims.keys()].some((key) => this.waiting.has(key))
    if (!isWaiting) return
    const lastGood = new Map<string, Peer | undefined>()
    for (const key of claims.keys()) {
      lastGood.set(key, this.peers.get(key))
      if (this.stopWaiting(key)) this.accept(key)
      this.forget(key)
    }
    for (const claim of oldestFirst([...claims.values()])) this.judge(claim)
    for (const [key, peer] of lastGood) if (this.waiting.has(key)) this.keepLastGood(key, peer)
  }

  /**
   * Whether a claim that no longer holds may have been the only one to keep another waiting: no other claim
   * as old has its MAC.
   */
  #frees({ peer: { subnet, mac }, since }: Claim): boolean {
    if (this.#waitingForSubnet.first(subnet.address) !== undefined) return true
    if (this.#waitingForMac.first(mac) === undefined) return false
    const other = this.#heldByMac.first(mac)
    const holder = other === undefined ? undefined : this.held.get(other)
    return holder === undefined || holder.since > since
  }

  /**
   * The claims that depend on each other: those on a place that some wait for, those on the other places of
   * these, and so on.
   */
  #claimsAround(places: readonly Peer[]): Map<string, Claim> {
    const claims = new Map<string, Claim>()
    const [seenSubnets, seenMacs] = [new Set<IpAddress>(), new Set<MacAddress>()]
    const pending: Peer[] = [...places]
    const collect = (keys: Iterable<string>): void => {
      for (const key of keys) {
        const claim = this.waiting.get(key) ?? this.held.get(key)
        if (claim === undefined || claims.has(key)) continue
        claims.set(key, claim)
        pending.push(claim.peer)
      }
    }
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { mac } = next
      const { address } = next.subnet
      if (!seenSubnets.has(address)) {
        seenSubnets.add(address)
        const waiting = this.#waitingForSubnet.at(address)
        const holder = this.#bySubnet.get(address)
        if (waiting.length > 0) collect([...waiting, ...(holder === undefined ? [] : [holder])])
      }
      if (!seenMacs.has(mac)) {
        seenMacs.add(mac)
        const waiting = this.#waitingForMac.at(mac)
        if (waiting.length > 0) collect([...waiting, ...this.#byMac.at(mac)])
      }
    }
    return claims
  }

  /**
   * Keeps a peer as it was last valid, although its lease is not followed, unless another host has its place
   * now.
   */
  keepLastGood(key: string, peer: Peer | undefined): void {
    if (peer === undefined || this.peers.has(key) || this.danger(peer) !== undefined) return
    if (this.#clash(peer, 'all') === undefined) this.#admit(peer)
  }

  /** A peer announces something else for the place it has: its claim keeps its age. */
  renew(held: Claim, peer: Peer): void {
    this.#touch(peer.key)
    this.held.set(peer.key, { ...held, peer })
    this.peers.set(peer.key, peer)
  }

  #admit(peer: Peer): void {
    this.#touch(peer.key)
    this.peers.set(peer.key, peer)
    this.#bySubnet.set(peer.subnet.address, peer.key)
    this.#byMac.add(peer.mac, peer.key)
  }

  forget(key: string): void {
    const peer = this.peers.get(key)
    if (peer === undefined) return
    this.#touch(key)
    this.peers.delete(key)
    this.held.delete(key)
    this.#bySubnet.delete(peer.subnet.address)
    this.#byMac.remove(peer.mac, key)
    this.#heldByMac.remove(peer.mac, key)
  }

  /** @returns whether the lease waited */
  stopWaiting(key: string): boolean {
    const claim = this.waiting.get(key)
    if (claim === undefined) return false
    this.waiting.delete(key)
    this.#waitingForSubnet.remove(claim.peer.subnet.address, key)
    this.#waitingForMac.remove(claim.peer.mac, key)
    return true
  }

  #touch(key: string): void {
    if (!this.#touched.has(key)) this.#touched.set(key, this.peers.get(key))
  }

  /** The changes since the last call. */
  changes(): PeerChange[] {
    if (this.#touched.size === 0) return []
    const touched = this.#touched
    this.#touched = new Map()
    return differences(touched, this.peers)
  }

  forgetChanges(): void {
    this.#touched = new Map()
  }

  /** Why a valid lease clashes with a peer, or with a claim that holds. */
  #clash(peer: Peer, beside: 'held' | 'all'): string | undefined {
    const holder = this.#otherAt(peer)
    const isClash = holder !== undefined && (beside === 'all' || this.held.has(holder.key))
    const rival = isClash ? holder : this.#namesake(peer, beside === 'all' ? this.#byMac : this.#heldByMac)
    if (rival === undefined) return undefined
    const whose = `already belongs to ${formatIp(rival.publicIp)} (${rival.key})`
    return rival.subnet.address === peer.subnet.address
      ? `subnet ${formatPrefix(peer.subnet)} ${whose}`
      : `MAC ${formatMac(peer.mac)} ${whose}`
  }

  /** Another peer that has the same subnet. */
  #otherAt({ subnet, key }: Peer): Peer | undefined {
    const holder = this.peerAt(subnet.address)
    return holder?.key === key ? undefined : holder
  }

  /**
   * A peer with the same MAC at another address. The first one decides: all peers with one MAC have the same
   * address.
   */
  #namesake({ mac, publicIp }: Peer, among: KeyIndex<MacAddress>): Peer | undefined {
    const key = among.first(mac)
    const first = key === undefined ? undefined : this.peers.get(key)
    return first?.publicIp === publicIp ? undefined : first
  }

  /** Other peers with the same subnet, or with the same MAC at another address. */
  *rivals(peer: Peer): Generator<Peer> {
    const holder = this.#otherAt(peer)
    if (holder !== undefined) yield holder
    if (this.#namesake(peer, this.#byMac) === undefined) return
    for (const key of this.#byMac.at(peer.mac)) {
      const other = this.peers.get(key)
      if (other !== undefined && key !== peer.key && key !== holder?.key) yield other
    }
  }
}

/**
 * Lease keys by a property. Nearly always there is one key, which is stored without a set: sets for all would
 * be a third of the table's memory.
 */
class KeyIndex<At> {
  readonly #keys = new Map<At, string | Set<string>>()

  at(at: At): readonly string[] {
    const keys = this.#keys.get(at)
    if (keys === undefined) return NO_KEYS
    return typeof keys === 'string' ? [keys] : [...keys]
  }

  first(at: At): string | undefined {
    const keys = this.#keys.get(at)
    return keys === undefined || typeof keys === 'string' ? keys : keys.values().next().value
  }

  add(at: At, key: string): void {
    const keys = this.#keys.get(at)
    if (keys === undefined) this.#keys.set(at, key)
    else if (typeof keys !== 'string') keys.add(key)
    else if (keys !== key) this.#keys.set(at, new Set([keys, key]))
  }

  remove(at: At, key: string): void {
    const keys = this.#keys.get(at)
    if (keys === undefined) return
    if (typeof keys === 'string' ? keys === key : keys.delete(key) && keys.size === 0) this.#keys.delete(at)
  }
}

export const NO_KEYS: readonly string[] = []

export function differences(
  before: Iterable<readonly [string, Peer | undefined]>,
  now: ReadonlyMap<string, Peer>,
): PeerChange[] {
  const changes: PeerChange[] = []
  for (const [key, peer] of before) {
    const after = now.get(key)
    if (!samePeer(peer, after)) changes.push({ before: peer, after })
  }
  return changes
}
