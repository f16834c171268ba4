/**
 * When a host changes its keys. It moves to the key that it has announced since the last change, by a turn
 * above those of all other hosts, waits until they have followed, and replaces the key that it has left.
 */
import { LAST_TURN, LEASE_TTL_SECONDS } from '../../model/lease'

/** `move`: announce that turn. `retire`: replace the key of the slot that was left. */
export type RotationStep = { readonly kind: 'move'; readonly turn: number } | { readonly kind: 'retire' }

/** Milliseconds for which other hosts may follow: they handshake within seconds, or every 15 s. */
export const FOLLOW_TIME = 60_000

/**
 * Milliseconds for which a host that does not follow is waited for: it may not hear from etcd, or this host
 * may not be heard. A host that is gone has no lease after that time.
 */
export const LONGEST_FOLLOW_TIME = LEASE_TTL_SECONDS * 1000

export interface RotationInputs {
  readonly turn: number
  /** When the turn was taken, in milliseconds. */
  readonly since: number
  /** Whether the key of the slot that was left is still the one that was used. */
  readonly isLeaving: boolean
  /**
   * Since when a pair of this host and another one has been on its way to the other slot, in milliseconds.
   */
  readonly changingSince: number | undefined
  /** Turns of the other hosts. */
  readonly others: readonly number[]
  /** Milliseconds for which a key is used; `undefined` for ever. */
  readonly maxAge: number | undefined
  /** Whether an operator has asked for a change. */
  readonly isAsked: boolean
  readonly now: number
}

/** The step that is due now; `undefined` if none is. */
export function planRotation(inputs: RotationInputs): RotationStep | undefined {
  const { turn, since, isLeaving, changingSince, others, maxAge, isAsked, now } = inputs
  // Without its former key a host would be cut off from one that has not followed. And a host that moves on
  // while a pair is on its way could come back to a slot that the other host is about to leave.
  if (changingSince !== undefined && now - changingSince < LONGEST_FOLLOW_TIME) return undefined
  // The last turn is above all: only a host that means harm announces it.
  const highest = Math.max(turn, ...others.filter((each) => each < LAST_TURN))
  const move: RotationStep = { kind: 'move', turn: Math.min(highest + 1, LAST_TURN - 1) }
  if (isLeaving) {
    if (now - since < FOLLOW_TIME) return undefined
    // A host with a larger turn may use the slot that this host leaves.
    return highest > turn ? move : { kind: 'retire' }
  }
  const isOld = maxAge !== undefined && now - since >= maxAge
  return isAsked || isOld ? move : undefined
}
