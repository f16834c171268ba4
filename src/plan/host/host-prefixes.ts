/**
 * The parts of an overlay network that this host's interfaces and routes use already: a subnet there would
 * cut the host off from them.
 */
import {
  familyOf,
  formatPrefix,
  networkOf,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import { type NetworkConfig, subnetRanges } from '../../model/config/network-config'
import type { HostAddress, ObservedLink } from '../../model/kernel/link'
import type { UnderlayRoute } from '../../model/kernel/route'
import { formatLeaseSubnet, type LeaseSubnet } from '../../model/lease'
import { isOverlayDevice } from './underlay'

/**
 * Kinds of links that lead to one container or virtual machine, by a route to its address (for example the
 * CNI plugin ptp).
 */
const CONTAINERS_OWN: ReadonlySet<string> = new Set(['veth', 'tun'])

export interface OwnPrefix {
  readonly prefix: Prefix
  /** Description: `10.5.64.0/18, which is on eth1`. */
  readonly what: string
  /** Whether it belongs to a route instead of an address. */
  readonly isRoute: boolean
  /** Whether it is on a bridge, which may be the bridge of this host's containers. */
  readonly isBridge: boolean
}

/**
 * The prefixes of addresses and routes that overlap the network. Not included: overlay devices; bridges with
 * a prefix no larger than a subnet, which are container bridges; single addresses on links to containers;
 * routes that cover the whole network, because our routes are more specific.
 */
export function ownPrefixes(
  config: NetworkConfig,
  {
    links,
    addresses,
  }: { readonly links: readonly ObservedLink[]; readonly addresses: readonly HostAddress[] },
  routes: readonly UnderlayRoute[],
): OwnPrefix[] {
  return subnetRanges(config).flatMap(({ network, subnetLength }) => {
    const family = familyOf(network.address)
    const linkOf = (linkIndex: number | undefined): ObservedLink | undefined =>
      links.find(({ index }) => index === linkIndex)
    const concerns = (linkIndex: number | undefined, prefix: Prefix): boolean => {
      const link = linkOf(linkIndex)
      const isContainers =
        (link?.kind === 'bridge' && prefix.length >= subnetLength) ||
        (CONTAINERS_OWN.has(link?.kind ?? '') && prefix.length === (family === 'IPv4' ? 32 : 128))
      return (
        familyOf(prefix.address) === family &&
        prefixesOverlap(prefix, network) &&
        !isContainers &&
        (link === undefined || !isOverlayDevice(link))
      )
    }
    const nameOf = (linkIndex: number | undefined): string => linkOf(linkIndex)?.name ?? 'an interface'
    const isBridge = (linkIndex: number | undefined): boolean => linkOf(linkIndex)?.kind === 'bridge'
    return [
      ...addresses.flatMap(({ linkIndex, address }) => {
        const prefix = networkOf(address.address, address.length)
        return concerns(linkIndex, prefix)
          ? [
              {
                prefix,
                isRoute: false,
                isBridge: isBridge(linkIndex),
                what: `${formatPrefix(prefix)}, which is on ${nameOf(linkIndex)}`,
              },
            ]
          : []
      }),
      ...routes.flatMap(({ destination, linkIndex }) => {
        const isWhole = destination.length <= network.length && prefixContains(destination, network.address)
        return !isWhole && concerns(linkIndex, destination)
          ? [
              {
                prefix: destination,
                isRoute: true,
                isBridge: isBridge(linkIndex),
                what: `${formatPrefix(destination)}, to which a route leads over ${nameOf(linkIndex)}`,
              },
            ]
          : []
      }),
    ]
  })
}

/** Describes an overlap. */
export const describeOverlap = (subnet: LeaseSubnet, { what }: OwnPrefix): string =>
  `the subnet of this host, ${formatLeaseSubnet(subnet)}, overlaps ${what}: ` +
  'a part of one of the two is unreachable'

/**
 * The first prefix that the host's subnet overlaps. A bridge with all or a part of the subnet is the
 * containers' own and does not count.
 */
export const overlapped = (subnet: LeaseSubnet, own: readonly OwnPrefix[]): OwnPrefix | undefined =>
  own.find(({ prefix, isBridge }) =>
    [subnet.ipv4, subnet.ipv6].some(
      (half: Prefix | undefined) =>
        half !== undefined &&
        prefixesOverlap(half, prefix) &&
        !(isBridge && prefix.length >= half.length && prefixContains(half, prefix.address)),
    ),
  )
