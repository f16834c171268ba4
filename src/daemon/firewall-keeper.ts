/** Keeps the rules that Docker's containers need to be reached, on hosts that have Docker. */
import { findProgram, Iptables } from '../firewall/iptables'
import { describeError } from '../model/errors'
import type { FirewallRule } from '../model/firewall'
import { diffFirewall } from '../plan/firewall'
import type { Logger } from './logger'
import { Waker } from './waker'

/** Milliseconds between two looks; flannel's default (--iptables-resync). A look costs two calls of about 2 ms. */
const PERIOD = 5000

export class FirewallKeeper {
  readonly #waker = new Waker()
  #problem: string | undefined

  constructor(
    private readonly iptables: Iptables,
    private readonly link: string,
    private readonly rules: readonly FirewallRule[],
    private readonly log: Logger,
  ) {}

  /**
   * The keeper for this host.
   * @returns `undefined` where there is no Docker, or no iptables to talk to its rules with
   */
  static async forDocker(
    link: string,
    rules: readonly FirewallRule[],
    log: Logger,
  ): Promise<FirewallKeeper | undefined> {
    const [docker, iptables] = [await findProgram('dockerd'), await findProgram('iptables')]
    if (docker === undefined || iptables === undefined) {
      log.debug(
        `firewall: ${docker === undefined ? 'dockerd' : 'iptables'} is not in PATH: no rules for Docker`,
      )
      return undefined
    }
    return new FirewallKeeper(new Iptables(iptables), link, rules, log)
  }

  /** Why the rules are not in force; `undefined` when they are. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Looks once, and brings into force what is missing. What goes wrong is kept as {@link problem}. */
  async look(signal: AbortSignal): Promise<void> {
    try {
      const listing = await this.iptables.list([...new Set(this.rules.map(({ table }) => table))], signal)
      const commands = diffFirewall(this.link, this.rules, listing)
      for (const command of commands) await this.iptables.run(command, signal)
      if (commands.length > 0)
        this.log.info(`firewall: ${commands.length} changes to let Docker's containers be reached`)
      this.#problem = undefined
    } catch (error) {
      if (signal.aborted) return
      const problem = describeError(error)
      if (this.#problem !== problem) this.log.error(`firewall: ${problem}`)
      this.#problem = problem
    }
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#waker.sleep(PERIOD, signal)
      if (!signal.aborted) await this.look(signal)
    }
  }
}
