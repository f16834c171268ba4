/**
 * The device and the objects that one family needs in the kernel, from the config, the underlay, our lease
 * and the peers.
 */
import {
  addressBits,
  type Family,
  familyOf,
  type IpAddress,
  type MacAddress,
  type Prefix,
} from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import { type LinkSpec, VXLAN_OVERHEAD, WIREGUARD_OVERHEAD } from '../../model/kernel/link'
import {
  emptyObjects,
  KINDS,
  type Kind,
  type ObjectMemory,
  type ProxyEntry,
  type ProxyKey,
} from '../../model/kernel/objects'
import {
  type NexthopId,
  type Route,
  type RouteKey,
  type RouteTarget,
  routeKey,
} from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import { alwaysClear, type Way } from '../../model/way'
import type { Underlay } from '../host/underlay'
import { roomOf } from '../host/underlay-room'
import { PLAN } from '../objects'
import type { PrefixCarrier, WantedPeer } from '../objects/kind'
import { nexthopId } from '../objects/nexthop'
import { blackholeRoute } from '../objects/route'
import { shareOf } from '../prefixes/carriers'

/**
 * How routes over our device name their gateway: by a nexthop object (IPv4, Linux 5.3 and later), or in the
 * route.
 */
export type RouteStyle = 'nexthop' | 'gateway'

/** The families a network has. */
export const familiesOf = (config: NetworkConfig): Family[] => [
  ...(config.ipv4 === undefined ? [] : (['IPv4'] as const)),
  ...(config.ipv6 === undefined ? [] : (['IPv6'] as const)),
]

const LINK_NAMES: Readonly<Record<Family, string>> = { IPv4: 'flannel.', IPv6: 'flannel-v6.' }

/** The device's name, as flannel calls it. */
export const linkName = (family: Family, vni: number): string => `${LINK_NAMES[family]}${vni}`

/** The name of the multicast device. With any VNI it has at most 15 characters (IFNAMSIZ). */
export const multicastLinkName = (vni: number): string => `fl-mc.${vni}`

/**
 * MTU of one family's device in bytes: `Backend.MTU` is the size of outer packets, which the underlay limits.
 */
export const linkMtu = (config: NetworkConfig, underlay: Underlay, family: Family): number =>
  roomFor(config, underlay) - encryptionOverhead(config) - VXLAN_OVERHEAD[family]

/** The largest outer packet in bytes. */
export function roomFor({ backend: { mtu } }: NetworkConfig, underlay: Underlay): number {
  const { mtu: room } = roomOf(underlay)
  return Math.min(mtu ?? room, room)
}

/**
 * Bytes that encryption takes from packets of both families. A host that cannot encrypt leaves them free
 * too, so that all containers of the network have one MTU. Packets of both families are inside of packets of
 * the first one.
 */
export function encryptionOverhead(config: NetworkConfig): number {
  const [first] = familiesOf(config)
  return config.backend.encryption === undefined || first === undefined ? 0 : WIREGUARD_OVERHEAD[first]
}

/** MTU of containers: the smallest MTU of the devices of all families. */
export function overlayMtu(config: NetworkConfig, underlay: Underlay): number {
  return Math.min(...familiesOf(config).map((family) => linkMtu(config, underlay, family)))
}

/** @param local the underlay address of that family */
export function desiredLink(
  config: NetworkConfig,
  underlay: Underlay,
  local: IpAddress,
  mac: MacAddress,
): LinkSpec {
  const family = familyOf(local)
  return {
    name: linkName(family, config.backend.vni),
    mac,
    mtu: linkMtu(config, underlay, family),
    vni: config.backend.vni,
    port: config.backend.port,
    local,
    parent: underlay.link.index,
    learning: config.backend.learning,
    gbp: config.backend.gbp,
  }
}

/** The device's address: the subnet's network address as a /32 or /128, so that no connected route exists. */
export const desiredAddress = ({ address }: Prefix): Prefix => ({
  address,
  length: addressBits(familyOf(address)),
})

/** How the peers' routes are made. */
export interface Routing {
  readonly style: RouteStyle
  /**
   * The link that leads to a PublicIP without a gateway; `undefined` if the peer is not direct, or may not
   * be.
   */
  readonly directLink: (publicIp: IpAddress) => number | undefined
  /** Ids that nexthops of others have: the routes of those peers name their gateway. */
  readonly taken?: ReadonlySet<NexthopId>
  /** How packets to a peer leave this host; without it, in clear. */
  readonly wayOf?: (peer: Peer) => Way
  /** The MTU of the route to a peer in bytes; 0, as without it, for the MTU of the link. */
  readonly mtuOf?: (peer: Peer) => number
  /** Prefixes besides its subnet whose routes a peer owns; without it, none. */
  readonly prefixesOf?: (peer: Peer) => readonly Prefix[]
  /** The peers that get the packets to a prefix; without it, its owner. */
  readonly carriersOf?: (key: RouteKey) => readonly PrefixCarrier[]
}

/** All objects that the peers need. */
export function desiredObjects(peers: Iterable<Peer>, routing: Routing): ObjectMemory {
  const objects = emptyObjects()
  const wanted: WantedPeer[] = []
  const { wayOf = alwaysClear, mtuOf = ofLink, prefixesOf = noPrefixes } = routing
  for (const peer of peers) {
    const [target, way, mtu] = [targetOf(peer, routing), wayOf(peer), mtuOf(peer)]
    const prefixes = prefixesOf(peer).map((prefix) => ({
      prefix,
      ...(sharedTarget(prefix, routing) ?? { target, mtu }),
    }))
    wanted.push({ peer, target, way, mtu, prefixes })
  }
  for (const kind of KINDS) want(objects, kind, wanted)
  return objects
}

const ofLink = (): number => 0
const NO_PREFIXES: readonly Prefix[] = []
const noPrefixes = (): readonly Prefix[] => NO_PREFIXES

const want = <K extends Kind>(objects: ObjectMemory, kind: K, peers: readonly WantedPeer[]): void =>
  PLAN[kind].want(objects[kind], peers)

/**
 * Where the route to a prefix sends packets that several peers share; `undefined` where one has them alone.
 */
function sharedTarget(
  prefix: Prefix,
  routing: Routing,
): { readonly target: RouteTarget; readonly mtu: number } | undefined {
  const { carriersOf, mtuOf = ofLink } = routing
  const carriers = carriersOf?.(routeKey(prefix)) ?? []
  if (carriers.length < 2) return undefined
  // A route to several gateways names no nexthop object of one peer.
  const direct: Routing = { ...routing, style: 'gateway' }
  return shareOf(
    carriers.map(({ peer, weight }) => ({ target: targetOf(peer, direct), mtu: mtuOf(peer), weight })),
  )
}

/** Where the route to a peer sends packets. */
function targetOf({ subnet, publicIp }: Peer, { style, directLink, taken }: Routing): RouteTarget {
  const link = directLink(publicIp)
  if (link !== undefined) return { kind: 'direct', gateway: publicIp, link }
  // Via the subnet's network address, which the permanent neighbour entry resolves.
  const gateway = subnet.address
  if (style === 'nexthop' && typeof gateway === 'number' && !taken?.has(nexthopId(gateway)))
    return { kind: 'nexthop', id: nexthopId(gateway) }
  return { kind: 'gateway', gateway, onlink: true }
}

/** What this host has besides the objects of peers: for what it announces, and for what it answers for. */
export interface LocalObjects {
  readonly route: ReadonlyMap<RouteKey, Route>
  readonly proxy: ReadonlyMap<ProxyKey, ProxyEntry>
}

export const NO_LOCAL_OBJECTS: LocalObjects = { route: new Map(), proxy: new Map() }

/**
 * This host's own subnet, whether a route drops packets to unused addresses in it, and its other objects.
 */
export interface OwnObjects {
  readonly subnet: Prefix
  readonly blackhole: boolean
  /** Without it, none. */
  readonly local?: LocalObjects | undefined
}

/**
 * All objects that this host needs: those of the peers, and its own. One of its own replaces that of a
 * peer. The daemon programs these objects, and `overlayctl routes` without a daemon compares the kernel
 * with them.
 * @param own `undefined` where this host has no subnet
 */
export function hostObjects(
  peers: Iterable<Peer>,
  routing: Routing,
  own: OwnObjects | undefined,
): ObjectMemory {
  const objects = desiredObjects(peers, routing)
  if (own === undefined) return objects
  if (own.blackhole) objects.route.set(routeKey(own.subnet), [blackholeRoute(own.subnet)])
  const { local = NO_LOCAL_OBJECTS } = own
  for (const [key, route] of local.route) objects.route.set(key, [route])
  for (const [key, entry] of local.proxy) objects.proxy.set(key, entry)
  return objects
}
