/**
 * The iptables program, which knows both of the kernel's firewalls. It is looked for in PATH as Docker does, so that both use the same
 * variant (legacy or nf_tables).
 */
import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { describeError, OverlayError } from '../model/errors'
import type { FirewallCommand, FirewallListing, FirewallTable } from '../model/firewall'

/** Seconds iptables waits for another one's lock, and milliseconds until it is given up altogether. */
const LOCK_WAIT = '5'
const DEADLINE = 10_000

/** The first program of that name in PATH. */
export async function findProgram(
  name: string,
  path = process.env['PATH'] ?? '',
): Promise<string | undefined> {
  for (const directory of path.split(delimiter).filter((each) => each !== '')) {
    const candidate = join(directory, name)
    const usable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (usable) return candidate
  }
  return undefined
}

export class Iptables {
  constructor(private readonly program: string) {}

  /**
   * All chains and rules of these tables.
   * @throws {OverlayError} `iptables`
   */
  async list(tables: readonly FirewallTable[], signal: AbortSignal): Promise<FirewallListing> {
    const listing = new Map<FirewallTable, readonly string[]>()
    for (const table of tables) {
      const output = await this.run(['-t', table, '-S'], signal)
      listing.set(
        table,
        output.split('\n').filter((line) => line !== ''),
      )
    }
    return listing
  }

  /**
   * Makes one call.
   * @returns what it printed
   * @throws {OverlayError} `iptables` with what iptables said
   */
  async run(command: FirewallCommand, signal: AbortSignal): Promise<string> {
    try {
      const { stdout } = await promisify(execFile)(this.program, ['-w', LOCK_WAIT, ...command], {
        timeout: DEADLINE,
        signal,
      })
      return stdout
    } catch (error) {
      signal.throwIfAborted()
      throw new OverlayError(
        'iptables',
        `iptables ${command.join(' ')}: ${describeError(error).split('\n').at(1) ?? describeError(error)}`,
        'run the same command by hand to see what is wrong',
        { cause: error },
      )
    }
  }
}
