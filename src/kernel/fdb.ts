/** The VXLAN device's forwarding entries: which underlay address a link-layer address is behind (linux/neighbour.h, family AF_BRIDGE). */
import type { IpAddress, MacAddress } from '../model/address'
import { ODD_DESTINATION } from '../model/kernel'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import type { MessageOf } from './netlink/codec'
import {
  AF_BRIDGE,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NTF_SELF,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from './netlink/constants'
import { neighbourMessage } from './netlink/messages'

export interface ForwardingEntry {
  readonly mac: MacAddress
  readonly destination: IpAddress
}

/** The permanent entries of one link; as a dump. A MAC with two destinations is told twice. */
export const listForwarding = (linkIndex: number): Question<ForwardingEntry> => ({
  attempted: 'list forwarding entries',
  // Here the filter is in the header; the attribute of neighbours is understood too, but only with strict checking.
  encode: (writer) =>
    neighbourMessage.encode(writer, RTM_GETNEIGH, NLM_F_REQUEST, { family: AF_BRIDGE, index: linkIndex }),
  decode(view, start, end) {
    const message = neighbourMessage.decode(view, start, end)
    const { family, index, state, flags, linkAddress } = message
    if (family !== AF_BRIDGE || index !== linkIndex) return undefined
    if ((state & NUD_PERMANENT) === 0 || (flags & NTF_SELF) === 0) return undefined
    return linkAddress === undefined ? undefined : { mac: linkAddress, destination: destinationOf(message) }
  },
})

/** Where an entry leads. The kernel tells port, VNI and interface only where they are not the device's own (vxlan_fdb_info). */
export function destinationOf(message: MessageOf<typeof neighbourMessage>): IpAddress {
  const { destination, port, vni, link, nexthop } = message
  const isOdd = [port, vni, link, nexthop].some((attribute) => attribute !== undefined)
  return destination === undefined || isOdd ? ODD_DESTINATION : destination
}

/** Appends the message that adds an entry or gives its MAC another destination. */
export function encodeSetForwarding(writer: MessageWriter, index: number, entry: ForwardingEntry): void {
  encodeForwarding(writer, index, entry, NLM_F_REPLACE)
}

/** Appends the message that adds a destination to those that a MAC has. */
export function encodeAddDestination(writer: MessageWriter, index: number, entry: ForwardingEntry): void {
  encodeForwarding(writer, index, entry, NLM_F_APPEND)
}

function encodeForwarding(writer: MessageWriter, index: number, entry: ForwardingEntry, how: number): void {
  neighbourMessage.encode(writer, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | how, {
    family: AF_BRIDGE,
    index,
    state: NUD_PERMANENT,
    flags: NTF_SELF,
    destination: entry.destination,
    linkAddress: entry.mac,
  })
}

/**
 * Appends the message that removes an entry; ENOENT when the MAC is not there or is behind another destination. Without a destination
 * the kernel removes all that the MAC has.
 */
export function encodeDeleteForwarding(writer: MessageWriter, index: number, entry: ForwardingEntry): void {
  neighbourMessage.encode(writer, RTM_DELNEIGH, NLM_F_REQUEST, {
    family: AF_BRIDGE,
    index,
    flags: NTF_SELF,
    destination: entry.destination === ODD_DESTINATION ? undefined : entry.destination,
    linkAddress: entry.mac,
  })
}
