/**
 * The kernel's calls for tables of nftables that are ours, over two sockets: one asks and changes, the other
 * hears of changes by other programs.
 */
import { constants } from 'node:os'
import type { AddressSet, RuleChain, RuleTable, TableId } from '../../model/kernel/tables'
import { NetlinkClient } from '../netlink/client'
import { NETLINK_NETFILTER, NFNLGRP_NFTABLES } from '../netlink/constants'
import { NetlinkError } from '../netlink/errors'
import { openRawSocket } from '../netlink/raw-socket'
import type { NetlinkSocket } from '../netlink/socket'
import type { TableCalls } from './apply-table'
import {
  changeSets,
  listAddresses,
  replaceRules,
  replaceTable,
  STEP_FORMAT,
  TABLE_TRANSACTION,
  type TableStep,
} from './netfilter'
import { listTableObjects, TABLE_KINDS, type TableObject } from './netfilter-objects'

export interface TablesOptions {
  /** The names of our tables at this moment. */
  readonly names: () => Iterable<string>
  /** Called when another program may have changed a table of one of the names. */
  readonly changed: () => void
  /** Called with errors that belong to no call. */
  readonly report: (error: Error) => void
  /** What is thrown where the kernel refuses to write a table. */
  readonly refused: (error: NetlinkError) => Error
}

export class Tables implements TableCalls {
  private constructor(
    private readonly client: NetlinkClient,
    private readonly changes: NetlinkSocket,
    private readonly refused: TablesOptions['refused'],
  ) {}

  /** @throws {OverlayError} `netlink-open`, `netlink-option` */
  static async open({ names, changed, report, refused }: TablesOptions): Promise<Tables> {
    const protocol = NETLINK_NETFILTER
    const client = await NetlinkClient.open((handlers) => openRawSocket(handlers, { protocol }), report)
    let changes: NetlinkSocket | undefined
    try {
      const onDatagram = (datagram: Uint8Array): void => {
        const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.length)
        for (const name of names()) {
          if (!bytes.includes(`${name}\0`)) continue
          changed()
          return
        }
      }
      changes = await openRawSocket(
        { onDatagram, onError: report },
        { protocol, ignoreSender: client.portId },
      )
      changes.addMembership(NFNLGRP_NFTABLES)
      return new Tables(client, changes, refused)
    } catch (error) {
      changes?.close()
      client.close()
      throw error
    }
  }

  close(): void {
    this.changes.close()
    this.client.close()
  }

  async read(table: TableId, signal?: AbortSignal): Promise<readonly TableObject[]> {
    const objects: TableObject[] = []
    for (const kind of TABLE_KINDS) objects.push(...(await this.#list(table, kind, undefined, signal)))
    return objects
  }

  /**
   * Packets that the rules of a chain have counted since they were written; `undefined` when none counts, or
   * there is no such chain.
   */
  async counted(table: TableId, chain: string, signal?: AbortSignal): Promise<bigint | undefined> {
    const rules = await this.#list(table, 'rules', chain, signal)
    return rules.reduce<bigint | undefined>(
      (sum, { counted }) => (counted === undefined ? sum : (sum ?? 0n) + counted),
      undefined,
    )
  }

  async #list(
    table: TableId,
    kind: (typeof TABLE_KINDS)[number],
    chain: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<readonly TableObject[]> {
    try {
      return await this.client.dump(listTableObjects(table, kind, chain), signal)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return []
      throw error
    }
  }

  /** @throws what `refused` makes of a refusal */
  async write(table: RuleTable, signal?: AbortSignal): Promise<void> {
    try {
      await this.#change(replaceTable(table), signal)
    } catch (error) {
      throw error instanceof NetlinkError ? this.refused(error) : error
    }
  }

  async replaceRules(table: TableId, chains: readonly RuleChain[], signal?: AbortSignal): Promise<void> {
    await this.#change(replaceRules(table, chains), signal)
  }

  async readSets(
    table: TableId,
    sets: readonly Omit<AddressSet, 'addresses'>[],
    signal?: AbortSignal,
  ): Promise<readonly AddressSet[] | undefined> {
    const found: AddressSet[] = []
    try {
      for (const set of sets) {
        const addresses = (await this.client.dump(listAddresses(table, set.name), signal)).flat()
        found.push({ name: set.name, family: set.family, addresses })
      }
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined
      throw error
    }
    return found
  }

  async changeSets(
    table: TableId,
    kind: 'add-addresses' | 'delete-addresses',
    sets: readonly AddressSet[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#change(changeSets(kind, table, sets), signal)
  }

  /** Deletes a table. A missing table is no failure. */
  async delete({ family, name }: TableId, signal?: AbortSignal): Promise<void> {
    const table = { family, name }
    await this.#change(
      [
        { kind: 'make-table', table },
        { kind: 'delete-table', table },
      ],
      signal,
    )
  }

  async #change(steps: readonly TableStep[], signal: AbortSignal | undefined): Promise<void> {
    if (steps.length > 0) await this.client.transaction(steps, STEP_FORMAT, TABLE_TRANSACTION, signal)
  }
}

const isErrno = (error: unknown, name: 'ENOENT'): boolean =>
  error instanceof NetlinkError && error.errno === constants.errno[name]
