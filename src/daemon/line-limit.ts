/** Bounds how many lines of one kind are logged: whoever may write to etcd must not be able to fill a disk. */

/** So many lines within that many milliseconds; the rest is counted. */
const LIMIT = { lines: 20, within: 60_000 }

export class LineLimit {
  #since = Number.NEGATIVE_INFINITY
  #lines = 0
  #left = 0

  /**
   * Whether a line may be logged.
   * @param now monotonic milliseconds
   * @returns how many were left out since the last time that some had to be, with the first line after them; `undefined` when this one has to be
   */
  admit(now: number): number | undefined {
    if (now - this.#since >= LIMIT.within) {
      this.#since = now
      this.#lines = 0
    }
    if (this.#lines >= LIMIT.lines) {
      this.#left += 1
      return undefined
    }
    this.#lines += 1
    const left = this.#left
    this.#left = 0
    return left
  }
}
