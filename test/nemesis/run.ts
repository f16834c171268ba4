/** Runs rounds of faults on a lab, and checks the invariants after each round. */
import { summarize } from '../lab/host'
import { patient } from '../lab/patience'
import { Pending, sleep, waitFor } from '../lab/wait'
import type { FaultKind, PlannedFault, World } from './fault'
import {
  brokenBy,
  brokenByLies,
  brokenInRound,
  doctorContent,
  type Lies,
  LONGEST_LIE,
  liesAfter,
} from './invariants'
import { observe, runDoctors } from './observe'
import type { Picture, RoundPicture } from './picture'
import { CountedPing } from './pings'
import { describeFault, planRound, touchedBy } from './plan'
import { Site, type Supervised } from './site'

export interface NemesisOptions extends World {
  readonly seed: number
  /** Number of the first round. */
  readonly from: number
  /** How many rounds; no limit by default. */
  readonly rounds?: number
  /** No new round begins after so many milliseconds; no limit by default. */
  readonly forMs?: number
  readonly kinds: readonly FaultKind[]
  /** Milliseconds after the last fault within which all invariants have to hold again. */
  readonly healWithin: number
  /** Command line flags that select the same faults. A failure's message shows them. */
  readonly flags?: string
  /** Whether to continue after a failed round, with a new lab. */
  readonly keepGoing?: boolean
  /** Receives progress and failures; a failure has several lines. */
  readonly print: (text: string) => void
}

export interface Outcome {
  rounds: number
  faults: number
  /** For each round that passed: milliseconds from the end of its faults until all invariants held again. */
  readonly healing: number[]
  /** Pings between the two witnesses. */
  readonly pings: { sent: number; lost: number }
  /** One text for each failed round: its faults and the broken invariants. */
  readonly failures: string[]
}

/** Milliseconds within which a new lab has to satisfy all invariants, before its first fault. */
const WHOLE_WITHIN = 90_000
/** Milliseconds between two observations of the lab. */
const CHECK_EVERY = 500
/** Milliseconds between two pings of a witness, and of another host that no fault touches. */
const WITNESS_PING = 20
const OTHER_PING = 100
/** Most lines per broken invariant in a failure's message. */
const SHOWN = 12

/**
 * Runs rounds until their number or the time is reached, or until one fails (unless `keepGoing`).
 * @throws {Error} only if the lab itself fails
 */
export async function runNemesis(options: NemesisOptions): Promise<Outcome> {
  const { from, rounds = Number.POSITIVE_INFINITY, forMs = Number.POSITIVE_INFINITY, keepGoing } = options
  const started = performance.now()
  const outcome: Outcome = { rounds: 0, faults: 0, healing: [], pings: { sent: 0, lost: 0 }, failures: [] }
  const continues = (): boolean =>
    outcome.rounds < rounds &&
    performance.now() - started < forMs &&
    (keepGoing === true || outcome.failures.length === 0)
  // After a failed round the lab may stay broken, so the next round gets a new lab.
  while (continues()) {
    const failures = outcome.failures.length
    await withLab(options, async (lab) => {
      while (continues() && outcome.failures.length === failures) {
        await runAndReport(lab, from + outcome.rounds, options, outcome)
      }
    })
  }
  return outcome
}

/** The outcome in one line. */
export function summaryOf({ rounds, faults, healing, pings, failures }: Outcome): string {
  const sorted = healing.toSorted((a, b) => a - b)
  const seconds = (ms = 0): string => `${(ms / 1000).toFixed(1)} s`
  const median = sorted[Math.floor(sorted.length / 2)]
  return [
    `${rounds} rounds, ${faults} faults, ${failures.length} rounds failed`,
    `healed after ${seconds(median)} (median), ${seconds(sorted.at(-1))} (maximum)`,
    `witnesses lost ${pings.lost} of ${pings.sent} pings`,
  ].join('; ')
}

interface RunningLab {
  readonly site: Site
  /** The lab before the first fault. */
  readonly before: Picture
  readonly witnesses: readonly CountedPing[]
}

async function withLab(
  { hosts, members }: NemesisOptions,
  action: (lab: RunningLab) => Promise<void>,
): Promise<void> {
  const site = await Site.create({ hosts, members })
  const witnesses: CountedPing[] = []
  try {
    const before = await waitFor(
      'a lab in which all invariants hold before the first fault',
      async () => {
        const picture = await observe(site)
        const broken = brokenBy(picture, picture)
        return broken.length === 0 ? picture : new Pending(broken.join('\n'))
      },
      { timeoutMs: WHOLE_WITHIN, intervalMs: CHECK_EVERY },
    )
    site.recordOwners(before)
    const [first = '', second = ''] = site.lab.hosts.slice(hosts).map(({ name }) => name)
    witnesses.push(pingOf(site, first, second, WITNESS_PING), pingOf(site, second, first, WITNESS_PING))
    await Promise.all(witnesses.map((ping) => ping.started()))
    await action({ site, before, witnesses })
  } finally {
    for (const ping of witnesses) ping.kill()
    await site.close()
  }
}

/** Runs a round, prints its result and adds it to the outcome. */
async function runAndReport(
  lab: RunningLab,
  round: number,
  { seed, kinds, print, healWithin, flags, ...world }: NemesisOptions,
  outcome: Outcome,
): Promise<void> {
  const planned = planRound(kinds, seed, round, world)
  print(`round ${round}`)
  for (const fault of planned) print(`  ${describeFault(fault)}`)
  const result = await runRound(lab, planned, healWithin)
  outcome.rounds++
  outcome.faults += planned.length
  for (const { sent, lost } of result.witnesses) {
    outcome.pings.sent += sent
    outcome.pings.lost += lost
  }
  for (const note of result.notes) print(`  ${note}`)
  if (result.broken.length === 0) {
    outcome.healing.push(result.healedAfter)
    print(`  all invariants hold ${(result.healedAfter / 1000).toFixed(1)} s after the last fault ended`)
    return
  }
  const { hosts, members, longest } = world
  const repeat = [
    `scripts/nemesis --seed=${seed} --round=${round}`,
    `--hosts=${hosts} --etcds=${members} --longest=${longest}`,
    ...(flags === undefined ? [] : [flags]),
  ].join(' ')
  const failure = [
    `seed ${seed}, round ${round}:`,
    ...planned.map((fault) => `  ${describeFault(fault)}`),
    'broken:',
    ...shorten(result.broken).map((line) => `  ${line}`),
    ...result.details,
    `To repeat only this round: ${repeat}`,
  ].join('\n')
  outcome.failures.push(failure)
  print(`FAILED: ${failure}`)
}

/** At most {@link SHOWN} lines of each invariant, and how many more it has. */
function shorten(broken: readonly string[]): string[] {
  const byInvariant = new Map<string, string[]>()
  for (const line of broken) {
    const name = line.split(':')[0] ?? ''
    byInvariant.set(name, [...(byInvariant.get(name) ?? []), line])
  }
  return [...byInvariant].flatMap(([name, lines]) => [
    ...lines.slice(0, SHOWN),
    ...(lines.length > SHOWN ? [`${name}: and ${lines.length - SHOWN} more`] : []),
  ])
}

interface RoundResult {
  readonly broken: readonly string[]
  readonly healedAfter: number
  readonly witnesses: readonly { readonly sent: number; readonly lost: number }[]
  /** Steps of faults that failed. */
  readonly notes: readonly string[]
  /** Status and end of the log of each host after a failure, else empty. */
  readonly details: readonly string[]
}

async function runRound(
  { site, before, witnesses }: RunningLab,
  planned: readonly PlannedFault[],
  healWithin: number,
): Promise<RoundResult> {
  const logsBefore = site.daemons.map(({ logged, starts }) => ({ logged, starts }))
  const touched = touchedBy(planned)
  const untouched = site.lab.hosts.filter((_, index) => !touched.has(index + 1)).map(({ name }) => name)
  const others = untouched.flatMap((from, index) =>
    untouched.slice(index + 1).map((to) => pingOf(site, from, to, OTHER_PING)),
  )
  const notes: string[] = []
  try {
    await Promise.all(others.map((ping) => ping.started()))
    await Promise.all(planned.map((fault) => runFault(site, fault, notes)))
    for (const fault of planned) await attempt(fault, 'undone at the end', () => fault.after(site), notes)
    const { broken, healedAfter } = await waitHealed(site, before, healWithin)
    const pings = [...witnesses, ...others].map((ping) => ping.count())
    const round: RoundPicture = {
      pings,
      ends: site.daemons.flatMap((daemon, index) => unexpectedEnds(daemon, index + 1, planned)),
      logs: site.daemons.map(({ host, logged, starts }, index) => ({
        host: host.name,
        bytes: logged - (logsBefore[index]?.logged ?? 0),
        starts: starts - (logsBefore[index]?.starts ?? 0),
      })),
    }
    const all = [...broken, ...brokenInRound(round)]
    return {
      broken: all,
      healedAfter,
      witnesses: pings.slice(0, witnesses.length),
      notes,
      details: all.length === 0 ? [] : await describeHosts(site),
    }
  } finally {
    for (const ping of others) ping.kill()
  }
}

/** Takes a daemon's exits out of its list. Omits them if a fault of the round may make that daemon exit. */
function unexpectedEnds(
  { host, ends }: Supervised,
  number: number,
  planned: readonly PlannedFault[],
): RoundPicture['ends'] {
  const all = ends.splice(0)
  if (planned.some((fault) => fault.ends.includes(number))) return []
  return all.map((how) => ({ host: host.name, how }))
}

/**
 * Runs one step of a fault. A failed step becomes a note and does not fail the round: another fault may have
 * removed the object of this step.
 * @param verb past participle of the step, for the note
 */
async function attempt(
  { name }: PlannedFault,
  verb: string,
  action: () => Promise<unknown>,
  notes: string[],
): Promise<void> {
  try {
    await action()
  } catch (error) {
    notes.push(`${name} could not be ${verb}: ${String(error).split('\n')[0]}`)
  }
}

/** Runs one fault from its start to its undoing. */
async function runFault(site: Site, fault: PlannedFault, notes: string[]): Promise<void> {
  await sleep(fault.start)
  const end = performance.now() + fault.lasts
  await attempt(fault, 'done', () => fault.do(site), notes)
  while (fault.every !== undefined && performance.now() + fault.every < end) {
    await sleep(fault.every)
    await attempt(fault, 'done again', () => fault.do(site), notes)
  }
  await sleep(Math.max(0, end - performance.now()))
  await attempt(fault, 'undone', () => fault.undo(site), notes)
}

/** Observes the lab until all invariants hold, or `healWithin` milliseconds are over. */
async function waitHealed(
  site: Site,
  before: Picture,
  healWithin: number,
): Promise<{ readonly broken: readonly string[]; readonly healedAfter: number }> {
  const started = performance.now()
  const since = (): number => performance.now() - started
  let lies: Lies = new Map()
  for (;;) {
    let broken: readonly string[]
    try {
      const picture = await observe(site)
      lies = liesAfter(lies, picture, since())
      broken = [...brokenBy(picture, before), ...brokenByLies(lies, since(), patient(LONGEST_LIE))]
      if (broken.length === 0) {
        const healedAfter = since()
        broken = doctorContent(await runDoctors(site))
        if (broken.length === 0) {
          site.recordOwners(picture)
          return { broken, healedAfter }
        }
      }
    } catch (error) {
      broken = [`the lab can be observed: ${error}`]
    }
    if (since() > healWithin) return { broken, healedAfter: since() }
    await sleep(CHECK_EVERY)
  }
}

function pingOf(site: Site, from: string, to: string, intervalMs: number): CountedPing {
  const container = (name: string) => {
    const found = site.lab.hosts.find((host) => host.name === name)?.containers[0]
    if (found === undefined) throw new Error(`${name} has no container`)
    return found
  }
  return new CountedPing(`${from} -> ${to}`, container(from).namespace, container(to).address, intervalMs)
}

async function describeHosts(site: Site): Promise<string[]> {
  return Promise.all(
    site.lab.hosts.map(async (host) => {
      const status = await host.status().catch((error) => new Pending(String(error)))
      const text = status instanceof Pending ? `no status: ${status.seen}` : summarize(status)
      return `${host.name}: ${text}\n${host.daemon.tail(30)}`
    }),
  )
}
