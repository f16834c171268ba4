/** Bounds of a retry's delay, in milliseconds. */
export interface BackoffBounds {
  readonly first: number
  readonly most: number
}

/**
 * The delay before a retry. It doubles from `first` to `most`. Its second half is random, so that hosts that
 * failed together do not retry together.
 * @param attempt number of failures so far, from 1
 * @param random returns a number from 0 to 1, as Math.random
 * @returns milliseconds
 */
export function backoffDelay(attempt: number, bounds: BackoffBounds, random: () => number): number {
  const full = Math.min(bounds.most, bounds.first * 2 ** Math.min(attempt - 1, 30))
  return full / 2 + (full / 2) * random()
}
