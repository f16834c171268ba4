/** Operations the kernel refused: each is tried again alone, with backoff, and blocks no other. */

import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeOperation } from '../model/describe-operation'
import type { ObjectOperation, OperationFailure } from '../model/kernel'
import { addOperation, emptyScope, inScope, type Scope } from '../plan/scope'

/** From a glitch (100 ms) to something that needs a person (30 s). */
const BOUNDS: BackoffBounds = { first: 100, most: 30_000 }

/** A change that the kernel refuses. */
export interface Failing {
  readonly operation: ObjectOperation
  readonly error: Error
  readonly attempts: number
  /** On the monotonic clock, in milliseconds. */
  readonly dueAt: number
}

export class Retries {
  /** text of the operation -> what is known of its failure */
  readonly #failing = new Map<string, Failing>()

  get size(): number {
    return this.#failing.size
  }

  failures(): IterableIterator<OperationFailure> {
    return this.#failing.values()
  }

  /** When the next retry is due, on the monotonic clock in milliseconds; Infinity for never. */
  get nextDue(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { dueAt } of this.#failing.values()) next = Math.min(next, dueAt)
    return next
  }

  /** What is known of that one's failure. */
  stateOf(operation: ObjectOperation): Failing | undefined {
    return this.#failing.get(describeOperation(operation))
  }

  /** Has all tried again at once: what was in the way may be gone. */
  hasten(now: number): void {
    for (const [key, failing] of this.#failing) {
      this.#failing.set(key, { ...failing, dueAt: Math.min(failing.dueAt, now) })
    }
  }

  /** Takes in better words for why these fail. */
  explain(failures: readonly OperationFailure[]): void {
    for (const { operation, error } of failures) {
      const key = describeOperation(operation)
      const failing = this.#failing.get(key)
      if (failing !== undefined) this.#failing.set(key, { ...failing, error })
    }
  }

  /** All objects that fail. */
  scope(): Scope {
    const scope = emptyScope()
    this.addDue(scope, Number.POSITIVE_INFINITY)
    return scope
  }

  /** Adds the objects whose retry is due. */
  addDue(scope: Scope, now: number): void {
    for (const failing of this.#failing.values()) {
      if (failing.dueAt <= now) addOperation(scope, failing.operation)
    }
  }

  /**
   * Leaves out what is not due yet, and forgets what is no longer wanted.
   * @param scope what the operations were made for; `undefined` for everything
   */
  filter(
    operations: readonly ObjectOperation[],
    scope: Scope | undefined,
    now: number,
  ): readonly ObjectOperation[] {
    if (this.#failing.size === 0) return operations
    const wanted = new Set(operations.map(describeOperation))
    for (const [key, { operation }] of this.#failing) {
      if (!wanted.has(key) && (scope === undefined || inScope(scope, operation))) this.#failing.delete(key)
    }
    return operations.filter(
      (operation) => (this.#failing.get(describeOperation(operation))?.dueAt ?? now) <= now,
    )
  }

  /**
   * Notes how it went.
   * @returns the failures that are new, for the log
   */
  settle(
    applied: readonly ObjectOperation[],
    failures: readonly OperationFailure[],
    now: number,
    random: () => number,
  ): OperationFailure[] {
    if (this.#failing.size === 0 && failures.length === 0) return []
    const before = new Map(this.#failing)
    for (const operation of applied) this.#failing.delete(describeOperation(operation))
    for (const { operation, error } of failures) {
      const key = describeOperation(operation)
      const earlier = before.get(key)
      const attempts = (earlier?.attempts ?? 0) + 1
      const dueAt = now + backoffDelay(attempts, BOUNDS, random)
      // The words that were found for the first failure are better than a repeated number.
      const words = earlier !== undefined && isCause(error, earlier.error) ? earlier.error : error
      this.#failing.set(key, { operation, error: words, attempts, dueAt })
    }
    return failures.filter(({ operation }) => !before.has(describeOperation(operation)))
  }
}

/** Whether an error is what another one says in better words. */
const isCause = (error: Error, explained: Error): boolean =>
  explained.cause instanceof Error && explained.cause.message === error.message
