/**
 * Keeps the rules of this host in force: looks at start, as soon as anyone changes rules near ours (where nft can tell), and by a period. What is in
 * order is not written. The mode that is not used is cleared of ours only when the rules of the other are in force, so a change of mode
 * leaves neither a gap nor a remnant.
 */
import { performance } from 'node:perf_hooks'
import { setTimeout as after } from 'node:timers/promises'
import { Iptables } from '../firewall/iptables'
import { Nftables } from '../firewall/nftables'
import type { Family } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError } from '../model/errors'
import type { DesiredIptables, FirewallRequest, FirewallSummary } from '../model/firewall'
import { desiredIptables, desiredTable, watchedChains } from '../plan/firewall'
import { diffIptables } from '../plan/firewall-iptables'
import { diffTable } from '../plan/firewall-nftables'
import type { Logger } from './logger'
import { Waker } from './waker'

/** All times in milliseconds. flannel's default of --iptables-resync. */
export const FIREWALL_PERIOD = 5000
/** Events of one change come together. */
const SETTLE = 50
/** Between two looks, also in a storm of events; a look takes about 20. */
const SPACING = 300
/** This many looks in a row that wrote: someone else writes too, and events are not followed for a period. */
const CONTEST = 5
const MONITOR_RETRY: BackoffBounds = { first: 200, most: 30_000 }

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']

export interface FirewallKeeperOptions {
  readonly log: Logger
  /** Milliseconds between two looks without an event; default {@link FIREWALL_PERIOD}. */
  readonly period?: number
}

/** What a step did. `failed` is reported where it was needed, and only logged where it was to clear the other mode. */
type Step =
  | { readonly kind: 'same' | 'changed' }
  | { readonly kind: 'failed'; readonly problem: string | undefined }

export class FirewallKeeper {
  readonly #waker = new Waker()
  readonly #log: Logger
  readonly #period: number
  readonly #iptables = new Map<Family, Iptables>()
  #nftables: Nftables | undefined
  /** name -> a listing that differs from the wanted text but that writing did not change: this nft puts it in other words. */
  readonly #synonyms = new Map<string, { readonly wanted: string; readonly printed: string }>()
  readonly #said = new Set<string>()
  #problem: string | undefined
  #established = false
  #repairs = 0
  #writes = 0

  constructor(
    private readonly request: FirewallRequest,
    { log, period = FIREWALL_PERIOD }: FirewallKeeperOptions,
  ) {
    this.#log = log
    this.#period = period
  }

  /** Why the rules are not in force, or do not stay; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#problem
  }

  get summary(): FirewallSummary {
    return { mode: this.request.mode, problem: this.#problem, repairs: this.#repairs }
  }

  /** Looks once, and brings into force what is not. What goes wrong is kept as {@link problem}. One call at a time. */
  async look(signal: AbortSignal): Promise<void> {
    const steps: Step[] = []
    for (const family of FAMILIES) steps.push(...(await this.#bring(family, signal)))
    if (signal.aborted) return
    const problems = steps.flatMap((step) => (step.kind === 'failed' ? (step.problem ?? []) : []))
    this.#noteWrites(steps.some(({ kind }) => kind === 'changed'))
    if (problems.length === 0) this.#established = true
    if (problems.length === 0 && this.#contested) {
      problems.push('another program changes our rules again and again; see `nft monitor` for its name')
    }
    this.#noteProblem(problems.length === 0 ? undefined : [...new Set(problems)].join('; '))
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
    return this.#writes >= CONTEST
  }

  #noteWrites(changed: boolean): void {
    this.#writes = changed ? this.#writes + 1 : 0
    if (!changed) return
    if (this.#established) this.#repairs += 1
    const what = this.#established ? 'rules were changed or gone, and are put right' : 'rules are set'
    this.#log.info(`firewall: ${what} (${this.request.mode})`)
  }

  #noteProblem(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem) this.#log.error(`firewall: ${problem}`)
    this.#problem = problem
  }

  /** The mode in use first: what it replaces goes only after that. */
  async #bring(family: Family, signal: AbortSignal): Promise<Step[]> {
    const { chains, hooks } = desiredIptables(this.request, family)
    const wantsTable = desiredTable(this.request, family).text !== undefined
    const wantsIptables = hooks.length > 0 || areWanted(chains)
    const table = (): Promise<Step> =>
      this.#attempt(wantsTable, () => this.#bringTable(family, wantsTable, signal), signal)
    const iptables = (withChains: boolean): Promise<Step> =>
      this.#attempt(wantsIptables, () => this.#bringIptables(family, withChains, signal), signal)
    if (this.request.mode === 'nftables') {
      const first = await table()
      return [first, await iptables(!isProblem(first))]
    }
    const first = await iptables(true)
    return isProblem(first) ? [first] : [first, await table()]
  }

  /** @param needed whether a failure is a problem */
  async #attempt(needed: boolean, change: () => Promise<boolean>, signal: AbortSignal): Promise<Step> {
    try {
      return { kind: (await change()) ? 'changed' : 'same' }
    } catch (error) {
      if (signal.aborted) return { kind: 'failed', problem: undefined }
      // The next look finds programs that were installed, replaced or moved meanwhile.
      this.#iptables.clear()
      this.#nftables = undefined
      const problem = describeError(error)
      if (needed) return { kind: 'failed', problem }
      this.#sayOnce('warn', `cannot clear what a former mode may have left: ${problem}`)
      return { kind: 'failed', problem: undefined }
    }
  }

  /**
   * @param chains whether our own chains are to be brought, or cleared, too
   * @returns whether anything was written
   */
  async #bringIptables(family: Family, chains: boolean, signal: AbortSignal): Promise<boolean> {
    const plan = desiredIptables(this.request, family)
    const needed = chains && areWanted(plan.chains)
    const iptables = await this.#findIptables(family, needed)
    if (iptables === undefined) return false
    const masquerades = needed && this.request.ipMasq && this.request.fullyRandom
    const fullyRandom = masquerades && (await iptables.fullyRandom(signal))
    const desired = desiredIptables({ ...this.request, fullyRandom }, family)
    const change = diffIptables(
      chains ? desired : { ...desired, chains: [] },
      this.request.links,
      await iptables.list(signal),
    )
    if (change === undefined) return false
    await iptables.apply(change, signal)
    return true
  }

  /**
   * @param needed whether nft has to be there
   * @returns whether anything was changed
   */
  async #bringTable(family: Family, needed: boolean, signal: AbortSignal): Promise<boolean> {
    const nftables = await this.#findNftables(needed)
    if (nftables === undefined) return false
    const masquerades = needed && this.request.ipMasq && this.request.fullyRandom
    const fullyRandom = masquerades && (await nftables.fullyRandom(signal))
    const desired = desiredTable({ ...this.request, fullyRandom }, family)
    const observed = await nftables.list(desired.name, signal)
    const synonym = this.#synonyms.get(desired.name)
    if (synonym !== undefined && synonym.wanted === desired.text && synonym.printed === observed) return false
    const change = diffTable(desired, observed)
    if (change === undefined) return false
    await nftables.apply(change, signal)
    if (desired.text === undefined || observed === undefined) return true
    const printed = await nftables.list(desired.name, signal)
    if (printed !== observed) return true
    this.#synonyms.set(desired.name, { wanted: desired.text, printed })
    return false
  }

  async #findIptables(family: Family, needed: boolean): Promise<Iptables | undefined> {
    const iptables =
      this.#iptables.get(family) ?? (await (needed ? Iptables.require(family) : Iptables.find(family)))
    if (iptables !== undefined) this.#iptables.set(family, iptables)
    return iptables
  }

  async #findNftables(needed: boolean): Promise<Nftables | undefined> {
    this.#nftables ??= await (needed ? Nftables.require() : Nftables.find())
    return this.#nftables
  }

  /** Follows what nft reports, for as long as there is an nft. */
  async #watch(signal: AbortSignal): Promise<void> {
    const places = watchedChains(this.request)
    const wake = (line: string): void => {
      if (places.some((place) => line.includes(place))) this.#waker.wake()
    }
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      const started = performance.now()
      try {
        await (await Nftables.require()).monitor(wake, signal)
      } catch (error) {
        if (signal.aborted) return
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

const areWanted = (chains: DesiredIptables['chains']): boolean =>
  chains.some(({ rules }) => rules !== undefined)

const isProblem = (step: Step): boolean => step.kind === 'failed' && step.problem !== undefined

/** Ends early, without an error, when the signal fires. */
const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  after(milliseconds, undefined, { signal }).catch(() => undefined)
