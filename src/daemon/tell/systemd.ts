/** Notifications to systemd: readiness, watchdog, and the status line of `systemctl status`. */
import { performance } from 'node:perf_hooks'
import { notifySystemd, watchdogMilliseconds } from '../../host/sd-notify'
import { describeError } from '../../model/errors'
import type { Logger } from './logger'

/** Watchdog notifications per watchdog timeout, so that one may be late. */
const WATCHDOG_BEATS = 3

/**
 * Least milliseconds between two notifications that are not urgent. Peers that join one after the other
 * change the status line each time, and to word the line takes longer than to program the peer.
 */
const PAUSE = 200

export class Systemd {
  #line: string | undefined
  /** Whether the watchdog has to be notified. */
  #isAlive = false
  /** When the last notification was sent, in monotonic milliseconds. */
  #sentAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  readonly #watchdog = watchdogMilliseconds()

  /** @param summary the status line as it is now */
  constructor(
    private readonly summary: () => string,
    private readonly log: Logger,
  ) {}

  /** Milliseconds between two watchdog notifications; Infinity if systemd expects none. */
  get beat(): number {
    return this.#watchdog === undefined ? Number.POSITIVE_INFINITY : this.#watchdog / WATCHDOG_BEATS
  }

  /** Sends `READY=1` at once. */
  ready(): void {
    this.#send(['READY=1'])
  }

  /** Notifies the watchdog soon, if systemd expects it, and sends the status line if it changed. */
  alive(): void {
    this.#isAlive = this.#watchdog !== undefined
    this.changed()
  }

  /** Sends the status line soon, if it changed. */
  changed(): void {
    const wait = this.#sentAt + PAUSE - performance.now()
    if (wait <= 0) this.#send([])
    else this.#timer ??= setTimeout(() => this.#send([]), wait).unref()
  }

  #send(states: readonly string[]): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#sentAt = performance.now()
    const line = this.summary()
    const news = [
      ...states,
      ...(this.#isAlive ? ['WATCHDOG=1'] : []),
      ...(line === this.#line ? [] : [`STATUS=${line}`]),
    ]
    this.#isAlive = false
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
