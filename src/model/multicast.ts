/**
 * Types of the multicast between hosts, as the kernel carries it: bridges, and the destinations that a device
 * sends copies to.
 */
import { type Family, formatMac, type IpAddress, type MacAddress, mac } from './address'
import type { ForwardingTarget } from './kernel/objects'
import { describeTarget } from './kernel/words'
import type { Revision } from './lease'

/**
 * MAC of the default destinations in a VXLAN device's FDB (drivers/net/vxlan): frames that match no other
 * entry are copied to each of them, one entry per host.
 */
export const EVERY_GROUP: MacAddress = mac(0)

/**
 * Value of mcast_router: the port always gets multicast without known members (linux/if_bridge.h,
 * MDB_RTR_TYPE_*).
 */
export const ROUTER_PORT_ALWAYS = 2

/** The properties of a bridge that multicast depends on. */
export interface ObservedBridge {
  readonly index: number
  readonly name: string
  /**
   * mcast_router: whether the bridge itself counts as a router port, and so gets multicast without known
   * members: 0 never, 1 if a router was detected, 2 always. `undefined` if the kernel has no snooping.
   */
  readonly multicastRouter: number | undefined
  /** How it learns of groups; absent if snooping is off. */
  readonly snooping?: BridgeSnooping
}

/** How a bridge learns the members of groups. */
export interface BridgeSnooping {
  /** Families with a known querier (Linux 5.15). Without one, no membership stays known for long. */
  readonly queriers: readonly Family[]
  /**
   * Milliseconds until all members have answered a new querier: all its startup queries, and the time to
   * answer.
   */
  readonly answeredWithin: number
}

/** What a bridge has learned. */
export interface BridgeMembers {
  /** Index of the bridge. */
  readonly bridge: number
  /** Groups with members behind its ports. Groups joined by the host itself are not included. */
  readonly groups: readonly IpAddress[]
  /** Whether a multicast router is behind a port, which must get everything. */
  readonly hasRouter: boolean
}

/** The groups that a host wants to receive from others. */
export interface HostGroups {
  /** VNI by which it takes part. */
  readonly vni: number
  /** Families in which `groups` is complete. In the other family the host wants everything. */
  readonly tells: readonly Family[]
  readonly groups: readonly IpAddress[]
}

/** Seconds for which a host's groups stay in etcd without being confirmed. */
export const GROUPS_TTL_SECONDS = 30

/** Most hosts' entries that are kept. In a network with more entries, none of them is used. */
export const MOST_GROUPS_ENTRIES = 20_000
/** Most groups that are kept, of all entries together. */
export const MOST_GROUPS_KEPT = 500_000

/** One host's entry in etcd, by the name of its subnets there. `reason`: why the entry is unreadable. */
export type GroupsEntry = { readonly name: string; readonly modRevision: Revision } & (
  | { readonly value: HostGroups; readonly reason?: never }
  | { readonly value?: never; readonly reason: string }
)

/** Traffic through a link since it was created. */
export interface LinkCounters {
  readonly received: { readonly packets: number; readonly bytes: number }
  readonly sent: { readonly packets: number; readonly bytes: number; readonly dropped: number }
}

/** A destination that a device sends frames of a MAC to. */
export interface Destination extends ForwardingTarget {
  readonly mac: MacAddress
}

/** One change of a link. Each is idempotent. */
export type MulticastOperation =
  | { readonly kind: 'add-destination'; readonly link: number; readonly destination: Destination }
  | { readonly kind: 'delete-destination'; readonly link: number; readonly destination: Destination }
  /** Deletes all destinations of a MAC at once: its frames go to those of {@link EVERY_GROUP} again. */
  | { readonly kind: 'delete-destinations'; readonly link: number; readonly mac: MacAddress }
  | { readonly kind: 'set-multicast-router'; readonly link: number; readonly value: number }

/** An operation as text that follows "cannot". */
export function describeMulticastOperation(operation: MulticastOperation): string {
  const link = `interface ${operation.link}`
  if (operation.kind === 'set-multicast-router') return `set mcast_router of ${link} to ${operation.value}`
  if (operation.kind === 'delete-destinations')
    return `delete all destinations of ${formatMac(operation.mac)} on ${link}`
  const { destination } = operation
  const verb = operation.kind === 'add-destination' ? 'add' : 'delete'
  return `${verb} the destination ${describeTarget(destination)} of ${formatMac(destination.mac)} on ${link}`
}
