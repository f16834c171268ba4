/**
 * Keeps the rules that let no packet of the network pass in clear, where encryption is required, and removes
 * those that are not wanted any more.
 */
import { performance } from 'node:perf_hooks'
import { GuardTables } from '../../kernel/nftables/guard'
import { describeError } from '../../model/errors'
import type { Guard, GuardCounts } from '../../model/guard'
import type { Logger } from '../tell/logger'

/** Milliseconds between two comparisons without a notification, in case one was lost. */
const PERIOD = 60_000

export class GuardKeeper {
  #tables: GuardTables | undefined
  /** Names of tables that were looked for, and are not there. */
  readonly #absent = new Set<string>()
  /** The guard that was compared last, and until when the comparison holds in monotonic milliseconds. */
  #compared: { readonly guard: Guard; readonly until: number } | undefined

  /** @param changed called when another program may have changed the rules */
  constructor(
    private readonly changed: () => void,
    private readonly log: Logger,
  ) {}

  /**
   * Makes the rules as the guard says. They are read where they may have changed since the last call.
   * @returns how many repairs were made
   * @throws {OverlayError} `no-guard`, or the kernel's refusal
   */
  async ensure(guard: Guard, signal: AbortSignal): Promise<number> {
    const { guard: before, until } = this.#compared ?? { guard: undefined, until: 0 }
    if (before === guard && performance.now() < until) return 0
    const tables = await this.#open()
    // Before the comparison: a change after it is noticed.
    this.#compared = { guard, until: performance.now() + PERIOD }
    this.#absent.delete(guard.name)
    try {
      return (await tables.ensure(guard, signal)) === 'repaired' ? 1 : 0
    } catch (error) {
      this.#compared = undefined
      throw error
    }
  }

  /** Removes the rules of that name, made by this run or an earlier one. */
  async remove(name: string, signal: AbortSignal): Promise<void> {
    if (this.#absent.has(name)) return
    this.#compared = undefined
    const tables = await this.#open()
    if (await tables.remove(name, signal))
      this.log.info('encryption: packets in clear may pass again', { kind: 'encryption-guard' })
    this.#absent.add(name)
  }

  /** Packets that were dropped since the rules were last written; `undefined` where there are no rules. */
  async counts(name: string): Promise<GuardCounts | undefined> {
    return this.#tables?.read(name).catch(() => undefined)
  }

  /** Closes sockets; the rules stay. */
  close(): void {
    this.#tables?.close()
  }

  async #open(): Promise<GuardTables> {
    const changed = (): void => {
      this.#compared = undefined
      this.changed()
    }
    this.#tables ??= await GuardTables.open(changed, (error) => {
      this.log.warn(`encryption: ${describeError(error)}`)
      changed()
    })
    return this.#tables
  }
}
