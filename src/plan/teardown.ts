/** What of this host's state is ours to remove: told from what there is, for what made it may be gone. */
import { addressBits, FAMILIES, type Family, familyOf, type Prefix, prefixContains } from '../model/address'
import type { FirewallRequest } from '../model/firewall'
import type { InterfaceAddress, ObservedLink, Route } from '../model/kernel'
import { type Lease, leaseHalf } from '../model/lease'
import { type NetworkConfig, subnetRanges } from '../model/network-config'
import { linkName } from './desired'
import { staleLinks } from './stale-links'

/** What is known of the network whose host this is, or was. */
export interface KnownNetwork {
  /** As etcd has it; undefined where it cannot be asked, or has none. */
  readonly config: NetworkConfig | undefined
  /** As subnet.env has them. */
  readonly networks: readonly Prefix[]
  /** The VNI to go by where neither says anything; undefined where a guess could hit another network of this host. */
  readonly fallbackVni: number | undefined
}

export interface OwnLink {
  readonly family: Family
  readonly link: ObservedLink
}

/** All networks that it has or had. */
export const networksOf = ({ config, networks }: KnownNetwork): readonly Prefix[] => [
  ...(config === undefined ? [] : subnetRanges(config).map(({ network }) => network)),
  ...networks,
]

/** The names that our devices have, whether they are there or not. */
export function deviceNames(known: KnownNetwork): string[] {
  const vni = known.config?.backend.vni ?? (known.networks.length === 0 ? known.fallbackVni : undefined)
  return vni === undefined ? [] : FAMILIES.map((family) => linkName(family, vni))
}

/**
 * The devices that are ours: those of the config, those that an earlier one left, and without a config those with an address of the network in
 * subnet.env. A link of another kind under one of our names is someone else's.
 */
export function ownLinks(
  known: KnownNetwork,
  links: readonly ObservedLink[],
  addresses: readonly InterfaceAddress[],
): OwnLink[] {
  const names = deviceNames(known)
  const stale = known.config === undefined ? [] : staleLinks(known.config, links, addresses)
  return links.flatMap((link): OwnLink[] => {
    const family = FAMILIES.find(
      (each) => link.vxlan !== undefined && link.name === linkName(each, link.vxlan.vni),
    )
    if (family === undefined) return []
    const isOurs =
      names.includes(link.name) ||
      stale.some((each) => each.link.index === link.index) ||
      (known.config === undefined && hasAddressIn(known.networks, link, addresses))
    return isOurs ? [{ family, link }] : []
  })
}

/** Our devices have a single address of a subnet each. */
const hasAddressIn = (
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

/**
 * The routes of ours that lead past our devices: to peers on the same link, or nowhere.
 * @param routes of our protocol, of all links but our devices
 */
export const ownRoutes = (known: KnownNetwork, routes: readonly Route[]): Route[] =>
  routes.filter(({ destination: { address, length } }) =>
    networksOf(known).some(
      (network) =>
        familyOf(network.address) === familyOf(address) &&
        length >= network.length &&
        prefixContains(network, address),
    ),
  )

/** Asks for no rule at all, so that what there is of ours in either mode is too much. */
export const noFirewall = (links: readonly string[], scope: string | undefined): FirewallRequest => ({
  mode: 'iptables',
  networks: [],
  links,
  ipMasq: false,
  fullyRandom: false,
  forwardRules: false,
  docker: false,
  ...(scope !== undefined && { scope }),
})

/** Whether a lease names this host: by the MAC of a device that is there, or by an address it has. */
export function namesThisHost(
  lease: Lease,
  devices: readonly OwnLink[],
  addresses: readonly InterfaceAddress[],
): boolean {
  const hasMac = devices.some(({ family, link }) => leaseHalf(lease, family)?.vtep?.mac === link.mac)
  const { publicIp, publicIpv6 } = lease.value
  return (
    hasMac || addresses.some(({ address: { address } }) => address === publicIp || address === publicIpv6)
  )
}

/** An input of iptables-restore in words: what it takes away. */
export function describeIptablesInput(family: Family, input: string): string[] {
  const program = family === 'IPv4' ? 'iptables' : 'ip6tables'
  let table = ''
  return input.split('\n').flatMap((line) => {
    if (line.startsWith('*')) table = line.slice(1)
    const [, chain] = /^-X (\S+)$/.exec(line) ?? []
    if (chain !== undefined) return [`${program} chain ${chain} (table ${table})`]
    return line.startsWith('-D ') ? [`${program} rule ${line.slice(3)} (table ${table})`] : []
  })
}
