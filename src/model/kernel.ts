/**
 * What we program into the kernel and what we read back, in plain records. Desired and observed state use the same
 * types, so that a diff compares like with like.
 */
import {
  type Family,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  ipv4,
  type MacAddress,
  type Prefix,
} from './address'

/**
 * Protocol number of our routes and nexthops. Free in linux/rtnetlink.h and in iproute2's rt_protos; above RTPROT_STATIC (4) the
 * kernel does not interpret it.
 */
export const ROUTE_PROTOCOL = 79

/** Metric of our blackholes: they must lose to whatever else leads to the same destination, and no metric is worse. */
export const BLACKHOLE_METRIC = 0xffffffff

/** Metric of our routes to peers. IPv4: 0, as flannel's. IPv6: what the kernel makes of none (IP6_RT_PRIO_USER, net/ip6_route.h). */
export const ROUTE_METRIC: Readonly<Record<Family, number>> = { IPv4: 0, IPv6: 1024 }

/** Bytes that VXLAN adds: Ethernet 14 + IPv4 20 or IPv6 40 + UDP 8 + VXLAN 8 (RFC 7348). */
export const VXLAN_OVERHEAD: Readonly<Record<Family, number>> = { IPv4: 50, IPv6: 70 }

/** A VXLAN device as we want it. */
export interface LinkSpec {
  readonly name: string
  readonly mac: MacAddress
  readonly mtu: number
  readonly vni: number
  /** UDP port; `undefined` leaves it to the kernel and is equal to any port of an existing device. */
  readonly port: number | undefined
  /** Address packets are sent from; its family is that of the overlay. */
  readonly local: IpAddress
  /** Interface index of the underlay interface. */
  readonly parent: number
  readonly learning: boolean
  readonly gbp: boolean
}

/** A network interface as the kernel tells it. */
export interface ObservedLink {
  readonly index: number
  readonly name: string
  readonly mac: MacAddress
  /** Bytes. */
  readonly mtu: number
  /** Administratively up (IFF_UP). */
  readonly up: boolean
  /** Index of the bridge, bond, ... that this link is a port of. */
  readonly master?: number | undefined
  /** IFLA_INFO_KIND: `vxlan`, `bridge`, ...; `undefined` for hardware. */
  readonly kind: string | undefined
  /** Only for `kind` vxlan. */
  readonly vxlan: ObservedVxlan | undefined
}

/** The attributes of an existing VXLAN device; `undefined` where the kernel does not tell it. */
export interface ObservedVxlan {
  readonly vni: number
  readonly port: number
  readonly local: IpAddress | undefined
  readonly parent: number | undefined
  readonly group: IpAddress | undefined
  readonly learning: boolean
  readonly gbp: boolean
  readonly l2miss: boolean
}

/** An interface address. */
export interface InterfaceAddress {
  readonly linkIndex: number
  /** The address with its host bits, and the prefix length it was given with. */
  readonly address: Prefix
  /** `host` and `link` scope are not usable between hosts. */
  readonly scope: 'global' | 'link' | 'host' | 'other'
}

/** An interface address with what decides whether others can be told of it. */
export interface HostAddress extends InterfaceAddress {
  /** It has no life time. */
  readonly permanent: boolean
  /** Made up for privacy and soon replaced (RFC 8981); IPv6 only. */
  readonly temporary: boolean
  /** Its preferred life time is over: for connections that exist, not for new ones. */
  readonly deprecated: boolean
  /** Whether another host has it too is still being looked at (RFC 4862). */
  readonly tentative: boolean
  /** Another host has it too. */
  readonly duplicate: boolean
}

/** A default route of the main table. */
export interface DefaultRoute {
  readonly family: Family
  /** `undefined` for a multipath route. */
  readonly linkIndex: number | undefined
  readonly gateway: IpAddress | undefined
}

/** How the kernel would send a packet. */
export interface RouteLookup {
  readonly linkIndex: number
  /** The address it would be sent from. */
  readonly source: IpAddress | undefined
}

/** What the host's network looks like, as far as choosing an underlay needs it. */
export interface HostNetwork {
  readonly links: readonly ObservedLink[]
  /** In the kernel's order; IPv4 before IPv6. */
  readonly addresses: readonly HostAddress[]
  /** In the kernel's order (ascending metric); IPv4 before IPv6. */
  readonly defaultRoutes: readonly DefaultRoute[]
  /** The way to the address that was asked for; `undefined` when there is none, or none was asked for. */
  readonly reach: RouteLookup | undefined
}

/** Id of a nexthop object: one number space for the whole network namespace. */
export type NexthopId = number

/** Where a route sends packets. */
export type RouteTarget =
  | { readonly kind: 'nexthop'; readonly id: NexthopId }
  | { readonly kind: 'gateway'; readonly gateway: IpAddress; readonly onlink: boolean }
  /** Past our device: a gateway on another link, which the host reaches without a further one. */
  | { readonly kind: 'direct'; readonly gateway: IpAddress; readonly link: number }
  | { readonly kind: 'blackhole' }
  /** Anything we never make: no gateway, multipath, an encapsulation. */
  | { readonly kind: 'other' }

/** A route of the main table: on our device, or elsewhere with our protocol number. */
export interface Route {
  readonly destination: Prefix
  readonly metric: number
  readonly tos: number
  readonly protocol: number
  readonly target: RouteTarget
}

/** A unicast route of the main table that is not on our devices, as far as telling direct peers needs it. */
export interface UnderlayRoute {
  readonly destination: Prefix
  readonly metric: number
  /** `undefined` for a multipath route. */
  readonly linkIndex: number | undefined
  readonly hasGateway: boolean
}

/**
 * The peers' half of the kernel state, of one family. Observed, it is all that is on our device: neighbours and FDB entries that are permanent,
 * every nexthop and every unicast route that is not the kernel's own (RTPROT_KERNEL); and, where asked for, our protocol's routes elsewhere.
 */
export interface KernelObjects {
  /** neighbour address -> link-layer address */
  readonly neighbours: ReadonlyMap<IpAddress, MacAddress>
  /** link-layer address -> underlay destinations; {@link ODD_DESTINATION} for one unlike ours. Wanted is exactly one each. */
  readonly fdb: ReadonlyMap<MacAddress, readonly IpAddress[]>
  /** id -> gateway, IPv4 only; every one is onlink, on our device, of our protocol */
  readonly nexthops: ReadonlyMap<NexthopId, Ipv4>
  /** {@link routeKey} of the destination -> routes; more than one differs in metric, tos or target */
  readonly routes: ReadonlyMap<RouteKey, readonly Route[]>
}

/**
 * Stands for the destination of a forwarding entry that we never make: with a UDP port, a VNI or an interface of its own, through a nexthop
 * object, or to nowhere. Deleting it deletes all that its MAC has.
 */
export const ODD_DESTINATION: IpAddress = ipv4(0)

/** Objects that can be changed in place: a memory of the kernel. */
export interface ObjectMemory extends KernelObjects {
  readonly neighbours: Map<IpAddress, MacAddress>
  readonly fdb: Map<MacAddress, readonly IpAddress[]>
  readonly nexthops: Map<NexthopId, Ipv4>
  readonly routes: Map<RouteKey, readonly Route[]>
}

/** All that was read at once; it is the reader's to keep and to change. */
export interface ObservedObjects extends ObjectMemory {
  /** Ids in the range of ours that objects on other links have, or objects without one: they are someone else's. */
  readonly takenNexthops: ReadonlySet<NexthopId>
}

declare const brand: unique symbol
/** A destination as one number, for maps: address x 64 + length; of IPv6, x 256. */
export type RouteKey = (number | bigint) & { readonly [brand]: 'RouteKey' }

export function routeKey({ address, length }: Prefix): RouteKey {
  const key = typeof address === 'number' ? address * 64 + length : (address << 8n) | BigInt(length)
  return key as RouteKey
}

/** The destination address in a {@link RouteKey}. */
export const routeAddress = (key: RouteKey): IpAddress =>
  typeof key === 'number' ? ipv4(Math.floor(key / 64)) : ((key >> 8n) as Ipv6)

/** One change of a link. Each is idempotent. */
export type LinkOperation =
  | { readonly kind: 'create-link'; readonly link: LinkSpec }
  | { readonly kind: 'delete-link'; readonly index: number; readonly name: string }
  | {
      readonly kind: 'change-link'
      readonly index: number
      readonly name: string
      readonly mac?: MacAddress
      readonly mtu?: number
      readonly learning?: boolean
      readonly local?: IpAddress
      readonly parent?: number
      /** Takes it out of the bridge, bond, ... it is a port of. */
      readonly free?: true
    }
  | { readonly kind: 'rename-link'; readonly index: number; readonly name: string }
  | { readonly kind: 'set-link-up'; readonly index: number; readonly name: string }
  | { readonly kind: 'add-address'; readonly index: number; readonly address: Prefix }
  | { readonly kind: 'delete-address'; readonly index: number; readonly address: Prefix }

/**
 * One change of one object on our device. Each is idempotent: setting what is there and deleting what is not there both succeed.
 * `replace` says that an object of ours is there to be replaced; without it the kernel must refuse (EEXIST) when someone else's
 * object has that identity, so that a stranger's state is never overwritten.
 */
export type ObjectOperation =
  | { readonly kind: 'set-neighbour'; readonly address: IpAddress; readonly mac: MacAddress }
  | { readonly kind: 'delete-neighbour'; readonly address: IpAddress }
  | { readonly kind: 'set-fdb'; readonly mac: MacAddress; readonly destination: IpAddress }
  | { readonly kind: 'delete-fdb'; readonly mac: MacAddress; readonly destination: IpAddress }
  | {
      readonly kind: 'set-nexthop'
      readonly id: NexthopId
      readonly gateway: Ipv4
      readonly replace: boolean
    }
  | { readonly kind: 'delete-nexthop'; readonly id: NexthopId }
  | { readonly kind: 'set-route'; readonly route: Route; readonly replace: boolean }
  | { readonly kind: 'delete-route'; readonly route: Route }

/** An operation the kernel refused. */
export interface OperationFailure {
  readonly operation: ObjectOperation
  readonly error: Error
}
