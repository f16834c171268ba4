/** `overlayctl doctor`: looks at everything that an overlay needs, says what is wrong, and changes nothing. */
import { type Options, UsageError } from '../../daemon/options'
import { parseIp, parseIpv4Prefix, parseIpv6Prefix, prefixContains, samePrefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import { CHECKS, diagnose, PROBING } from '../../plan/doctor/diagnose'
import type { PeerFact } from '../../plan/doctor/facts'
import { peerKey } from '../../plan/doctor/overlay'
import { gatherFacts } from './gather'
import { renderReport, screenOf } from './render'
import { EXIT_CODES, makeReport, reportToJson } from './report'

export interface DoctorFlags {
  readonly output: 'text' | 'json'
  /** Comma list of checks; empty for all. */
  readonly only: string
  /** PublicIP, subnet, or an address in it; empty for all. */
  readonly peer: string
}

/**
 * Prints the report and answers the exit code.
 * @throws {UsageError} naming the checks there are
 * @throws {OverlayError} `no-such-peer`
 */
export async function runDoctor(options: Options, flags: DoctorFlags): Promise<number> {
  const only = readOnly(flags.only)
  const matches = readPeer(flags.peer)
  const started = performance.now()
  const facts = await gatherFacts(options, {
    peers: (all) => choosePeers(all, matches, flags.peer),
    probes: only.length === 0 || only.some((name) => PROBING.has(name)),
  })
  const report = makeReport(facts, diagnose(facts, only), (performance.now() - started) / 1000)
  process.stdout.write(
    flags.output === 'json' ? reportToJson(report) : renderReport(report, screenOf(process.stdout)),
  )
  return EXIT_CODES[report.verdict]
}

function readOnly(text: string): string[] {
  const names = text.split(',').flatMap((name) => name.trim() || [])
  const known = CHECKS.map(({ name }) => name)
  const unknown = names.find((name) => !known.includes(name))
  if (unknown === undefined) return names
  throw new UsageError(`there is no check ${JSON.stringify(unknown)}`, `the checks are ${known.join(', ')}`)
}

type Matches = (peer: PeerFact) => boolean

function readPeer(text: string): Matches {
  if (text === '') return () => true
  const subnet = parseIpv4Prefix(text) ?? parseIpv6Prefix(text)
  if (subnet !== undefined) return (peer) => samePrefix(peer.subnet, subnet)
  const address = parseIp(text)
  if (address === undefined) {
    throw new UsageError(
      `--peer is ${JSON.stringify(text)}: a PublicIP such as 192.0.2.12 or a subnet such as 10.5.42.0/24 is wanted`,
    )
  }
  return (peer) => peer.publicIp === address || prefixContains(peer.subnet, address)
}

function choosePeers(all: readonly PeerFact[], matches: Matches, text: string): readonly PeerFact[] {
  const chosen = all.filter(matches)
  if (chosen.length > 0 || text === '') return chosen
  const some = all.slice(0, 5).map(peerKey)
  throw new OverlayError(
    'no-such-peer',
    `no peer is, or has, ${text}`,
    some.length === 0
      ? 'this host knows no peer'
      : `there are ${all.length}: ${some.join(', ')}${all.length > 5 ? ', ...' : ''}`,
  )
}
