/**
 * The benchmark suite without the data plane. Each case runs, and checks what it measures and counts. The
 * tests judge no duration.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readResults, type Samples } from '../../../scripts/bench/results'
import { patient } from '../../lab/patience'
import { describeExit, type RunResult } from '../../lab/process'
import { bench } from '../../support/bench'

jest.setTimeout(patient(180_000))

const SIZES = [0, 12]
const HOSTS = 3
const FLEET_CASES = ['many-hosts', 'many-hosts-proxy']
const CASES = [
  'cold-start',
  'warm-restart',
  'stalls',
  'joins',
  'bursts',
  'renewals',
  'reconnect',
  'resync',
  'drift',
  'idle',
  'memory',
  'status',
  'etcd-costs',
  'probing',
  'prefixes',
]
const ALL_CASES = [...CASES, ...FLEET_CASES]

let directory: string
let file: string
let outcome: RunResult

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'overlayd-bench-'))
  file = join(directory, 'results.jsonl')
  const effort = ['--burst=8', '--serial=3', '--events=40', '--idle=1', `--settle=${patient(200)}`]
  const wanted = [
    `--peers=${SIZES.join()}`,
    `--hosts=${HOSTS}`,
    '--repeats=1',
    '--no-quiet',
    `--output=${file}`,
  ]
  outcome = await bench(...wanted, ...effort, `--plots=${join(directory, 'plots')}`, ...ALL_CASES)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const samples = (): Samples => readResults(file).subjects.get('dist') ?? new Map()
const sample = (name: string, size: number) => samples().get(name)?.get(size)?.[0]

test('it ends well, having measured each case once at each size', () => {
  // The message has the output of the suite, which has the reason.
  if (outcome.code !== 0) throw new Error(`${describeExit(outcome)}: ${outcome.stderr}`)
  expect([...samples().keys()].sort()).toEqual([...ALL_CASES].sort())
  for (const name of FLEET_CASES) expect([...(samples().get(name)?.keys() ?? [])]).toEqual([HOSTS])
  for (const name of CASES) {
    const sizes = ['renewals', 'resync', 'drift', 'etcd-costs', 'probing', 'prefixes'].includes(name)
      ? SIZES.filter((size) => size > 0)
      : SIZES
    expect([name, ...(samples().get(name)?.keys() ?? [])]).toEqual([name, ...sizes])
  }
})

test('it says on what machine', () => {
  expect(readResults(file).machine).toMatchObject({
    node: process.version,
    kernel: expect.stringMatching(/^\d/),
    etcd: expect.stringMatching(/^\d/),
    rounds: 1,
  })
})

test('a start takes as many RPCs with peers as without, and a restart writes nothing', () => {
  for (const size of SIZES) {
    expect(sample('cold-start', size)).toMatchObject({ rpcs: 5, rpcRange: 1, rpcWatch: 1 })
    expect(sample('warm-restart', size)).toMatchObject({ kernelWrites: 0 })
    expect(sample('warm-restart', size)?.['rpcs']).toBeLessThanOrEqual(4)
  }
})

test('a host that does not probe sends no probes', () => {
  expect(sample('probing', 12)).toMatchObject({ 'off packetsPerSecond': 0 })
  expect(sample('probing', 12)).toHaveProperty('answered cpuPercent')
})

test('prefixes are routed and move, and each move is seen in the kernel', () => {
  const figures = sample('prefixes', 12) ?? {}
  expect(figures).toMatchObject({ prefixes: 120, moves: 3 })
  for (const key of ['allSeconds', 'batchSeconds', 'moveP50', 'moveP99', 'putP50'])
    expect([key, (figures[key] ?? 0) > 0]).toEqual([key, true])
})

test('joins, bursts and renewals cost no RPC; renewals and a returning etcd cost no write', () => {
  for (const size of SIZES) {
    expect(sample('joins', size)).toMatchObject({ rpcs: 0 })
    expect(sample('bursts', size)).toMatchObject({ peers: 8, rpcs: 0 })
    expect(sample('reconnect', size)).toMatchObject({ kernelWrites: 0 })
    expect(sample('idle', size)).toMatchObject({ rpcs: 0 })
  }
  expect(sample('renewals', 12)).toMatchObject({ renewals: 8, rpcs: 0, kernelWrites: 0 })
})

test('each of many hosts costs etcd a few RPCs; a restart and a returning etcd cost no write', () => {
  const races = sample('many-hosts', HOSTS)?.['stormRacesLost'] ?? 0
  expect(sample('many-hosts', HOSTS)).toMatchObject({
    // A lost race costs another listing, grant and transaction, and the return of the first grant.
    stormRpcs: 5 * HOSTS + 4 * races,
    stormRpcWatch: HOSTS,
    rollingRpcs: 3 * HOSTS,
    herdRpcs: 3 * HOSTS,
    rampRpcs: 3 * HOSTS,
    fanEventsPerChange: HOSTS,
  })
  expect(sample('many-hosts', HOSTS)?.['etcdBackRpcWatch']).toBeGreaterThanOrEqual(HOSTS)
  expect(sample('many-hosts', HOSTS)).not.toHaveProperty('etcdBackRpcRange')
  for (const name of FLEET_CASES) {
    expect(sample(name, HOSTS)).toMatchObject({ rollingWrites: 0, herdWrites: 0, etcdBackWrites: 0 })
    expect(sample(name, HOSTS)).toMatchObject({ fanReads: 0, pingsLost: 0 })
    expect(sample(name, HOSTS)?.['pings']).toBeGreaterThan(100)
  }
})

test('a lease is listed, and told of, in some two hundred bytes', () => {
  for (const key of ['bytesPerLease', 'bytesPerEvent']) {
    expect(sample('etcd-costs', 12)?.[key]).toBeGreaterThan(150)
    expect(sample('etcd-costs', 12)?.[key]).toBeLessThan(300)
  }
})

test('it shows tables and draws plots', () => {
  // A case that compares ways has a table for each size, others a column.
  for (const name of ALL_CASES)
    expect(outcome.stdout).toMatch(new RegExp(`^\\| ${name}, dist(,| \\|) N=`, 'm'))
  const pictures = readdirSync(join(directory, 'plots'))
  expect(pictures).toEqual(
    expect.arrayContaining(['cold-start-peak-RSS.svg', 'status-overlayctl-status.svg']),
  )
  for (const picture of pictures) {
    const text = readFileSync(join(directory, 'plots', picture), 'utf8')
    expect(text).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
    expect(text).not.toContain('NaN')
  }
})

test('a run compares well with itself, and badly with a better one', async () => {
  expect(await bench(`--report=${file}`, `--compare=${file}`)).toMatchObject({ code: 0 })
  const better = join(directory, 'better.jsonl')
  writeFileSync(better, readFileSync(file, 'utf8').replaceAll('"rpcs":5', '"rpcs":4'))
  const { code, stdout } = await bench(`--report=${file}`, `--compare=${better}`)
  expect(code).toBe(1)
  expect(stdout).toContain('- dist, cold-start, N=12: RPCs to etcd: was 4 (4 - 4), is 5 (5 - 5)\n')
})
