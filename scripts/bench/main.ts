/** What `scripts/bench/run` runs in the sandbox: every case at every size, again and again, then the tables. */
import { appendFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { parseArgs } from 'node:util'
import { Lab } from '../../test/support/lab'
import { manyPeers } from '../../test/support/leases'
import { runOk } from '../../test/support/process'
import type { Case, Sample } from './case'
import { coldStart, warmRestart } from './daemon-start'
import { quietMachine } from './proc'
import { renderTable } from './table'

const CASES: readonly Case[] = [coldStart, warmRestart]

/** Room for 65536 subnets, away from the underlay. */
const CONFIG = '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}'

async function main(): Promise<void> {
  const { sizes, repeats, cases, output } = readArguments()
  const record = (line: object) => {
    if (output !== undefined) appendFileSync(output, `${JSON.stringify(line)}\n`)
  }
  const machine = await describeMachine()
  record({ kind: 'machine', time: new Date().toISOString(), ...machine })
  const results = new Map(cases.map((benchmark) => [benchmark, new Map<number, Sample[]>()]))
  for (const size of sizes) {
    const lab = await Lab.create({ hosts: 0, config: CONFIG })
    try {
      const peers = manyPeers(size)
      await lab.putPeers(...peers)
      for (let round = 1; round <= repeats; round += 1) {
        for (const benchmark of cases) {
          progress(`${benchmark.name}, ${size} peers, ${round} of ${repeats}`)
          const sample = await benchmark.measure({ lab, peers, quiet })
          record({ kind: 'sample', case: benchmark.name, peers: size, round, ...sample })
          const samples = results.get(benchmark)
          samples?.set(size, [...(samples.get(size) ?? []), sample])
        }
      }
    } finally {
      await lab.close()
    }
  }
  const description = Object.entries(machine).map(([name, value]) => `${name} ${value}`)
  say(`${repeats} rounds; median (min - max). ${description.join(', ')}.`)
  for (const [benchmark, samples] of results)
    say(`\n${renderTable(benchmark, samples)}\n\n${benchmark.about}`)
}

async function quiet(): Promise<void> {
  if (!(await quietMachine()))
    progress('the machine is busy with other work: the next figures will be too high')
}

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      peers: { type: 'string', default: '100,1000,10000' },
      repeats: { type: 'string', default: '5' },
      output: { type: 'string' },
    },
  })
  const sizes = values.peers.split(',').map((text) => wholeNumber('--peers', text))
  const cases = positionals.length === 0 ? CASES : positionals.map(caseByName)
  return { sizes, cases, repeats: wholeNumber('--repeats', values.repeats), output: values.output }
}

function wholeNumber(option: string, text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`${option}: "${text}" is not a positive whole number`)
  return number
}

function caseByName(name: string): Case {
  const found = CASES.find((benchmark) => benchmark.name === name)
  if (found === undefined) {
    throw new Error(`no case "${name}"; there are ${CASES.map((benchmark) => benchmark.name).join(' and ')}`)
  }
  return found
}

async function describeMachine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    etcd: (await runOk(['etcd', '--version'])).match(/[\d.]+/)?.[0] ?? 'unknown',
    'load at the start': loadavg()[0]?.toFixed(2) ?? 'unknown',
  }
}

const say = (text: string) => process.stdout.write(`${text}\n`)
const progress = (text: string) => process.stderr.write(`${text}\n`)

main().then(
  () => process.exit(0),
  (error: unknown) => {
    progress(`bench: ${error instanceof Error ? error.message : String(error)}`)
    process.exit(1)
  },
)
