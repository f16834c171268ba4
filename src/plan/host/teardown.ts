/**
 * Decides which state of this host is ours to remove, from the state itself: the config that created it may
 * be gone.
 */
import {
  addressBits,
  FAMILIES,
  type Family,
  familyOf,
  type Prefix,
  prefixContains,
} from '../../model/address'
import { type NetworkConfig, subnetRanges } from '../../model/config/network-config'
import type { FirewallRequest } from '../../model/firewall'
import type { InterfaceAddress, ObservedLink } from '../../model/kernel/link'
import type { ProxyEntry } from '../../model/kernel/objects'
import type { Route } from '../../model/kernel/route'
import { familyLease, type Lease } from '../../model/lease'
import { wireguardVni } from '../encryption/encryption-plan'
import { linkName } from '../reconcile/desired'
import { hasAddressIn, staleLinks } from '../reconcile/stale-links'

/** What is known of the network that this host belongs, or belonged, to. */
export interface KnownNetwork {
  /** Config in etcd; undefined if etcd is unreachable or has none. */
  readonly config: NetworkConfig | undefined
  /** Networks in subnet.env. */
  readonly networks: readonly Prefix[]
  /** VNI to assume if neither is known; undefined if a guess might hit another network of this host. */
  readonly fallbackVni: number | undefined
}

export interface OwnLink {
  readonly family: Family
  readonly link: ObservedLink
}

/** All networks that this host has or had. */
export const networksOf = ({ config, networks }: KnownNetwork): readonly Prefix[] => [
  ...(config === undefined ? [] : subnetRanges(config).map(({ network }) => network)),
  ...networks,
]

/** Names of our devices, existing or not. */
export function deviceNames(known: KnownNetwork): string[] {
  const vni = known.config?.backend.vni ?? (known.networks.length === 0 ? known.fallbackVni : undefined)
  return vni === undefined ? [] : FAMILIES.map((family) => linkName(family, vni))
}

/**
 * The devices that are ours: those of the config, and those left from an earlier config. Without a config:
 * those with an address of the network in subnet.env. A link of another kind with one of our names is someone
 * else's.
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

/**
 * VNIs whose WireGuard devices and rules are ours: those of our devices, and of WireGuard devices with an
 * address of a network whose config is unknown.
 */
export function wireguardVnis(
  known: KnownNetwork,
  devices: readonly OwnLink[],
  links: readonly ObservedLink[],
  addresses: readonly InterfaceAddress[],
): number[] {
  const named = deviceNames(known).map((name) => Number(name.slice(name.indexOf('.') + 1)))
  const present = devices.flatMap(({ link }) => link.vxlan?.vni ?? [])
  const orphans = links
    .filter((link) => link.kind === 'wireguard' && known.config === undefined)
    .filter((link) => hasAddressIn(known.networks, link, addresses))
    .flatMap(({ name }) => wireguardVni(name) ?? [])
  return [...new Set([...named, ...present, ...orphans])]
}

/**
 * Our routes that do not use our devices: direct routes to peers and to what they announce, those to what
 * this host announces, and blackholes.
 * @param routes routes with our protocol number, on all links except our devices
 */
export const ownRoutes = (known: KnownNetwork, routes: readonly Route[]): Route[] =>
  routes.filter(({ destination }) => isOurs(known, destination))

/** Our proxy neighbours. @param proxies those with our protocol number */
export const ownProxies = (known: KnownNetwork, proxies: readonly ProxyEntry[]): ProxyEntry[] =>
  proxies.filter(({ address }) => isOurs(known, { address, length: addressBits(familyOf(address)) }))

const isOurs = (known: KnownNetwork, { address, length }: Prefix): boolean =>
  [...networksOf(known), ...(known.config?.prefixes ?? [])].some(
    (network) =>
      familyOf(network.address) === familyOf(address) &&
      length >= network.length &&
      prefixContains(network, address),
  )

/** A request without any rule, so that all of our rules in either mode are superfluous. */
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

/** Whether a lease names this host: by the MAC of an existing device, or by an address of this host. */
export function namesThisHost(
  lease: Lease,
  devices: readonly OwnLink[],
  addresses: readonly InterfaceAddress[],
): boolean {
  const hasMac = devices.some(({ family, link }) => familyLease(lease, family)?.vtep?.mac === link.mac)
  const { publicIp, publicIpv6 } = lease.value
  return (
    hasMac || addresses.some(({ address: { address } }) => address === publicIp || address === publicIpv6)
  )
}

/** The chains and rules that an input of iptables-restore removes, as text. */
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
