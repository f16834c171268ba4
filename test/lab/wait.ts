/**
 * Waiting for conditions instead of fixed times: with a deadline, and a message with the last observation.
 */

import { patient } from './patience'

/** Returned by a probe while the condition does not hold; `seen` is the probe's observation. */
export class Pending {
  constructor(readonly seen: string) {}
}

export interface WaitOptions {
  /** Deadline for an idle machine of the usual speed (see patience.ts); default 10 s. */
  readonly timeoutMs?: number
  /** Between the first probes; default 20 ms. */
  readonly intervalMs?: number
  /** Further text for the error message, such as the end of a log. */
  readonly context?: () => string
}

/**
 * The time between two probes grows to this part of the time waited, so that a long wait takes no processor.
 */
const INTERVAL_PART = 1 / 50

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

/**
 * Calls `probe` repeatedly until it returns something other than {@link Pending}. A probe that throws ends
 * the wait.
 * @param what completes the sentence "waited 10 s for ..."
 * @throws {Error} at the deadline, with `what`, the last observation and the context
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | Pending | Promise<T | Pending>,
  { timeoutMs = 10_000, intervalMs = 20, context }: WaitOptions = {},
): Promise<T> {
  const started = performance.now()
  for (;;) {
    // The deadline is computed again each time: the load of the machine may have changed. It is compared
    // before the probe: a probe that takes longer than the deadline is not the only one.
    const isLast = performance.now() - started >= patient(timeoutMs)
    const answer = await probe()
    if (!(answer instanceof Pending)) return answer
    const waited = performance.now() - started
    if (isLast) {
      const message = `waited ${Math.round(waited / 1000)} s for ${what}; last seen: ${answer.seen}`
      const more = context?.() ?? ''
      throw new Error(more === '' ? message : `${message}\n${more}`)
    }
    await sleep(Math.max(intervalMs, waited * INTERVAL_PART))
  }
}
