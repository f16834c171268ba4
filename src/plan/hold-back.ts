/**
 * Whether peers that are gone from etcd are let go at once. etcd can be wrong as a whole: wiped, put up from an old backup, emptied by a
 * slip of the hand. What is held back costs a few stale entries for a minute; what is let go too soon costs every container its network.
 *
 * The rule: peers are held back when of those that were there ten seconds ago more than half, and three at least, are gone. In a small network one or
 * two hosts that leave together are an everyday thing. More than half of a network never leaves by itself: a host that is switched off keeps its lease
 * for up to a day, so leases end one by one; and who comes and goes within seconds says nothing about the others.
 */

/**
 * Milliseconds. A loop of `etcdctl del` removes hundreds of keys in it, and etcd ends 1,000 leases a second (server/lease/lessor.go), so up to
 * 20,000 hosts whose leases end together are seen together.
 */
const WINDOW = 10_000
const LEAST = 3

export interface Departure {
  /** Keys of peers that etcd has no more; those that are held already may be among them. */
  readonly gone: readonly string[]
  /** How many peers there are, those included. */
  readonly peers: number
  /** Why etcd's word is in doubt whatever the number: its history is another, or our own lease went in the same breath. */
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

/** All times are monotonic milliseconds, given by the caller. */
export class HoldBack {
  /** key -> until when it is held, and why */
  readonly #held = new Map<string, Held>()
  /** key -> when it left; only within the window, and only who was there before it */
  readonly #left = new Map<string, Left>()
  /** key -> when it joined; only within the window */
  readonly #joined = new Map<string, number>()

  /** @param grace milliseconds for which peers are held back; 0 lets all go at once */
  constructor(private readonly grace: number) {}

  /** How many are held. */
  get size(): number {
    return this.#held.size
  }

  /** When the first of those held is due; Infinity when none is. */
  get nextDue(): number {
    let first = Number.POSITIVE_INFINITY
    for (const { due } of this.#held.values()) first = Math.min(first, due)
    return first
  }

  /** Until when the last of those held is held. */
  get lastDue(): number {
    let last = 0
    for (const { due } of this.#held.values()) last = Math.max(last, due)
    return last
  }

  /** Why those held are. */
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

  /** Takes in that a peer has come. */
  joined(key: string, now: number): void {
    this.#left.delete(key)
    this.#joined.delete(key)
    this.#joined.set(key, now)
    this.#forget(now)
  }

  /**
   * Judges peers that are gone: all of them are let go, or all of them are held back.
   * @returns those to be let go now
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
   * It is in etcd again, or gone for another reason: no longer held.
   * @returns whether it was
   */
  release(key: string): boolean {
    this.#left.delete(key)
    return this.#held.delete(key)
  }

  /** etcd was away, so that nobody could come back: the grace begins anew. */
  extend(now: number): void {
    for (const [key, held] of this.#held) this.#held.set(key, { ...held, due: now + this.grace })
  }

  /** Takes those that have been held long enough. */
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
    // In the order of their times, so that a join costs the same at any number.
    for (const [key, at] of this.#joined) {
      if (now - at < WINDOW) break
      this.#joined.delete(key)
    }
  }
}

function massDeparture(lost: number, before: number): string | undefined {
  if (lost < LEAST || lost * 2 <= before) return undefined
  return `${lost} of ${before} peers went within ${WINDOW / 1000} s`
}
