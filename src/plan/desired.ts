/** What should be in the kernel for one family: a pure function of the config, the underlay, our lease and the peers. */
import {
  addressBits,
  type Family,
  familyOf,
  type IpAddress,
  type Ipv4,
  type MacAddress,
  type Prefix,
} from '../model/address'
import {
  BLACKHOLE_METRIC,
  type KernelObjects,
  type LinkSpec,
  type NexthopId,
  ROUTE_METRIC,
  ROUTE_PROTOCOL,
  type Route,
  type RouteKey,
  type RouteTarget,
  routeKey,
  VXLAN_OVERHEAD,
} from '../model/kernel'
import type { Peer } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import type { Underlay } from './underlay'

/** How routes over our device name their gateway: by a nexthop object (IPv4, Linux 5.3 and later), or each on its own. */
export type RouteStyle = 'nexthop' | 'gateway'

/** The families a network has. */
export const familiesOf = (config: NetworkConfig): Family[] => [
  ...(config.ipv4 === undefined ? [] : (['IPv4'] as const)),
  ...(config.ipv6 === undefined ? [] : (['IPv6'] as const)),
]

const LINK_NAMES: Readonly<Record<Family, string>> = { IPv4: 'flannel.', IPv6: 'flannel-v6.' }

/** The device's name, as flannel calls it. */
export const linkName = (family: Family, vni: number): string => `${LINK_NAMES[family]}${vni}`

/** The name of the device that carries multicast. With any VNI it fits into the 15 characters that a name may have (IFNAMSIZ). */
export const multicastLinkName = (vni: number): string => `fl-mc.${vni}`

/** MTU of one family's device in bytes: `Backend.MTU` is the outer size. */
export function linkMtu(config: NetworkConfig, underlay: Underlay, family: Family): number {
  return (config.backend.mtu ?? underlay.link.mtu) - VXLAN_OVERHEAD[family]
}

/** MTU that containers may use: what fits through the devices of all families. */
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

/**
 * The id of a peer's nexthop object: the number of its subnet address, since no two networks of one host can hold the same subnet,
 * and low ids are left to routing daemons, which count from 1.
 */
export const nexthopId = (subnet: Ipv4): NexthopId => subnet

/** How the peers' routes are made. */
export interface Routing {
  readonly style: RouteStyle
  /** The link a PublicIP is reached over without a gateway; `undefined` when the peer is not direct, or may not be. */
  readonly directLink: (publicIp: IpAddress) => number | undefined
  /** Nexthop ids that are someone else's: those peers' routes name their gateway. */
  readonly taken?: ReadonlySet<NexthopId>
}

/** All objects that the peers need. */
export function desiredObjects(peers: Iterable<Peer>, { style, directLink, taken }: Routing): KernelObjects {
  const neighbours = new Map<IpAddress, MacAddress>()
  const fdb = new Map<MacAddress, readonly IpAddress[]>()
  const nexthops = new Map<NexthopId, Ipv4>()
  const routes = new Map<RouteKey, readonly Route[]>()
  for (const { subnet, publicIp, mac } of peers) {
    const link = directLink(publicIp)
    if (link !== undefined) {
      routes.set(routeKey(subnet), [routeTo(subnet, { kind: 'direct', gateway: publicIp, link })])
      continue
    }
    // Via the subnet's network address, which the permanent neighbour entry resolves.
    const gateway = subnet.address
    neighbours.set(gateway, mac)
    fdb.set(mac, [publicIp])
    if (style === 'nexthop' && typeof gateway === 'number' && !taken?.has(nexthopId(gateway))) {
      nexthops.set(nexthopId(gateway), gateway)
      routes.set(routeKey(subnet), [routeTo(subnet, { kind: 'nexthop', id: nexthopId(gateway) })])
    } else {
      routes.set(routeKey(subnet), [routeTo(subnet, { kind: 'gateway', gateway, onlink: true })])
    }
  }
  return { neighbours, fdb, nexthops, routes }
}

/** The route that swallows packets to containers of ours that do not exist; it loses to the bridge's. */
export const blackholeRoute = (subnet: Prefix): Route => ({
  ...routeTo(subnet, { kind: 'blackhole' }),
  metric: BLACKHOLE_METRIC,
})

const routeTo = (destination: Prefix, target: RouteTarget): Route => ({
  destination,
  metric: ROUTE_METRIC[familyOf(destination.address)],
  tos: 0,
  protocol: ROUTE_PROTOCOL,
  target,
})
