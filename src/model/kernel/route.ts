/** Routes of the kernel's main table, in plain records. */
import { type Family, type IpAddress, type Ipv6, ipv4, type Prefix } from '../address'

/**
 * Protocol number of our routes and nexthops. It is unused in linux/rtnetlink.h and in iproute2's rt_protos.
 * The kernel does not interpret numbers above RTPROT_STATIC (4).
 */
export const ROUTE_PROTOCOL = 79

/**
 * Metric of our blackholes, the worst one: every other route to the same destination must take precedence.
 */
export const BLACKHOLE_METRIC = 0xffffffff

/**
 * Metric of our routes to peers. IPv4: 0, as in flannel. IPv6: the kernel's value for a route without a
 * metric (IP6_RT_PRIO_USER, net/ip6_route.h).
 */
export const ROUTE_METRIC: Readonly<Record<Family, number>> = { IPv4: 0, IPv6: 1024 }

/** A default route of the main table. */
export interface DefaultRoute {
  readonly family: Family
  /** `undefined` for a multipath route. */
  readonly linkIndex: number | undefined
  /** Of a multipath route: the links that it leads over. */
  readonly linkIndexes?: readonly number[]
  readonly gateway: IpAddress | undefined
}

/** How the kernel would route a packet. */
export interface RouteLookup {
  readonly linkIndex: number
  /** The source address that the packet would have. */
  readonly source: IpAddress | undefined
}

/** Id of a nexthop object: one number space for the whole network namespace. */
export type NexthopId = number

/** Where a route sends packets. */
export type RouteTarget =
  | { readonly kind: 'nexthop'; readonly id: NexthopId }
  | { readonly kind: 'gateway'; readonly gateway: IpAddress; readonly onlink: boolean }
  /** Not through our device: a gateway on another link, which is on-link for this host. */
  | { readonly kind: 'direct'; readonly gateway: IpAddress; readonly link: number }
  /** To the hosts of another link themselves, which the kernel asks for the address (scope link). */
  | { readonly kind: 'link'; readonly link: number }
  | { readonly kind: 'blackhole' }
  /** To one of several gateways, each of which gets a part of the flows (RTA_MULTIPATH). */
  | { readonly kind: 'shared'; readonly members: readonly SharedMember[] }
  /** A target that we never make: no gateway, an encapsulation. */
  | { readonly kind: 'other' }

/** One of the gateways of a route that leads to several. */
export interface SharedMember {
  /** On our device, or on another link. */
  readonly target: Extract<RouteTarget, { readonly kind: 'gateway' | 'direct' }>
  /** 1 to 256: its part of the flows, beside the weights of the others. */
  readonly weight: number
}

/** A route of the main table: on our device, or elsewhere with our protocol number. */
export interface Route {
  readonly destination: Prefix
  readonly metric: number
  readonly tos: number
  readonly protocol: number
  readonly target: RouteTarget
  /** Largest packet in bytes, which the kernel tells senders of larger ones; 0 for the MTU of the link. */
  readonly mtu: number
}

/**
 * A unicast route of the main table that is not on our devices, with the fields that show which peers are
 * direct.
 */
export interface UnderlayRoute {
  readonly destination: Prefix
  readonly metric: number
  /** `undefined` for a multipath route. */
  readonly linkIndex: number | undefined
  /** Of a multipath route: the links that it leads over. */
  readonly linkIndexes?: readonly number[]
  readonly hasGateway: boolean
}

declare const brand: unique symbol
/** A destination as one number, for maps: address * 64 + length (IPv4) or address * 256 + length (IPv6). */
export type RouteKey = (number | bigint) & { readonly [brand]: 'RouteKey' }

export function routeKey({ address, length }: Prefix): RouteKey {
  const key = typeof address === 'number' ? address * 64 + length : (address << 8n) | BigInt(length)
  return key as RouteKey
}

/** The destination address in a {@link RouteKey}. */
export const routeAddress = (key: RouteKey): IpAddress =>
  typeof key === 'number' ? ipv4(Math.floor(key / 64)) : ((key >> 8n) as Ipv6)

/** The destination in a {@link RouteKey}. */
export const routePrefix = (key: RouteKey): Prefix =>
  typeof key === 'number'
    ? { address: ipv4(Math.floor(key / 64)), length: key % 64 }
    : { address: (key >> 8n) as Ipv6, length: Number(key & 0xffn) }
