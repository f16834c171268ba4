/** Which interface carries the VXLAN packets, and under which address (flannel: pkg/ipmatch/match.go). */
import {
  formatIp,
  formatIpv4,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  isUnicast,
  parseIpv4,
  prefixContains,
} from '../model/address'
import { OverlayError } from '../model/errors'
import type { HostNetwork, ObservedLink } from '../model/kernel'
import { ConfigError, type NetworkConfig } from '../model/network-config'

export interface UnderlayOptions {
  /** Interface names or addresses, tried in order. */
  readonly iface: readonly string[]
  readonly publicIp: Ipv4 | undefined
}

/** The underlay's address of one family. */
export interface UnderlayAddress<Address extends IpAddress = IpAddress> {
  /** The address packets are sent from: always one the host has. */
  readonly local: Address
  /** The address the other hosts send to; differs from `local` behind NAT. */
  readonly public: Address
}

export interface Underlay {
  readonly link: ObservedLink
  readonly ipv4: UnderlayAddress<Ipv4> | undefined
  readonly ipv6: UnderlayAddress<Ipv6> | undefined
}

/**
 * Chooses the underlay: the first usable `iface`, else the owner of `publicIp`, else the interface of the first default route.
 * @throws {OverlayError} `no-underlay` naming what was looked for and what the host has
 */
export function chooseUnderlay(host: HostNetwork, options: UnderlayOptions): Underlay {
  const found = findInterface(host, options)
  if (found.link.mtu === 0) throw noUnderlay(`interface ${found.link.name} has MTU 0`, host)
  const local =
    options.publicIp !== undefined && owner(host, options.publicIp)?.index === found.link.index
      ? options.publicIp
      : found.address
  return { link: found.link, ipv4: { local, public: options.publicIp ?? local }, ipv6: undefined }
}

/**
 * Refuses a network that covers the address the underlay uses: routes of peers would then cut the host off.
 * @throws {ConfigError}
 */
export function checkUnderlayOutside(config: NetworkConfig, underlay: Underlay): void {
  for (const address of [underlay.ipv4?.local, underlay.ipv4?.public]) {
    const network = config.ipv4?.network
    if (address === undefined || network === undefined || !prefixContains(network, address)) continue
    throw new ConfigError(
      `Network ${formatPrefix(network)} contains ${formatIpv4(address)}, this host's own address on ${underlay.link.name}`,
      'choose a Network that no host address lies in',
    )
  }
}

interface Found {
  readonly link: ObservedLink
  readonly address: Ipv4
}

function findInterface(host: HostNetwork, options: UnderlayOptions): Found {
  if (options.iface.length > 0) {
    const failures: string[] = []
    for (const wanted of options.iface) {
      const result = byNameOrAddress(host, wanted)
      if (typeof result !== 'string') return result
      failures.push(result)
    }
    throw noUnderlay(failures.join('; '), host)
  }
  if (options.publicIp !== undefined) {
    const link = owner(host, options.publicIp)
    if (link !== undefined) return { link, address: options.publicIp }
    throw noUnderlay(
      `public-ip ${formatIpv4(options.publicIp)} is not an address of this host (behind NAT, give iface as well)`,
      host,
    )
  }
  const index = host.defaultRoutes[0]?.linkIndex
  const link = host.links.find((each) => each.index === index)
  if (link === undefined) {
    const why =
      host.defaultRoutes.length === 0 ? 'there is no default route' : 'the default route is multipath'
    throw noUnderlay(`${why}, so no interface can be derived from it`, host)
  }
  const address = firstAddress(host, link)
  if (address === undefined) throw noUnderlay(`interface ${link.name} has no IPv4 address`, host)
  return { link, address }
}

/** The interface, or why it is not usable. */
function byNameOrAddress(host: HostNetwork, wanted: string): Found | string {
  const address = parseIpv4(wanted)
  if (address !== undefined) {
    const link = owner(host, address)
    return link === undefined ? `no interface has the address ${wanted}` : { link, address }
  }
  const link = host.links.find((each) => each.name === wanted)
  if (link === undefined) return `there is no interface ${wanted}`
  const first = firstAddress(host, link)
  return first === undefined ? `interface ${wanted} has no IPv4 address` : { link, address: first }
}

function owner(host: HostNetwork, address: Ipv4): ObservedLink | undefined {
  const entry = host.addresses.find((each) => each.address.address === address)
  return host.links.find((link) => link.index === entry?.linkIndex)
}

/** Global scope before link scope, else the kernel's order. */
function firstAddress(host: HostNetwork, link: ObservedLink): Ipv4 | undefined {
  const usable = host.addresses.filter(
    (each) => each.linkIndex === link.index && isUnicast(each.address.address),
  )
  const best = usable.find((each) => each.scope === 'global') ?? usable.find((each) => each.scope === 'link')
  return best?.address.address as Ipv4 | undefined
}

function noUnderlay(reason: string, host: HostNetwork): OverlayError {
  const have = host.links
    .map((link) => {
      const addresses = host.addresses
        .filter((each) => each.linkIndex === link.index)
        .map((each) => formatIp(each.address.address))
      return `${link.name} (${addresses.join(', ') || 'no IPv4 address'})`
    })
    .join(', ')
  return new OverlayError(
    'no-underlay',
    `no underlay interface: ${reason}`,
    `choose one with --iface; this host has ${have}`,
  )
}
