/**
 * What probing knows of one peer, as a value, and what the outcome of one more probe makes of it. Pure. All
 * times are monotonic milliseconds.
 */
import type { Family } from '../../model/address'
import { afterTrial, type PathMtu, UNTRIED } from './path-mtu'

/** `overlay`: the peer's address on its VXLAN device. `underlay`: its PublicIP. */
export const LAYERS = ['underlay', 'overlay'] as const
export type Layer = (typeof LAYERS)[number]

/** Whether the peer's overlay address answers. */
export type Reach =
  /** No probe has an outcome yet. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'answering' }
  /** The last probes were lost, fewer than {@link LOST_IN_A_ROW}. */
  | { readonly kind: 'suspect'; readonly lost: number }
  /** `overlay`: its PublicIP answers. `underlay`: its PublicIP does not answer either. */
  | { readonly kind: 'unreachable'; readonly layer: Layer; readonly since: number }

/** Probes lost in a row that make a peer unreachable. */
export const LOST_IN_A_ROW = 3

/** The last probes of one layer. */
export interface Track {
  /** One bit for each of the last 32 probes, the latest lowest: 1 for an answer. */
  readonly bits: number
  /** The number of bits that count, at most 32. */
  readonly probes: number
  /** Smoothed round trip in milliseconds; `undefined` before the first. */
  readonly rttMs: number | undefined
  /** When the last answer was read. */
  readonly answeredAt: number | undefined
}

export interface PeerProbe {
  readonly reach: Reach
  readonly overlay: Track
  readonly underlay: Track
  readonly path: PathMtu
}

const NO_TRACK: Track = { bits: 0, probes: 0, rttMs: undefined, answeredAt: undefined }
export const UNPROBED: PeerProbe = {
  reach: { kind: 'unknown' },
  overlay: NO_TRACK,
  underlay: NO_TRACK,
  path: UNTRIED,
}

/** What became of one packet. `rttMs`: `undefined` where the clock was changed meanwhile. */
export type Fate =
  | { readonly kind: 'answered'; readonly rttMs: number | undefined }
  | { readonly kind: 'lost' }

/** What became of one probe: a small packet to each layer, and sometimes a large one through the overlay. */
export interface Outcome {
  readonly overlay: Fate
  readonly underlay: Fate
  readonly large?: LargePacket & { readonly fate: Fate }
}

/** A large packet, in bytes of the whole IP packet inside the overlay. */
export interface LargePacket {
  readonly family: Family
  readonly size: number
  /** The MTU of the device. */
  readonly full: number
}

/** News about a peer. `layer`: it is still unreachable, by another layer. */
export type ReachNews = 'unreachable' | 'layer' | 'reachable'

const BITS = 32
/** The part of a new round trip in the smoothed one (RFC 6298). */
const SMOOTHING = 1 / 8

/** The probe's state after one more outcome. */
export function afterOutcome(
  { reach, overlay, underlay, path }: PeerProbe,
  outcome: Outcome,
  now: number,
): { readonly probe: PeerProbe; readonly news: ReachNews | undefined } {
  const past = track(underlay, outcome.underlay, now)
  const next = reachAfter(reach, outcome, past, now)
  return {
    probe: {
      reach: next,
      overlay: track(overlay, outcome.overlay, now),
      underlay: past,
      path: pathAfter(path, outcome, now),
    },
    news: newsOf(reach, next),
  }
}

function track({ bits, probes, rttMs, answeredAt }: Track, fate: Fate, now: number): Track {
  const isAnswer = fate.kind === 'answered'
  const measured = isAnswer ? fate.rttMs : undefined
  return {
    bits: ((bits << 1) | Number(isAnswer)) >>> 0,
    probes: Math.min(BITS, probes + 1),
    rttMs: measured === undefined || rttMs === undefined ? (measured ?? rttMs) : smooth(rttMs, measured),
    answeredAt: isAnswer ? now : answeredAt,
  }
}

const smooth = (before: number, measured: number): number => before + (measured - before) * SMOOTHING

function reachAfter(reach: Reach, { overlay, underlay }: Outcome, past: Track, now: number): Reach {
  if (overlay.kind === 'answered') return { kind: 'answering' }
  if (reach.kind === 'unreachable') {
    // One answer shows that the underlay works. That it does not takes as many losses as any other judgement.
    const isSilent = (past.bits & (2 ** LOST_IN_A_ROW - 1)) === 0
    const layer = underlay.kind === 'answered' ? 'overlay' : isSilent ? 'underlay' : reach.layer
    return layer === reach.layer ? reach : { ...reach, layer }
  }
  const lost = reach.kind === 'suspect' ? reach.lost + 1 : 1
  if (lost < LOST_IN_A_ROW) return { kind: 'suspect', lost }
  const layer = underlay.kind === 'answered' ? 'overlay' : 'underlay'
  return { kind: 'unreachable', layer, since: now }
}

function pathAfter(path: PathMtu, { overlay, large }: Outcome, now: number): PathMtu {
  if (large === undefined) return path
  const { family, size, full, fate } = large
  const result = {
    size,
    isAnswered: fate.kind === 'answered',
    isSmallAnswered: overlay.kind === 'answered',
  }
  return afterTrial(path, family, full, result, now)
}

function newsOf(before: Reach, after: Reach): ReachNews | undefined {
  if (after.kind !== 'unreachable') return before.kind === 'unreachable' ? 'reachable' : undefined
  if (before.kind !== 'unreachable') return 'unreachable'
  return before.layer === after.layer ? undefined : 'layer'
}

/** The part of the last probes that was lost, from 0 to 1; `undefined` before the first. */
export function lossOf({ bits, probes }: Track): number | undefined {
  if (probes === 0) return undefined
  let answered = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) answered += 1
  return 1 - answered / probes
}
