/** A loop's alarm clock: it sleeps until woken, until a time, or until the signal fires. */
export class Waker {
  #wake: (() => void) | undefined
  #woken = false

  /** Ends the current sleep, or the next one at once when there is none. */
  wake(): void {
    this.#woken = true
    this.#wake?.()
  }

  /** @param milliseconds at the most; Infinity for no limit */
  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (!this.#woken && !signal.aborted && milliseconds > 0) {
      let timer: NodeJS.Timeout | undefined
      let wake = (): void => undefined
      await new Promise<void>((resolve) => {
        wake = resolve
        this.#wake = resolve
        signal.addEventListener('abort', wake, { once: true })
        if (Number.isFinite(milliseconds)) timer = setTimeout(wake, milliseconds)
      })
      clearTimeout(timer)
      signal.removeEventListener('abort', wake)
      this.#wake = undefined
    }
    this.#woken = false
  }
}
