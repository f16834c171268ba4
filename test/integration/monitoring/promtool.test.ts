/**
 * The alert rules and the queries of the dashboard, as Prometheus reads them. telemetry.test.ts tests that a
 * daemon has the series.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { patient } from '../../lab/patience'
import { dashboardQueries, MONITORING, promtool } from '../../support/prometheus'

jest.setTimeout(patient(60_000))

test('the alert rules are valid, and do what their tests say', async () => {
  expect(await promtool(['check', 'rules', join(MONITORING, 'alerts.yml')])).toMatchObject({ code: 0 })
  expect(await promtool(['test', 'rules', join(__dirname, 'alerts.test.yml')])).toMatchObject({ code: 0 })
})

test("the dashboard's queries are valid", async () => {
  const queries = dashboardQueries()
  expect(queries.length).toBeGreaterThan(20)
  // The queries are written as rules, because promtool can check rules.
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
