/** Whether an etcd lease can have ended while nobody could ask etcd, and whether someone renews it: arithmetic on times. */
import type { Moment, Renewal } from '../model/moment'

export type Life =
  | { readonly kind: 'alive'; readonly secondsLeft: number }
  /** It may have ended; why that cannot be ruled out. */
  | { readonly kind: 'doubtful'; readonly reason: string }

/** Seconds that the end is taken to come sooner within one boot: clocks of two machines do not run alike (500 ppm of a day is 43 s). */
const MARGIN = 60
/** The same across a reboot, where only the wall clock is left: a hardware clock drifts by seconds, and time zones are not its matter. */
const REBOOT_MARGIN = 300

/**
 * How long a lease lives at the least. Within one boot the wall clock does not count. Across a reboot it is all there is, and it is not
 * believed when it says that the host is up for longer than the lease was not renewed: then it was set back.
 */
export function lifeLeft({ at, ttlSeconds }: Renewal, now: Moment): Life {
  const sameBoot = at.bootId === now.bootId
  const elapsed = sameBoot ? now.uptimeSeconds - at.uptimeSeconds : now.wallSeconds - at.wallSeconds
  if (elapsed < (sameBoot ? 0 : now.uptimeSeconds)) {
    return { kind: 'doubtful', reason: 'the clock was set back since it was last renewed' }
  }
  const secondsLeft = Math.floor(ttlSeconds - elapsed - (sameBoot ? MARGIN : REBOOT_MARGIN))
  if (secondsLeft > 0) return { kind: 'alive', secondsLeft }
  const hours = (elapsed / 3600).toFixed(1)
  return { kind: 'doubtful', reason: `it was last renewed ${hours} h ago, for ${ttlSeconds} s` }
}

/**
 * Whether a lease has less left than a renewal in time would have let it come to.
 * @param margin minutes before its end at which it is renewed at the latest
 */
export const isAtRisk = (secondsLeft: number | undefined, margin: number): boolean =>
  // Half of the margin: a renewal that is due just now is none that failed.
  secondsLeft !== undefined && secondsLeft < margin * 30

/** What etcd said of a lease's life, and between which monotonic milliseconds it said so. */
export interface LifeReading {
  readonly ttlSeconds: number
  readonly askedAt: number
  readonly toldAt: number
}

/**
 * Whether a lease was renewed between two readings: it then has more left than time can have spared. etcd tells whole seconds, rounded down,
 * so a renewal is only seen when it came two seconds and more after the first reading.
 */
export function wasRenewed(before: LifeReading, after: LifeReading): boolean {
  const leastElapsed = Math.max(0, after.askedAt - before.toldAt) / 1000
  return after.ttlSeconds > before.ttlSeconds + 1 - leastElapsed
}
