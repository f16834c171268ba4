/** Measurements as Markdown. */
import type { Described } from './case'
import { bySize, type Samples, valuesOf } from './results'
import { spread } from './statistics'

/**
 * One column for each number of peers, one row for each metric; cells are median (min - max), a dash where nothing was measured.
 * @param subject heads the table
 */
export function renderTable(benchmark: Described, samples: Samples, subject: string): string {
  const sizes = bySize(samples, benchmark)
  const rows = benchmark.metrics.map(({ key, label, digits }) => [
    label,
    ...sizes.map(([, some]) => summarize(valuesOf(some, key), digits)),
  ])
  const header = [`${benchmark.name}, ${subject}`, ...sizes.map(([size]) => `N=${size}`)]
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function summarize(values: readonly number[], digits: number): string {
  const { min, median, max } = spread(values)
  if (Number.isNaN(median)) return '-'
  const [low, center, high] = [min, median, max].map((value) => value.toFixed(digits))
  return low === high ? `${center}` : `${center} (${low} - ${high})`
}
