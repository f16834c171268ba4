/**
 * Keeps the tables that guard encrypted networks: whatever happens to devices, forwarding entries or this
 * process, the kernel lets no VXLAN packet of such a network pass in clear. The tables stay when the process
 * ends.
 */
import { constants } from 'node:os'
import { isOverlayError, OverlayError, systemErrorCode } from '../../model/errors'
import type { Guard, GuardCounts } from '../../model/guard'
import type { TableId } from '../../model/kernel/tables'
import { NetlinkError } from '../netlink/errors'
import { type Applied, AppliedTable } from './apply-table'
import { GUARD_CHAINS, guardTable } from './guard-table'
import { Tables } from './tables'

export class GuardTables {
  /** Name of a table -> the table as this run wrote it. */
  readonly #applied = new Map<string, AppliedTable>()

  private constructor(private readonly tables: Tables) {}

  /**
   * Opens two sockets of nftables.
   * @param changed called when another program may have changed a table that {@link ensure} has made
   * @param report called with errors that belong to no call
   * @throws {OverlayError} `no-guard` when the kernel has no netfilter sockets
   */
  static async open(changed: () => void, report: (error: Error) => void): Promise<GuardTables> {
    let guards: GuardTables | undefined
    const names = (): Iterable<string> => (guards === undefined ? [] : guards.#applied.keys())
    try {
      guards = new GuardTables(await Tables.open({ names, changed, report, refused: (error) => error }))
      return guards
    } catch (error) {
      throw isLackingSockets(error) ? noGuard(error) : error
    }
  }

  /**
   * Makes the table of the guard's name as the guard says. There is no moment without rules: the rules of a
   * table that is there are replaced in one step.
   * @returns `repaired` when another program changed the table, or deleted it
   * @throws {OverlayError} `no-guard` when the kernel lacks something; {@link NetlinkError} for other
   *   refusals
   * @throws {RangeError} for a guard that cannot be
   */
  async ensure(guard: Guard, signal: AbortSignal): Promise<Applied> {
    const table = guardTable(guard)
    const applied = this.#applied.get(guard.name) ?? new AppliedTable(this.tables)
    // Before the table is read: a change after that is noticed.
    this.#applied.set(guard.name, applied)
    const apply = async (): Promise<Applied> =>
      applied.apply(table, await this.tables.read(table, signal), signal)
    return explained(async () => {
      try {
        return await apply()
      } catch (error) {
        if (!(error instanceof NetlinkError && error.errno === constants.errno.ENOENT)) throw error
        // Another program may have deleted the table after it was read.
        return apply()
      }
    })
  }

  /**
   * The packets that were dropped since the rules were last written.
   * @returns undefined when there is no such table
   */
  async read(name: string, signal?: AbortSignal): Promise<GuardCounts | undefined> {
    const count = async (chains: readonly string[]): Promise<bigint | undefined> => {
      let sum: bigint | undefined
      for (const chain of chains) {
        const counted = await this.tables.counted(idOf(name), chain, signal)
        if (counted !== undefined) sum = (sum ?? 0n) + counted
      }
      return sum
    }
    return explained(async () => {
      const droppedIn = await count(GUARD_CHAINS.in)
      const droppedOut = await count(GUARD_CHAINS.out)
      if (droppedIn === undefined && droppedOut === undefined) return undefined
      return { droppedIn: droppedIn ?? 0n, droppedOut: droppedOut ?? 0n }
    })
  }

  /**
   * Removes a table, made by this run or an earlier one.
   * @returns whether there was one
   */
  async remove(name: string, signal: AbortSignal): Promise<boolean> {
    return explained(async () => {
      const isThere = (await this.tables.read(idOf(name), signal)).length > 0
      if (isThere) await this.tables.delete(idOf(name), signal)
      this.#applied.delete(name)
      return isThere
    })
  }

  /** Closes the sockets. The tables stay. */
  close(): void {
    this.tables.close()
  }
}

const idOf = (name: string): TableId => ({ family: 'inet', name })

/**
 * ENOENT and EOPNOTSUPP: an expression, or the family inet, is not there. EINVAL: the same of all nftables,
 * to a question (nfnetlink_rcv_msg). EAFNOSUPPORT: of the family, in older kernels.
 */
const LACKING: ReadonlySet<number> = new Set([
  constants.errno.ENOENT,
  constants.errno.EOPNOTSUPP,
  constants.errno.EINVAL,
  constants.errno.EAFNOSUPPORT,
])

async function explained<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    throw error instanceof NetlinkError && LACKING.has(error.errno) ? noGuard(error) : error
  }
}

const isLackingSockets = (error: unknown): error is OverlayError =>
  isOverlayError(error) && systemErrorCode(error.cause) === 'EPROTONOSUPPORT'

const noGuard = (cause: OverlayError): OverlayError =>
  new OverlayError(
    'no-guard',
    `nothing keeps unencrypted packets from leaving or entering: ${cause.message}`,
    'this kernel lacks something: load nf_tables and nft_fib_inet (modprobe), ' +
      'or set "Encryption" to "prefer" in the network config',
    { cause },
  )
