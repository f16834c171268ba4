/**
 * Judges claims prefix by prefix, the most urgent first, and many of them in slices: each has its turn of the
 * event loop.
 */
import { performance } from 'node:perf_hooks'
import { type RouteKey, routeKey } from '../../model/kernel/route'
import { MOST_OF_HOST, type PrefixClaim } from '../../model/prefixes'
import type { ClaimTable } from '../../plan/prefixes/claim-table'
import type { StandingTable } from '../../plan/prefixes/standing-table'
import { giveWay } from '../loop/give-way'
import { type AnnouncedView, leaseKeyOf } from './announced-view'
import type { ClaimRules } from './claim-rules'
import type { PrefixNews } from './prefix-news'
import type { PrefixRoutes } from './prefix-routes'

/**
 * Milliseconds of one turn of the event loop that judging takes. A young process judges many times fewer
 * prefixes in them than one that runs for a while.
 */
const BUDGET = 4
/** Prefixes that are judged between two looks at the clock. */
export const LEAST = 32

/** Longest time that a timer of Node takes, in milliseconds. */
const LONGEST_WAIT = 2 ** 31 - 1

/** What judging reads, and what it has done. */
export interface JudgingParts {
  readonly claims: ClaimTable
  readonly rules: ClaimRules
  readonly standings: StandingTable
  readonly routes: PrefixRoutes
  readonly news: PrefixNews
}

export class Judging {
  /** Prefixes that have to be judged before those of {@link #sweep}. */
  #waiting = new Set<RouteKey>()
  /** What is left of a review of all prefixes. It sees those that come and go meanwhile. */
  #sweep: Iterator<RouteKey> | undefined
  /** Whether a review was asked for during another one, which goes on first: nothing waits for ever. */
  #isSweptAgain = false
  /** Whether the next slice has its turn already. */
  #isScheduled = false
  /** Host -> whether it was followed when its claims were judged last. */
  readonly #followed = new Map<string, boolean>()
  /** Monotonic milliseconds. */
  #due = Number.POSITIVE_INFINITY
  #judged = (): void => undefined

  constructor(
    private readonly view: AnnouncedView,
    private readonly parts: JudgingParts,
  ) {}

  /** When the next announcement ends, in monotonic milliseconds; Infinity for never. */
  get due(): number {
    return this.#due
  }

  /** @param judged called after each slice */
  onJudged(judged: () => void): void {
    this.#judged = judged
  }

  /**
   * Judges prefixes whose claims have changed. The first slice is judged before it returns.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  changed(heardAt?: number): void {
    if (this.#due <= performance.now()) {
      // A claim whose time is over has not changed. After the next line, nobody would know of its end.
      this.all(heardAt)
      return
    }
    this.#prepare()
    this.#judgeSlice(this.parts.claims.takeTouched(), heardAt)
  }

  /** The same after a listing, in pieces: where many have changed, none is more urgent than the others. */
  *listed(): Generator<void, void> {
    const { claims } = this.parts
    const isOver = this.#due <= performance.now()
    this.#prepare()
    yield
    // All claims of a new host have changed.
    for (const host of claims.hosts())
      if (!this.#followed.has(host)) this.#followed.set(host, this.#isFollowed(host))
    const touched = claims.takeTouched()
    for (const key of this.#waiting) touched.add(key)
    this.#waiting = touched
    yield
    if (isOver) this.all()
    else this.#judgeSlice([])
  }

  /**
   * Judges all prefixes again: peers, the network config or this host's addresses have changed. The first
   * slice is judged before it returns, and begins with the prefixes of hosts that have come or gone. The
   * others have turns of their own: see {@link settle}.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  all(heardAt?: number): void {
    const { claims } = this.parts
    this.#prepare()
    const urgent = new Set([...claims.takeTouched(), ...this.#ofChangedHosts()])
    // A prefix that nobody claims any more is among those that have changed.
    if (this.#sweep === undefined) this.#sweep = claims.prefixes()[Symbol.iterator]()
    else this.#isSweptAgain = true
    this.#judgeSlice(urgent, heardAt)
  }

  /** Waits until nothing is left to be judged. @throws the signal's reason */
  async settle(signal: AbortSignal): Promise<void> {
    while (this.#isBusy) await giveWay(signal)
  }

  /** Finds out what the judgement of each claim depends on. */
  #prepare(): void {
    this.parts.rules.prepare()
    const now = Date.now()
    const end = this.parts.claims.nextEnd(now)
    this.#due = Number.isFinite(end) ? performance.now() + Math.min(end - now, LONGEST_WAIT) : end
  }

  *#ofChangedHosts(): Generator<RouteKey> {
    const { claims } = this.parts
    for (const host of this.#followed.keys())
      if (claims.ofHost(host)[Symbol.iterator]().next().done === true) this.#followed.delete(host)
    for (const host of claims.hosts()) {
      const isFollowed = this.#isFollowed(host)
      if (this.#followed.get(host) === isFollowed) continue
      this.#followed.set(host, isFollowed)
      for (const { announcement } of claims.ofHost(host)) yield routeKey(announcement.prefix)
    }
  }

  #isFollowed(host: string): boolean {
    const key = leaseKeyOf(this.view, host)
    return this.view.overlays.some(({ peers }) => peers.peer(key) !== undefined)
  }

  get #isBusy(): boolean {
    return this.#waiting.size > 0 || this.#sweep !== undefined
  }

  /** The next prefix that has to be judged, the most urgent first. */
  #next(): RouteKey | undefined {
    for (const key of this.#waiting) {
      this.#waiting.delete(key)
      return key
    }
    while (this.#sweep !== undefined) {
      const { done, value } = this.#sweep.next()
      if (done !== true) return value
      this.#sweep = this.#isSweptAgain ? this.parts.claims.prefixes()[Symbol.iterator]() : undefined
      this.#isSweptAgain = false
    }
    return undefined
  }

  /**
   * Judges prefixes until the budget is used, and has the next ones judged in another turn of the event loop.
   * @param urgent prefixes that are judged first. Those of one host that comes or goes have one turn, so that
   *   no route is gone before its successor is known
   */
  #judgeSlice(urgent: ReadonlySet<RouteKey> | readonly RouteKey[], heardAt?: number): void {
    const { routes, news } = this.parts
    const [began, now] = [performance.now(), Date.now()]
    const rerouted: RouteKey[] = []
    const judge = (key: RouteKey): void => {
      if (this.#judge(key, now)) rerouted.push(key)
    }
    const all = [...urgent]
    for (const key of all.slice(0, MOST_OF_HOST)) {
      this.#waiting.delete(key)
      judge(key)
    }
    if (all.length > MOST_OF_HOST) this.#waiting = new Set([...all.slice(MOST_OF_HOST), ...this.#waiting])
    for (let judged = 1; ; judged++) {
      const key = this.#next()
      if (key === undefined) break
      judge(key)
      if (judged % LEAST === 0 && performance.now() - began > BUDGET) break
    }
    routes.program(rerouted, heardAt)
    this.#judged()
    if (!this.#isBusy) news.tell()
    else if (!this.#isScheduled) {
      this.#isScheduled = true
      setImmediate(() => {
        this.#isScheduled = false
        this.#judgeSlice([], heardAt)
      })
    }
  }

  /** @returns whether its packets go to another peer than before */
  #judge(key: RouteKey, now: number): boolean {
    const { claims, rules, standings, routes, news } = this.parts
    const objection = (claim: PrefixClaim): string | undefined =>
      claims.excess(claim) ?? rules.objection(claim, now)
    news.note(key, standings.judge(key, claims.ofPrefix(key), objection))
    return routes.route(key)
  }
}
