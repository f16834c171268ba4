/** Devices of ours that an earlier config left: another VNI, or a family that the network no longer has. */
import {
  addressBits,
  FAMILIES,
  type Family,
  familyOf,
  type Prefix,
  prefixContains,
} from '../../model/address'
import { type NetworkConfig, subnetRanges } from '../../model/config/network-config'
import type { InterfaceAddress, ObservedLink } from '../../model/kernel/link'
import { wireguardVni } from '../encryption/encryption-plan'
import { familiesOf, linkName } from './desired'

/** A device that is removed once its successor carries traffic. */
export interface StaleLink {
  readonly family: Family
  readonly link: ObservedLink
}

/** All devices that an earlier config left. */
export interface StaleDevices {
  /** family of the network -> the devices that the device of this family succeeds */
  readonly links: ReadonlyMap<Family, readonly ObservedLink[]>
  /** VNIs of WireGuard devices. */
  readonly tunnels: readonly number[]
}

export const NO_STALE_DEVICES: StaleDevices = { links: new Map(), tunnels: [] }

/** Devices of a family that the network no longer has are assigned to the first family of the network. */
export function staleDevices(
  config: NetworkConfig,
  around: { readonly links: readonly ObservedLink[]; readonly addresses: readonly InterfaceAddress[] },
): StaleDevices {
  const { links, addresses } = around
  const stale = staleLinks(config, links, addresses)
  const families = familiesOf(config)
  const succeededBy = (heir: Family, isFirst: boolean): ObservedLink[] =>
    stale
      .filter(({ family }) => family === heir || (isFirst && !families.includes(family)))
      .map(({ link }) => link)
  return {
    links: new Map(families.map((family, i) => [family, succeededBy(family, i === 0)])),
    tunnels: staleTunnels(config, links, addresses),
  }
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
  const networks = networksOf(config)
  const inUse = familiesOf(config).map((family) => linkName(family, config.backend.vni))
  const isOurs = (link: ObservedLink): boolean =>
    link.vxlan?.vni === config.backend.vni || hasAddressIn(networks, link, addresses)
  return links.flatMap((link) => {
    const family = FAMILIES.find(
      (each) => link.vxlan !== undefined && link.name === linkName(each, link.vxlan.vni),
    )
    return family !== undefined && !inUse.includes(link.name) && isOurs(link) ? [{ family, link }] : []
  })
}

/**
 * The VNIs of WireGuard devices that an earlier config with another VNI left. Such a device has an address of
 * our network, or the VXLAN device of its VNI has one.
 */
export function staleTunnels(
  config: NetworkConfig,
  links: readonly ObservedLink[],
  addresses: readonly InterfaceAddress[],
): number[] {
  const networks = networksOf(config)
  const ours = new Set(staleLinks(config, links, addresses).map(({ link }) => link.vxlan?.vni))
  const vnis = links.flatMap((link) => {
    const vni = link.kind === 'wireguard' ? wireguardVni(link.name) : undefined
    if (vni === undefined || vni === config.backend.vni) return []
    return ours.has(vni) || hasAddressIn(networks, link, addresses) ? [vni] : []
  })
  return [...new Set(vnis)]
}

/** Each of our devices has one single-address prefix, which lies in the network. */
export const hasAddressIn = (
  networks: readonly Prefix[],
  { index }: ObservedLink,
  addresses: readonly InterfaceAddress[],
): boolean =>
  addresses.some(
    ({ linkIndex, address: { address, length } }) =>
      linkIndex === index &&
      length === addressBits(familyOf(address)) &&
      networks.some(
        (network) => familyOf(network.address) === familyOf(address) && prefixContains(network, address),
      ),
  )

const networksOf = (config: NetworkConfig): Prefix[] => subnetRanges(config).map(({ network }) => network)
