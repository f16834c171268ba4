/** The loop of every part that waits, does a pass of work, fails, and backs off. */
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import { describeError, isOverlayError, type OverlayError } from '../../model/errors'
import type { Logger } from '../tell/logger'
import { Alarm } from './alarm'

/** When the next pass begins. Both times are monotonic milliseconds (`performance.now()`). */
export interface Next {
  /** The pass begins at this time without a wake. Infinity: only a wake begins it. */
  readonly due: number
  /** A wake before this time is answered at this time. Default: a wake is answered after the settle time. */
  readonly earliest?: number
}

/** The work of one loop. */
export interface Job {
  /** The first word of the loop's log lines, such as `multicast`. */
  readonly name: string
  /** Bounds of the delay after a failure. Default: {@link RETRY}. */
  readonly retry?: BackoffBounds
  /**
   * A pass that fails after so many milliseconds worked until then: the backoff begins anew. Default: never.
   */
  readonly good?: number
  /** Milliseconds from a wake to its pass, so that the events of one change cause one pass. Default: 0. */
  readonly settle?: number
  /** Milliseconds from the start of the loop to the first pass. Default: 0. */
  readonly first?: number
  /** @throws {OverlayError} a failure, which is retried with backoff; any other error is a defect */
  pass(signal: AbortSignal): Promise<Next>
  /** @returns the text of {@link Loop.problem}. Default: the text of the error */
  describe?(error: OverlayError): string
  /**
   * Logs a failure. Default: a warning about the first one.
   * @param before the problem of the failure before this one; undefined for the first failure
   */
  failed?(problem: string, before: string | undefined): void
  /** Logs the first success after a failure. Default: `<name>: works again`. */
  recovered?(): void
}

/** Milliseconds between two attempts of a job that names no bounds. */
export const RETRY: BackoffBounds = { first: 200, most: 10_000 }

/**
 * Runs one job for ever, one pass at a time. A pass that throws an {@link OverlayError} is repeated with
 * backoff and jitter. Any other error is a defect, and ends the loop. An abort ends the loop without an
 * error.
 */
export class Loop {
  readonly #alarm = new Alarm()
  /** When the next pass is due without a wake, or by {@link by}. */
  #due = Number.POSITIVE_INFINITY
  /** When the wakes since the last pass began make a pass due. */
  #woken = Number.POSITIVE_INFINITY
  /** A wake before this time is answered at this time. */
  #earliest = Number.NEGATIVE_INFINITY
  /** Failures in a row. */
  #failures = 0
  #problem: string | undefined

  constructor(
    private readonly job: Job,
    private readonly log: Logger,
  ) {}

  /** Why the last pass failed; `undefined` when it did not. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Asks for a pass after the settle time, but not before the spacing or the backoff is over. */
  wake(): void {
    this.#woken = Math.min(this.#woken, performance.now() + (this.job.settle ?? 0))
    this.#alarm.wake()
  }

  /**
   * Asks for a pass at that time at the latest, also during a spacing or a backoff.
   * @param when monotonic milliseconds
   */
  by(when: number): void {
    this.#due = Math.min(this.#due, when)
    this.#alarm.wake()
  }

  /** Records a failure that happened outside of a pass, such as before the loop started. */
  fail(error: OverlayError): void {
    const { job } = this
    const problem = job.describe?.(error) ?? describeError(error)
    if (job.failed !== undefined) job.failed(problem, this.#problem)
    else if (this.#problem === undefined) this.log.warn(`${job.name}: ${problem}; trying again`)
    this.#problem = problem
    this.#failures += 1
    const again = performance.now() + backoffDelay(this.#failures, job.retry ?? RETRY, Math.random)
    this.#earliest = again
    this.by(again)
  }

  /**
   * Runs until the signal fires.
   * @throws any error of a pass that is not an {@link OverlayError}
   */
  async run(signal: AbortSignal): Promise<void> {
    this.by(performance.now() + (this.job.first ?? 0))
    while (!signal.aborted) {
      await this.#alarm.sleep(this.#next - performance.now(), signal)
      if (!signal.aborted && performance.now() >= this.#next) await this.#pass(signal)
    }
  }

  get #next(): number {
    return Math.min(this.#due, Math.max(this.#woken, this.#earliest))
  }

  async #pass(signal: AbortSignal): Promise<void> {
    // A wake from here on causes another pass: this one may have read its inputs already.
    this.#due = Number.POSITIVE_INFINITY
    this.#woken = Number.POSITIVE_INFINITY
    const began = performance.now()
    try {
      const { due, earliest = Number.NEGATIVE_INFINITY } = await this.job.pass(signal)
      this.#earliest = earliest
      this.by(Math.max(due, earliest))
    } catch (error) {
      if (signal.aborted) return
      if (!isOverlayError(error)) throw error
      if (performance.now() - began > (this.job.good ?? Number.POSITIVE_INFINITY)) this.#failures = 0
      this.fail(error)
      return
    }
    if (this.#problem !== undefined) this.#recover()
    this.#failures = 0
  }

  #recover(): void {
    this.#problem = undefined
    if (this.job.recovered !== undefined) this.job.recovered()
    else this.log.info(`${this.job.name}: works again`)
  }
}
