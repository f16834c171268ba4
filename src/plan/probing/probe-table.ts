/**
 * Which peers of one family are probed when, and what is known of each. A host watches few peers all the
 * time, and visits all others in turn, one with each call of {@link ProbeTable.due}. A peer that lost a probe
 * is asked again at once, a bounded number of them at a time. Pure: the caller gives the time, in monotonic
 * milliseconds, sends the packets, and brings back what became of them.
 */
import { familyOf, formatPrefix } from '../../model/address'
import type { Peer } from '../../model/lease'
import { nextTrial, type PathMtu, RECHECK as RECHECK_PATH, remembered, UNTRIED } from './path-mtu'
import {
  afterOutcome,
  type LargePacket,
  type Layer,
  type Outcome,
  type PeerProbe,
  type Reach,
  type ReachNews,
  UNPROBED,
} from './peer-probe'
import { rendezvousScore } from './rendezvous'

/** Peers that a host watches all the time. */
export const WATCHED = 4
/** Peers that are asked again in one call because they lost a probe: the bound of what an outage costs. */
const AGAIN = 8
/**
 * When an outage ends, most peers come back together. For each that has come back since the last call, so
 * many more are asked, due or not, up to a bound.
 */
const MORE_FOR_EACH = 4
export const MOST_AGAIN = 128
/** Of the probes of a peer, each so-many-th has a large packet too. */
const LARGE_EACH = 10
/** A large packet is due after so long, however few probes there were. */
const LARGE_AFTER = 600_000
/** Peers whose path is searched in one call, with a large packet each. */
const MOST_SEARCHED = 8
/** Peers whose smaller path MTU is tried again in one call. */
const MOST_RECHECKED = 8
/** After a peer appears, it is not probed for so long: its host may not have converged yet. */
const REST = 5000
/**
 * An unreachable peer is asked again after so long: {@link RECHECK} at least, and {@link RECHECK_EACH} for
 * each peer of the network. All hosts ask it, and together they must not flood it: 250 packets a second.
 */
const RECHECK = 4000
const RECHECK_EACH = 4
/** Peers at rest that are skipped in one call. */
const MOST_SKIPPED = 64

/** The peers of a family, to read. */
export interface ProbedPeers {
  peers(): Iterable<Peer>
  /** The peer of that lease. */
  peer(key: string): Peer | undefined
}

/** Peers that are taken over in one piece. */
const PIECE = 250

interface Entry {
  readonly peer: Peer
  readonly score: number
  /** Not probed before. */
  readonly restsUntil: number
  /** Probes with an outcome. */
  readonly probes: number
  /** When a large packet was last tried. */
  readonly largeAt: number
  readonly probe: PeerProbe
}

/** One probe to send. */
export interface ProbeOrder {
  readonly peer: Peer
  /** The packet that goes along, if one does. */
  readonly large: LargePacket | undefined
}

export interface News {
  readonly peer: Peer
  readonly kind: ReachNews
  readonly reach: Reach
}

/** Peers by {@link Reach}, and the unreachable ones by layer. */
export type ReachCounts = Readonly<Record<Reach['kind'] | Layer, number>>

/** A peer that this host watches, with what is known of it. */
export interface WatchedPeer {
  readonly peer: Peer
  readonly probe: PeerProbe
}

export class ProbeTable {
  /** lease key -> entry, in the order in which they are visited */
  readonly #entries = new Map<string, Entry>()
  #visits = this.#entries.values()
  /** Keys of the watched peers. */
  #watched: readonly string[] = []
  /** Counts the probes of watched peers, which take turns. */
  #turn = 0
  /** Keys of peers that lost their last probe. */
  readonly #suspects = new Set<string>()
  /** Keys of unreachable peers -> when each is asked again, the earliest first. */
  readonly #unreachable = new Map<string, number>()
  /** Keys of peers whose path is searched, or whose last full packet was lost. */
  readonly #searched = new Set<string>()
  /** Keys of peers with a smaller path MTU -> when the full size is tried again, the earliest first. */
  readonly #limited = new Map<string, number>()
  #answeredAt = Number.NEGATIVE_INFINITY
  /** Unreachable peers that have answered since the last call of {@link due}. */
  #cameBack = 0

  /**
   * @param own text of this host's subnet
   * @param mtuOf the path MTU that an earlier run has found for a peer, in bytes; 0 for none
   */
  constructor(
    private readonly own: string,
    private readonly mtuOf: (peer: Peer) => number = () => 0,
  ) {}

  get size(): number {
    return this.#entries.size
  }

  /** When a peer last answered through the overlay; -Infinity before the first answer. */
  get answeredAt(): number {
    return this.#answeredAt
  }

  /** The peers that are watched all the time. */
  get watched(): WatchedPeer[] {
    return this.#watched.flatMap((key) => this.#entries.get(key) ?? [])
  }

  /** What is known of the peer of a lease; `undefined` for one that is not probed. */
  probeOf(key: string): PeerProbe | undefined {
    return this.#entries.get(key)?.probe
  }

  /** All peers with what is known of each. */
  *probes(): Generator<WatchedPeer> {
    yield* this.#entries.values()
  }

  get counts(): ReachCounts {
    const counts = { unknown: 0, answering: 0, suspect: 0, unreachable: 0, underlay: 0, overlay: 0 }
    for (const { probe } of this.#entries.values()) {
      counts[probe.reach.kind] += 1
      if (probe.reach.kind === 'unreachable') counts[probe.reach.layer] += 1
    }
    return counts
  }

  /**
   * Takes over the peers, in pieces of a millisecond: between two of them others may run, but none of
   * {@link due} and {@link settle}. What is known of a peer is kept while its addresses stay.
   * @param isFirst whether the peers were there before this host: none of them rests
   */
  *sync(peers: ProbedPeers, now: number, isFirst = false): Generator<void, void> {
    for (const key of this.#entries.keys()) if (peers.peer(key) === undefined) this.#drop(key)
    const newcomers: Entry[] = []
    let taken = 0
    for (const peer of peers.peers()) {
      taken += 1
      if (taken % PIECE === 0) yield
      const entry = this.#entries.get(peer.key)
      if (entry?.peer === peer) continue
      if (entry !== undefined && isAt(entry.peer, peer)) this.#entries.set(peer.key, { ...entry, peer })
      else newcomers.push(this.#newcomer(peer, isFirst ? now : now + REST))
    }
    // Each host has another order, so that hosts which start together do not all visit the same peer.
    for (const entry of newcomers.sort((a, b) => b.score - a.score)) {
      this.#drop(entry.peer.key)
      this.#entries.set(entry.peer.key, entry)
      this.#notePath(entry.peer.key, entry.probe.path)
    }
    this.#watched = bestOf(this.#entries.values(), WATCHED)
  }

  /** How many peers have a smaller path MTU. */
  get limited(): number {
    return this.#limited.size
  }

  /**
   * The probes that are due: call it once in each interval, after all probes before were settled.
   * @param full the MTU of the device in bytes
   */
  due(now: number, full: number): ProbeOrder[] {
    const orders = new Map<string, ProbeOrder>()
    const add = (entry: Entry | undefined): void => {
      if (entry === undefined || entry.restsUntil > now) return
      orders.set(entry.peer.key, { peer: entry.peer, large: largePacket(entry, full, now) })
    }
    const watched = this.#watched[this.#turn % Math.max(1, this.#watched.length)]
    this.#turn += 1
    if (watched !== undefined) add(this.#entries.get(watched))
    add(this.#visit(now))
    const most = Math.min(MOST_AGAIN, AGAIN + MORE_FOR_EACH * this.#cameBack)
    const isEnding = this.#cameBack > 0
    this.#cameBack = 0
    let again = 0
    for (const key of this.#suspects) {
      if (again === most) break
      add(this.#entries.get(key))
      again += 1
    }
    const after = now + Math.max(RECHECK, RECHECK_EACH * this.#entries.size)
    for (const [key, at] of [...take(this.#unreachable, most - again)]) {
      if (at > now && !isEnding) break
      add(this.#entries.get(key))
      // To the end: the earliest stays first.
      this.#unreachable.delete(key)
      this.#unreachable.set(key, after)
    }
    this.#addLarge(add, now)
    return [...orders.values()]
  }

  /** Adds peers whose path is searched, and those whose full size is tried again. */
  #addLarge(add: (entry: Entry | undefined) => void, now: number): void {
    let left = MOST_SEARCHED
    for (const key of this.#searched) {
      if (left === 0) break
      const entry = this.#entries.get(key)
      if (entry?.probe.reach.kind !== 'answering') continue
      add(entry)
      left -= 1
    }
    left = MOST_RECHECKED
    for (const [key, at] of this.#limited) {
      if (at > now || left === 0) break
      add(this.#entries.get(key))
      this.#limited.delete(key)
      this.#limited.set(key, now + RECHECK_PATH)
      left -= 1
    }
  }

  /**
   * Takes what became of a probe.
   * @returns the news, if there is any; `undefined` too for a peer that is gone
   */
  settle(key: string, outcome: Outcome, now: number): News | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    const { probe, news } = afterOutcome(entry.probe, outcome, now)
    const largeAt = outcome.large === undefined ? entry.largeAt : now
    this.#entries.set(key, { ...entry, probe, largeAt, probes: entry.probes + 1 })
    const { reach } = probe
    if (outcome.large !== undefined) this.#notePath(key, probe.path)
    if (reach.kind === 'answering') this.#answeredAt = now
    if (news === 'reachable') this.#cameBack += 1
    if (reach.kind === 'suspect') this.#suspects.add(key)
    else this.#suspects.delete(key)
    if (reach.kind !== 'unreachable') this.#unreachable.delete(key)
    else if (!this.#unreachable.has(key)) this.#unreachable.set(key, now + RECHECK)
    return news && { peer: entry.peer, kind: news, reach }
  }

  #newcomer(peer: Peer, restsUntil: number): Entry {
    const score = rendezvousScore(this.own, formatPrefix(peer.subnet))
    const mtu = this.mtuOf(peer)
    const path = mtu === 0 ? UNTRIED : remembered(mtu, restsUntil)
    const probe = { ...UNPROBED, path }
    return { peer, score, restsUntil, probes: 0, largeAt: Number.NEGATIVE_INFINITY, probe }
  }

  #notePath(key: string, path: PathMtu): void {
    const isOpen = path.kind === 'searching' || (path.kind === 'full' && path.losses > 0)
    if (isOpen) this.#searched.add(key)
    else this.#searched.delete(key)
    if (path.kind !== 'limited') this.#limited.delete(key)
    else if (!this.#limited.has(key)) this.#limited.set(key, path.checkAt)
  }

  #drop(key: string): void {
    this.#entries.delete(key)
    this.#suspects.delete(key)
    this.#searched.delete(key)
    this.#limited.delete(key)
    this.#unreachable.delete(key)
  }

  /** The next peer in turn that is neither watched nor at rest. */
  #visit(now: number): Entry | undefined {
    const most = Math.min(this.#entries.size, WATCHED + MOST_SKIPPED)
    for (let skipped = 0; skipped < most; skipped += 1) {
      let next = this.#visits.next()
      if (next.done === true) {
        this.#visits = this.#entries.values()
        next = this.#visits.next()
      }
      const entry = next.value
      if (entry !== undefined && entry.restsUntil <= now && !this.#watched.includes(entry.peer.key))
        return entry
    }
    return undefined
  }
}

function* take<T>(items: Iterable<T>, most: number): Generator<T> {
  let taken = 0
  for (const item of items) {
    if (taken === most) return
    taken += 1
    yield item
  }
}

const isAt = (a: Peer, b: Peer): boolean =>
  a.subnet.address === b.subnet.address && a.publicIp === b.publicIp && a.mac === b.mac

/** The large packet that is due, if one is. To a peer that does not answer, a large packet says nothing. */
function largePacket(entry: Entry, full: number, now: number): LargePacket | undefined {
  const { peer, probes, largeAt, probe } = entry
  const { reach, path } = probe
  if (reach.kind === 'suspect' || reach.kind === 'unreachable') return undefined
  const { size, isUrgent } = nextTrial(path, full, now)
  if (!isUrgent && probes % LARGE_EACH !== 0 && now - largeAt < LARGE_AFTER) return undefined
  return { family: familyOf(peer.subnet.address), size, full }
}

/** The keys of the entries with the highest scores; equal scores by key. */
function bestOf(entries: Iterable<Entry>, most: number): string[] {
  const best: Entry[] = []
  for (const entry of entries) {
    const last = best.at(-1)
    if (best.length === most && last !== undefined && !isBetter(entry, last)) continue
    const at = best.findIndex((other) => isBetter(entry, other))
    best.splice(at === -1 ? best.length : at, 0, entry)
    best.length = Math.min(best.length, most)
  }
  return best.map(({ peer }) => peer.key)
}

const isBetter = (a: Entry, b: Entry): boolean =>
  a.score > b.score || (a.score === b.score && a.peer.key < b.peer.key)
