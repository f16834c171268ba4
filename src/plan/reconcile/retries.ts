/** Operations that the kernel refused: each is tried again alone, with backoff, and blocks no other. */
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import { IdMap } from '../../model/id-map'
import type { ObjectId, ObjectOperation, OperationFailure } from '../../model/kernel/objects'
import { sameOperation } from '../objects'
import { addObject, emptyScope, inScope, type Scope } from './scope'

/** From a glitch (100 ms) to something that needs a person (30 s). */
const BOUNDS: BackoffBounds = { first: 100, most: 30_000 }

/** A change that the kernel refuses. */
export interface Failing extends OperationFailure {
  /** In the words of the first refusal, once they were explained. */
  readonly error: Error
  readonly attempts: number
  /** On the monotonic clock, in milliseconds. */
  readonly dueAt: number
}

type Known = { -readonly [Field in keyof Failing]: Failing[Field] }

export class Retries {
  /**
   * Of each object the operations that fail: mostly one; two where one entry is to go and another to come.
   */
  readonly #failing = new IdMap<ObjectId, readonly Known[]>()

  get size(): number {
    let size = 0
    for (const failing of this.#failing.values()) size += failing.length
    return size
  }

  failures(): Generator<Failing> {
    return this.#all()
  }

  *#all(): Generator<Known> {
    for (const failing of this.#failing.values()) yield* failing
  }

  /** When the next retry is due, on the monotonic clock in milliseconds; Infinity for never. */
  get nextDue(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { dueAt } of this.failures()) next = Math.min(next, dueAt)
    return next
  }

  /** The failure of the operation, if it is one that fails. */
  stateOf(operation: ObjectOperation): Failing | undefined {
    return this.#known(operation)
  }

  #known(operation: ObjectOperation): Known | undefined {
    return this.#failing.get(operation)?.find((failing) => sameOperation(failing.operation, operation))
  }

  /** Makes all retries due: what was in the way may be gone. */
  hasten(now: number): void {
    for (const failing of this.#all()) failing.dueAt = Math.min(failing.dueAt, now)
  }

  /** Replaces errors by others that say better why the same operations fail. */
  explain(failures: readonly OperationFailure[]): void {
    for (const { operation, error } of failures) {
      const failing = this.#known(operation)
      if (failing !== undefined) failing.error = error
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
    for (const { operation, dueAt } of this.failures()) if (dueAt <= now) addObject(scope, operation)
  }

  /**
   * Leaves out operations that are not due yet, and forgets failures whose operation is no longer wanted.
   * @param scope the objects that the operations were made for; `undefined` for all
   */
  filter(
    operations: readonly ObjectOperation[],
    scope: Scope | undefined,
    now: number,
  ): readonly ObjectOperation[] {
    if (this.#failing.size === 0) return operations
    const wanted = new Set<Failing>()
    const due = operations.filter((operation) => {
      const failing = this.stateOf(operation)
      if (failing === undefined) return true
      wanted.add(failing)
      return failing.dueAt <= now
    })
    for (const failing of this.failures()) {
      const isOver = !wanted.has(failing) && (scope === undefined || inScope(scope, failing.operation))
      if (isOver) this.#forget(failing)
    }
    return due
  }

  /**
   * Notes the results of operations.
   * @returns the failures that are new, for the log
   */
  settle(
    applied: readonly ObjectOperation[],
    failures: readonly OperationFailure[],
    now: number,
    random: () => number,
  ): OperationFailure[] {
    if (this.#failing.size === 0 && failures.length === 0) return []
    const again = new Set<Failing>()
    const news: OperationFailure[] = []
    for (const failure of failures) {
      const { operation, error } = failure
      const earlier = this.#known(operation)
      const attempts = (earlier?.attempts ?? 0) + 1
      const dueAt = now + backoffDelay(attempts, BOUNDS, random)
      if (earlier === undefined) {
        const failing = { ...failure, attempts, dueAt }
        this.#failing.set(operation, [...(this.#failing.get(operation) ?? []), failing])
        again.add(failing)
        news.push(failure)
      } else {
        // The words that were found for the first failure are better than a repeated number.
        if (!isCause(error, earlier.error)) earlier.error = error
        Object.assign(earlier, { attempts, dueAt, cause: failure.cause, errno: failure.errno })
        again.add(earlier)
      }
    }
    for (const operation of applied) {
      const failing = this.stateOf(operation)
      if (failing !== undefined && !again.has(failing)) this.#forget(failing)
    }
    return news
  }

  #forget(failing: Failing): void {
    const { operation } = failing
    const others = (this.#failing.get(operation) ?? []).filter((other) => other !== failing)
    if (others.length === 0) this.#failing.delete(operation)
    else this.#failing.set(operation, others)
  }
}

/** Whether an error is the one that another error explains. */
const isCause = (error: Error, explained: Error): boolean =>
  explained.cause instanceof Error && explained.cause.message === error.message
