/** The kernel's half of multicast between hosts. Loaded only where that is wanted. */
import { constants } from 'node:os'
import { OverlayError } from '../model/errors'
import { ODD_DESTINATION } from '../model/kernel'
import {
  type AddressSet,
  type Destination,
  describeMulticastOperation,
  type FrameChain,
  type FrameTable,
  type LinkCounters,
  type MulticastOperation,
  type ObservedBridge,
} from '../model/multicast'
import { encodeMulticastRouter, listBridges, readCounters } from './bridges'
import { encodeAddDestination, encodeDeleteForwarding, listForwarding } from './fdb'
import type { Kernel } from './kernel'
import { askLink, type LinkClients } from './link-operations'
import {
  changeSets,
  listAddresses,
  replaceRules,
  replaceTable,
  STEP_FORMAT,
  TABLE_TRANSACTION,
} from './netfilter'
import { listTableObjects, TABLE_KINDS, type TableObject } from './netfilter-objects'
import type { MessageWriter } from './netlink/bytes'
import { NetlinkClient, type RequestFormat } from './netlink/client'
import { NETLINK_NETFILTER, NFNLGRP_NFTABLES } from './netlink/constants'
import { NetlinkError } from './netlink/errors'
import { openRawSocket } from './netlink/raw-socket'
import type { NetlinkSocket } from './netlink/socket'

/** An operation the kernel refused. */
export interface MulticastFailure {
  readonly operation: MulticastOperation
  readonly error: Error
}

const FORMAT: RequestFormat<MulticastOperation> = { encode, describe: describeMulticastOperation }

export class MulticastKernel {
  readonly #links: LinkClients

  private constructor(
    kernel: Kernel,
    private readonly tables: NetlinkClient,
    private readonly changes: NetlinkSocket,
  ) {
    this.#links = kernel.clients
  }

  /**
   * Opens two sockets of nftables, besides those of the kernel.
   * @param changed told when someone else may have changed a table of that name
   * @param report takes errors that no call is there to throw
   * @throws {OverlayError} `netlink-open`, `netlink-option`
   */
  static async open(
    kernel: Kernel,
    table: () => string,
    changed: () => void,
    report: (error: Error) => void,
  ): Promise<MulticastKernel> {
    const protocol = NETLINK_NETFILTER
    const client = await NetlinkClient.open((handlers) => openRawSocket(handlers, { protocol }), report)
    let changes: NetlinkSocket | undefined
    try {
      const onDatagram = (datagram: Uint8Array): void => {
        if (Buffer.from(datagram.buffer, datagram.byteOffset, datagram.length).includes(`${table()}\0`))
          changed()
      }
      changes = await openRawSocket(
        { onDatagram, onError: report },
        { protocol, ignoreSender: client.portId },
      )
      changes.addMembership(NFNLGRP_NFTABLES)
      return new MulticastKernel(kernel, client, changes)
    } catch (error) {
      changes?.close()
      client.close()
      throw error
    }
  }

  close(): void {
    this.changes.close()
    this.tables.close()
  }

  bridges(signal?: AbortSignal): Promise<readonly ObservedBridge[]> {
    return this.#links.dumps.dump(listBridges, signal)
  }

  /** A table and what it has in it; nothing when there is none. */
  async readTable(name: string, signal?: AbortSignal): Promise<readonly TableObject[]> {
    const objects: TableObject[] = []
    for (const kind of TABLE_KINDS) objects.push(...(await this.#list(name, kind, undefined, signal)))
    return objects
  }

  /** Packets that the rules of a chain have counted since they were written; `undefined` when none counts. */
  async counted(table: string, chain: string, signal?: AbortSignal): Promise<number | undefined> {
    const rules = await this.#list(table, 'rules', chain, signal)
    return rules.reduce<number | undefined>(
      (sum, { counted }) => (counted === undefined ? sum : (sum ?? 0) + counted),
      undefined,
    )
  }

  async #list(
    table: string,
    kind: (typeof TABLE_KINDS)[number],
    chain: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<readonly TableObject[]> {
    try {
      return await this.tables.dump(listTableObjects(table, kind, chain), signal)
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === constants.errno.ENOENT) return []
      throw error
    }
  }

  /**
   * Puts a table in place of what is there under its name, in one transaction.
   * @throws {OverlayError} `no-frame-rules` when the kernel cannot do it, or a link is gone
   */
  async writeTable(table: FrameTable, signal?: AbortSignal): Promise<void> {
    try {
      await this.tables.transaction(replaceTable(table), STEP_FORMAT, TABLE_TRANSACTION, signal)
    } catch (error) {
      const { ENOENT, EOPNOTSUPP } = constants.errno
      if (!(error instanceof NetlinkError && [ENOENT, EOPNOTSUPP].includes(error.errno))) throw error
      throw new OverlayError(
        'no-frame-rules',
        error.message,
        'if the interface is there, this kernel lacks something: load nf_tables, nft_dup_netdev, nft_fwd_netdev and nft_limit (modprobe), or keep this host out by --multicast=off',
        { cause: error },
      )
    }
  }

  /** Gives chains that are there other rules, in one transaction. */
  async replaceRules(table: string, chains: readonly FrameChain[], signal?: AbortSignal): Promise<void> {
    const steps = replaceRules(table, chains)
    if (steps.length > 0) await this.tables.transaction(steps, STEP_FORMAT, TABLE_TRANSACTION, signal)
  }

  /** What is in sets of a table; `undefined` when one of them, or the table, is not there. */
  async readSets(
    table: string,
    sets: readonly Omit<AddressSet, 'addresses'>[],
    signal?: AbortSignal,
  ): Promise<readonly AddressSet[] | undefined> {
    const found: AddressSet[] = []
    try {
      for (const set of sets) {
        const addresses = (await this.tables.dump(listAddresses(table, set.name), signal)).flat()
        found.push({ name: set.name, family: set.family, addresses })
      }
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === constants.errno.ENOENT) return undefined
      throw error
    }
    return found
  }

  /** Adds addresses to sets of a table, or takes them away, in one transaction. */
  async changeSets(
    table: string,
    kind: 'add-addresses' | 'delete-addresses',
    sets: readonly AddressSet[],
    signal?: AbortSignal,
  ): Promise<void> {
    const steps = changeSets(kind, table, sets)
    if (steps.length > 0) await this.tables.transaction(steps, STEP_FORMAT, TABLE_TRANSACTION, signal)
  }

  /** Deletes a table; that there is none is no failure. */
  async deleteTable(table: string, signal?: AbortSignal): Promise<void> {
    const steps = [{ kind: 'make-table', table } as const, { kind: 'delete-table', table } as const]
    await this.tables.transaction(steps, STEP_FORMAT, TABLE_TRANSACTION, signal)
  }

  /** Where a VXLAN device sends frames. */
  async destinations(index: number, signal?: AbortSignal): Promise<readonly Destination[]> {
    const entries = await this.#links.dumps.dump(listForwarding(index), signal)
    return entries.map(({ mac, destination }) => ({ mac, address: destination }))
  }

  /** What went through a link; `undefined` when there is none. */
  async counters(index: number, signal?: AbortSignal): Promise<LinkCounters | undefined> {
    return askLink(this.#links, readCounters(index), signal)
  }

  /**
   * Changes links, in the order given. What is so already is no failure.
   * @returns those that were refused
   */
  async apply(
    operations: readonly MulticastOperation[],
    signal?: AbortSignal,
  ): Promise<readonly MulticastFailure[]> {
    const failures = await this.#links.requests.batch(operations, FORMAT, signal)
    return failures
      .filter(({ item, error }) => !isSoAlready(item, error))
      .map(({ item, error }) => ({ operation: item, error }))
  }
}

function encode(writer: MessageWriter, operation: MulticastOperation): void {
  if (operation.kind === 'set-multicast-router') {
    encodeMulticastRouter(writer, operation.link, operation.value)
    return
  }
  if (operation.kind === 'delete-destinations') {
    encodeDeleteForwarding(writer, operation.link, { mac: operation.mac, destination: ODD_DESTINATION })
    return
  }
  const { mac, address } = operation.destination
  const encodeEntry = operation.kind === 'add-destination' ? encodeAddDestination : encodeDeleteForwarding
  encodeEntry(writer, operation.link, { mac, destination: address })
}

const isSoAlready = ({ kind }: MulticastOperation, { errno }: NetlinkError): boolean =>
  ['delete-destination', 'delete-destinations'].includes(kind) && errno === constants.errno.ENOENT
