/** The alert rules and the dashboard's queries, as Prometheus reads them. That a daemon has the series they ask for: telemetry.test.ts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { dashboardQueries, MONITORING, promtool } from '../../support/prometheus'

jest.setTimeout(60_000)

test('the alert rules are valid, and do what their tests say', async () => {
  expect(await promtool(['check', 'rules', join(MONITORING, 'alerts.yml')])).toMatchObject({ code: 0 })
  expect(await promtool(['test', 'rules', join(__dirname, 'alerts.test.yml')])).toMatchObject({ code: 0 })
})

test("the dashboard's queries are valid", async () => {
  const queries = dashboardQueries()
  expect(queries.length).toBeGreaterThan(20)
  // As rules, for which promtool has a check.
  const rules = queries.map((query, place) => ({
    record: `query_${place}`,
    expr: query.replaceAll('$__rate_interval', '5m'),
  }))
  const directory = mkdtempSync(join(tmpdir(), 'overlayd-dashboard-'))
  try {
    const file = join(directory, 'queries.json')
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
    expect(await promtool(['check', 'rules', file])).toMatchObject({ code: 0 })
  } finally {
    rmSync(directory, { recursive: true })
  }
})
