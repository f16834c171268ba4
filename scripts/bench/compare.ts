/** What has become worse between two runs. */
import type { Described } from './case'
import { bySize, type Results, valuesOf } from './results'
import { type Spread, spread } from './statistics'

/** Below this share a difference is none, however quiet the machine was; counts have no noise, and no such grace. */
const GRACE = 0.1

/**
 * Compares what can be compared: counts, and ratios to a reference of the same run. Worse is what lies outside the noise of both runs: the
 * least of the new values above the most of the old ones, and the median by a tenth.
 * @returns a sentence for each
 */
export function findWorse(cases: readonly Described[], before: Results, after: Results): string[] {
  const worse: string[] = []
  for (const [subject, samples] of after.subjects) {
    const known = before.subjects.get(subject)
    if (known === undefined) continue
    for (const benchmark of cases) {
      for (const [size, some] of bySize(samples, benchmark)) {
        for (const { key, label, column, digits, comparable } of benchmark.metrics) {
          if (comparable === undefined) continue
          const [old, fresh] = [
            spread(valuesOf(known.get(benchmark.name)?.get(size), key)),
            spread(valuesOf(some, key)),
          ]
          if (!isWorse(old, fresh, digits === 0)) continue
          const said = (each: Spread) =>
            `${each.median.toFixed(digits)} (${each.min.toFixed(digits)} - ${each.max.toFixed(digits)})`
          worse.push(
            `${subject}, ${benchmark.name}, N=${size}: ${[label, column].filter(Boolean).join(', ')}: ${said(old)} was, ${said(fresh)} is`,
          )
        }
      }
    }
  }
  return worse
}

const isWorse = (old: Spread, fresh: Spread, isCount: boolean): boolean =>
  fresh.min > old.max && (isCount || fresh.median > old.median * (1 + GRACE))
