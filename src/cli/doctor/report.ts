/** The doctor's answer as a document, and its exit code. */
import { FAMILIES, formatIp, formatPrefix } from '../../model/address'
import { type CheckResult, worst } from '../../plan/doctor/diagnose'
import type { Facts, PingFact } from '../../plan/doctor/facts'
import { ownSubnet, peerKey, peersOf } from '../../plan/doctor/overlay'
import { type Reach, reachOf } from '../../plan/doctor/reach'

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
  /** The largest packet that gets to the PublicIP, where large ones do not; in bytes. */
  readonly pathMtu?: number
}

export interface DoctorReport {
  readonly schema: typeof DOCTOR_SCHEMA
  readonly verdict: 'ok' | 'warn' | 'fail'
  /** This host's. */
  readonly subnets: readonly string[]
  readonly seconds: number
  readonly checks: readonly CheckResult[]
  /** Worst first. */
  readonly peers: readonly PeerReport[]
}

/** Exit code by the worst finding. Wrong usage has 2 as well: then there is no report. */
export const EXIT_CODES: Readonly<Record<DoctorReport['verdict'], number>> = { ok: 0, warn: 1, fail: 2 }

/** @param seconds how long it took */
export function makeReport(facts: Facts, checks: readonly CheckResult[], seconds: number): DoctorReport {
  return {
    schema: DOCTOR_SCHEMA,
    verdict: worst(checks.flatMap(({ findings }) => findings)),
    subnets: FAMILIES.flatMap((family) => ownSubnet(facts, family) ?? []).map(formatPrefix),
    seconds: Math.round(seconds * 10) / 10,
    checks,
    peers: facts.probes.value === undefined ? [] : reportPeers(facts),
  }
}

const ORDER: readonly Reach[] = ['silent', 'unreached', 'mtu', 'loss', 'unprobed', 'ok']

function reportPeers(facts: Facts): PeerReport[] {
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

/** The document as JSON; sets are the peers' keys. */
export const reportToJson = (report: DoctorReport): string =>
  `${JSON.stringify(report, (_, value: unknown) => (value instanceof Set ? [...value] : value), 2)}\n`
