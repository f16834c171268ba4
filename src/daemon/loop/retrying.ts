/** Attempts against etcd at the start. After some failures they end, and the caller begins a new start. */
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdError } from '../../etcd/client/errors'
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import { describeError } from '../../model/errors'
import type { Logger } from '../tell/logger'

export interface Retrying {
  /** The first word of the log lines, such as `lease`. */
  readonly name: string
  readonly retry: BackoffBounds
  /** Failures after which the last one is thrown. */
  readonly most: number
  /** Called before each wait, with the failure. */
  readonly failed?: (error: EtcdError) => void
  readonly log: Logger
}

/**
 * Repeats an attempt while etcd fails.
 * @throws {EtcdError} the last failure; any other error of the attempt at once; the signal's reason
 */
export async function retrying<T>(
  { name, retry, most, failed, log }: Retrying,
  attempt: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof EtcdError) || failures === most) throw error
      log.warn(`${name}: ${describeError(error)}; trying again`)
      failed?.(error)
      await sleep(backoffDelay(failures, retry, Math.random), undefined, { signal })
    }
  }
}
