/**
 * When a pass runs, and why. All times are milliseconds of the monotonic clock and come in as arguments:
 * nothing here waits or asks a clock.
 *
 * A pass over everything compares all objects, a pass over the scope those of peers that changed.
 */
import { type BackoffBounds, backoffDelay } from '../../model/backoff'

/** Why a pass over everything runs. */
export type Cause =
  /** No pass has succeeded yet. */
  | 'start'
  /** The device is to be or to carry something else. */
  | 'retarget'
  /** etcd has confirmed the peers, which were those of a state file until then. */
  | 'confirmed'
  /** The kernel notified a change by somebody else. */
  | 'hint'
  /** The same, of something that is or was where an object of ours may want to be. */
  | 'place'
  /** Notifications of the kernel were lost. */
  | 'overrun'
  /** Nothing was heard for a period. */
  | 'period'
  /** A contested object may be put right again. */
  | 'contest'
  /** The pass before failed. */
  | 'failure'

/** Causes that a notification of the kernel can have. */
export type Hint = Extract<Cause, 'hint' | 'place' | 'overrun'>

/** What is to be done now. */
export type Work =
  | { readonly kind: 'none'; readonly until: number }
  | { readonly kind: 'scope' }
  | { readonly kind: 'full' }

/** What waits to be done. Times are Infinity for never. */
export interface Waiting {
  /**
   * Whether the device was there at the end of the last pass. Without it only a pass over everything can be.
   */
  readonly hasDevice: boolean
  /** Whether peers changed. */
  readonly hasScope: boolean
  readonly retryDue: number
  readonly contestDue: number
}

/** How a pass over everything went. */
export interface Outcome {
  /** Milliseconds. */
  readonly took: number
  /** Whether another program keeps changing objects. */
  readonly isContested: boolean
  /** When the next contest may be over. */
  readonly settleDue: number
}

/** Notifications of one change come together: a short wait makes them one pass. */
const SETTLE = 10
/**
 * From one pass over everything to the next: so many times the duration of one, within these bounds, so that
 * a storm of notifications cannot starve other work.
 */
const SPACING = { factor: 4, least: 50, most: 500 }
/** The same while objects are contested; other drift is still found within a second. */
const CONTEST_SPACING = { factor: 10, least: 200, most: 700 }
/** After a pass that failed. */
const RETRY: BackoffBounds = { first: 200, most: 10_000 }

export class Schedule {
  /** The next pass over everything, unless a hint comes. */
  #due = 0
  /** The next pass over everything for the hints. */
  #hintDue = Number.POSITIVE_INFINITY
  /** No hint and no contest causes a pass before. */
  #earliest = 0
  /** Causes of the next pass besides hints. */
  #requested: ReadonlySet<Cause> = new Set<Cause>(['start'])
  /** Hints that no reading of the kernel has covered. */
  readonly #hints = new Set<Hint>()
  /** Whether a hint since the last {@link look} was about more than objects. */
  #isDeviceHinted = false
  /** Causes of the pass that is under way. */
  #taken: ReadonlySet<Cause> = new Set()
  #failures = 0

  /**
   * @param period milliseconds between two passes over everything without a cause, in case a notification was
   * lost
   */
  constructor(
    private readonly period: number,
    private readonly random: () => number,
  ) {}

  /**
   * Causes of the pass over everything that is under way: those that were there when it began, and all hints
   * that it covers.
   */
  get causes(): ReadonlySet<Cause> {
    return this.#taken
  }

  /** How many passes have failed since the last one that succeeded. */
  get failures(): number {
    return this.#failures
  }

  /** Asks for a pass over everything, at once. While one is under way it is the next one. */
  request(cause: 'retarget' | 'confirmed', now: number): void {
    this.#requested = new Set([...this.#requested, cause])
    this.#due = now
  }

  /**
   * @param isOfDevice whether the hint is about more than the objects, which a pass reads after the device
   * was made right
   */
  hint(cause: Hint, now: number, isOfDevice: boolean): void {
    this.#hints.add(cause)
    this.#isDeviceHinted ||= isOfDevice
    this.#hintDue = Math.min(this.#hintDue, Math.max(now + SETTLE, this.#earliest))
  }

  next(now: number, { hasDevice, hasScope, retryDue, contestDue }: Waiting): Work {
    const contest = Math.max(contestDue, this.#earliest)
    const fullDue = Math.min(this.#due, this.#hintDue, hasDevice ? contest : Number.POSITIVE_INFINITY)
    if (fullDue <= now) return { kind: 'full' }
    if (!hasDevice) return { kind: 'none', until: fullDue }
    if (hasScope || retryDue <= now) return { kind: 'scope' }
    return { kind: 'none', until: Math.min(fullDue, retryDue) }
  }

  /** A pass over everything begins. What is requested from now on is another pass. */
  begin(now: number): void {
    const causes = new Set([...this.#requested, ...this.#hints])
    if (causes.size === 0) causes.add(this.#due <= now ? 'period' : 'contest')
    this.#taken = causes
    this.#requested = new Set()
    this.#due = now + this.period * (0.9 + 0.2 * this.random())
  }

  /** The device is compared, once more: see {@link rest}. */
  look(): void {
    this.#isDeviceHinted = false
  }

  /**
   * The device was made right, and objects are read next.
   * @returns whether nothing but objects was hinted since {@link look}. Then that reading covers all hints so
   * far.
   */
  rest(): boolean {
    this.#taken = new Set([...this.#taken, ...this.#hints])
    if (this.#isDeviceHinted) return false
    this.#hints.clear()
    this.#hintDue = Number.POSITIVE_INFINITY
    return true
  }

  /** The pass over everything that was under way has succeeded. */
  succeeded(now: number, { took, isContested, settleDue }: Outcome): void {
    const { factor, least, most } = isContested ? CONTEST_SPACING : SPACING
    this.#earliest = now + Math.min(most, Math.max(least, factor * took))
    // Hints that came meanwhile, those of our own work on the device among them, may wait that long too.
    this.#hintDue = Math.max(this.#hintDue, this.#earliest)
    this.#due = Math.max(Math.min(this.#due, settleDue), this.#earliest)
    this.#taken = new Set()
    this.#failures = 0
  }

  /**
   * A pass has failed. The device is in doubt: only a pass over everything can tell. It has all causes that
   * the failed one had.
   */
  failed(now: number): void {
    this.#failures += 1
    this.#requested = new Set<Cause>([...this.#requested, ...this.#taken, ...this.#hints, 'failure'])
    this.#taken = new Set()
    this.#hints.clear()
    this.#hintDue = Number.POSITIVE_INFINITY
    this.#due = now + backoffDelay(this.#failures, RETRY, this.random)
    this.#earliest = this.#due
  }
}

/**
 * Whether differences that such a pass finds are repairs of what another program changed. They are not where
 * we ourselves are about to change the kernel: at the start, for another target, and when etcd confirms the
 * peers.
 */
export const looksForRepairs = (causes: ReadonlySet<Cause>): boolean =>
  !causes.has('start') && !causes.has('retarget') && !causes.has('confirmed')

/**
 * Whether such a pass reads routes of our protocol that are not on our device, though the target wants none.
 */
export const readsElsewhere = (causes: ReadonlySet<Cause>): boolean =>
  [...causes].some((cause) => cause !== 'hint')
