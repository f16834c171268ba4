/** The kernel's half of multicast between hosts, over the sockets of a {@link Kernel}. Loaded only where it is wanted. */
import { constants } from 'node:os'
import type { Family } from '../model/address'
import type { InterfaceAddress } from '../model/kernel'
import {
  type Destination,
  describeMulticastOperation,
  type LinkCounters,
  type MulticastOperation,
  type ObservedBridge,
  type ObservedFilter,
} from '../model/multicast'
import { encodeMulticastRouter, listBridges, readCounters } from './bridges'
import { encodeAddDestination, encodeDeleteForwarding, listForwarding } from './fdb'
import {
  encodeAddFilter,
  encodeAddQdisc,
  encodeDeleteFilter,
  encodeDeleteQdisc,
  findIngressQdisc,
  listFilters,
} from './filters'
import type { Kernel } from './kernel'
import type { LinkClients } from './link-operations'
import type { MessageWriter } from './netlink/bytes'
import type { RequestFormat } from './netlink/client'
import { NetlinkError } from './netlink/errors'

/** An operation the kernel refused. */
export interface MulticastFailure {
  readonly operation: MulticastOperation
  readonly error: Error
}

const FORMAT: RequestFormat<MulticastOperation> = { encode, describe: describeMulticastOperation }

export class MulticastKernel {
  readonly #clients: LinkClients

  constructor(private readonly kernel: Kernel) {
    this.#clients = kernel.clients
  }

  bridges(signal?: AbortSignal): Promise<readonly ObservedBridge[]> {
    return this.#clients.dumps.dump(listBridges, signal)
  }

  addresses(family: Family, signal?: AbortSignal): Promise<readonly InterfaceAddress[]> {
    return this.kernel.addresses(family, signal)
  }

  /** The kind of the qdisc that filters on what comes in hang on; `undefined` when there is none. */
  async ingressQdisc(index: number, signal?: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#clients.requests.get(findIngressQdisc(index), signal)
    } catch (error) {
      const none: readonly number[] = [constants.errno.ENOENT, constants.errno.EINVAL, constants.errno.ENODEV]
      if (error instanceof NetlinkError && none.includes(error.errno)) return undefined
      throw error
    }
  }

  /** All filters on what comes in on a link, or goes out, of whomever; none when there is no such link. */
  async filters(index: number, way: 'in' | 'out', signal?: AbortSignal): Promise<readonly ObservedFilter[]> {
    try {
      return await this.#clients.dumps.dump(listFilters(index, way), signal)
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === constants.errno.ENODEV) return []
      throw error
    }
  }

  /** Where a VXLAN device sends frames. */
  async destinations(index: number, signal?: AbortSignal): Promise<readonly Destination[]> {
    const entries = await this.#clients.dumps.dump(listForwarding(index), signal)
    return entries.map(({ mac, destination }) => ({ mac, address: destination }))
  }

  /** What went through a link; `undefined` when there is none. */
  async counters(index: number, signal?: AbortSignal): Promise<LinkCounters | undefined> {
    try {
      return await this.#clients.requests.get(readCounters(index), signal)
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === constants.errno.ENODEV) return undefined
      throw error
    }
  }

  /** Carries out changes in the order given; what is so already, or on a link that is gone, is no failure. */
  async apply(
    operations: readonly MulticastOperation[],
    signal?: AbortSignal,
  ): Promise<readonly MulticastFailure[]> {
    const failures = await this.#clients.requests.batch(operations, FORMAT, signal)
    return failures
      .filter(({ item, error }) => !isSoAlready(item, error))
      .map(({ item, error }) => ({ operation: item, error }))
  }
}

function encode(writer: MessageWriter, operation: MulticastOperation): void {
  const { link } = operation
  switch (operation.kind) {
    case 'add-qdisc':
      encodeAddQdisc(writer, link)
      break
    case 'delete-qdisc':
      encodeDeleteQdisc(writer, link)
      break
    case 'add-filter':
      encodeAddFilter(writer, link, operation.filter)
      break
    case 'delete-filter':
      encodeDeleteFilter(writer, link, operation.filter)
      break
    case 'add-destination':
    case 'delete-destination': {
      const { mac, address } = operation.destination
      const change = operation.kind === 'add-destination' ? encodeAddDestination : encodeDeleteForwarding
      change(writer, link, { mac, destination: address })
      break
    }
    case 'set-multicast-router':
      encodeMulticastRouter(writer, link, operation.value)
      break
  }
}

function isSoAlready({ kind }: MulticastOperation, { errno }: NetlinkError): boolean {
  const { ENODEV, EEXIST, ENOENT, EINVAL } = constants.errno
  if (errno === ENODEV) return true
  if (kind === 'add-qdisc') return errno === EEXIST
  return kind.startsWith('delete-') && (errno === ENOENT || errno === EINVAL)
}
