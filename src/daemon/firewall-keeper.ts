/**
 * Keeps the rules of this host in force: looks at start, as soon as anyone changes rules near ours (where nft can tell), and by a period. What is in
 * order is not written.
 */
import { performance } from 'node:perf_hooks'
import { setTimeout as after } from 'node:timers/promises'
import { Nftables } from '../firewall/nftables'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError } from '../model/errors'
import type { FirewallRequest, FirewallSummary } from '../model/firewall'
import { watchedChains } from '../plan/firewall'
import { FirewallRules } from './firewall-rules'
import type { Logger } from './logger'
import { Waker } from './waker'

/** All times in milliseconds. flannel's default of --iptables-resync. */
export const FIREWALL_PERIOD = 5000
/** Events of one change come together. */
const SETTLE = 50
/** Between two looks, also in a storm of events; a look takes about 20. */
const SPACING = 300
/** So many writes within that time: someone else writes too, and events are not followed for a period. */
const CONTEST = { writes: 5, within: 30_000 }
const MONITOR_RETRY: BackoffBounds = { first: 200, most: 30_000 }

export interface FirewallKeeperOptions {
  readonly log: Logger
  /** Milliseconds between two looks without an event; default {@link FIREWALL_PERIOD}. */
  readonly period?: number
}

export class FirewallKeeper {
  readonly #waker = new Waker()
  readonly #log: Logger
  readonly #period: number
  #rules: FirewallRules
  /** Ends the present look-out for changes. */
  #lookOut = new AbortController()
  readonly #said = new Set<string>()
  #problem: string | undefined
  #established = false
  #repairs = 0
  /** When we last wrote, the latest last. */
  #writes: readonly number[] = []

  constructor(
    private request: FirewallRequest,
    { log, period = FIREWALL_PERIOD }: FirewallKeeperOptions,
  ) {
    this.#log = log
    this.#period = period
    this.#rules = new FirewallRules(request)
  }

  /** Why the rules are not in force, or do not stay; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#problem
  }

  get summary(): FirewallSummary {
    return { mode: this.request.mode, problem: this.#problem, repairs: this.#repairs }
  }

  /** Takes in that other rules are wanted; they are in force after the next look, which is soon. */
  retarget(request: FirewallRequest): void {
    this.request = request
    this.#rules = new FirewallRules(request)
    this.#established = false
    this.#lookOut.abort()
    this.#waker.wake()
  }

  /** Looks once, and brings into force what is not. What goes wrong is kept as {@link problem}. One call at a time. */
  async look(signal: AbortSignal): Promise<void> {
    const outcome = await this.#rules.bring(signal)
    if (signal.aborted) return
    const problems = [...outcome.problems]
    for (const text of outcome.remnants) this.#sayOnce('warn', text)
    this.#noteWrites(outcome.changed)
    if (problems.length === 0) this.#established = true
    if (problems.length === 0 && this.#contested) {
      problems.push('another program changes our rules again and again; see `nft monitor` for its name')
    }
    this.#noteProblem(problems.length === 0 ? undefined : problems.join('; '))
  }

  /** Runs until the signal fires and the processes it started have ended. */
  async run(signal: AbortSignal): Promise<void> {
    const watch = this.#watch(signal)
    while (!signal.aborted) {
      await this.#waker.sleep(this.#period, signal)
      await pause(SETTLE, signal)
      if (signal.aborted) break
      await this.look(signal)
      await pause(this.#contested ? this.#period : SPACING, signal)
    }
    await watch
  }

  get #contested(): boolean {
    const first = this.#writes.at(-CONTEST.writes)
    return first !== undefined && performance.now() - first < CONTEST.within
  }

  #noteWrites(changed: boolean): void {
    if (!changed) return
    this.#writes = [...this.#writes, performance.now()].slice(-CONTEST.writes)
    if (this.#established) this.#repairs += 1
    const what = this.#established ? 'rules were changed or gone, and are put right' : 'rules are set'
    this.#log.info(`firewall: ${what} (${this.request.mode})`, {
      kind: this.#established ? 'firewall-repair' : 'firewall-change',
    })
  }

  #noteProblem(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem)
      this.#log.error(`firewall: ${problem}`, { kind: 'firewall-problem' })
    this.#problem = problem
  }

  /** Follows what nft reports, for as long as there is an nft. */
  async #watch(signal: AbortSignal): Promise<void> {
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      const started = performance.now()
      this.#lookOut = new AbortController()
      const scoped = AbortSignal.any([signal, this.#lookOut.signal])
      const places = watchedChains(this.request)
      try {
        await (await Nftables.require()).monitor(places, () => this.#waker.wake(), scoped)
        // It ends without an error only when other places are to be watched.
        attempt = 0
        continue
      } catch (error) {
        if (signal.aborted) return
        if (scoped.aborted) continue
        this.#sayOnce(
          'info',
          `changes are only found every ${this.#period / 1000} s: ${describeError(error)}`,
        )
      }
      if (performance.now() - started > MONITOR_RETRY.most) attempt = 1
      await pause(backoffDelay(attempt, MONITOR_RETRY, Math.random), signal)
      this.#waker.wake()
    }
  }

  #sayOnce(level: 'warn' | 'info', text: string): void {
    if (this.#said.has(text)) return
    this.#said.add(text)
    this.#log.log(level, `firewall: ${text}`)
  }
}

/** Ends early, without an error, when the signal fires. */
const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  after(milliseconds, undefined, { signal }).catch(() => undefined)
