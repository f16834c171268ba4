/**
 * Follows the kernel's notifications of rules near ours. Where the kernel gives none, rules are checked by
 * the period alone.
 */
import { once } from 'node:events'
import { followRules } from '../../kernel/nftables/rule-changes'
import type { BackoffBounds } from '../../model/backoff'
import type { FirewallRequest } from '../../model/firewall'
import { watchedChains } from '../../plan/firewall/firewall'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'

/** Milliseconds between two attempts to open the socket. */
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
  /** The beginnings of the places that matter, such as `ip nat POSTROUTING `. */
  #watched: readonly string[]
  /** Whether changes may have gone unreported so far. */
  #missed = false

  constructor(
    request: FirewallRequest,
    private readonly listener: Listener,
    private readonly log: Logger,
  ) {
    this.#watched = watchedChains(request)
    const failed = (problem: string): void => {
      this.#missed = true
      listener.failed(problem)
    }
    // The end of the loop is the only success, and no news.
    const recovered = (): void => undefined
    const pass = (signal: AbortSignal): Promise<Next> => this.#follow(signal)
    this.#loop = new Loop({ name: 'firewall', retry: RETRY, pass, failed, recovered }, log)
  }

  /** Watches the chains of another request from now on. */
  retarget(request: FirewallRequest): void {
    this.#watched = watchedChains(request)
  }

  /** Runs until the signal fires. */
  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal)
  }

  async #follow(signal: AbortSignal): Promise<Next> {
    const close = await followRules(
      (places) => {
        if (places().some((place) => this.#watched.some((start) => place.startsWith(start))))
          this.listener.changed()
      },
      (error) => this.log.debug(`firewall: ${error.message}`),
    )
    try {
      if (this.#missed) this.listener.changed()
      if (!signal.aborted) await once(signal, 'abort')
    } finally {
      close()
    }
    return { due: Number.POSITIVE_INFINITY }
  }
}
