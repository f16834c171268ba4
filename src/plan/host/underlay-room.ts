/**
 * The largest packet that can carry the overlay's packets. It is a limit of each host, unknown to the network
 * config.
 */

import type { NetworkConfig } from '../../model/config/network-config'
import type { HostAddress, ObservedLink } from '../../model/kernel/link'
import type { DefaultRoute, UnderlayRoute } from '../../model/kernel/route'
import { isOverlayDevice, type Room, type Underlay } from './underlay'

/**
 * Length of the largest IP packet without jumbograms (RFC 791, RFC 8200). The MTU of lo is larger (65536).
 */
const LONGEST_PACKET = 65_535

/** Kinds of interfaces that carry addresses but not the packets, so their MTU does not matter. */
const NO_WAY: readonly (string | undefined)[] = ['dummy', 'vrf']

/** The interfaces that a host's routes use. */
export interface Ways {
  readonly links: readonly ObservedLink[]
  readonly addresses: readonly HostAddress[]
  readonly defaultRoutes: readonly DefaultRoute[]
  /** Routes of the main table, both families. */
  readonly routes: readonly Pick<UnderlayRoute, 'linkIndex' | 'linkIndexes' | 'hasGateway'>[]
}

/**
 * Whether packets leave the host through that interface. They do not through lo, dummy or VRF, which only
 * hold the address.
 */
export const isWayOut = ({ loopback, kind }: ObservedLink): boolean =>
  loopback !== true && !NO_WAY.includes(kind)

/**
 * The interface that carries the packets of an underlay address on such an interface, as with BGP to the
 * host: among the links of default routes, else of routes with a gateway, else of links with an address, the
 * one with the smallest MTU.
 * @returns `undefined` if the interface itself sends, or no other is found
 */
export function carrierOf(
  link: ObservedLink,
  { links, addresses, defaultRoutes, routes }: Ways,
): Room | undefined {
  if (isWayOut(link)) return undefined
  const smallest = (indexes: readonly number[]): Room | undefined =>
    links
      .filter(
        (each) => indexes.includes(each.index) && isWayOut(each) && !isOverlayDevice(each) && each.mtu > 0,
      )
      .sort((a, b) => a.mtu - b.mtu)[0]
  const plain = new Set(links.filter(({ kind }) => kind !== 'bridge').map(({ index }) => index))
  return (
    smallest(defaultRoutes.flatMap(linksOf)) ??
    smallest(routes.filter(({ linkIndexes, hasGateway }) => hasGateway || linkIndexes).flatMap(linksOf)) ??
    smallest(addresses.flatMap(({ linkIndex }) => (plain.has(linkIndex) ? linkIndex : [])))
  )
}

const linksOf = ({
  linkIndex,
  linkIndexes,
}: Pick<UnderlayRoute, 'linkIndex' | 'linkIndexes'>): readonly number[] =>
  linkIndexes ?? (linkIndex === undefined ? [] : [linkIndex])

/** The largest packet that this host can send to others. */
export function roomOf({ link, carrier }: Pick<Underlay, 'link' | 'carrier'>): Room {
  const { mtu, name } = carrier ?? link
  return { mtu: Math.min(mtu, LONGEST_PACKET), name }
}

/** Why the devices have a smaller MTU than the config says; `undefined` if they do not. */
export function describeShortage(
  { backend: { mtu } }: NetworkConfig,
  underlay: Underlay,
): string | undefined {
  const room = roomOf(underlay)
  if (mtu === undefined || mtu <= room.mtu) return undefined
  return (
    `Backend.MTU is ${mtu}, and ${room.name} carries ${room.mtu}: this host uses ${room.mtu}, ` +
    'and full-size packets from hosts that carry more are lost on their way here; ' +
    `raise the MTU of ${room.name} to ${mtu} and that of what is behind it, ` +
    `or set Backend.MTU to ${room.mtu} or less`
  )
}
