/**
 * The benchmark's cases of the data plane. The load passes on every way, and the right figures are compared.
 * The tests judge no amount and no speed.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readResults, type Samples } from '../../../scripts/bench/results'
import { patient } from '../../lab/patience'
import type { RunResult } from '../../lab/process'
import { bench } from '../../support/bench'

jest.setTimeout(patient(180_000))

const PEERS = 3
const WAYS = ['underlay', 'routed', 'by hand', 'overlay', 'direct']
const RATIOS = ['overlay:routed', 'overlay:by hand']
const TCP = ['tcp', 'tcpCpu', 'tcp8']
const REST = ['udp64', 'udp64Cpu', 'udp1400', 'udp1400Cpu', 'pingMin', 'pingAverage', 'request', 'requestP99']
const LITTLE = [`--peers=${PEERS}`, '--repeats=1', '--no-quiet', '--load=0']

let directory: string
let file: string
let outcome: RunResult

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'overlayd-bench-'))
  file = join(directory, 'results.jsonl')
  const options = '--options=DF set,RPS on the device'
  const cases = ['dataplane', 'dataplane-plain-nic', 'dataplane-options', 'multicast']
  outcome = await bench(...LITTLE, options, `--output=${file}`, ...cases)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const samples = (): Samples => readResults(file).subjects.get('dist') ?? new Map()
const sample = (name: string) => samples().get(name)?.get(PEERS)?.[0] ?? {}

test('it ends well', () => {
  expect(outcome).toMatchObject({ code: 0 })
})

test.each([
  ['dataplane', [...TCP, ...REST]],
  ['dataplane-plain-nic', TCP],
])('%s: every load gets through on every way, and the overlay is compared with two of them', (name, keys) => {
  const wanted = [...WAYS, ...RATIOS].flatMap((way) => keys.map((key) => `${way}/${key}`))
  const figures = sample(name)
  expect(wanted.filter((key) => !((figures[key] ?? 0) > 0))).toEqual([])
  expect(outcome.stdout).toContain(
    `| ${name}, dist, N=${PEERS} | ${WAYS.join(' | ')} | overlay worse than routed, times | overlay worse than by hand, times |\n`,
  )
})

test('dataplane-options: those that are named are compared, by every load', () => {
  const keys = ['tcp', 'tcpCpu', 'udp64', 'udp64Cpu', 'request', 'tcp, no offloads', 'tcpCpu, no offloads']
  const wanted = ['DF set', 'RPS on the device'].flatMap((name) => keys.map((key) => `${name}/${key}`))
  expect(Object.keys(sample('dataplane-options')).sort()).toEqual([...wanted].sort())
  expect(outcome.stdout).toMatch(/^\| DF set( \| \d+\.\d\d){7} \|$/m)
})

test('multicast: each receiver hears each packet once, and export is compared with none', () => {
  const ways = ['no export', 'to 1 host', 'to 2 hosts']
  const figures = sample('multicast')
  for (const way of ways) expect([way, figures[`${way}/received`]]).toEqual([way, 1])
  const keys = ['sent', 'cpu'].flatMap((key) =>
    [...ways, ...ways.slice(1).map((way) => `${way}:no export`)].map((way) => `${way}/${key}`),
  )
  expect(keys.filter((key) => !((figures[key] ?? 0) > 0))).toEqual([])
  const heads = [...ways, ...ways.slice(1).map((way) => `${way} worse than no export, times`)]
  expect(outcome.stdout).toContain(`| multicast, dist, N=${PEERS} | ${heads.join(' | ')} |\n`)
})

test('an option that does not exist is refused by name', async () => {
  const { code, stderr } = await bench(...LITTLE, '--options=magic', 'dataplane-options')
  expect(code).toBe(1)
  expect(stderr).toContain('--options: no "magic"; there are outer UDP not tracked, ')
})
