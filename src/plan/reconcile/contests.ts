/**
 * Objects that another program changes again and again. Each is put right less and less often, so that two
 * programs never fight at full speed, and is named for as long as the contest lasts.
 */
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import { type Id, IdMap } from '../../model/id-map'
import type { Subject } from '../../model/kernel/subject'
import { describeSubject } from '../../model/kernel/words'

/**
 * So many repairs of one object within so many milliseconds are a contest. No person is as fast, and hardly a
 * script of one.
 */
const CONTEST = { repairs: 20, within: 30_000 }
/**
 * Between two repairs of a contested object. The longest is also how long the object stays wrong after the
 * other program has given up.
 */
const HOLD: BackoffBounds = { first: 1000, most: 10_000 }
/** A contest is over when its object needed no repair for so many milliseconds. */
const QUIET = 30_000

/** One object that another program keeps changing. */
export interface Contest<I extends Id = Subject> {
  readonly subject: I
  /** How often the object was put right. */
  readonly times: number
  /** Time of the first of these repairs, on the monotonic clock, in milliseconds. */
  readonly since: number
}

interface Repaired<I extends Id> extends Contest<I> {
  times: number
  /** Times of the last repairs, the latest last. */
  recent: readonly number[]
  /** Repairs since the object counts as contested; 0 while it does not. */
  level: number
  /** Until then the object is left as it is; 0 while it is not contested. */
  heldUntil: number
  /** Whether the object is known to be wrong now. */
  waits: boolean
}

/** A contest in words that follow "kernel:", with its age on the monotonic clock. */
export function describeContest({ subject, times, since }: Contest, now: number): string {
  const seconds = ((now - since) / 1000).toFixed(0)
  return (
    `another program changes ${describeSubject(subject)} again and again: ` +
    `put right ${times} times in ${seconds} s; find it with \`ip monitor\` or \`bridge monitor\` and stop it`
  )
}

/** @typeParam I what is repaired: by default all that the daemon keeps in the kernel */
export class Contests<I extends Id = Subject> {
  /** All objects that were repaired of late. */
  readonly #repaired = new IdMap<I, Repaired<I>>()

  constructor(private readonly random: () => number = Math.random) {}

  /** Begins a comparison of everything: which objects wait is found out anew by {@link admit}. */
  begin(): void {
    for (const repaired of this.#repaired.values()) repaired.waits = false
  }

  /**
   * Asks for leave to repair an object that is wrong.
   * @returns whether the repair may be done now; else the object is noted as waiting
   */
  admit(subject: I, now: number): boolean {
    const repaired = this.#repaired.get(subject)
    if (repaired === undefined || repaired.heldUntil <= now) return true
    repaired.waits = true
    return false
  }

  /**
   * Notes which objects were put right.
   * @returns those that count as contested from now on
   */
  note(subjects: Iterable<I>, now: number): Contest<I>[] {
    const noted = new IdMap<I, true>()
    const news: Contest<I>[] = []
    for (const subject of subjects) {
      // Two changes of one object are one repair.
      if (noted.get(subject)) continue
      noted.set(subject, true)
      const repaired = this.#noteOne(subject, now)
      if (repaired.level === 1) news.push(repaired)
    }
    return news
  }

  #noteOne(subject: I, now: number): Repaired<I> {
    const repaired = this.#repaired.get(subject) ?? {
      subject,
      since: now,
      times: 0,
      recent: [],
      level: 0,
      heldUntil: 0,
      waits: false,
    }
    this.#repaired.set(subject, repaired)
    repaired.times += 1
    repaired.recent = [...repaired.recent, now].slice(-CONTEST.repairs)
    repaired.waits = false
    const [first = now] = repaired.recent
    const isContested = repaired.recent.length === CONTEST.repairs && now - first <= CONTEST.within
    if (repaired.level === 0 && !isContested) return repaired
    repaired.level += 1
    repaired.heldUntil = now + backoffDelay(repaired.level, HOLD, this.random)
    return repaired
  }

  /**
   * Forgets objects that have needed no repair for a while.
   * @returns the contests that are over
   */
  settle(now: number): Contest<I>[] {
    const over: Contest<I>[] = []
    for (const repaired of this.#repaired.values()) {
      const last = repaired.recent.at(-1) ?? now
      if (repaired.waits || now - last <= QUIET) continue
      this.#repaired.delete(repaired.subject)
      if (repaired.level > 0) over.push(repaired)
    }
    return over
  }

  /** All contests over objects that are wrong now, and wait to be put right. */
  waiting(): Contest<I>[] {
    return [...this.#repaired.values()].filter(({ waits }) => waits)
  }

  /**
   * When the next object that waits may be put right, on the monotonic clock in milliseconds; Infinity for
   * never.
   */
  get nextDue(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { waits, heldUntil } of this.#repaired.values()) if (waits) next = Math.min(next, heldUntil)
    return next
  }

  /** When the next contest may be over, on the monotonic clock in milliseconds; Infinity for never. */
  get nextSettle(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { waits, level, recent } of this.#repaired.values()) {
      if (!waits && level > 0) next = Math.min(next, (recent.at(-1) ?? 0) + QUIET)
    }
    return next
  }

  /** All contests that go on, the longest first. */
  contests(): Contest<I>[] {
    return [...this.#repaired.values()].filter(({ level }) => level > 0).sort((a, b) => a.since - b.since)
  }
}
