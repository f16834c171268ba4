/**
 * What a starting daemon waits for: one value, which status, `/readyz`, systemd and the log show in the same
 * words.
 */
import { isOverlayError, OverlayError } from './errors'

/** The part that the daemon waits for; the text starts with it. */
export type WaitingPart = 'etcd' | 'config' | 'underlay' | 'device' | 'lease'

export interface Waiting {
  readonly part: WaitingPart
  /**
   * For programs: code of the {@link OverlayError} that keeps the daemon waiting, or `etcd-silent`,
   * `asking-owner`.
   */
  readonly code: string
  readonly reason: string
  /** What a person can do about it. */
  readonly fix?: string | undefined
}

/** As text: `config: there is no network config at KEY; put one: COMMAND`. */
export const describeWaiting = ({ part, reason, fix }: Waiting): string =>
  `${part}: ${reason}${fix === undefined ? '' : `; ${fix}`}`

/** An error that the daemon waits out by retrying. */
export const waitingFor = (part: WaitingPart, error: unknown): Waiting =>
  isOverlayError(error)
    ? { part, code: error.code, reason: error.message, fix: error.fix }
    : { part, code: 'unknown', reason: String(error) }

export const sameWaiting = (a: Waiting | undefined, b: Waiting | undefined): boolean =>
  a?.code === b?.code && (a && describeWaiting(a)) === (b && describeWaiting(b))
