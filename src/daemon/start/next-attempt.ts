/**
 * Decides when the next attempt to start begins. Each attempt lists etcd anew: only a listing is complete.
 */

/**
 * Milliseconds from a change of the host's network to the next attempt, so that several changes cause one
 * attempt.
 */
const HOST_SETTLE = 500

export class NextAttempt {
  #listing = new AbortController()
  #timers: NodeJS.Timeout[] = []
  #awaitsHost = false

  /**
   * Begins an attempt.
   * @returns a signal that ends the attempt's listing and watch, so that the next attempt begins
   */
  begin(): AbortSignal {
    this.end()
    this.#listing = new AbortController()
    return this.#listing.signal
  }

  /** Schedules the next attempt after the given milliseconds. */
  after(milliseconds: number): void {
    const listing = this.#listing
    this.#timers.push(setTimeout(() => listing.abort(), milliseconds).unref())
  }

  /**
   * Schedules the next attempt, because the host's network changed. On a host with frequent changes there is
   * at most one attempt per {@link HOST_SETTLE}.
   */
  hostChanged(): void {
    if (this.#awaitsHost) return
    this.#awaitsHost = true
    this.after(HOST_SETTLE)
  }

  /** Ends the listing and cancels the scheduled attempts. */
  end(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers = []
    this.#awaitsHost = false
    this.#listing.abort()
  }
}
