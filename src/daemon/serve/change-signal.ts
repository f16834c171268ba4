/** Notifies all who wait for a change of the status. Without watchers a notification costs nothing. */
import { Alarm } from '../loop/alarm'

export class ChangeSignal {
  readonly #watchers = new Set<Alarm>()

  /** Wakes all watchers. */
  notify(): void {
    for (const alarm of this.#watchers) alarm.wake()
  }

  /** Registers a alarm until {@link stop}. It misses no notification in between, even while it is awake. */
  watch(): Alarm {
    const alarm = new Alarm()
    this.#watchers.add(alarm)
    return alarm
  }

  stop(alarm: Alarm): void {
    this.#watchers.delete(alarm)
  }
}
