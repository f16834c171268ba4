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
 * Prefixes that are judged in one turn of the event loop: a few milliseconds. Those of one host that comes or
 * goes have one turn, so that no route is gone before its successor is known.
 */
export const SLICE = 256

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
  /** Prefixes that have to be judged, the most urgent first. */
  #pending = new Set<RouteKey>()
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
    const urgent = [...this.parts.claims.takeTouched()]
    this.#pending = new Set([...urgent, ...this.#pending])
    this.#judgeSlice(heardAt, urgent.length)
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
    for (const key of claims.takeTouched()) this.#pending.add(key)
    yield
    if (isOver) this.all()
    else this.#judgeSlice()
  }

  /**
   * Judges all prefixes again: peers, the network config or this host's addresses have changed. The first
   * slice is judged before it returns, and begins with the prefixes of hosts that have come or gone. The
   * others have turns of their own: see {@link settle}.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  all(heardAt?: number): void {
    const { claims, standings } = this.parts
    this.#prepare()
    const urgent = [...claims.takeTouched(), ...this.#ofChangedHosts()]
    this.#pending = new Set([
      ...urgent,
      // What an earlier review has left: reviews that follow closely must not keep it waiting for ever.
      ...this.#pending,
      ...standings.prefixes(),
      ...claims.prefixes(),
    ])
    this.#judgeSlice(heardAt, urgent.length)
  }

  /** Waits until nothing is left to be judged. @throws the signal's reason */
  async settle(signal: AbortSignal): Promise<void> {
    while (this.#pending.size > 0) await giveWay(signal)
  }

  /** Finds out what the judgement of each claim depends on. */
  #prepare(): void {
    this.parts.rules.prepare()
    this.#due = dueOf(this.parts.claims.all(), Date.now())
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

  /** Judges the most urgent prefixes, and has the next ones judged in another turn of the event loop. */
  #judgeSlice(heardAt?: number, urgent = 0): void {
    const { routes, news } = this.parts
    const now = Date.now()
    const most = Math.max(SLICE, Math.min(urgent, MOST_OF_HOST))
    const rerouted: RouteKey[] = []
    let judged = 0
    for (const key of this.#pending) {
      this.#pending.delete(key)
      if (this.#judge(key, now)) rerouted.push(key)
      judged += 1
      if (judged === most) break
    }
    routes.program(rerouted, heardAt)
    this.#judged()
    if (this.#pending.size === 0) news.tell()
    else if (!this.#isScheduled) {
      this.#isScheduled = true
      setImmediate(() => {
        this.#isScheduled = false
        this.#judgeSlice(heardAt)
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

function dueOf(claims: Iterable<PrefixClaim>, now: number): number {
  let due = Number.POSITIVE_INFINITY
  for (const { announcement } of claims)
    if (announcement.until !== undefined && announcement.until > now) due = Math.min(due, announcement.until)
  return due === Number.POSITIVE_INFINITY ? due : performance.now() + Math.min(due - now, LONGEST_WAIT)
}
