/**
 * The members of multicast groups behind the ports of bridges: the MDB (linux/if_bridge.h, struct br_port_msg
 * and MDBA_*).
 */
import type { IpAddress } from '../../model/address'
import type { BridgeMembers, ObservedBridge } from '../../model/multicast'
import type { Kernel } from '../kernel'
import { askLink, type LinkClients } from '../links/link-operations'
import { HOST_LITTLE_ENDIAN, MessageCursor } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import { eachPayload, messageCodec } from '../netlink/codec'
import {
  AF_BRIDGE,
  ETH_P_IP,
  ETH_P_IPV6,
  MDBA_MDB,
  MDBA_MDB_ENTRY,
  MDBA_MDB_ENTRY_INFO,
  MDBA_ROUTER,
  MDBA_ROUTER_PORT,
  NLM_F_REQUEST,
  RTM_DELMDB,
  RTM_GETMDB,
  RTM_NEWMDB,
  RTNLGRP_MDB,
} from '../netlink/constants'
import { MalformedMessageError } from '../netlink/errors'
import { ipv4Address, ipv6Address, s32, u8 } from '../netlink/layout'
import { openRawSocket } from '../netlink/raw-socket'
import type { NetlinkSocket } from '../netlink/socket'
import { readBridge } from './bridges'

/** struct br_port_msg: the index of the bridge. */
const HEADER = { size: 8, fields: { family: [0, u8], index: [4, s32] } } as const
const bridgePort = messageCodec(HEADER, {})

/** Offsets in struct br_mdb_entry: a port, a VLAN, a group and its protocol; padded at its end. */
const ENTRY = { port: 0, vlan: 6, group: 8, protocol: 24, size: 28 }

/** The members behind all bridges, as a dump. A bridge may come more than once. */
export const listMembers: Question<BridgeMembers> = {
  attempted: 'list the multicast groups of bridges',
  encode: (writer) => bridgePort.encode(writer, RTM_GETMDB, NLM_F_REQUEST, { family: AF_BRIDGE }),
  decode: decodeMembers,
}

/**
 * Reads the body of one message of a dump, or of a notification.
 * @throws {MalformedMessageError}
 */
export function decodeMembers(view: DataView, start: number, end: number): BridgeMembers {
  const { index: bridge } = bridgePort.decode(view, start, end)
  const groups: IpAddress[] = []
  let hasRouter = false
  const body = start + HEADER.size
  for (const [from, to] of eachPayload(view, body, end, MDBA_MDB))
    for (const entry of eachPayload(view, from, to, MDBA_MDB_ENTRY))
      for (const info of eachPayload(view, ...entry, MDBA_MDB_ENTRY_INFO))
        groups.push(...readEntry(view, bridge, ...info))
  for (const [from, to] of eachPayload(view, body, end, MDBA_ROUTER))
    for (const _ of eachPayload(view, from, to, MDBA_ROUTER_PORT)) hasRouter = true
  return { bridge, groups, hasRouter }
}

/** @returns the group; nothing for an entry of a VLAN, of a MAC, or of the host itself */
function readEntry(view: DataView, bridge: number, start: number, end: number): IpAddress[] {
  if (end - start < ENTRY.size) {
    throw new MalformedMessageError(`a group has ${end - start} bytes where ${ENTRY.size} are wanted`)
  }
  const isOfHost = view.getInt32(start + ENTRY.port, HOST_LITTLE_ENDIAN) === bridge
  if (isOfHost || view.getUint16(start + ENTRY.vlan, HOST_LITTLE_ENDIAN) !== 0) return []
  const protocol = view.getUint16(start + ENTRY.protocol)
  if (protocol === ETH_P_IP) return [ipv4Address.get(view, start + ENTRY.group)]
  return protocol === ETH_P_IPV6 ? [ipv6Address.get(view, start + ENTRY.group)] : []
}

/**
 * The bridges that a datagram of notifications is about.
 * @throws {MalformedMessageError}
 */
export function readMemberChanges(datagram: Uint8Array): number[] {
  const cursor = new MessageCursor(datagram)
  const bridges: number[] = []
  while (cursor.next()) {
    if (cursor.type !== RTM_NEWMDB && cursor.type !== RTM_DELMDB) continue
    bridges.push(decodeMembers(cursor.view, cursor.start, cursor.end).bridge)
  }
  return bridges
}

/** A bridge and the members behind its ports. */
export interface LearntGroups {
  readonly bridge: ObservedBridge
  readonly members: readonly BridgeMembers[]
}

export class MdbSocket {
  private constructor(
    private readonly links: LinkClients,
    private readonly changes: NetlinkSocket,
  ) {}

  /**
   * Opens a socket for notifications, beside those of the kernel.
   * @param changed called when members behind a bridge may have changed
   * @param report called with errors that belong to no call
   * @throws {OverlayError} `netlink-open`, `netlink-option`
   */
  static async open(
    kernel: Kernel,
    changed: (bridge: number) => void,
    report: (error: Error) => void,
  ): Promise<MdbSocket> {
    const onDatagram = (datagram: Uint8Array): void => readMemberChanges(datagram).forEach(changed)
    const socket = await openRawSocket({ onDatagram, onError: report })
    try {
      socket.addMembership(RTNLGRP_MDB)
    } catch (error) {
      socket.close()
      throw error
    }
    return new MdbSocket(kernel.clients, socket)
  }

  close(): void {
    this.changes.close()
  }

  /** Reads bridges and their members. A bridge that is gone is left out. */
  async look(bridges: readonly number[], signal?: AbortSignal): Promise<readonly LearntGroups[]> {
    const members = await this.links.dumps.dump(listMembers, signal)
    const found: LearntGroups[] = []
    for (const index of bridges) {
      const bridge = await askLink(this.links, readBridge(index), signal)
      if (bridge === undefined) continue
      found.push({ bridge, members: members.filter((each) => each.bridge === index) })
    }
    return found
  }
}
