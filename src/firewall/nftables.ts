/** The program nft: tables as text, changes as transactions, and reports of what anyone changes. It needs CAP_NET_ADMIN and no file. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { OverlayError } from '../model/errors'
import { findProgram, requireProgram, runProgram } from './program'

/** Never made: `nft --check` takes a transaction through the kernel and lets it go. */
const SCRATCH = [
  'add table ip overlayd-check',
  'add chain ip overlayd-check postrouting { type nat hook postrouting priority srcnat; }',
  'add rule ip overlayd-check postrouting masquerade fully-random',
].join('\n')

/** nft's words for ENOENT; they are not translated. */
const NO_SUCH_TABLE = 'Error: No such file or directory'

export class Nftables {
  #fullyRandom: boolean | undefined

  private constructor(private readonly program: string) {}

  /** `undefined` where it is not installed. */
  static async find(): Promise<Nftables | undefined> {
    const program = await findProgram('nft')
    return program === undefined ? undefined : new Nftables(program)
  }

  /** @throws {OverlayError} `program-missing` */
  static async require(): Promise<Nftables> {
    return new Nftables(await requireProgram('nft', 'nftables'))
  }

  /**
   * A table as nft prints it.
   * @param name e.g. `ip flannel-ipv4`
   * @returns `undefined` when there is none
   * @throws {OverlayError} `nftables`
   */
  async list(name: string, signal: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#run(['list', 'table', ...name.split(' ')], signal)
    } catch (error) {
      // Not looked up by `list tables`, for which nft reads the rules of all tables.
      if (error instanceof OverlayError && error.message.includes(NO_SUCH_TABLE)) return undefined
      throw error
    }
  }

  /**
   * All tables of everyone, with the handles of their rules.
   * @throws {OverlayError} `nftables`
   */
  ruleset(signal: AbortSignal): Promise<string> {
    return this.#run(['-a', 'list', 'ruleset'], signal)
  }

  /**
   * Carries out commands: all of them at once, or none.
   * @throws {OverlayError} `nftables`
   */
  async apply(input: string, signal: AbortSignal): Promise<void> {
    await this.#run(['-f', '-'], signal, input)
  }

  /** Whether masquerading can pick ports at random; asked of nft and the kernel once. */
  async fullyRandom(signal: AbortSignal): Promise<boolean> {
    this.#fullyRandom ??= await this.#run(['--check', '-f', '-'], signal, SCRATCH).then(
      () => true,
      () => {
        signal.throwIfAborted()
        return false
      },
    )
    return this.#fullyRandom
  }

  /**
   * Reports that rules were added or removed in this network namespace, by anyone, also by iptables where that is its nf_tables variant. Ends, with its
   * process, when the signal fires.
   * @param places the chains that matter, such as `ip nat POSTROUTING `, as they stand in a report: `delete rule ip nat POSTROUTING handle 4`
   * @throws {OverlayError} `nftables` when the process ends by itself
   */
  async monitor(places: readonly string[], onChange: () => void, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const child = spawn(this.program, ['monitor', 'rules'], { stdio: ['ignore', 'pipe', 'pipe'], signal })
    const errors: string[] = []
    createInterface(child.stdout).on('line', (line) => {
      // nft says so in a remark when reports came faster than it reads.
      if (line.includes('lost some netlink events') || places.some((place) => line.includes(place)))
        onChange()
    })
    createInterface(child.stderr).on('line', (line) => errors.push(line))
    // Without a listener an abort would be thrown; `close` comes after it, and after a failure to start.
    child.on('error', (error) => errors.push(error.message))
    await new Promise((resolve) => child.on('close', resolve))
    if (!signal.aborted) {
      throw new OverlayError('nftables', `nft monitor rules ended: ${errors[0] ?? 'without a word'}`)
    }
  }

  #run(args: readonly string[], signal: AbortSignal, input?: string): Promise<string> {
    const command: [string, ...string[]] = [this.program, ...args]
    return runProgram('nftables', { command, signal, ...(input === undefined ? {} : { input }) })
  }
}
