/** Notifications to systemd: readiness, watchdog, and the status line of `systemctl status`. */
import { notifySystemd, watchdogMilliseconds } from '../../host/sd-notify'
import { describeError } from '../../model/errors'
import type { Logger } from './logger'

/** Watchdog notifications per watchdog timeout, so that one may be late. */
const WATCHDOG_BEATS = 3

export class Systemd {
  #line: string | undefined
  readonly #watchdog = watchdogMilliseconds()

  constructor(private readonly log: Logger) {}

  /** Milliseconds between two watchdog notifications; Infinity if systemd expects none. */
  get beat(): number {
    return this.#watchdog === undefined ? Number.POSITIVE_INFINITY : this.#watchdog / WATCHDOG_BEATS
  }

  /** Notifies the watchdog, if systemd expects it, and sends the status line if it changed. */
  alive(line: string): void {
    this.notify(this.#watchdog === undefined ? [] : ['WATCHDOG=1'], line)
  }

  /** Sends states, and the status line if it changed. */
  notify(states: readonly string[], line: string): void {
    const news = line === this.#line ? states : [...states, `STATUS=${line}`]
    if (news.length === 0) return
    this.#line = line
    try {
      notifySystemd(news)
    } catch (error) {
      // The daemon works without systemd.
      this.log.error(describeError(error))
    }
  }
}
