/**
 * Follows the status and the events for all open pages. The daemon is asked once for all of them, at a modest
 * rate, and not at all while no page is open.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { OverlayEvent } from '../../api/events'
import type { Status } from '../../api/status'
import { backoffDelay } from '../../model/backoff'
import { describeError } from '../../model/errors'
import { type Change, changeBetween } from './change'
import { MOST_EVENTS, makeEvent, makePage, type PageDocument, type PageEvent } from './document'

/** What a page is told. */
export type News =
  /** Everything: the page forgets what it had. */
  | { readonly kind: 'page'; readonly page: PageDocument }
  | { readonly kind: 'change'; readonly change: Change }
  /** With `isAll`, the page forgets the events that it had. */
  | { readonly kind: 'events'; readonly isAll: boolean; readonly events: readonly PageEvent[] }
  /** Nobody says how this host is; the page shows what it had, and why. */
  | { readonly kind: 'silence'; readonly why: string }

export interface Reading {
  readonly status: Status
  /** Milliseconds that the daemon took for it; 0 where none runs. */
  readonly daemonMs: number
}

export interface FeedSources {
  /** The name of this host. */
  readonly host: string
  /** @throws {OverlayError} while a daemon runs that does not answer as it should */
  status(): Promise<Reading>
  /**
   * The kept events, and each further one.
   * @returns undefined while no daemon runs
   */
  events(signal: AbortSignal): Promise<AsyncIterable<OverlayEvent> | undefined>
}

/**
 * How many times longer than the daemon's answer the pause after it is: 5 % of the daemon's time at most. It
 * has a bound, in milliseconds: an answer may take long for other reasons.
 */
const PAUSE = 19
const LONGEST_PAUSE = 10_000
/** Milliseconds for which events are gathered. */
const GATHER = 100

export interface Pace {
  /** Milliseconds between two readings of the status, at least. */
  readonly period: number
  /** Milliseconds until the daemon is asked for its events again, after it has ended. */
  readonly again: { readonly first: number; readonly most: number }
}
const PACE: Pace = { period: 2000, again: { first: 1000, most: 5000 } }

export class Feed {
  readonly #listeners = new Set<(news: News) => void>()
  #running: AbortController | undefined
  #page: PageDocument | undefined
  #events: PageEvent[] = []
  #silence: string | undefined
  readonly #pace: Pace

  /** @param pace what differs from the usual pace, for tests */
  constructor(
    private readonly sources: FeedSources,
    pace: Partial<Pace> = {},
  ) {
    this.#pace = { ...PACE, ...pace }
  }

  /**
   * Tells a page everything, and then what happens.
   * @returns a function that ends it
   */
  follow(listener: (news: News) => void): () => void {
    this.#listeners.add(listener)
    for (const news of this.whole()) listener(news)
    if (this.#running === undefined) this.#start()
    return () => {
      this.#listeners.delete(listener)
      if (this.#listeners.size === 0) this.close()
    }
  }

  /** All that is known, for a page that knows nothing. */
  whole(): News[] {
    return [
      ...(this.#page === undefined ? [] : [{ kind: 'page', page: this.#page } as const]),
      ...(this.#page === undefined ? [] : [{ kind: 'events', isAll: true, events: this.#events } as const]),
      ...(this.#silence === undefined ? [] : [{ kind: 'silence', why: this.#silence } as const]),
    ]
  }

  close(): void {
    this.#running?.abort()
    this.#running = undefined
    this.#page = undefined
    this.#events = []
    this.#silence = undefined
  }

  #start(): void {
    const running = new AbortController()
    this.#running = running
    void this.#readStatus(running.signal)
    void this.#readEvents(running.signal)
  }

  #tell(news: News): void {
    for (const listener of this.#listeners) listener(news)
  }

  async #readStatus(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let milliseconds = this.#pace.period
      try {
        const { status, daemonMs } = await this.sources.status()
        if (signal.aborted) return
        milliseconds = Math.max(this.#pace.period, Math.min(LONGEST_PAUSE, daemonMs * PAUSE))
        this.#show(makePage(status, new Date(), this.sources.host))
      } catch (error) {
        if (signal.aborted) return
        this.#silence = describeError(error)
        this.#tell({ kind: 'silence', why: this.#silence })
      }
      await pause(milliseconds, signal)
    }
  }

  #show(page: PageDocument): void {
    const before = this.#page
    this.#silence = undefined
    if (before === undefined || before.head.columns.join() !== page.head.columns.join()) {
      this.#page = page
      this.#tell({ kind: 'page', page })
      this.#tell({ kind: 'events', isAll: true, events: this.#events })
      return
    }
    const { change, shown } = changeBetween(before, page)
    this.#page = shown
    this.#tell({ kind: 'change', change })
  }

  async #readEvents(signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      failures++
      try {
        const events = await this.sources.events(signal)
        if (events !== undefined) {
          failures = 1
          await this.#gather(events, signal)
        }
      } catch {
        // A daemon that ends or hangs: the status says so.
      }
      await pause(backoffDelay(failures, this.#pace.again, Math.random), signal)
    }
  }

  /** Tells events in groups. A daemon that is asked anew tells all that it keeps, so that the old ones go. */
  async #gather(events: AsyncIterable<OverlayEvent>, signal: AbortSignal): Promise<void> {
    let isAll = true
    let waiting: PageEvent[] = []
    let timer: NodeJS.Timeout | undefined
    const flush = (): void => {
      timer = undefined
      if (signal.aborted) return
      const told = waiting.slice(-MOST_EVENTS)
      waiting = []
      this.#events = (isAll ? told : [...this.#events, ...told]).slice(-MOST_EVENTS)
      this.#tell({ kind: 'events', isAll, events: told })
      isAll = false
    }
    try {
      for await (const event of events) {
        waiting.push(makeEvent(event))
        if (waiting.length > 2 * MOST_EVENTS) waiting = waiting.slice(-MOST_EVENTS)
        timer ??= setTimeout(flush, GATHER)
      }
    } finally {
      clearTimeout(timer)
      if (waiting.length > 0) flush()
    }
  }
}

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  sleep(milliseconds, undefined, { signal }).catch(() => undefined)
