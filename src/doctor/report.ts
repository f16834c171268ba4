/** The doctor's answer as a document, and its exit code. */

import { type Reach, reachOf } from '../judge/checks/reach'
import { type CheckResult, worst } from '../judge/diagnose'
import type { Facts, PingFact } from '../judge/facts'
import { type OverlayFacts, ownSubnet, peerKey, peersOf } from '../judge/overlay'
import { FAMILIES, formatIp, formatPrefix } from '../model/address'
import { escapeJson } from '../model/printable'

/** Fields are only added within one number. */
const DOCTOR_SCHEMA = 1

export interface PeerReport {
  readonly subnet: string
  readonly publicIp: string
  readonly reach: Reach
  /** Through the overlay, in full size and with 64 bytes; and past it. */
  readonly overlayFull?: PingFact
  readonly overlaySmall?: PingFact
  readonly underlaySmall?: PingFact
  readonly underlayFull?: PingFact
  readonly udp?: string
  /** The largest packet that reaches the PublicIP, where large ones do not; in bytes. */
  readonly pathMtu?: number
}

export interface DoctorReport {
  readonly schema: typeof DOCTOR_SCHEMA
  /**
   * `ok`: everything was checked, and nothing is wrong. `incomplete`: nothing is wrong in what could be
   * checked.
   */
  readonly verdict: 'ok' | 'incomplete' | 'warn' | 'fail'
  /** The subnets of this host. */
  readonly subnets: readonly string[]
  readonly seconds: number
  readonly checks: readonly CheckResult[]
  /** Worst first. */
  readonly peers: readonly PeerReport[]
  /** Which hosts announce the address whose host alone was to be probed; absent where it is in a subnet. */
  readonly sought?: string
}

/** Exit codes: 0 only where everything was checked. Wrong usage has 2 too: then there is no report. */
export const EXIT_CODES: Readonly<Record<DoctorReport['verdict'], number>> = {
  ok: 0,
  incomplete: 1,
  warn: 1,
  fail: 2,
}

/**
 * A skipped check is no all-clear. One that does not concern this host changes nothing in the verdict, unless
 * someone has asked for it by its name, or nothing else was checked.
 */
function verdictOf(checks: readonly CheckResult[], only: readonly string[]): DoctorReport['verdict'] {
  const state = worst(checks.flatMap(({ findings }) => findings))
  if (state !== 'ok') return state
  const isAsked = ({ name, state }: CheckResult): boolean => state === 'skip' && only.includes(name)
  const isNothing = checks.every((check) => check.state === 'skip')
  const isUnmade = checks.some((check) => check.unmade !== undefined || isAsked(check))
  return isNothing || isUnmade ? 'incomplete' : 'ok'
}

/**
 * @param seconds how long the checks took
 * @param only the checks that were asked for by name; empty for all
 */
export function makeReport(
  facts: OverlayFacts & Pick<Facts, 'probes'>,
  checks: readonly CheckResult[],
  seconds: number,
  only: readonly string[] = [],
): DoctorReport {
  return {
    schema: DOCTOR_SCHEMA,
    verdict: verdictOf(checks, only),
    subnets: FAMILIES.flatMap((family) => ownSubnet(facts, family) ?? []).map(formatPrefix),
    seconds: Math.round(seconds * 10) / 10,
    checks,
    peers: facts.probes.ok ? reportPeers(facts) : [],
  }
}

const ORDER: readonly Reach[] = ['silent', 'unreached', 'mtu', 'loss', 'no-ping', 'unprobed', 'ok']

function reportPeers(facts: OverlayFacts & Pick<Facts, 'probes'>): PeerReport[] {
  const probes = new Map(facts.probes.value?.map((probe) => [probe.peer, probe]))
  return peersOf(facts)
    .map((peer): PeerReport => {
      const { peer: key = peerKey(peer), ...probe } = probes.get(peerKey(peer)) ?? {}
      return {
        subnet: key,
        publicIp: formatIp(peer.publicIp),
        reach: reachOf(probes.get(key)),
        ...probe,
      }
    })
    .sort(
      (a, b) =>
        ORDER.indexOf(a.reach) - ORDER.indexOf(b.reach) ||
        (b.overlayFull?.rttMs ?? 0) - (a.overlayFull?.rttMs ?? 0),
    )
}

/** The document as JSON; sets of peers' keys become lists. */
export function reportToJson(report: DoctorReport): string {
  const listed = (_: string, value: unknown): unknown => (value instanceof Set ? [...value] : value)
  return `${escapeJson(JSON.stringify(report, listed, 2))}\n`
}
