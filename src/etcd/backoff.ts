/** Limits of the wait between two attempts, in milliseconds. */
const FIRST_MS = 100
const CAP_MS = 2000

/** A stream that lived that long was a good one: the next wait is short again. */
export const GOOD_AFTER_MS = CAP_MS

/**
 * How long to wait before trying again: doubling up to a cap, and by chance between half and all of it, so that hosts that lost
 * the same member at once do not come back at once.
 * @param attempt 1 for the first failure in a row
 * @param random from 0 to 1
 */
export function backoffMs(attempt: number, random: number): number {
  return Math.min(CAP_MS, FIRST_MS * 2 ** (attempt - 1)) * (0.5 + random / 2)
}
