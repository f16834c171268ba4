/**
 * A real Prometheus scrapes two hosts, with the alert rules of the package: an alert fires at a fault, and
 * ends after the cure. promtool.test.ts tests the rules themselves, with their delays.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { Lab } from '../../lab/lab'
import { execOk } from '../../lab/namespace'
import { patient, patientSeconds } from '../../lab/patience'
import { LongProcess, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { MONITORING } from '../../support/prometheus'

jest.setTimeout(patient(120_000))

const METRICS_PORT = 9401
/** In the sandbox, on loopback. */
const PROMETHEUS = '127.0.0.1:9090'

const alertsSchema = z.object({
  status: z.literal('success'),
  data: z.object({
    alerts: z.array(z.object({ labels: z.record(z.string(), z.string()), state: z.string() })),
  }),
})
const targetsSchema = z.object({
  data: z.object({ activeTargets: z.array(z.object({ health: z.string(), lastError: z.string() })) }),
})

let lab: Lab
let prometheus: LongProcess
beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  for (const host of lab.hosts)
    host.start({
      flags: { probe: 'on', 'metrics-ip': host.address, 'metrics-port': `${METRICS_PORT}` },
    })
  await lab.waitConverged()
  const directory = join(lab.directory, 'prometheus')
  mkdirSync(directory)
  const scrape = `${patientSeconds(1)}s`
  // The delays of the rules are the only thing that is changed: promtool tests them.
  const rules = readFileSync(join(MONITORING, 'alerts.yml'), 'utf8')
  writeFileSync(join(directory, 'alerts.yml'), rules.replace(/^( +for): \S+$/gm, '$1: 0s'))
  writeFileSync(
    join(directory, 'prometheus.yml'),
    JSON.stringify({
      global: { scrape_interval: scrape, scrape_timeout: scrape, evaluation_interval: '1s' },
      rule_files: ['alerts.yml'],
      scrape_configs: [
        {
          job_name: 'overlayd',
          static_configs: [{ targets: lab.hosts.map(({ address }) => `${address}:${METRICS_PORT}`) }],
        },
      ],
    }),
  )
  prometheus = new LongProcess('Prometheus', [
    ...([join(MONITORING, 'promtool'), '--server'] as const),
    `--config.file=${join(directory, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(directory, 'data')}`,
    `--web.listen-address=${PROMETHEUS}`,
  ])
  await prometheus.waitForOutput(/Server is ready to receive web requests/, { timeoutMs: 20_000 })
})
afterAll(async () => {
  await prometheus?.stop('SIGKILL')
  await lab?.close()
})

const ask = async (path: string): Promise<unknown> =>
  JSON.parse(
    await runOk(['curl', '-sS', '--max-time', `${patientSeconds(5)}`, `http://${PROMETHEUS}/api/v1/${path}`]),
  )

/** Alerts about delays of minutes, which a busy machine causes within these tests. */
const ABOUT_LOAD = ['OverlaydEventLoopLag', 'OverlaydConvergenceSlow']

/** Names and hosts of the alerts that fire, without those that only inform or are about load. */
async function firing(): Promise<string[]> {
  const { data } = alertsSchema.parse(await ask('alerts'))
  return data.alerts
    .filter(({ state, labels }) => state === 'firing' && labels['severity'] !== 'info')
    .filter(({ labels }) => !ABOUT_LOAD.includes(labels['alertname'] ?? ''))
    .map(({ labels }) => `${labels['alertname']} ${labels['instance']}`)
    .sort()
}

const untilFiring = (what: string, holds: (alerts: readonly string[]) => boolean) =>
  waitFor(
    what,
    async () => {
      const alerts = await firing()
      return holds(alerts) ? alerts : new Pending(alerts.join(', ') || 'no alert')
    },
    { timeoutMs: 40_000, intervalMs: 200, context: () => prometheus.tail() },
  )

test('an alert fires while VXLAN is dropped at one host, and ends after the cure', async () => {
  await waitFor('both hosts to be scraped', async () => {
    const { data } = targetsSchema.parse(await ask('targets'))
    const bad = data.activeTargets.filter(({ health }) => health !== 'up')
    return data.activeTargets.length === 2 && bad.length === 0 ? true : new Pending(JSON.stringify(bad))
  })
  for (const host of lab.hosts)
    await host.waitForStatus('an answer of the other host', ({ mesh }) => mesh?.peers.answering === 1)
  await untilFiring('no alert at all', (alerts) => alerts.length === 0)
  const [broken] = lab.hosts
  if (broken === undefined) throw new Error('the lab has no host')
  await execOk(broken.namespace, [
    'nft',
    'table inet faults { chain in { type filter hook input priority 0; udp dport 8472 drop; }; }',
  ])
  // Both hosts miss the answers of the other one.
  await untilFiring('the alert at both hosts', (alerts) =>
    lab.hosts.every(({ address }) => alerts.includes(`OverlaydPeersUnreachable ${address}:${METRICS_PORT}`)),
  )
  await execOk(broken.namespace, ['nft', 'delete table inet faults'])
  await untilFiring('the end of all alerts', (alerts) => alerts.length === 0)
})
