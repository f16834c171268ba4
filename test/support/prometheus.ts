/** Parsers for Prometheus's text format and queries, as far as tests need them. promtool checks the rest. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type RunResult, run } from '../lab/process'

const ROOT = resolve(__dirname, '../..')
export const MONITORING = join(ROOT, 'scripts/monitoring')

export const promtool = (args: readonly string[], input?: string): Promise<RunResult> =>
  run([join(MONITORING, 'promtool'), ...args], input === undefined ? {} : { input })

/** Name of a series -> label -> values that occur. */
export type Exposed = ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<string>>>

/** Series, labels and label values of a scrape. @param text in Prometheus's text format */
export function readExposition(text: string): Exposed {
  const exposed = new Map<string, Map<string, Set<string>>>()
  for (const line of text.split('\n')) {
    const [, name, labels = ''] = /^([a-z_]+)(?:\{(.*)\})? \S+$/.exec(line) ?? []
    if (name === undefined) continue
    const known = exposed.get(name) ?? new Map<string, Set<string>>()
    exposed.set(name, known)
    for (const [, label = '', value = ''] of labels.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      known.set(label, (known.get(label) ?? new Set()).add(value))
    }
  }
  return exposed
}

/** Labels that Prometheus adds to each scraped series. */
const ADDED_LABELS: ReadonlySet<string> = new Set(['job', 'instance'])

/** Series, and label values in selectors, that queries use but the scrape does not have. */
export function missing(queries: readonly string[], exposed: Exposed): string[] {
  return queries.flatMap((query) =>
    Array.from(query.matchAll(/\b((?:overlayd|process)_[a-z_]+)(?:\{([^}]*)\})?/g)).flatMap(
      ([, name = '', selector = '']) => {
        const labels = exposed.get(name)
        if (labels === undefined) return [name]
        return Array.from(selector.matchAll(/([a-z_]+)(=~|=|!=)"([^"]*)"/g)).flatMap(
          ([, label = '', operator = '', wanted = '']) => {
            if (ADDED_LABELS.has(label)) return []
            const values = labels.get(label) ?? new Set()
            const named = operator === '=~' ? wanted.split('|') : [wanted]
            return named.filter((value) => !values.has(value)).map((value) => `${name}{${label}="${value}"}`)
          },
        )
      },
    ),
  )
}

const dashboardSchema = z.object({
  panels: z.array(z.object({ targets: z.array(z.object({ expr: z.string() })) })),
})

/** All queries of the dashboard. */
export const dashboardQueries = (): string[] =>
  dashboardSchema
    .parse(JSON.parse(readFileSync(join(MONITORING, 'dashboard.json'), 'utf8')))
    .panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))

/** The lines of the alert rules that contain queries. */
export const alertQueries = (): string[] =>
  readFileSync(join(MONITORING, 'alerts.yml'), 'utf8')
    .split('\n')
    .filter((line) => /^ +(expr:|sum by|or )/.test(line))
