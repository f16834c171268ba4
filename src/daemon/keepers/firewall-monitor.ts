/**
 * Follows the rule changes that `nft monitor` reports near our rules. A host without nft is checked by the
 * period alone.
 */
import { Nftables } from '../../firewall/nftables'
import type { BackoffBounds } from '../../model/backoff'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import type { FirewallRequest } from '../../model/firewall'
import { watchedChains } from '../../plan/firewall/firewall'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'

/** Milliseconds between two attempts to start the monitor. */
const RETRY: BackoffBounds = { first: 200, most: 30_000 }

/** What the monitor reports to. */
export interface Listener {
  /** Rules near ours may be others than before. */
  changed(): void
  /** No changes are reported, and why; called again for each failure. */
  failed(problem: string): void
}

export class FirewallMonitor {
  readonly #loop: Loop
  /** Ends the present `nft monitor`, for other chains are to be watched. */
  #retargeted = new AbortController()
  /** Whether changes may have gone unreported since the last `nft monitor` ended. */
  #missed = false

  constructor(
    private request: FirewallRequest,
    private readonly listener: Listener,
    log: Logger,
  ) {
    const failed = (problem: string): void => {
      this.#missed = true
      listener.failed(problem)
    }
    // A new target is the only success, and no news.
    const recovered = (): void => undefined
    const pass = (signal: AbortSignal): Promise<Next> => this.#follow(signal)
    this.#loop = new Loop({ name: 'firewall', retry: RETRY, good: RETRY.most, pass, failed, recovered }, log)
  }

  /** Watches the chains of another request from now on. */
  retarget(request: FirewallRequest): void {
    this.request = request
    this.#retargeted.abort()
  }

  /** Runs until the signal fires and the process that it started has ended. */
  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal)
  }

  async #follow(signal: AbortSignal): Promise<Next> {
    if (this.#missed) this.listener.changed()
    this.#missed = false
    this.#retargeted = new AbortController()
    const retargeted = this.#retargeted.signal
    const places = watchedChains(this.request)
    try {
      const nftables = await Nftables.require()
      await nftables.monitor(places, () => this.listener.changed(), AbortSignal.any([signal, retargeted]))
    } catch (error) {
      if (!retargeted.aborted) throw failureOf(error)
    }
    return { due: performance.now() }
  }
}

/** A process that the system cannot start now (ENOMEM) is a failure, and no defect of ours. */
const failureOf = (error: unknown): unknown =>
  systemErrorCode(error) === undefined ? error : new OverlayError('nftables', describeError(error))
