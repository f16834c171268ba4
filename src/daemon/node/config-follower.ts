/**
 * Follows the network config in etcd: applies each change, repeats an attempt that failed, and keeps the
 * reason why the config in etcd is not in use.
 */
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import { describeError, isOverlayError } from '../../model/errors'
import type { Logger } from '../tell/logger'

/** Milliseconds between two attempts to apply a config that this host could not use. */
const RETRY: BackoffBounds = { first: 1000, most: 30_000 }

type Pending =
  /** The config in etcd was applied, or cannot be applied while this daemon runs. */
  { readonly kind: 'nothing' } | { readonly kind: 'attempt'; readonly due: number; readonly failures: number }

export class ConfigFollower {
  #pending: Pending = { kind: 'nothing' }
  #problem: string | undefined
  /** The text in etcd. */
  #text: string | undefined
  /** The text that the last attempt was about, whatever came of it. */
  #tried: string | undefined

  /** @param inUse text of the config in use */
  constructor(
    private inUse: string | undefined,
    private readonly log: Logger,
  ) {
    this.#text = inUse
    this.#tried = inUse
  }

  /** Whether the text in etcd is in use, or an attempt to use it has failed. */
  get isTried(): boolean {
    return this.#text === this.#tried
  }

  /** Whether the text in etcd is in use. */
  get isInUse(): boolean {
    return this.isTried && this.#problem === undefined
  }

  /** Why the config in etcd is not in use; `undefined` if it is. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** The text of the config in use. */
  get textInUse(): string | undefined {
    return this.inUse
  }

  /** When the next attempt is due, in monotonic milliseconds; Infinity for never. */
  get due(): number {
    return this.#pending.kind === 'attempt' ? this.#pending.due : Number.POSITIVE_INFINITY
  }

  /** Receives the text in etcd; `undefined` if there is none. */
  receive(text: string | undefined, now: number): void {
    if (text === this.#text) return
    this.#text = text
    this.#pending = { kind: 'attempt', due: now, failures: 0 }
  }

  /**
   * Makes the attempt that is due.
   * @param apply applies a text. It returns why that is not possible while this daemon runs, or `undefined`
   * if it is applied
   * @returns whether another text is in use now
   * @throws any error of `apply` that is not an OverlayError, unless the signal has fired
   */
  async attempt(apply: (text: string) => Promise<string | undefined>, signal: AbortSignal): Promise<boolean> {
    const failures = this.#pending.kind === 'attempt' ? this.#pending.failures : 0
    this.#pending = { kind: 'nothing' }
    const text = this.#text
    try {
      const isNew = text !== undefined && text !== this.inUse
      const problem = text === undefined ? DELETED : isNew ? await apply(text) : undefined
      if (isNew && problem === undefined) this.inUse = text
      this.#setProblem(problem)
      return isNew && problem === undefined
    } catch (error) {
      if (signal.aborted) return false
      if (!isOverlayError(error)) throw error
      this.#setProblem(
        'the changed network config cannot be used here; the former one stays in use: ' +
          describeError(error),
      )
      // If another text arrived during the attempt, its attempt is due already.
      if (this.#pending.kind === 'nothing') this.#pending = { kind: 'attempt', ...again(failures + 1) }
      return false
    } finally {
      if (!signal.aborted) this.#tried = text
    }
  }

  #setProblem(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem)
      this.log.warn(`config: ${problem}`, { kind: 'config-problem' })
    if (problem === undefined && this.#problem !== undefined)
      this.log.info('config: the config in etcd is in use', { kind: 'config-change' })
    this.#problem = problem
  }
}

const DELETED = 'the network config in etcd was deleted; the last one stays in use'

const again = (failures: number) => ({
  failures,
  due: performance.now() + backoffDelay(failures, RETRY, Math.random),
})
