/** What carries multicast between hosts in the kernel, in plain records: rules for frames, and where a device sends copies. */
import { type Family, formatIp, formatMac, type IpAddress, type MacAddress, mac } from './address'
import type { Revision } from './lease'

/** The destination of what no other forwarding entry is about (drivers/net/vxlan): one entry for each host that gets a copy. */
export const EVERY_GROUP: MacAddress = mac(0)

/** Some bytes of a frame that must have a value, or must not. */
export interface Condition {
  /** Where the offset starts: the Ethernet or the IP header. */
  readonly header: 'link' | 'network'
  readonly at: number
  readonly value: readonly number[]
  /** The bits that matter; without it all do. */
  readonly mask?: readonly number[]
  readonly not?: true
}

/** What happens to frames that meet all conditions, in the order of these fields. */
export interface FrameRule {
  /** That of the frames; without it they may be of any. */
  readonly family?: Family
  readonly conditions: readonly Condition[]
  /** The set of the table that has to have the destination address in it. */
  readonly to?: string
  /** Not more frames than that in a second; a second's worth may come at once. */
  readonly limit?: number
  readonly counted?: true
  /** Indexes of links: each sends a copy. */
  readonly copyTo: readonly number[]
  /** The link that gets the frame itself, which ends here; without it the frame goes on as if there were no rule. */
  readonly moveTo?: number
  /** The chain that goes on with it, and gives it back; or back from such a chain. */
  readonly goTo?: { readonly chain: string } | 'back'
}

/** Rules for what comes in on one link, or, without a link, for what chains behind it jump to. */
export interface FrameChain {
  readonly name: string
  /** The link's name. */
  readonly link?: string
  /** What becomes of frames that no rule moved; without a link they go back. */
  readonly otherwise: 'accept' | 'drop' | 'return'
  readonly rules: readonly FrameRule[]
}

/** A set of addresses of one family, which changes without the rules that look into it. */
export interface AddressSet {
  readonly name: string
  readonly family: Family
  readonly addresses: readonly IpAddress[]
}

/** A table of nftables, family netdev. Whatever is in it is ours. */
export interface FrameTable {
  readonly name: string
  readonly sets?: readonly AddressSet[]
  readonly chains: readonly FrameChain[]
}

/** Ports to which a bridge passes multicast that it knows no member of (linux/if_bridge.h, MDB_RTR_TYPE_*). */
export const ROUTER_PORT_ALWAYS = 2

/** A bridge, as far as multicast needs it. */
export interface ObservedBridge {
  readonly index: number
  readonly name: string
  /**
   * mcast_router: whether it takes itself for a router's port, and so gets what it knows no member of: 0 never, 1 when one is heard, 2 always.
   * `undefined` where the kernel snoops on nothing.
   */
  readonly multicastRouter: number | undefined
  /** How it learns of groups; absent where it does not snoop. */
  readonly snooping?: BridgeSnooping
}

/** How a bridge learns who is in which group. */
export interface BridgeSnooping {
  /** The families in which someone is known to ask for members (Linux 5.15): without that none is known for long. */
  readonly queriers: readonly Family[]
  /** Milliseconds within which all members have answered one who begins to ask: all first queries, and the time for an answer. */
  readonly answeredWithin: number
}

/** What a bridge has learnt. */
export interface BridgeMembers {
  /** Its index. */
  readonly bridge: number
  /** The groups that its ports have members of; one that the host itself has joined is none. */
  readonly groups: readonly IpAddress[]
  /** Whether a multicast router is behind a port, and so has to get everything. */
  readonly hasRouter: boolean
}

/** The groups that a host wants of others. */
export interface HostGroups {
  /** The VNI by which it takes part. */
  readonly vni: number
  /** The families in which the groups are all that it wants; of another it wants everything. */
  readonly tells: readonly Family[]
  readonly groups: readonly IpAddress[]
}

/** Seconds for which a host's word lives in etcd without being confirmed. */
export const GROUPS_TTL_SECONDS = 30

/** One host's word in etcd, by the name of its subnets there; where it cannot be read, why. */
export type GroupsEntry = { readonly name: string; readonly modRevision: Revision } & (
  | { readonly value: HostGroups; readonly reason?: never }
  | { readonly value?: never; readonly reason: string }
)

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

/** One change of a link. Each is idempotent. */
export type MulticastOperation =
  | { readonly kind: 'add-destination'; readonly link: number; readonly destination: Destination }
  | { readonly kind: 'delete-destination'; readonly link: number; readonly destination: Destination }
  /** All that a MAC has, at once: frames to it go to {@link EVERY_GROUP}'s again. */
  | { readonly kind: 'delete-destinations'; readonly link: number; readonly mac: MacAddress }
  | { readonly kind: 'set-multicast-router'; readonly link: number; readonly value: number }

/** An operation in words that follow "cannot". */
export function describeMulticastOperation(operation: MulticastOperation): string {
  const link = `interface ${operation.link}`
  if (operation.kind === 'set-multicast-router') return `set mcast_router of ${link} to ${operation.value}`
  if (operation.kind === 'delete-destinations')
    return `have ${link} send ${formatMac(operation.mac)} like all else`
  const { mac, address } = operation.destination
  return operation.kind === 'add-destination'
    ? `have ${link} send ${formatMac(mac)} to ${formatIp(address)}`
    : `have ${link} send ${formatMac(mac)} no more to ${formatIp(address)}`
}
