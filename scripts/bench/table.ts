/** Measurements as Markdown. */
import type { Described, Metric, Sample } from './case'
import { bySize, type Samples, valuesOf } from './results'
import { spread } from './statistics'

/**
 * Renders a case. If its metrics have no columns, there is one column for each number of peers and one row
 * for each metric; otherwise a table for each number of peers. Cells are median (min - max), or a dash if
 * nothing was measured.
 * @param subject name in the head of the table
 */
export function renderTable(benchmark: Described, samples: Samples, subject: string): string {
  const sizes = bySize(samples, benchmark)
  const title = `${benchmark.name}, ${subject}`
  if (benchmark.metrics[0]?.column === undefined) {
    const rows = benchmark.metrics.map((metric) => [
      metric.label,
      ...sizes.map(([, some]) => cell(metric, some)),
    ])
    return markdown([title, ...sizes.map(([size]) => `N=${size}`)], rows)
  }
  const columns = unique(benchmark.metrics.map(({ column }) => column ?? ''))
  const labels = unique(benchmark.metrics.map(({ label }) => label))
  const tables = sizes.map(([size, some]) => {
    const rows = labels.map((label) => [
      label,
      ...columns.map((column) => {
        const metric = benchmark.metrics.find((each) => each.label === label && each.column === column)
        return metric === undefined ? '' : cell(metric, some)
      }),
    ])
    return markdown([`${title}, N=${size}`, ...columns], rows)
  })
  return tables.join('\n\n')
}

const unique = (texts: readonly string[]): string[] => [...new Set(texts)]

const markdown = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

const cell = ({ key, digits }: Metric, samples: readonly Sample[]): string =>
  summarize(valuesOf(samples, key), digits)

function summarize(values: readonly number[], digits: number): string {
  const { min, median, max } = spread(values)
  if (Number.isNaN(median)) return '-'
  const [low, center, high] = [min, median, max].map((value) => value.toFixed(digits))
  return low === high ? `${center}` : `${center} (${low} - ${high})`
}
