/** Devices of ours that an earlier config left: another VNI, or a family that the network no longer has. */
import { addressBits, FAMILIES, type Family, familyOf, prefixContains } from '../../model/address'
import { type NetworkConfig, subnetRanges } from '../../model/config/network-config'
import type { InterfaceAddress, ObservedLink } from '../../model/kernel/link'
import { familiesOf, linkName } from './desired'

/** A device that is removed once its successor carries traffic. */
export interface StaleLink {
  readonly family: Family
  readonly link: ObservedLink
}

/**
 * Finds devices with a name of ours and, in addition, our VNI or an address of a subnet of our network. A
 * device of another network on this host has neither.
 */
export function staleLinks(
  config: NetworkConfig,
  links: readonly ObservedLink[],
  addresses: readonly InterfaceAddress[],
): StaleLink[] {
  const networks = subnetRanges(config).map(({ network }) => network)
  const inUse = familiesOf(config).map((family) => linkName(family, config.backend.vni))
  const isOurs = (link: ObservedLink): boolean =>
    link.vxlan?.vni === config.backend.vni ||
    addresses.some(
      ({ linkIndex, address: { address, length } }) =>
        linkIndex === link.index &&
        length === addressBits(familyOf(address)) &&
        networks.some((network) => prefixContains(network, address)),
    )
  return links.flatMap((link) => {
    const family = FAMILIES.find(
      (each) => link.vxlan !== undefined && link.name === linkName(each, link.vxlan.vni),
    )
    return family !== undefined && !inUse.includes(link.name) && isOurs(link) ? [{ family, link }] : []
  })
}
