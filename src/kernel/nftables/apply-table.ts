/** Keeps one table of rules as wanted, without a moment in which other rules or none are in force. */
import type { AddressSet, RuleChain, RuleTable, TableId } from '../../model/kernel/tables'
import { type TableObject, wantedObjects } from './netfilter-objects'

/** The kernel's calls for tables. */
export interface TableCalls {
  /** The objects of a table, with the table itself; nothing when there is no such table. */
  read(table: TableId, signal: AbortSignal): Promise<readonly TableObject[]>
  /** Replaces the whole table in one transaction. */
  write(table: RuleTable, signal: AbortSignal): Promise<void>
  /** Replaces the rules of chains that exist, in one transaction. */
  replaceRules(table: TableId, chains: readonly RuleChain[], signal: AbortSignal): Promise<void>
  /** @returns the sets with their addresses; undefined when the table or one of the sets is missing */
  readSets(
    table: TableId,
    sets: readonly AddressSet[],
    signal: AbortSignal,
  ): Promise<readonly AddressSet[] | undefined>
  /** Adds addresses to sets, or removes them, in one transaction. */
  changeSets(
    table: TableId,
    kind: 'add-addresses' | 'delete-addresses',
    sets: readonly AddressSet[],
    signal: AbortSignal,
  ): Promise<void>
}

/**
 * - `unchanged`: the table is as wanted, and nothing was written
 * - `rewritten`: another table is wanted than before, or the table is new to this run
 * - `repaired`: the same table was wanted before, and another program has changed it
 */
export type Applied = 'unchanged' | 'rewritten' | 'repaired'

/**
 * The table as it was written. The kernel may show more attributes than we know: then `shown` differs from
 * `wanted`.
 */
interface Written {
  readonly table: RuleTable
  /** The objects that were to be written, in words. */
  readonly wanted: string
  /** The objects that the kernel showed after the write, in words. */
  readonly shown: string
}

export class AppliedTable {
  /** The table at the end of the last {@link apply}; `undefined` when it is not known. */
  #written: Written | undefined

  constructor(private readonly calls: TableCalls) {}

  /**
   * Makes the table as wanted, by the smallest change: addresses of sets, rules of chains, or the whole
   * table. The whole is replaced only where a chain is missing, foreign or at another place, for a packet
   * that is between the former chain and its successor meets neither.
   * @param shown the table as it is now, from {@link TableCalls.read}
   * @throws {OverlayError}, or the signal's reason
   */
  async apply(table: RuleTable, shown: readonly TableObject[], signal: AbortSignal): Promise<Applied> {
    const objects = wantedObjects(table)
    const wanted = inWords(objects)
    const now = inWords(shown)
    const before = this.#written
    const isSameTarget = before?.wanted === wanted
    const isWanted = now === wanted || (isSameTarget && before.shown === now)
    const isAsWritten = before?.shown === now
    const hasChains =
      inWords(objects.filter(isNoRule)) === inWords(shown.filter(isNoRule)) ||
      (isAsWritten && haveSameChains(before.table, table))
    const { sets: wantedSets = [] } = table
    const sets = isWanted || hasChains ? await this.calls.readSets(table, wantedSets, signal) : undefined
    if (sets === undefined) {
      this.#written = undefined
      await this.calls.write(table, signal)
      this.#written = { table, wanted, shown: await this.#read(table, signal) }
      return isSameTarget ? 'repaired' : 'rewritten'
    }
    const changes = diffSets(wantedSets, sets)
    const known = isAsWritten ? before.table.chains : []
    const chains = isWanted ? [] : table.chains.filter((chain, i) => !isSame(chain, known[i]))
    // Groups are added before rules are narrowed, and removed after: no frame that is wanted is ever kept in.
    const added = changes.map((each) => each.added)
    await this.calls.changeSets(table, 'add-addresses', added, signal)
    await this.calls.replaceRules(table, chains, signal)
    const removed = changes.map((each) => each.removed)
    await this.calls.changeSets(table, 'delete-addresses', removed, signal)
    this.#written = { table, wanted, shown: isWanted ? now : await this.#read(table, signal) }
    const areSetsRepaired = before !== undefined && diffSets(before.table.sets ?? [], sets).length > 0
    if (areSetsRepaired || (isSameTarget && chains.length > 0)) return 'repaired'
    return changes.length > 0 || chains.length > 0 ? 'rewritten' : 'unchanged'
  }

  /** The table was deleted: the next one is new. */
  forget(): void {
    this.#written = undefined
  }

  async #read(table: TableId, signal: AbortSignal): Promise<string> {
    return inWords(await this.calls.read(table, signal))
  }
}

const inWords = (objects: readonly TableObject[]): string => objects.map(({ words }) => words).join('\n')

const isNoRule = ({ kind }: TableObject): boolean => kind !== 'rules'

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

/** Whether one table becomes the other by other rules and sets alone. */
const haveSameChains = (a: RuleTable, b: RuleTable): boolean => {
  const heads = ({ chains }: RuleTable) => chains.map(({ rules, ...head }) => head)
  return isSame(heads(a), heads(b))
}

/**
 * The changes that make sets as wanted; none where they are the same.
 * @param present the sets of the table, in the same order as the wanted ones
 */
export function diffSets(
  wanted: readonly AddressSet[],
  present: readonly AddressSet[],
): { readonly added: AddressSet; readonly removed: AddressSet }[] {
  return wanted.flatMap((set, i) => {
    const found = present[i]?.addresses ?? []
    const [want, have] = [new Set(set.addresses), new Set(found)]
    const added = { ...set, addresses: set.addresses.filter((address) => !have.has(address)) }
    const removed = { ...set, addresses: found.filter((address) => !want.has(address)) }
    return added.addresses.length + removed.addresses.length === 0 ? [] : [{ added, removed }]
  })
}
