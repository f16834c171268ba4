/** Measurements as Markdown. */
import type { Case, Sample } from './case'

/** One column for each size, one row for each metric; cells are median (min - max). */
export function renderTable(benchmark: Case, samples: ReadonlyMap<number, readonly Sample[]>): string {
  const sizes = [...samples.keys()]
  const rows = benchmark.metrics.map(({ key, label, digits }) => [
    label,
    ...sizes.map((size) =>
      summarize(
        (samples.get(size) ?? []).map((sample) => sample[key] ?? Number.NaN),
        digits,
      ),
    ),
  ])
  const header = [benchmark.name, ...sizes.map((size) => `N=${size}`)]
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function summarize(values: readonly number[], digits: number): string {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const median =
    ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2
  const [min, center, max] = [sorted[0], median, sorted.at(-1)].map((value) =>
    (value ?? Number.NaN).toFixed(digits),
  )
  return min === max ? `${center}` : `${center} (${min} - ${max})`
}
