/** What should be in the kernel: a pure function of the config, the underlay, our lease and the peers. */
import type { Ipv4, Ipv4Prefix, MacAddress } from '../model/address'
import {
  type KernelObjects,
  type LinkSpec,
  type NexthopId,
  ROUTE_PROTOCOL,
  type Route,
  type RouteKey,
  routeKey,
  VXLAN_OVERHEAD,
} from '../model/kernel'
import type { Peer } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { requireIpv4, type Underlay } from './underlay'

/** How routes name their gateway: by a nexthop object (Linux 5.3 and later), or each on its own. */
export type RouteStyle = 'nexthop' | 'gateway'

/** The device's name, as flannel calls it. */
export const linkName = (config: NetworkConfig): string => `flannel.${config.backend.vni}`

/** MTU of the overlay in bytes: `Backend.MTU` is the outer size. */
export function overlayMtu(config: NetworkConfig, underlay: Underlay): number {
  return (config.backend.mtu ?? underlay.link.mtu) - VXLAN_OVERHEAD
}

export function desiredLink(config: NetworkConfig, underlay: Underlay, mac: MacAddress): LinkSpec {
  return {
    name: linkName(config),
    mac,
    mtu: overlayMtu(config, underlay),
    vni: config.backend.vni,
    port: config.backend.port,
    local: requireIpv4(underlay).local,
    parent: underlay.link.index,
    learning: config.backend.learning,
    gbp: config.backend.gbp,
  }
}

/** The device's address: the subnet's network address as a /32, so that no connected route exists. */
export const desiredAddress = (subnet: Ipv4Prefix): Ipv4Prefix => ({ address: subnet.address, length: 32 })

/**
 * The id of a peer's nexthop object: the number of its subnet address, since no two networks of one host can hold the same subnet,
 * and low ids are left to routing daemons, which count from 1.
 */
export const nexthopId = (subnet: Ipv4Prefix): NexthopId => subnet.address

/** The route to a peer: via its subnet's network address, which the permanent neighbour entry resolves. */
function peerRoute(peer: Peer, style: RouteStyle): Route {
  return {
    destination: peer.subnet,
    metric: 0,
    tos: 0,
    protocol: ROUTE_PROTOCOL,
    target:
      style === 'nexthop'
        ? { kind: 'nexthop', id: nexthopId(peer.subnet) }
        : { kind: 'gateway', gateway: peer.subnet.address, onlink: true },
  }
}

/** All objects that the peers need on our device. */
export function desiredObjects(peers: Iterable<Peer>, style: RouteStyle): KernelObjects {
  const neighbours = new Map<Ipv4, MacAddress>()
  const fdb = new Map<MacAddress, readonly Ipv4[]>()
  const nexthops = new Map<NexthopId, Ipv4>()
  const routes = new Map<RouteKey, readonly Route[]>()
  for (const peer of peers) {
    neighbours.set(peer.subnet.address, peer.mac)
    fdb.set(peer.mac, [peer.publicIp])
    if (style === 'nexthop') nexthops.set(nexthopId(peer.subnet), peer.subnet.address)
    routes.set(routeKey(peer.subnet), [peerRoute(peer, style)])
  }
  return { neighbours, fdb, nexthops, routes }
}
