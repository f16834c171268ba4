/** The kernel's calls for multicast between hosts. A host without multicast does not load this file. */
import { constants } from 'node:os'
import { OverlayError } from '../../model/errors'
import { UNKNOWN_TARGET } from '../../model/kernel/objects'
import {
  type Destination,
  describeMulticastOperation,
  type LinkCounters,
  type MulticastOperation,
  type ObservedBridge,
} from '../../model/multicast'
import type { Kernel } from '../kernel'
import { askLink, type LinkClients } from '../links/link-operations'
import type { MessageWriter } from '../netlink/bytes'
import type { RequestFormat } from '../netlink/client'
import type { NetlinkError } from '../netlink/errors'
import { Tables } from '../nftables/tables'
import { encodeAddDestination, encodeDeleteForwarding, listForwarding } from '../objects/fdb'
import { encodeMulticastRouter, listBridges, readCounters } from './bridges'

/** An operation that the kernel refused. */
export interface MulticastFailure {
  readonly operation: MulticastOperation
  readonly error: Error
}

const FORMAT: RequestFormat<MulticastOperation> = { encode, describe: describeMulticastOperation }

export class MulticastDevice {
  readonly #links: LinkClients

  private constructor(
    kernel: Pick<Kernel, 'clients'>,
    /** Rules on links. They are read and written as tables of family `netdev`. */
    readonly tables: Tables,
  ) {
    this.#links = kernel.clients
  }

  /**
   * Opens two sockets of nftables, besides those of the kernel. A table that the kernel cannot write, and one
   * on a link that is gone, are refused by an OverlayError `no-frame-rules`.
   * @param changed called when another program may have changed the table
   * @param report called with errors that belong to no call
   * @throws {OverlayError} `netlink-open`, `netlink-option`
   */
  static async open(
    kernel: Pick<Kernel, 'clients'>,
    table: () => string,
    changed: () => void,
    report: (error: Error) => void,
  ): Promise<MulticastDevice> {
    const names = (): readonly string[] => [table()]
    return new MulticastDevice(kernel, await Tables.open({ names, changed, report, refused: explained }))
  }

  close(): void {
    this.tables.close()
  }

  bridges(signal?: AbortSignal): Promise<readonly ObservedBridge[]> {
    return this.#links.dumps.dump(listBridges, signal)
  }

  /** The forwarding entries of a VXLAN device. */
  async destinations(index: number, signal?: AbortSignal): Promise<readonly Destination[]> {
    const entries = await this.#links.dumps.dump(listForwarding(index), signal)
    return entries.map(({ mac, target: { address, via } }) => ({ mac, address, via }))
  }

  /** The packets and bytes through a link; `undefined` when there is no such link. */
  async counters(index: number, signal?: AbortSignal): Promise<LinkCounters | undefined> {
    return askLink(this.#links, readCounters(index), signal)
  }

  /**
   * Changes links, in the given order. An operation without effect is no failure.
   * @returns the operations that were refused
   */
  async apply(
    operations: readonly MulticastOperation[],
    signal?: AbortSignal,
  ): Promise<readonly MulticastFailure[]> {
    const refused = await this.#links.requests.batch(operations, FORMAT, signal)
    const failures = refused.filter(({ item, error }) => !isSoAlready(item, error))
    const stuck = failures.flatMap(({ item, error }) => (isOverLostLink(item, error) ? [item] : []))
    if (stuck.length > 0) await this.#rewriteLists(stuck, signal)
    return failures
      .filter(({ item, error }) => !isOverLostLink(item, error))
      .map(({ item, error }) => ({ operation: item, error }))
  }

  /**
   * Deletes destinations whose link is gone. The kernel refuses to name that link, so the whole list of the
   * MAC is deleted, and made again without them, and without those of other lost links.
   */
  async #rewriteLists(stuck: readonly DeleteDestination[], signal: AbortSignal | undefined): Promise<void> {
    for (const link of new Set(stuck.map((each) => each.link))) {
      const gone = stuck.filter((each) => each.link === link).map(({ destination }) => destination)
      const [lost, macs] = [new Set(gone.map(wordOf)), new Set(gone.map(({ mac }) => mac))]
      const left = (await this.destinations(link, signal)).filter(
        (each) => macs.has(each.mac) && !lost.has(wordOf(each)),
      )
      const rewriting: MulticastOperation[] = [
        ...[...macs].map((mac) => ({ kind: 'delete-destinations', link, mac }) as const),
        ...left.map((destination) => ({ kind: 'add-destination', link, destination }) as const),
      ]
      const refused = await this.#links.requests.batch(rewriting, FORMAT, signal)
      const failure = refused.find(({ item, error }) => !isSoAlready(item, error) && !namesLostLink(error))
      if (failure !== undefined) throw failure.error
    }
  }
}

const wordOf = ({ mac, address, via }: Destination): string => `${mac} ${address} ${via}`

type DeleteDestination = Extract<MulticastOperation, { kind: 'delete-destination' }>

/** The kernel's answer to a message that names a link which is not there (vxlan_fdb_parse). */
const namesLostLink = ({ errno }: NetlinkError): boolean => errno === constants.errno.EADDRNOTAVAIL

const isOverLostLink = (operation: MulticastOperation, error: NetlinkError): operation is DeleteDestination =>
  operation.kind === 'delete-destination' && namesLostLink(error)

function explained(error: NetlinkError): Error {
  const { ENOENT, EOPNOTSUPP } = constants.errno
  if (![ENOENT, EOPNOTSUPP].includes(error.errno)) return error
  return new OverlayError(
    'no-frame-rules',
    error.message,
    'if the interface is there, this kernel lacks something: load nf_tables, nft_dup_netdev, ' +
      'nft_fwd_netdev and nft_limit (modprobe), or keep this host out by --multicast=off',
    { cause: error },
  )
}

function encode(writer: MessageWriter, operation: MulticastOperation): void {
  if (operation.kind === 'set-multicast-router') {
    encodeMulticastRouter(writer, operation.link, operation.value)
    return
  }
  if (operation.kind === 'delete-destinations') {
    encodeDeleteForwarding(writer, operation.link, { mac: operation.mac, target: UNKNOWN_TARGET })
    return
  }
  const { destination } = operation
  const encodeEntry = operation.kind === 'add-destination' ? encodeAddDestination : encodeDeleteForwarding
  encodeEntry(writer, operation.link, { mac: destination.mac, target: destination })
}

const isSoAlready = ({ kind }: MulticastOperation, { errno }: NetlinkError): boolean =>
  ['delete-destination', 'delete-destinations'].includes(kind) && errno === constants.errno.ENOENT
