import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Waits for a promise that the caller awaits again later: until then its rejection does not count as
 * unhandled.
 * @param deadline monotonic milliseconds
 * @returns whether it settled before the deadline; also true when the signal fires first
 */
export async function settlesBefore(
  promise: Promise<unknown>,
  deadline: number,
  signal: AbortSignal,
): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  )
  const done = new AbortController()
  const late = sleep(Math.max(0, deadline - performance.now()), false, {
    signal: AbortSignal.any([done.signal, signal]),
  }).catch(() => true)
  const isInTime = await Promise.race([settled, late])
  done.abort()
  return isInTime
}
