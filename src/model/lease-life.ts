/**
 * Calculations on the life of an etcd lease: whether it may have ended while etcd was unreachable, and
 * whether someone renews it.
 */
import type { Moment, Renewal } from './moment'

export type Life =
  | { readonly kind: 'alive'; readonly secondsLeft: number }
  /** The lease may have ended; `reason` says why that cannot be ruled out. */
  | { readonly kind: 'doubtful'; readonly reason: string }

/**
 * Seconds by which a lease may end early within one boot: two machines' clocks differ in speed (500 ppm of a
 * day is 43 s).
 */
const MARGIN = 60
/** The same across a reboot, which only the wall clock measures: a hardware clock drifts by seconds. */
const REBOOT_MARGIN = 300

/**
 * The least remaining life of a lease. Within one boot the wall clock is ignored. Across a reboot only the
 * wall clock is left. It is not trusted if it shows less time since the renewal than the host has been up:
 * then it was set back.
 */
export function lifeLeft({ at, ttlSeconds }: Renewal, now: Moment): Life {
  const sameBoot = at.bootId === now.bootId
  const elapsed = sameBoot ? now.uptimeSeconds - at.uptimeSeconds : now.wallSeconds - at.wallSeconds
  if (elapsed < (sameBoot ? 0 : now.uptimeSeconds)) {
    return { kind: 'doubtful', reason: 'the clock was set back since the lease was last renewed' }
  }
  const secondsLeft = Math.floor(ttlSeconds - elapsed - (sameBoot ? MARGIN : REBOOT_MARGIN))
  if (secondsLeft > 0) return { kind: 'alive', secondsLeft }
  const hours = (elapsed / 3600).toFixed(1)
  return { kind: 'doubtful', reason: `the lease was last renewed ${hours} h ago, for ${ttlSeconds} s` }
}

/**
 * Whether a lease has less life left than timely renewals would leave.
 * @param margin minutes before its end at which the lease is renewed at the latest
 */
export const isAtRisk = (secondsLeft: number | undefined, margin: number): boolean =>
  // Half of the margin (30 s per minute): a renewal that is due right now has not failed yet.
  secondsLeft !== undefined && secondsLeft < margin * 30

/**
 * An answer of etcd about a lease's remaining life, with the monotonic times of the request and of the
 * answer.
 */
export interface LifeReading {
  readonly ttlSeconds: number
  /** Milliseconds. */
  readonly askedAt: number
  readonly answeredAt: number
}

/**
 * Whether a lease was renewed between two readings: it then has more life left than the elapsed time allows.
 * etcd reports whole seconds, rounded down, so a renewal is detected only if it came at least two seconds
 * after the first reading.
 */
export function wasRenewed(before: LifeReading, after: LifeReading): boolean {
  const leastElapsed = Math.max(0, after.askedAt - before.answeredAt) / 1000
  return after.ttlSeconds > before.ttlSeconds + 1 - leastElapsed
}
