/**
 * Forwarding entries of the VXLAN device: link-layer address -> underlay address and link (linux/neighbour.h,
 * family AF_BRIDGE).
 */
import type { MacAddress } from '../../model/address'
import {
  deletesAll,
  type ForwardingTarget,
  isUnknownTarget,
  UNKNOWN_TARGET,
} from '../../model/kernel/objects'
import type { MessageWriter } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import type { MessageOf } from '../netlink/codec'
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
} from '../netlink/constants'
import { neighbourMessage } from '../netlink/messages'
import type { KernelKind } from './kind'
import { NEIGHBOUR_NOTIFICATION } from './neighbours'

export interface ForwardingEntry {
  readonly mac: MacAddress
  readonly target: ForwardingTarget
}

/** Dump of the permanent entries of one link. A MAC with two destinations has two entries. */
export const listForwarding = (linkIndex: number): Question<ForwardingEntry> => ({
  attempted: 'list forwarding entries',
  // The filter is in the header. The kernel understands the attribute of neighbours too, but only with strict
  // checking.
  encode: (writer) =>
    neighbourMessage.encode(writer, RTM_GETNEIGH, NLM_F_REQUEST, { family: AF_BRIDGE, index: linkIndex }),
  decode(view, start, end) {
    const message = neighbourMessage.decode(view, start, end)
    const { family, index, state, flags, linkAddress } = message
    if (family !== AF_BRIDGE || index !== linkIndex) return undefined
    if ((state & NUD_PERMANENT) === 0 || (flags & NTF_SELF) === 0) return undefined
    return linkAddress === undefined ? undefined : { mac: linkAddress, target: forwardingTargetOf(message) }
  },
})

/**
 * The destination of an entry. The kernel sends port, VNI and link only if they are not the device's own
 * (vxlan_fdb_info).
 */
export function forwardingTargetOf(message: MessageOf<typeof neighbourMessage>): ForwardingTarget {
  const { destination, port, vni, link, nexthop } = message
  const isOdd = port !== undefined || vni !== undefined || nexthop !== undefined
  return destination === undefined || isOdd ? UNKNOWN_TARGET : { address: destination, via: link ?? 0 }
}

/** Appends the message that adds a destination to those that a MAC has. */
export function encodeAddDestination(writer: MessageWriter, index: number, entry: ForwardingEntry): void {
  encodeForwarding(writer, index, entry.mac, entry.target, NLM_F_APPEND)
}

function encodeForwarding(
  writer: MessageWriter,
  index: number,
  mac: MacAddress,
  { address, via }: ForwardingTarget,
  how: number,
): void {
  neighbourMessage.encode(writer, RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | how, {
    family: AF_BRIDGE,
    index,
    state: NUD_PERMANENT,
    flags: NTF_SELF,
    destination: address,
    linkAddress: mac,
    link: via === 0 ? undefined : via,
  })
}

/**
 * Appends the message that removes an entry. ENOENT if the MAC is not there or has another destination,
 * EADDRNOTAVAIL if the link of the destination is gone. For an unknown destination the message has none, and
 * the kernel removes all entries of the MAC.
 */
export function encodeDeleteForwarding(
  writer: MessageWriter,
  index: number,
  { mac, target }: ForwardingEntry,
): void {
  const isNamed = !isUnknownTarget(target)
  neighbourMessage.encode(writer, RTM_DELNEIGH, NLM_F_REQUEST, {
    family: AF_BRIDGE,
    index,
    flags: NTF_SELF,
    destination: isNamed ? target.address : undefined,
    linkAddress: mac,
    link: isNamed && target.via !== 0 ? target.via : undefined,
  })
}

export const fdb: KernelKind<'fdb'> = {
  async read({ dump, link }) {
    const grouped = new Map<MacAddress, readonly ForwardingTarget[]>()
    for (const { mac, target } of await dump(listForwarding(link)))
      grouped.set(mac, [...(grouped.get(mac) ?? []), target])
    return grouped
  },
  // A replacement changes address and link of the first destination in place (vxlan_fdb_replace).
  encode(writer, link, { do: verb, key: mac, value }) {
    if (verb === 'set') encodeForwarding(writer, link, mac, value, NLM_F_REPLACE)
    else encodeDeleteForwarding(writer, link, { mac, target: deletesAll(value) ? UNKNOWN_TARGET : value })
  },
  notification: NEIGHBOUR_NOTIFICATION,
}
