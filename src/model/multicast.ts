/** What carries multicast between hosts in the kernel, in plain records: filters of traffic control, and where a device sends copies. */
import { type Family, formatIp, formatMac, type IpAddress, type MacAddress, mac } from './address'

/** The destination of what no other forwarding entry is about (drivers/net/vxlan): one entry for each host that gets a copy. */
export const EVERY_GROUP: MacAddress = mac(0)

/** Four bytes of a frame that must have this value where the mask has ones. */
export interface Match {
  /** From the start of the IP header; negative for the Ethernet header before it. */
  readonly at: number
  readonly mask: number
  readonly value: number
}

/** What happens to frames that come in on a link and match. */
export interface FrameFilter {
  readonly family: Family
  readonly matches: readonly Match[]
  /** Whose it is; never 0. The kernel keeps it and makes nothing of it. */
  readonly tag: number
  /** Indexes of links: each sends a copy. */
  readonly copyTo: readonly number[]
  /** Whether the frame itself goes its way as if there were no filter; else it ends here. */
  readonly goesOn: boolean
}

/** A filter that is there. */
export interface ObservedFilter {
  readonly priority: number
  /** EtherType. */
  readonly protocol: number
  readonly handle: number
  /** 0 where it has none. */
  readonly tag: number
  /** `undefined` for one that we would not make. */
  readonly filter: FrameFilter | undefined
}

/** The priority of our filters, of the 65,535 that there are: whoever else has some on a link is asked before. */
export const FILTER_PRIORITY: Readonly<Record<Family, number>> = { IPv4: 65_281, IPv6: 65_282 }

/** Ports to which a bridge passes multicast that it knows no member of (linux/if_bridge.h, MDB_RTR_TYPE_*). */
export const ROUTER_PORT_ALWAYS = 2

/** A bridge, as far as multicast needs it. */
export interface ObservedBridge {
  readonly index: number
  readonly name: string
  /** Whether it takes itself for a router's port, and so gets what it knows no member of: 0 never, 1 when one is heard, 2 always. `undefined` where the kernel snoops on nothing. */
  readonly multicastRouter: number | undefined
}

/** What went through a link since it was made. */
export interface LinkCounters {
  readonly received: { readonly packets: number; readonly bytes: number }
  readonly sent: { readonly packets: number; readonly bytes: number; readonly dropped: number }
}

/** Where a device sends what goes to a group. */
export interface Destination {
  readonly mac: MacAddress
  readonly address: IpAddress
}

/** One change. Each is idempotent, but for a filter that is added twice: then it is there twice. */
export type MulticastOperation =
  | { readonly kind: 'add-qdisc'; readonly link: number }
  | { readonly kind: 'delete-qdisc'; readonly link: number }
  | { readonly kind: 'add-filter'; readonly link: number; readonly filter: FrameFilter }
  | { readonly kind: 'delete-filter'; readonly link: number; readonly filter: ObservedFilter }
  | { readonly kind: 'add-destination'; readonly link: number; readonly destination: Destination }
  | { readonly kind: 'delete-destination'; readonly link: number; readonly destination: Destination }
  | { readonly kind: 'set-multicast-router'; readonly link: number; readonly value: number }

/** An operation in words that follow "cannot". */
export function describeMulticastOperation(operation: MulticastOperation): string {
  const link = `interface ${operation.link}`
  switch (operation.kind) {
    case 'add-qdisc':
      return `add the clsact qdisc of ${link}`
    case 'delete-qdisc':
      return `delete the clsact qdisc of ${link}`
    case 'add-filter':
      return `add an ${operation.filter.family} filter to ${link}`
    case 'delete-filter':
      return `delete a filter of priority ${operation.filter.priority} from ${link}`
    case 'add-destination':
      return `send ${formatMac(operation.destination.mac)} of ${link} to ${formatIp(operation.destination.address)}`
    case 'delete-destination':
      return `send ${formatMac(operation.destination.mac)} of ${link} no more to ${formatIp(operation.destination.address)}`
    case 'set-multicast-router':
      return `set mcast_router of ${link} to ${operation.value}`
  }
}
