/** Entry point of `scripts/nemesis`, which runs it in the sandbox. */
import { parseArgs } from 'node:util'
import type { FaultKind } from './fault'
import { FAULTS } from './faults'
import { runNemesis, summaryOf } from './run'

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

/** A wrong command line: exit code 2, upon which `scripts/nemesis` prints its usage. */
class UsageError extends Error {}

function parseNumber(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (text === '' || !(value >= least && value <= most))
    throw new UsageError(`--${name}=${text}: expected a number from ${least} to ${most}`)
  return value
}

function parseNames(text: string | undefined): string[] {
  const list = text === undefined || text === '' ? [] : text.split(',').map((name) => name.trim())
  const unknown = list.find((name) => !FAULTS.some((kind) => kind.name === name))
  if (unknown !== undefined)
    throw new UsageError(`unknown fault ${JSON.stringify(unknown)}; --list prints all faults`)
  return list
}

function chooseFaults(only: string | undefined, without: string | undefined): FaultKind[] {
  const included = parseNames(only)
  const excluded = parseNames(without)
  return FAULTS.filter(
    ({ name }) => (included.length === 0 || included.includes(name)) && !excluded.includes(name),
  )
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '5' },
      rounds: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 1e9) },
      hosts: { type: 'string', default: '4' },
      etcds: { type: 'string', default: '1' },
      'heal-within': { type: 'string', default: '90' },
      round: { type: 'string' },
      longest: { type: 'string', default: '15000' },
      only: { type: 'string' },
      without: { type: 'string' },
      'keep-going': { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  })
  if (values.list) {
    for (const { name } of FAULTS) print(name)
    return 0
  }
  if (values.etcds !== '1' && values.etcds !== '3')
    throw new UsageError(`--etcds=${values.etcds}: expected 1 or 3`)
  const kinds = chooseFaults(values.only, values.without).filter(({ name, impossible }) => {
    const why = impossible()
    if (why !== undefined) print(`left out: ${name}: ${why}`)
    return why === undefined
  })
  if (kinds.length === 0) throw new UsageError('no fault is left')
  const seed = parseNumber('seed', values.seed, 0, 2 ** 31)
  const single = values.round === undefined ? undefined : parseNumber('round', values.round, 1, 1e9)
  const rounds = values.rounds === undefined ? undefined : parseNumber('rounds', values.rounds, 1, 1e9)
  const hosts = parseNumber('hosts', values.hosts, 2, 40)
  const members = values.etcds === '3' ? 3 : 1
  const cluster = members === 1 ? 'one etcd member' : `${members} etcd members`
  print(`seed ${seed}: ${kinds.length} kinds of faults on ${hosts} hosts, 2 witnesses, ${cluster}`)
  const flags = [
    ...(values.only === undefined ? [] : [`--only='${values.only}'`]),
    ...(values.without === undefined ? [] : [`--without='${values.without}'`]),
  ].join(' ')
  const outcome = await runNemesis({
    seed,
    hosts,
    members,
    longest: parseNumber('longest', values.longest, 500, 60_000),
    from: single ?? 1,
    ...(single !== undefined
      ? { rounds: rounds ?? 1 }
      : rounds !== undefined
        ? { rounds }
        : { forMs: parseNumber('minutes', values.minutes, 0.1, 100_000) * 60_000 }),
    kinds,
    healWithin: parseNumber('heal-within', values['heal-within'], 1, 3600) * 1000,
    ...(flags !== '' && { flags }),
    keepGoing: values['keep-going'],
    print,
  })
  print(summaryOf(outcome))
  return outcome.failures.length === 0 ? 0 : 1
}

main().then(
  (code) => {
    process.exitCode = code
  },
  (error: unknown) => {
    // parseArgs throws a TypeError with a code for an unknown option.
    const isUsage = error instanceof UsageError || (error instanceof TypeError && 'code' in error)
    process.stderr.write(isUsage ? `nemesis: ${(error as Error).message}\n` : `${(error as Error).stack}\n`)
    process.exitCode = isUsage ? 2 : 1
  },
)
