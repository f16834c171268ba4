/**
 * Objects that someone else changes again and again: each is put right less and less often, so that two programs never fight at full speed, and
 * is named for as long as it lasts.
 */
import { type BackoffBounds, backoffDelay } from '../model/backoff'

/** So many repairs of one object within that many milliseconds are a fight; no person, and hardly a script of one, is as fast. */
const CONTEST = { repairs: 20, within: 30_000 }
/** Between two repairs of a contested object; the longest is also the longest that it stays wrong after the other has given up. */
const HOLD: BackoffBounds = { first: 1000, most: 10_000 }
/** A contest is over when its object needed no repair for so many milliseconds. */
const QUIET = 30_000

/** One object that someone else keeps changing. */
export interface Contest {
  /** In words that follow "changes": `the route to 10.5.2.0/24`. */
  readonly what: string
  /** How often it was put right. */
  readonly times: number
  /** When the first of these repairs was, on the monotonic clock, in milliseconds. */
  readonly since: number
}

interface Repaired {
  readonly what: string
  readonly since: number
  times: number
  /** When the last ones were, the latest last. */
  recent: readonly number[]
  /** Repairs since it counts as contested. */
  level: number
  /** Until then it is left as it is; 0 while it is not contested. */
  heldUntil: number
  /** Whether it is known to be wrong now. */
  waits: boolean
}

export class Contests {
  /** what -> what is known of it, of all objects that were repaired of late */
  readonly #repaired = new Map<string, Repaired>()

  constructor(private readonly random: () => number = Math.random) {}

  /** Begins a look at everything: what waits is told anew. */
  begin(): void {
    for (const repaired of this.#repaired.values()) repaired.waits = false
  }

  /** Whether an object that needs a repair has to wait for it. */
  holds(what: string, now: number): boolean {
    const repaired = this.#repaired.get(what)
    if (repaired === undefined || repaired.heldUntil <= now) return false
    repaired.waits = true
    return true
  }

  /**
   * Notes which objects were put right.
   * @returns those that count as contested from now on
   */
  note(objects: Iterable<string>, now: number): Contest[] {
    const news: Contest[] = []
    for (const what of new Set(objects)) {
      const repaired = this.#repaired.get(what) ?? {
        what,
        since: now,
        times: 0,
        recent: [],
        level: 0,
        heldUntil: 0,
        waits: false,
      }
      this.#repaired.set(what, repaired)
      repaired.times += 1
      repaired.recent = [...repaired.recent, now].slice(-CONTEST.repairs)
      repaired.waits = false
      const [first = now] = repaired.recent
      const isContested = repaired.recent.length === CONTEST.repairs && now - first <= CONTEST.within
      if (repaired.level === 0 && !isContested) continue
      if (repaired.level === 0) news.push(repaired)
      repaired.level += 1
      repaired.heldUntil = now + backoffDelay(repaired.level, HOLD, this.random)
    }
    return news
  }

  /**
   * Forgets what has needed no repair for a while.
   * @returns the contests that are over
   */
  settle(now: number): Contest[] {
    const over: Contest[] = []
    for (const [what, repaired] of this.#repaired) {
      const last = repaired.recent.at(-1) ?? now
      if (repaired.waits || now - last <= QUIET) continue
      this.#repaired.delete(what)
      if (repaired.level > 0) over.push(repaired)
    }
    return over
  }

  /** Objects that are wrong and wait. */
  get waiting(): number {
    let count = 0
    for (const { waits } of this.#repaired.values()) if (waits) count += 1
    return count
  }

  /** When the next object that waits is due, on the monotonic clock in milliseconds; Infinity for never. */
  get nextDue(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { waits, heldUntil } of this.#repaired.values()) if (waits) next = Math.min(next, heldUntil)
    return next
  }

  /** When the next contest or count of repairs may be forgotten; Infinity for never. */
  get nextSettle(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { waits, level, recent } of this.#repaired.values()) {
      if (!waits && level > 0) next = Math.min(next, (recent.at(-1) ?? 0) + QUIET)
    }
    return next
  }

  /** All that go on, the longest first. */
  contests(): Contest[] {
    return [...this.#repaired.values()].filter(({ level }) => level > 0).sort((a, b) => a.since - b.since)
  }

  /** The contest over that object, while it waits to be put right. */
  waitingFor(what: string): Contest | undefined {
    const repaired = this.#repaired.get(what)
    return repaired?.waits ? repaired : undefined
  }
}
