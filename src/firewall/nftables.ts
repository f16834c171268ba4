/**
 * The program nft: reads tables as text, and applies transactions. It needs CAP_NET_ADMIN and no file.
 */
import { isOverlayError } from '../model/errors'
import { findProgram, requireProgram, runProgram } from './program'

/** Never created: `nft --check` has the kernel validate the transaction and then discards it. */
const SCRATCH = [
  'add table ip overlayd-check',
  'add chain ip overlayd-check postrouting { type nat hook postrouting priority srcnat; }',
  'add rule ip overlayd-check postrouting masquerade fully-random',
].join('\n')

/** nft's message for ENOENT. nft does not translate it. */
const NO_SUCH_TABLE = 'Error: No such file or directory'

export class Nftables {
  #fullyRandom: boolean | undefined

  private constructor(private readonly program: string) {}

  /** @returns `undefined` if nft is not installed */
  static async find(): Promise<Nftables | undefined> {
    const program = await findProgram('nft')
    return program === undefined ? undefined : new Nftables(program)
  }

  /** @throws {OverlayError} `program-missing` */
  static async require(): Promise<Nftables> {
    return new Nftables(await requireProgram('nft', 'nftables'))
  }

  /**
   * Lists one table.
   * @param name e.g. `ip flannel-ipv4`
   * @returns nft's text; `undefined` if there is no such table
   * @throws {OverlayError} `nftables`
   */
  async list(name: string, signal: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#run(['list', 'table', ...name.split(' ')], signal)
    } catch (error) {
      // `list tables` is no cheaper test: nft reads the rules of all tables for it.
      if (isOverlayError(error) && error.message.includes(NO_SUCH_TABLE)) return undefined
      throw error
    }
  }

  /**
   * Applies commands as one transaction: all of them, or none.
   * @throws {OverlayError} `nftables`
   */
  async apply(input: string, signal: AbortSignal): Promise<void> {
    await this.#run(['-f', '-'], signal, input)
  }

  /** Whether masquerading supports `fully-random`, by nft and the kernel; checked once. */
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

  #run(args: readonly string[], signal: AbortSignal, input?: string): Promise<string> {
    const command: [string, ...string[]] = [this.program, ...args]
    return runProgram('nftables', { command, signal, ...(input === undefined ? {} : { input }) })
  }
}
