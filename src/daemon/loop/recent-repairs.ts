/** This many repairs within this many milliseconds mean that another program undoes them. */
const CONTEST = { repairs: 5, within: 30_000 }

/** The times of the last repairs of one object. */
export class RecentRepairs {
  /** Monotonic milliseconds, the latest last. */
  #times: readonly number[] = []

  add(): void {
    this.#times = [...this.#times, performance.now()].slice(-CONTEST.repairs)
  }

  /** Whether another program undoes the repairs. */
  get areContested(): boolean {
    const first = this.#times.at(-CONTEST.repairs)
    return first !== undefined && performance.now() - first < CONTEST.within
  }
}
