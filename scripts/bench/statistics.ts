/** Summaries of many numbers. */

/** @param share 0.5 for the median; the nearest rank */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

export interface Spread {
  readonly min: number
  readonly median: number
  readonly max: number
}

/** Least, median and largest of the finite values; NaN if there are none. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  const middle = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return {
    min: sorted[0] ?? Number.NaN,
    median: ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2,
    max: sorted.at(-1) ?? Number.NaN,
  }
}

/** `p50`, `p99` and `max` of latencies, under a common prefix. */
export function latencies(prefix: string, milliseconds: readonly number[]): Record<string, number> {
  return {
    [`${prefix}P50`]: quantile(milliseconds, 0.5),
    [`${prefix}P99`]: quantile(milliseconds, 0.99),
    [`${prefix}Max`]: quantile(milliseconds, 1),
  }
}
