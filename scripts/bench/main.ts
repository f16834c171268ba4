/**
 * The program of `scripts/bench/run` in the sandbox: measures each case at each size several times, then
 * prints tables and the comparison, and writes plots.
 */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Lab } from '../../test/lab/lab'
import { manyPeers } from '../../test/lab/leases'
import { run, runOk } from '../../test/lab/process'
import type { Case, Described, Effort, FleetCase, Sample } from './case'
import { bursts, drift, joins, memory, reconnect, renewals, resync } from './churn'
import { findWorse } from './compare'
import { coldStart, stalls, warmRestart } from './daemon-start'
import { dataplane, plainNic } from './dataplane'
import { dataplaneOptions, OPTION_NAMES } from './dataplane-options'
import { etcdCosts } from './etcd-costs'
import { manyHosts, manyHostsByProxy } from './many-hosts'
import { multicast } from './multicast'
import { renderPlots } from './plot'
import { prefixes } from './prefixes'
import { probing } from './probing'
import { quietMachine } from './proc'
import { idle, status } from './rest'
import { collect, type Line, type Machine, type Results, readResults } from './results'
import { builtTree, bundle, flanneld, type Subject } from './subject'
import { renderTable } from './table'

const CASES: readonly Case[] = [
  coldStart,
  warmRestart,
  stalls,
  joins,
  bursts,
  renewals,
  reconnect,
  resync,
  drift,
  idle,
  memory,
  status,
  etcdCosts,
  dataplane,
  plainNic,
  dataplaneOptions,
  multicast,
  probing,
  prefixes,
]
const FLEET_CASES: readonly FleetCase[] = [manyHosts, manyHostsByProxy]
const ALL_CASES: readonly Described[] = [...CASES, ...FLEET_CASES]

/** Room for 65536 subnets, outside of the underlay's addresses. */
const CONFIG = '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}'
/**
 * 10.1.0.0. The 256 subnets below stay free for the hosts: flanneld takes one of the first hundred free ones,
 * so no peer has the subnet of a host.
 */
const FIRST_SUBNET = 0x0a01_0000

type Arguments = ReturnType<typeof readArguments>

async function main(): Promise<void> {
  const given = readArguments()
  const results = given.report === undefined ? await measure(given) : readResults(given.report)
  say(describe(results))
  for (const benchmark of ALL_CASES) {
    for (const [subject, samples] of results.subjects) {
      if (samples.has(benchmark.name)) say(`\n${renderTable(benchmark, samples, subject)}`)
    }
    if ([...results.subjects.values()].some((samples) => samples.has(benchmark.name)))
      say(`\n${benchmark.about}`)
  }
  if (given.plots !== undefined) {
    mkdirSync(given.plots, { recursive: true })
    for (const [name, picture] of renderPlots(ALL_CASES, results))
      writeFileSync(join(given.plots, name), picture)
  }
  if (given.compare === undefined) return
  const worse = findWorse(ALL_CASES, readResults(given.compare), results)
  say(`\nCompared with ${given.compare}: ${worse.length === 0 ? 'nothing is worse' : 'worse:'}`)
  for (const sentence of worse) say(`- ${sentence}`)
  if (worse.length > 0) process.exitCode = 1
}

async function measure({
  sizes,
  hosts,
  repeats,
  cases,
  subjects,
  effort,
  output,
  quiet,
}: Arguments): Promise<Results> {
  const lines: Line[] = []
  const record = (line: Line): void => {
    lines.push(line)
    if (output !== undefined) appendFileSync(output, `${JSON.stringify(line)}\n`)
  }
  record(await describeMachine(repeats))
  const chosen = CASES.filter(({ name }) => cases.includes(name))
  for (const size of chosen.length === 0 ? [] : sizes) {
    const lab = await Lab.create({ hosts: 0, config: CONFIG })
    try {
      const all = manyPeers(size + effort.burst, FIRST_SUBNET)
      const stage = { lab, peers: all.slice(0, size), spare: all.slice(size), effort, quiet }
      await lab.putPeers(...stage.peers)
      for (let round = 1; round <= repeats; round += 1) {
        for (const benchmark of chosen) {
          if (benchmark.skips?.(size) === true) continue
          for (const subject of subjects) {
            if (benchmark.ownOnly === true && subject.flannel) continue
            progress(`${benchmark.name}, ${subject.name}, ${size} peers, ${round} of ${repeats}`)
            const sample = await attempt(`${benchmark.name}, ${subject.name}, ${size} peers`, () =>
              benchmark.measure({ ...stage, subject }),
            )
            record({
              kind: 'sample',
              subject: subject.name,
              case: benchmark.name,
              n: size,
              round,
              ...sample,
            })
          }
        }
      }
    } finally {
      await lab.close()
    }
  }
  for (let round = 1; round <= repeats; round += 1) {
    for (const { name, measure: measureFleet } of FLEET_CASES.filter((each) => cases.includes(each.name))) {
      for (const subject of subjects.filter(({ flannel }) => !flannel)) {
        const what = `${name}, ${subject.name}, ${hosts} hosts`
        progress(`${what}, ${round} of ${repeats}`)
        const say = (text: string) => progress(`  ${text}`)
        const sample = await attempt(what, () => measureFleet({ hosts, subject, effort, quiet, say }))
        record({ kind: 'sample', subject: subject.name, case: name, n: hosts, round, ...sample })
      }
    }
  }
  return collect(lines)
}

/** @param what the measurement, for the message of a failure */
async function attempt(what: string, measureOnce: () => Promise<Sample>): Promise<Sample> {
  try {
    return await measureOnce()
  } catch (cause) {
    throw new Error(what, { cause })
  }
}

async function waitForQuiet(): Promise<void> {
  if (!(await quietMachine()))
    progress('the machine is busy with other work: the next figures will be too high')
}

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      peers: { type: 'string', default: '100,1000,10000' },
      hosts: { type: 'string', default: '100' },
      repeats: { type: 'string', default: '5' },
      subjects: { type: 'string', default: 'dist' },
      flanneld: { type: 'string' },
      burst: { type: 'string', default: '1000' },
      serial: { type: 'string', default: '200' },
      events: { type: 'string', default: '20000' },
      idle: { type: 'string', default: '60' },
      load: { type: 'string', default: '2' },
      options: { type: 'string' },
      settle: { type: 'string', default: '1500' },
      output: { type: 'string' },
      plots: { type: 'string' },
      report: { type: 'string' },
      compare: { type: 'string' },
      'no-quiet': { type: 'boolean', default: false },
    },
  })
  const number = (name: 'repeats' | 'burst' | 'serial' | 'events' | 'idle' | 'settle'): number =>
    wholeNumber(`--${name}`, values[name], 1)
  const effort: Effort = {
    burst: number('burst'),
    serial: Math.min(number('serial'), number('burst')),
    events: number('events'),
    idleSeconds: number('idle'),
    loadSeconds: wholeNumber('--load', values.load, 0),
    options: values.options?.split(',').map(optionByName),
    settleMs: number('settle'),
  }
  const { flanneld: path, output, plots, report, compare } = values
  return {
    sizes: values.peers.split(',').map((text) => wholeNumber('--peers', text, 0)),
    hosts: wholeNumber('--hosts', values.hosts, 1),
    cases: (positionals.length === 0
      ? ALL_CASES.filter(({ onlyNamed }) => onlyNamed !== true)
      : positionals.map(caseByName)
    ).map(({ name }) => name),
    subjects: [
      ...(report === undefined ? values.subjects.split(',').filter(Boolean).map(subjectByName) : []),
      ...(path === undefined ? [] : [flanneld(path)]),
    ],
    repeats: number('repeats'),
    quiet: values['no-quiet'] ? async () => {} : waitForQuiet,
    ...{ effort, output, plots, report, compare },
  }
}

function wholeNumber(option: string, text: string, least: number): number {
  const number = Number(text)
  if (text === '' || !Number.isInteger(number) || number < least)
    throw new Error(`${option}: "${text}" is not a whole number from ${least}`)
  return number
}

function caseByName(name: string): Described {
  const found = ALL_CASES.find((benchmark) => benchmark.name === name)
  if (found !== undefined) return found
  throw new Error(`no case "${name}"; there are ${ALL_CASES.map((benchmark) => benchmark.name).join(', ')}`)
}

function optionByName(name: string): string {
  if (OPTION_NAMES.includes(name)) return name
  throw new Error(`--options: no "${name}"; there are ${OPTION_NAMES.join(', ')}`)
}

function subjectByName(name: string): Subject {
  if (name === 'dist') return builtTree()
  if (name === 'bundle') return bundle()
  throw new Error(`--subjects takes dist and bundle, not "${name}"`)
}

async function describeMachine(repeats: number): Promise<Machine> {
  const commit = await run(['git', 'describe', '--always', '--dirty'])
  return {
    kind: 'machine',
    time: new Date().toISOString(),
    commit: commit.stdout.trim() || 'unknown',
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    'memory, GB': Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
    etcd: (await runOk(['etcd', '--version'])).match(/[\d.]+/)?.[0] ?? 'unknown',
    iproute2: (await runOk(['ip', '-V'])).match(/iproute2-(\S+?),/)?.[1] ?? 'unknown',
    'load at the start': loadavg()[0]?.toFixed(2) ?? 'unknown',
    rounds: repeats,
  }
}

function describe({ machine }: Results): string {
  const parts = Object.entries(machine ?? {}).filter(([name]) => name !== 'kind')
  return `Median (min - max) of all rounds. ${parts.map(([name, value]) => `${name} ${value}`).join(', ')}.`
}

/** The message of an error, and those of its causes: `fetch failed` alone says nothing. */
const wholeError = (error: unknown): string =>
  error instanceof Error
    ? [error.message, ...(error.cause === undefined ? [] : [wholeError(error.cause)])].join(': ')
    : String(error)

const say = (text: string) => process.stdout.write(`${text}\n`)
const progress = (text: string) => process.stderr.write(`${text}\n`)

main().then(
  () => process.exit(),
  (error: unknown) => {
    progress(`bench: ${wholeError(error)}`)
    process.exit(1)
  },
)
