/** Finds metrics that got worse between two runs. */
import type { Described } from './case'
import { bySize, type Results, valuesOf } from './results'
import { type Spread, spread } from './statistics'

/**
 * A growth of the median below this share is ignored, even on a quiet machine. Counts have no noise, so their
 * growth always counts.
 */
const GRACE = 0.1

/**
 * Compares the comparable metrics: counts, and ratios to a reference of the same run. A metric is worse if
 * its least new value is above its largest old value and, for a ratio, its median has grown by more than a
 * tenth.
 * @returns a sentence for each worse metric
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
          const shown = (each: Spread) =>
            `${each.median.toFixed(digits)} (${each.min.toFixed(digits)} - ${each.max.toFixed(digits)})`
          const name = [label, column].filter(Boolean).join(', ')
          worse.push(
            `${subject}, ${benchmark.name}, N=${size}: ${name}: was ${shown(old)}, is ${shown(fresh)}`,
          )
        }
      }
    }
  }
  return worse
}

const isWorse = (old: Spread, fresh: Spread, isCount: boolean): boolean =>
  fresh.min > old.max && (isCount || fresh.median > old.median * (1 + GRACE))
