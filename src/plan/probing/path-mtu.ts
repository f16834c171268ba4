/**
 * The path MTU of a peer: the largest packet that gets to the peer and back. Packets inside of the overlay
 * are meant, in bytes with their IP header. A search begins where packets of the full size are lost and small
 * ones are not. It halves the sizes in between.
 */
import type { Family } from '../../model/address'

/**
 * Smallest path MTU that is used: every IPv4 host takes 576 bytes (RFC 791, section 3.1), every IPv6 link
 * carries 1,280 (RFC 8200, section 5).
 */
export const SMALLEST_MTU: Readonly<Record<Family, number>> = { IPv4: 576, IPv6: 1280 }

/** Lost packets of one size, one after the other, from which on the size counts as too large. */
const LOSSES = 3
/** Milliseconds after which a full packet is sent again: the lifetime of the kernel's own path MTU. */
export const RECHECK = 600_000

/** What a host knows of the path to a peer. */
export type PathMtu =
  /**
   * Full packets get through, or none was tried (`isProven`). `losses`: full packets lost since the last
   * answer.
   */
  | { readonly kind: 'full'; readonly isProven: boolean; readonly losses: number }
  /**
   * `from` got through, or is the smallest size; `to` was lost. `held`: the size until the search is over.
   */
  | {
      readonly kind: 'searching'
      readonly from: number
      readonly to: number
      readonly size: number
      readonly losses: number
      readonly held: number | undefined
    }
  /** `checkAt`: when a full packet is tried, in milliseconds. `losses`: of packets with `mtu` bytes. */
  | { readonly kind: 'limited'; readonly mtu: number; readonly checkAt: number; readonly losses: number }
  /** Not even the smallest size gets through, though small packets do: nothing is changed until `checkAt`. */
  | { readonly kind: 'hopeless'; readonly checkAt: number }

/** No large packet was tried yet. */
export const UNTRIED: PathMtu = { kind: 'full', isProven: false, losses: 0 }
/** Full packets get through. */
export const FULL: PathMtu = { kind: 'full', isProven: true, losses: 0 }

/** A path that an earlier run has found, which is tried at once. */
export const remembered = (mtu: number, now: number): PathMtu => ({
  kind: 'limited',
  mtu,
  checkAt: now,
  losses: 0,
})

/** The MTU for the route to the peer in bytes; 0 for that of the link. */
export function routeMtu(path: PathMtu, full: number): number {
  const mtu = path.kind === 'limited' ? path.mtu : path.kind === 'searching' ? path.held : undefined
  return mtu !== undefined && mtu < full ? mtu : 0
}

/** A packet to try, and whether the answer is wanted soon. */
export interface Trial {
  readonly size: number
  readonly isUrgent: boolean
}

/** The size of the next large packet to the peer. */
export function nextTrial(path: PathMtu, full: number, now: number): Trial {
  switch (path.kind) {
    case 'full':
      return { size: full, isUrgent: path.losses > 0 || !path.isProven }
    case 'searching':
      return { size: path.size, isUrgent: true }
    case 'limited': {
      const isCheck = now >= path.checkAt
      return { size: isCheck ? full : Math.min(path.mtu, full), isUrgent: isCheck || path.losses > 0 }
    }
    case 'hopeless':
      return { size: full, isUrgent: false }
  }
}

export interface TrialResult {
  readonly size: number
  readonly isAnswered: boolean
  /** Whether a small packet of the same moment was answered. A lost large one proves nothing without that. */
  readonly isSmallAnswered: boolean
}

/**
 * What is known after a trial.
 * @param full the size of full packets in bytes: the MTU of the link
 */
export function afterTrial(
  path: PathMtu,
  family: Family,
  full: number,
  { size, isAnswered, isSmallAnswered }: TrialResult,
  now: number,
): PathMtu {
  if (isAnswered && size >= full) return FULL
  if (!isAnswered && !isSmallAnswered) return path
  const smallest = SMALLEST_MTU[family]
  switch (path.kind) {
    case 'full': {
      if (isAnswered) return path
      const losses = path.losses + 1
      return losses < LOSSES ? { ...path, losses } : search(smallest, full, undefined, now)
    }
    case 'hopeless':
      // A full packet was lost, as before.
      return now < path.checkAt ? path : search(smallest, full, undefined, now)
    case 'limited':
      if (isAnswered) return { ...path, losses: 0 }
      if (size > path.mtu) return { ...path, checkAt: now + RECHECK }
      return path.losses + 1 < LOSSES
        ? { ...path, losses: path.losses + 1 }
        : search(smallest, path.mtu, path.mtu, now)
    case 'searching': {
      if (size !== path.size) return path
      const { from, to, held } = path
      if (isAnswered) return narrow(size, to, held, now)
      if (path.losses + 1 < LOSSES) return { ...path, losses: path.losses + 1 }
      return size <= smallest ? { kind: 'hopeless', checkAt: now + RECHECK } : narrow(from, size, held, now)
    }
  }
}

/** Begins with the smallest size: the sizes above it are of use only if it gets through. */
function search(smallest: number, to: number, held: number | undefined, now: number): PathMtu {
  if (to <= smallest) return { kind: 'hopeless', checkAt: now + RECHECK }
  return { kind: 'searching', from: smallest, to, size: smallest, losses: 0, held }
}

/** @param from got through, in bytes */
function narrow(from: number, to: number, held: number | undefined, now: number): PathMtu {
  if (to - from <= 1) return { kind: 'limited', mtu: from, checkAt: now + RECHECK, losses: 0 }
  return { kind: 'searching', from, to, size: Math.floor((from + to) / 2), losses: 0, held }
}
