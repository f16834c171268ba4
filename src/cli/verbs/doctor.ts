/**
 * `overlayctl doctor`: checks everything that an overlay needs, and reports what is wrong. It changes
 * nothing.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Behind } from '../../api/documents'
import type { Knowledge } from '../../client/settings'
import { gatherFacts } from '../../doctor/gather/gather'
import { type DoctorReport, EXIT_CODES, makeReport, reportToJson } from '../../doctor/report'
import { print, standardOutput } from '../../host/streams'
import { CHECKS, diagnose, factsFor } from '../../judge/diagnose'
import type { PeerFact } from '../../judge/facts'
import { OVERLAY, peerKey, peersOf } from '../../judge/overlay'
import { formatPrefix, parseIp, parseIpPrefix, prefixContains, samePrefix } from '../../model/address'
import { commandsIn } from '../../model/commands'
import { OverlayError } from '../../model/errors'
import { toJson } from '../../model/printable'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import { describeBehind, findBehind, subnetsBehind } from '../ask/whereabouts'
import { EXIT } from '../exit'
import { toYaml } from '../show/output'
import { renderReport, screenOf } from '../show/render-doctor'
import { watch } from '../show/watch'

export interface DoctorFlags {
  readonly output: 'text' | 'json' | 'yaml'
  /** Comma list of checks; empty for all. */
  readonly only: string
  /** PublicIP, subnet, or an address in it or in an announced prefix; empty for all. */
  readonly peer: string
  /** Whether to make the checks again and again, until the program is stopped. */
  readonly watch: boolean
}

/** Milliseconds between a report and the next checks, which probe peers again. */
const PAUSE = 5000

/** The options, and whether this user may know where etcd is. */
type DoctorOptions = Options & { readonly known?: Knowledge }

/**
 * Prints the report.
 * @returns the exit code
 * @throws {UsageError} with the names of all checks
 * @throws {OverlayError} `no-such-peer`
 */
export async function runDoctor(options: DoctorOptions, flags: DoctorFlags): Promise<number> {
  if (flags.watch) return watchDoctor(options, flags)
  const report = await examine(options, flags)
  print(format(report, flags.output))
  return EXIT_CODES[report.verdict]
}

function format(report: DoctorReport, output: DoctorFlags['output']): string {
  switch (output) {
    case 'text':
      return renderReport(report, screenOf(standardOutput()))
    case 'json':
      return reportToJson(report)
    case 'yaml':
      return toYaml(JSON.parse(reportToJson(report)))
  }
}

/**
 * Makes all checks again and again, until q, SIGINT or SIGTERM. JSON has one line for each report.
 * @returns the exit code of the last report
 */
async function watchDoctor(options: DoctorOptions, flags: DoctorFlags): Promise<number> {
  const { output } = flags
  const last = await watch({
    output,
    heading: `again ${PAUSE / 1000} s after each report`,
    documents: async function* (signal) {
      while (!signal.aborted) {
        yield await examine(options, flags)
        await sleep(PAUSE, undefined, { signal })
      }
    },
    format: (report) =>
      output === 'json' ? `${toJson(JSON.parse(reportToJson(report)))}\n` : format(report, output),
  })
  return last === undefined ? EXIT.unreachable : EXIT_CODES[last.verdict]
}

/**
 * Makes all checks that were asked for.
 * @throws {UsageError} with the names of all checks
 * @throws {OverlayError} `no-such-peer`
 */
export async function examine(
  options: DoctorOptions,
  flags: Pick<DoctorFlags, 'only' | 'peer'>,
): Promise<DoctorReport> {
  const only = readOnly(flags.only)
  const { behind } = await findBehind(options['run-dir'], flags.peer)
  const matches = readPeer(flags.peer, behind)
  const started = performance.now()
  const facts = await gatherFacts(options, {
    facts: [...factsFor(only), ...(flags.peer === '' ? [] : OVERLAY)],
    isProbed: matches,
  })
  if (flags.peer !== '') demandPeer(peersOf(facts), matches, flags.peer)
  const made = makeReport(facts, diagnose(facts, only), (performance.now() - started) / 1000, only)
  const note = behind === undefined ? undefined : describeBehind(flags.peer, behind)
  return commandsIn(options.known?.network, { ...made, ...(note !== undefined && { sought: note }) })
}

function readOnly(text: string): string[] {
  const names = text.split(',').flatMap((name) => name.trim() || [])
  const known = CHECKS.map(({ name }) => name)
  const unknown = names.find((name) => !known.includes(name))
  if (unknown === undefined) return names
  throw new UsageError(`there is no check ${JSON.stringify(unknown)}`, `the checks are ${known.join(', ')}`)
}

type Matches = (peer: PeerFact) => boolean

function readPeer(text: string, behind: Behind | undefined): Matches {
  if (text === '') return () => true
  const subnet = parseIpPrefix(text)
  if (subnet !== undefined) return (peer) => samePrefix(peer.subnet, subnet)
  const address = parseIp(text)
  if (address === undefined) {
    throw new UsageError(
      `--peer is ${JSON.stringify(text)}: expected a PublicIP such as 192.0.2.12, or a subnet such as ` +
        '10.5.42.0/24',
    )
  }
  const announcers = behind === undefined ? [] : subnetsBehind(behind)
  return (peer) =>
    peer.publicIp === address ||
    prefixContains(peer.subnet, address) ||
    announcers.includes(formatPrefix(peer.subnet))
}

/** @throws {OverlayError} `no-such-peer` */
function demandPeer(all: readonly PeerFact[], matches: Matches, text: string): void {
  if (all.some(matches)) return
  const some = all.slice(0, 5).map(peerKey)
  throw new OverlayError(
    'no-such-peer',
    `no peer is, or has, ${text}`,
    some.length === 0
      ? 'this host knows no peer'
      : `there are ${all.length}: ${some.join(', ')}${all.length > 5 ? ', ...' : ''}`,
  )
}
