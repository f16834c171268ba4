/**
 * Decides whether peers that disappear from etcd are removed at once. etcd can be wrong as a whole: wiped,
 * restored from an old backup, emptied by mistake. A delayed removal leaves a few stale entries for a minute.
 * A premature one cuts the network of every container.
 *
 * The rule: removals are delayed if more than half, and at least three, of the peers that existed ten seconds
 * ago are gone. In a small network, one or two hosts often leave together. But never does more than half of a
 * network leave by itself: a host that is switched off keeps its lease for up to a day, so leases end one by
 * one. Peers that come and go within seconds say nothing about the others.
 */

/** Reason of a delayed removal, as shown by the peer table and the status. */
export const HELD_REASON = 'gone from etcd; kept for a while in case etcd is wrong'

/**
 * Milliseconds. Long enough for a loop of `etcdctl del`, which removes hundreds of keys meanwhile. etcd ends
 * 1,000 leases a second (server/lease/lessor.go), so up to 20,000 hosts whose leases end at the same time are
 * recognized as one departure.
 */
const WINDOW = 10_000
const LEAST = 3

export interface Departure {
  /** Keys of peers that are no longer in etcd; keys that are held already may be among them. */
  readonly gone: readonly string[]
  /** Number of peers, including those. */
  readonly peers: number
  /**
   * Why etcd is doubted whatever the number: its history was replaced, or our own lease disappeared as well.
   */
  readonly doubt: string | undefined
}

interface Held {
  readonly due: number
  readonly reason: string
}

interface Left {
  readonly at: number
  readonly letGo: boolean
}

/** Removals that are delayed. All times are monotonic milliseconds, given by the caller. */
export class DelayedRemovals {
  /** key -> when it is removed, and why it is held */
  readonly #held = new Map<string, Held>()
  /** key -> when it left; only departures within the window, of peers that had been there before it */
  readonly #left = new Map<string, Left>()
  /** key -> when it joined; only within the window */
  readonly #joined = new Map<string, number>()

  /** @param grace milliseconds for which removals are delayed; 0: not at all */
  constructor(private readonly grace: number) {}

  /** Number of peers held. */
  get size(): number {
    return this.#held.size
  }

  /** When the first of them is removed; Infinity if none is held. */
  get nextDue(): number {
    let first = Number.POSITIVE_INFINITY
    for (const { due } of this.#held.values()) first = Math.min(first, due)
    return first
  }

  /** When the last of them is removed. */
  get lastDue(): number {
    let last = 0
    for (const { due } of this.#held.values()) last = Math.max(last, due)
    return last
  }

  /** Why they are held. */
  get reason(): string {
    const [first] = this.#held.values()
    return first?.reason ?? ''
  }

  has(key: string): boolean {
    return this.#held.has(key)
  }

  keys(): string[] {
    return [...this.#held.keys()]
  }

  /** Records a peer that joined. */
  joined(key: string, now: number): void {
    this.#left.delete(key)
    this.#joined.delete(key)
    this.#joined.set(key, now)
    this.#forget(now)
  }

  /**
   * Judges peers that are gone: either all are removed now, or all are held.
   * @returns those to be removed now
   */
  judge({ gone, peers, doubt }: Departure, now: number): readonly string[] {
    const fresh = gone.filter((key) => !this.#held.has(key))
    if (fresh.length === 0) return []
    this.#forget(now)
    const newcomers = this.#joined.size
    const established = fresh.filter((key) => !this.#joined.delete(key))
    const letGoBefore = [...this.#left.values()].filter(({ letGo }) => letGo).length
    const before = peers - newcomers + letGoBefore
    const lost = established.length + this.#left.size
    const reason = this.grace === 0 ? undefined : (doubt ?? massDeparture(lost, before))
    for (const key of established) this.#left.set(key, { at: now, letGo: reason === undefined })
    if (reason === undefined) return fresh
    for (const key of fresh) this.#held.set(key, { due: now + this.grace, reason })
    return []
  }

  /**
   * Stops holding a peer: it is in etcd again, or gone for another reason.
   * @returns whether it was held
   */
  release(key: string): boolean {
    this.#left.delete(key)
    return this.#held.delete(key)
  }

  /** Restarts the grace of all: etcd was unreachable, so peers could not come back. */
  extend(now: number): void {
    for (const [key, held] of this.#held) this.#held.set(key, { ...held, due: now + this.grace })
  }

  /** Removes and returns the keys whose grace has ended. */
  takeDue(now: number): string[] {
    const due = [...this.#held].filter(([, held]) => held.due <= now).map(([key]) => key)
    for (const key of due) {
      this.#held.delete(key)
      const left = this.#left.get(key)
      if (left !== undefined) this.#left.set(key, { ...left, letGo: true })
    }
    return due
  }

  #forget(now: number): void {
    for (const [key, { at }] of this.#left) {
      if (now - at < WINDOW) break
      this.#left.delete(key)
    }
    // Maps iterate in order of insertion, so stopping at the first recent entry keeps a join cheap at any
    // number.
    for (const [key, at] of this.#joined) {
      if (now - at < WINDOW) break
      this.#joined.delete(key)
    }
  }
}

function massDeparture(lost: number, before: number): string | undefined {
  if (lost < LEAST || lost * 2 <= before) return undefined
  return `${lost} of ${before} peers disappeared within ${WINDOW / 1000} s`
}
