/** Bounds of a retry's delay, in milliseconds. */
export interface BackoffBounds {
  readonly first: number
  readonly most: number
}

/**
 * The delay before a retry: doubling from `first` to `most`, of which the second half is random, so that many hosts that failed together
 * do not come back together.
 * @param attempt failures so far, from 1
 * @returns milliseconds
 */
export function backoffDelay(attempt: number, bounds: BackoffBounds, random: () => number): number {
  const full = Math.min(bounds.most, bounds.first * 2 ** Math.min(attempt - 1, 30))
  return full / 2 + (full / 2) * random()
}
