/**
 * Judges all the time whether this host's containers have their bridge, and whether packets of the overlay
 * get out and in. It changes nothing.
 */
import { performance } from 'node:perf_hooks'
import { type HeldFinding, type HeldFindings, holdFindings } from '../../judge/held-findings'
import {
  judgeWayIn,
  type RulesMemory,
  type WayInCheck,
  type WayInFinding,
  type WayInReport,
} from '../../judge/way-in'
import { followRules } from '../../kernel/nftables/rule-changes'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import type { Edges } from '../edges'
import { Loop, type Next } from '../loop/loop'
import type { NodeView } from '../node/parts'
import { WayInSource } from './source'

/** All times in milliseconds. Without an event. */
const PERIOD = 20_000
/** Events of one change cause one pass. */
const SETTLE = 300
/** Between two passes; and at most this share of the time is spent on them. */
const SPACING = 2000
const SHARE = 1 / 50

export class WayIn implements WayInReport {
  readonly #loop: Loop
  readonly #source: WayInSource
  #held: HeldFindings = new Map()
  #made: ReadonlySet<WayInCheck> = new Set()
  #suspects: ReadonlySet<string> = new Set()
  #memory: RulesMemory | undefined
  #changed = (): void => undefined

  constructor(
    private readonly edges: Edges,
    private readonly node: () => NodeView,
  ) {
    this.#source = new WayInSource(edges)
    const pass = (signal: AbortSignal): Promise<Next> => this.#pass(signal).catch(asFailure)
    this.#loop = new Loop({ name: 'way in', settle: SETTLE, pass }, edges.log)
  }

  get findings(): readonly WayInFinding[] {
    return [...this.#held.values()].flatMap(({ finding, isConfirmed }) => (isConfirmed ? [finding] : []))
  }

  /** Checks that could be made. */
  get made(): ReadonlySet<WayInCheck> {
    return this.#made
  }

  /** @param changed called when findings come or go */
  onChange(changed: () => void): void {
    this.#changed = changed
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    const { kernel, log } = this.edges
    const stop = kernel.onChange((change) => {
      if (this.#source.note(change)) this.#loop.wake()
    })
    const report = (error: Error): void => log.debug(`way in: ${error.message}`)
    const noted = (): void => {
      this.#source.noteRules()
      this.#loop.wake()
    }
    const close = await followRules(noted, report).catch((error) => {
      log.info(`way in: changes of firewall rules are found by a period: ${describeError(error)}`)
      return undefined
    })
    this.#source.isToldOfRules = close !== undefined
    try {
      await this.#loop.run(signal)
    } finally {
      stop()
      close?.()
    }
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    const view = await this.#source.view(this.node(), this.#suspects, signal)
    const began = performance.now()
    const { findings, made, suspects, memory } = judgeWayIn(view, this.#memory)
    const took = performance.now() - began
    this.#suspects = suspects
    this.#memory = memory
    this.#made = made
    const rules = { reading: view.firewall, isOutdated: this.#source.areRulesOutdated }
    this.#take(holdFindings(this.#held, findings, rules))
    const now = performance.now()
    const earliest = now + Math.max(SPACING, took / SHARE)
    const doubtful = [...this.#held.values()].filter(({ isConfirmed }) => !isConfirmed)
    const waitsForRules = ({ finding }: HeldFinding): boolean =>
      rules.isOutdated && finding.check === 'firewall'
    // Where nobody tells of changes, nothing else causes the reading that confirms.
    if (doubtful.some(waitsForRules)) this.#source.noteRules()
    const again = doubtful.every(waitsForRules) ? now + PERIOD : earliest
    const due = Math.min(again, this.#source.rulesDue ?? now + PERIOD)
    return { due, earliest }
  }

  #take(held: HeldFindings): void {
    const before = this.#held
    this.#held = held
    let isNews = false
    for (const [key, { finding, isConfirmed }] of held) {
      if (!isConfirmed) continue
      if (before.get(key)?.finding.text !== finding.text) isNews = true
      if (before.get(key)?.isConfirmed === true) continue
      isNews = true
      const line = `${finding.check}: ${finding.text}; ${finding.fix}`
      const about = { kind: 'way-in-problem', about: [finding.check, finding.code] } as const
      if (finding.severity === 'problem') this.edges.log.error(line, about)
      else this.edges.log.warn(line, about)
    }
    for (const [key, { finding, isConfirmed }] of before) {
      if (!isConfirmed || held.has(key)) continue
      isNews = true
      this.edges.log.info(`${finding.check}: no more: ${finding.text}`, {
        kind: 'way-in-ok',
        about: [finding.check, finding.code],
      })
    }
    if (isNews) this.#changed()
  }
}

/**
 * A judgement is advice. A defect in it, such as a rule of a form that nobody has thought of, must not end
 * the process that programs peers.
 */
function asFailure(error: unknown): never {
  if (isOverlayError(error)) throw error
  throw new OverlayError('way-in', describeError(error), 'report it, with overlayctl bundle', {
    cause: error,
  })
}
