/** Tells whoever watches the status that something may have changed; costs nothing while nobody does. */
import { Waker } from './waker'

export class ChangeBell {
  readonly #watchers = new Set<Waker>()

  ring(): void {
    for (const watcher of this.#watchers) watcher.wake()
  }

  /** Listens until {@link stop}: nothing that rings in between is missed. */
  watch(): Waker {
    const watcher = new Waker()
    this.#watchers.add(watcher)
    return watcher
  }

  stop(watcher: Waker): void {
    this.#watchers.delete(watcher)
  }
}
