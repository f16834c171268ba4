/**
 * Keeps the rules of this host in force. The keeper checks them at the start, as soon as another program
 * changes rules near ours (where nft reports changes), and by a period. Rules that are in order are not
 * written.
 */
import type { FirewallRequest, FirewallSummary } from '../../model/firewall'
import { Loop, type Next } from '../loop/loop'
import { RecentRepairs } from '../loop/recent-repairs'
import type { Logger } from '../tell/logger'
import { FirewallMonitor } from './firewall-monitor'
import { FirewallRules } from './firewall-rules'

/** All times in milliseconds. flannel's default of --iptables-resync. */
export const FIREWALL_PERIOD = 5000
/** Events of one change cause one check. */
const SETTLE = 50
/** Between two checks, also in a storm of events; a check takes about 20. */
const SPACING = 300

export interface FirewallKeeperOptions {
  readonly log: Logger
  /** Milliseconds between two checks without an event; default {@link FIREWALL_PERIOD}. */
  readonly period?: number
}

/** The rules that are to be in force. Each new target has one of its own. */
interface Target {
  readonly request: FirewallRequest
  readonly rules: FirewallRules
  /**
   * Whether these rules were in force once: whatever has to be written after that was changed by another
   * program.
   */
  established: boolean
}

const targetOf = (request: FirewallRequest): Target => ({
  request,
  rules: new FirewallRules(request),
  established: false,
})

export class FirewallKeeper {
  readonly #loop: Loop
  readonly #monitor: FirewallMonitor
  readonly #log: Logger
  readonly #period: number
  #target: Target
  /** Lines that are logged once. */
  readonly #logged = new Set<string>()
  #problem: string | undefined
  #repairs = 0
  readonly #writes = new RecentRepairs()

  constructor(request: FirewallRequest, { log, period = FIREWALL_PERIOD }: FirewallKeeperOptions) {
    this.#log = log
    this.#period = period
    this.#target = targetOf(request)
    const pass = (signal: AbortSignal): Promise<Next> => this.#pass(signal)
    this.#loop = new Loop({ name: 'firewall', first: period, settle: SETTLE, pass }, log)
    const seconds = period / 1000
    const listener = {
      changed: () => this.#loop.wake(),
      failed: (problem: string) =>
        this.#logOnce('info', `changes are only found every ${seconds} s: ${problem}`),
    }
    this.#monitor = new FirewallMonitor(request, listener, log)
  }

  /** Why the rules are not in force, or do not stay; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#problem
  }

  get summary(): FirewallSummary {
    return { mode: this.#target.request.mode, problem: this.#problem, repairs: this.#repairs }
  }

  /** Sets other rules as wanted. The next check, which is soon, brings them into force. */
  retarget(request: FirewallRequest): void {
    this.#target = targetOf(request)
    this.#monitor.retarget(request)
    this.#loop.wake()
  }

  /**
   * Checks the rules once, and writes those that differ. A failure is the {@link problem}. One call at a
   * time.
   */
  async look(signal: AbortSignal): Promise<void> {
    // Another target may come during the check: what this check finds is about its own.
    const target = this.#target
    const outcome = await target.rules.bring(signal)
    if (signal.aborted) return
    const problems = [...outcome.problems]
    for (const text of outcome.remnants) this.#logOnce('warn', text)
    if (outcome.changed) this.#noteWrite(target)
    if (problems.length === 0) target.established = true
    if (problems.length === 0 && this.#writes.areContested) {
      problems.push('another program changes our rules again and again; see `nft monitor` for its name')
    }
    this.#setProblem(problems.length === 0 ? undefined : problems.join('; '))
  }

  /** Runs until the signal fires and the processes it started have ended. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#monitor.run(signal), this.#loop.run(signal)])
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    await this.look(signal)
    const earliest = performance.now() + (this.#writes.areContested ? this.#period : SPACING)
    return { due: earliest + this.#period, earliest }
  }

  #noteWrite({ established, request: { mode } }: Target): void {
    this.#writes.add()
    if (established) this.#repairs += 1
    const what = established ? 'rules were changed or gone, and are put right' : 'rules are set'
    this.#log.info(`firewall: ${what} (${mode})`, {
      kind: established ? 'firewall-repair' : 'firewall-change',
    })
  }

  #setProblem(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem)
      this.#log.error(`firewall: ${problem}`, { kind: 'firewall-problem' })
    this.#problem = problem
  }

  #logOnce(level: 'warn' | 'info', text: string): void {
    if (this.#logged.has(text)) return
    this.#logged.add(text)
    this.#log.log(level, `firewall: ${text}`)
  }
}
