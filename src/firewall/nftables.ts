/**
 * The program nft: reads tables as text, applies transactions, and reports changes of rules by anyone. It
 * needs CAP_NET_ADMIN and no file.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { childEnvironment } from '../model/child-environment'
import { OverlayError } from '../model/errors'
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
      if (error instanceof OverlayError && error.message.includes(NO_SUCH_TABLE)) return undefined
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

  /**
   * Reports rules that anyone adds or removes in this network namespace, including iptables in its nf_tables
   * variant. The monitor's process ends when the signal fires.
   * @param places the chains that matter, such as `ip nat POSTROUTING `, spelled as in a report: `delete rule
   *   ip nat POSTROUTING handle 4`
   * @throws {OverlayError} `nftables` if the process ends by itself
   */
  async monitor(places: readonly string[], onChange: () => void, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const child = spawn(this.program, ['monitor', 'rules'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
      env: childEnvironment(),
    })
    const errors: string[] = []
    // These listeners come first: without one, an abort or a failure to start would be thrown as an uncaught
    // error.
    const ended = new Promise<void>((resolve) => {
      child.on('close', () => resolve())
      child.on('error', (error) => {
        errors.push(error.message)
        if (child.pid === undefined) resolve()
      })
    })
    // Without a free file descriptor Node makes no pipes (lib/internal/child_process.js, UV_EMFILE), although
    // its types say it always does.
    const readLines = (pipe: Readable | undefined, take: (line: string) => void): void => {
      if (pipe !== undefined) createInterface(pipe).on('line', take)
    }
    readLines(child.stdout, (line) => {
      // nft prints this remark when the kernel dropped reports because nft read too slowly.
      if (line.includes('lost some netlink events') || places.some((place) => line.includes(place)))
        onChange()
    })
    readLines(child.stderr, (line) => errors.push(line))
    await ended
    if (!signal.aborted) {
      throw new OverlayError('nftables', `nft monitor rules ended: ${errors[0] ?? 'it gave no reason'}`)
    }
  }

  #run(args: readonly string[], signal: AbortSignal, input?: string): Promise<string> {
    const command: [string, ...string[]] = [this.program, ...args]
    return runProgram('nftables', { command, signal, ...(input === undefined ? {} : { input }) })
  }
}
