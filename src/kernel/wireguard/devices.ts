/**
 * The kernel's calls for WireGuard devices. A host that does not encrypt does not load this file. The device
 * itself is made, renamed and deleted as every link: see `links/`.
 */
import { constants } from 'node:os'
import { OverlayError } from '../../model/errors'
import type { ObservedWireguard, WireguardOperation } from '../../model/kernel/wireguard'
import type { PrivateKey } from '../../model/wireguard-secret'
import type { Kernel } from '../kernel'
import type { LinkClients } from '../links/link-operations'
import { NetlinkClient, type Question, type RequestFormat } from '../netlink/client'
import {
  CTRL_CMD_GETFAMILY,
  GENL_ID_CTRL,
  NETLINK_GENERIC,
  NLM_F_REQUEST,
  WG_CMD_SET_DEVICE,
  WG_GENL_NAME,
  WG_GENL_VERSION,
} from '../netlink/constants'
import { NetlinkError } from '../netlink/errors'
import { openRawSocket } from '../netlink/raw-socket'
import { deviceMessage, familyMessage } from './messages'
import { type FamilyId, inMessages, joinParts, type PeerChanges, peerFormat, readParts } from './peers'
import { ensureRule6, isRule6Right, removeRule6 } from './rules'

/** Bytes. The kernel packs up to 32 KiB of answers into a datagram of a dump. */
const READ_BUFFER = 65_536

/** An operation that the kernel refused. */
export interface WireguardFailure {
  readonly operation: WireguardOperation
  readonly error: Error
}

/** Key and port of a device. What is not given stays. */
interface DeviceChange {
  readonly privateKey?: PrivateKey
  readonly port?: number
}

const { EADDRINUSE, ENODEV, ENOENT, EOPNOTSUPP, EPERM } = constants.errno

/** The kernel's answers when there is no such link, and when the link is no WireGuard device. */
const isNoDevice = (error: unknown): boolean =>
  error instanceof NetlinkError && (error.errno === ENODEV || error.errno === EOPNOTSUPP)

export class WireguardDevices {
  readonly #format: RequestFormat<PeerChanges>

  private constructor(
    private readonly links: LinkClients,
    private readonly client: NetlinkClient,
    private readonly family: FamilyId,
  ) {
    this.#format = peerFormat(family)
  }

  /**
   * Opens a socket of generic netlink, besides those of the kernel. The kernel loads its module if need be.
   * @param report called with errors that belong to no call
   * @returns undefined if this kernel has no WireGuard
   * @throws {OverlayError} `netlink-open`, `netlink-option`
   */
  static async open(
    kernel: Pick<Kernel, 'clients'>,
    report: (error: Error) => void,
  ): Promise<WireguardDevices | undefined> {
    const client = await NetlinkClient.open(
      (handlers) => openRawSocket(handlers, { protocol: NETLINK_GENERIC, readBuffer: READ_BUFFER }),
      report,
    )
    try {
      const family = await client.get(findFamily(WG_GENL_NAME))
      if (family !== undefined) return new WireguardDevices(kernel.clients, client, family)
    } catch (error) {
      if (!(error instanceof NetlinkError && error.errno === ENOENT)) {
        client.close()
        throw error
      }
    }
    client.close()
    return undefined
  }

  /**
   * A device with its peers; `undefined` if there is no WireGuard device of that index.
   * @throws {OverlayError} `no-net-admin` if this process may not read it
   */
  async read(index: number, signal?: AbortSignal): Promise<ObservedWireguard | undefined> {
    try {
      return joinParts(await this.client.dump(readParts(this.family, index), signal))
    } catch (error) {
      if (isNoDevice(error)) return undefined
      if (!(error instanceof NetlinkError && error.errno === EPERM)) throw error
      const problem = 'cannot read WireGuard devices: only root may (CAP_NET_ADMIN)'
      throw new OverlayError('no-net-admin', problem, 'run it as root', { cause: error })
    }
  }

  /**
   * Sets key and port. While the device is down, the port is not opened: then it is the operation
   * `set-link-up` that finds the port in use.
   * @throws {OverlayError} `port-in-use`; nothing was changed then
   * @throws {NetlinkError} ENODEV if there is no such device
   */
  async configure(index: number, change: DeviceChange, signal?: AbortSignal): Promise<void> {
    try {
      await this.client.change(change, deviceFormat(this.family, index), signal)
    } catch (error) {
      if (!(error instanceof NetlinkError && error.errno === EADDRINUSE)) throw error
      throw new OverlayError(
        'port-in-use',
        `cannot receive WireGuard's packets: UDP port ${change.port} is in use by another program`,
        `free the port: ss -ulpn 'sport = ${change.port}'`,
        { cause: error },
      )
    }
  }

  /**
   * Changes peers, in the given order. An operation that the kernel refuses stops no other.
   * @returns the operations that were refused
   */
  async apply(
    index: number,
    operations: readonly WireguardOperation[],
    signal?: AbortSignal,
  ): Promise<readonly WireguardFailure[]> {
    const failures: WireguardFailure[] = []
    for (const changes of inMessages(index, operations)) {
      const error = await this.#change(changes, signal)
      if (error === undefined) continue
      if (changes.operations.length === 1 || isNoDevice(error)) {
        for (const operation of changes.operations) failures.push({ operation, error })
        continue
      }
      // What precedes the refused operation is made already. To make it again changes nothing.
      for (const operation of changes.operations) {
        const refusal = await this.#change({ index, operations: [operation] }, signal)
        if (refusal !== undefined) failures.push({ operation, error: refusal })
      }
    }
    return failures
  }

  /** @returns the refusal, if the kernel refuses */
  async #change(changes: PeerChanges, signal: AbortSignal | undefined): Promise<NetlinkError | undefined> {
    try {
      await this.client.change(changes, this.#format, signal)
      return undefined
    } catch (error) {
      if (error instanceof NetlinkError) return error
      throw error
    }
  }

  /**
   * Makes sure that IPv6 packets which a forwarding entry sends over the device leave by it: see `rules.ts`.
   * @param table number of a table that is ours alone
   * @returns whether anything was changed
   * @throws {OverlayError} `table-taken` if another program has a route in that table
   * @throws {NetlinkError} ENETDOWN if the device is down: its packets are refused then
   */
  ensureRule6(
    link: { readonly index: number; readonly name: string },
    table: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    return ensureRule6(this.links, link, table, signal)
  }

  /** Whether {@link ensureRule6} would change nothing. */
  isRule6Right(
    link: { readonly index: number; readonly name: string },
    table: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    return isRule6Right(this.links, link, table, signal)
  }

  /** Reverts {@link ensureRule6}. Nothing of another program is removed. */
  removeRule6(name: string, table: number, signal?: AbortSignal): Promise<void> {
    return removeRule6(this.links, name, table, signal)
  }

  /** Idempotent. Rejects calls that are under way. */
  close(): void {
    this.client.close()
  }
}

/** The number of a family; ENOENT if there is none of that name, nor a module for it. */
const findFamily = (name: string): Question<FamilyId> => ({
  attempted: `find the generic netlink family ${name}`,
  encode: (writer) =>
    familyMessage.encode(writer, GENL_ID_CTRL, NLM_F_REQUEST, {
      command: CTRL_CMD_GETFAMILY,
      version: 1,
      name,
    }),
  decode: (view, start, end) => familyMessage.decode(view, start, end).id,
})

const deviceFormat = (family: FamilyId, index: number): RequestFormat<DeviceChange> => ({
  isSecret: true,
  encode(writer, { privateKey, port }) {
    const secret = privateKey?.bytes()
    deviceMessage.encode(writer, family, NLM_F_REQUEST, {
      command: WG_CMD_SET_DEVICE,
      version: WG_GENL_VERSION,
      index,
      privateKey: secret,
      port,
    })
    secret?.fill(0)
  },
  describe: ({ privateKey, port }) => {
    const what = [...(privateKey ? ['the key'] : []), ...(port === undefined ? [] : [`port ${port}`])]
    return `set ${what.join(' and ')} of the WireGuard device ${index}`
  },
})
