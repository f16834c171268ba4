/** The alarm clock of one loop: its sleep ends by a wake, at a time, or when the signal fires. */
export class Alarm {
  #wake: (() => void) | undefined
  #woken = false

  /** Ends the current sleep; if there is none, the next sleep ends at once. */
  wake(): void {
    this.#woken = true
    this.#wake?.()
  }

  /** @param milliseconds maximum length of the sleep; Infinity for no limit */
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
