/** Which interface carries the VXLAN packets, and under which addresses (flannel: pkg/ipmatch/match.go, pkg/ip/iface.go). */
import {
  type Family,
  familyOf,
  formatIp,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  isUnicast,
  type Prefix,
  parseIp,
  prefixContains,
} from '../model/address'
import { OverlayError } from '../model/errors'
import type { HostAddress, HostNetwork, ObservedLink } from '../model/kernel'
import { ConfigError } from '../model/network-config'

export interface UnderlayOptions {
  /** Interface names or addresses, tried in order. */
  readonly iface: readonly string[]
  /** Patterns of addresses or, where none matches, of names; tried in order after `iface`. */
  readonly ifaceRegex: readonly RegExp[]
  /** Tried last of the three: the interface of the route to it. */
  readonly ifaceCanReach: IpAddress | undefined
  readonly publicIp: Ipv4 | undefined
  readonly publicIpv6: Ipv6 | undefined
}

export interface UnderlayAddress<A extends IpAddress = IpAddress> {
  /** The address packets are sent from: always one the interface has. */
  readonly local: A
  /** The address the other hosts send to; differs from `local` behind NAT. */
  readonly public: A
}

export interface Underlay {
  readonly link: ObservedLink
  /** Each is there exactly when its family was asked for. */
  readonly ipv4: UnderlayAddress<Ipv4> | undefined
  readonly ipv6: UnderlayAddress<Ipv6> | undefined
}

/** The families of the overlay; the underlay needs an address of each. */
export interface Families {
  readonly ipv4: boolean
  readonly ipv6: boolean
}

/** An interface that may be taken. */
interface Candidate {
  readonly link: ObservedLink
  /** Addresses by which it was asked for: they come before all others of it. */
  readonly addresses: readonly IpAddress[]
}

/**
 * Chooses the underlay: the first usable one of `iface`, then of `ifaceRegex`, then `ifaceCanReach`; without any of the three the owner of
 * the public address, and without that too the interface of the first default route.
 * @throws {OverlayError} `no-underlay` naming what was looked for and what the host has
 */
export function chooseUnderlay(host: HostNetwork, options: UnderlayOptions, families: Families): Underlay {
  const failures: string[] = []
  for (const candidate of candidates(host, options, families)) {
    const result = typeof candidate === 'string' ? candidate : settle(host, candidate, options, families)
    if (typeof result !== 'string') return result
    failures.push(result)
  }
  throw noUnderlay(failures.join('; '), host)
}

/** What an overlay network must not cover, besides this host's own addresses. */
export interface Surroundings {
  /** Addresses of etcd, as far as they are known without DNS. */
  readonly etcd: readonly IpAddress[]
  /** Gateways of default routes. */
  readonly gateways: readonly IpAddress[]
}

/**
 * Refuses networks that cover an address the host needs on the underlay: routes of peers would then cut it off.
 * @param networks of either family
 * @throws {ConfigError}
 */
export function checkUnderlayOutside(
  networks: readonly Prefix[],
  { link, ipv4, ipv6 }: Underlay,
  { etcd, gateways }: Surroundings,
): void {
  const needed: (readonly [IpAddress | undefined, string])[] = [
    ...[ipv4, ipv6].flatMap((pair): [IpAddress | undefined, string][] => [
      [pair?.local, `this host's own address on ${link.name}`],
      [pair?.public, 'the address this host announces to the others'],
    ]),
    ...etcd.map((address): [IpAddress, string] => [address, 'the address of etcd']),
    ...gateways.map((address): [IpAddress, string] => [address, 'the gateway of the default route']),
  ]
  for (const network of networks) {
    const found = needed.find(([address]) => address !== undefined && prefixContains(network, address))
    if (found?.[0] === undefined) continue
    const field = familyOf(network.address) === 'IPv4' ? 'Network' : 'IPv6Network'
    throw new ConfigError(
      `${field} ${formatPrefix(network)} contains ${formatIp(found[0])}, ${found[1]}`,
      `choose a ${field} that no address of the underlay lies in, or start with --allow-network-overlap if no host gets that subnet`,
    )
  }
}

/** Candidates in the order of preference, and why others are none. */
function* candidates(
  host: HostNetwork,
  options: UnderlayOptions,
  families: Families,
): Generator<Candidate | string> {
  const { iface, ifaceRegex, ifaceCanReach } = options
  const announced = options.publicIp ?? options.publicIpv6
  for (const wanted of iface) yield byNameOrAddress(host, wanted)
  for (const pattern of ifaceRegex) yield* byPattern(host, pattern, families)
  if (ifaceCanReach !== undefined) yield byReach(host, ifaceCanReach)
  if (iface.length > 0 || ifaceRegex.length > 0 || ifaceCanReach !== undefined) return
  yield announced === undefined ? byDefaultRoute(host, families) : byPublicAddress(host, announced)
}

function byNameOrAddress(host: HostNetwork, wanted: string): Candidate | string {
  const address = parseIp(wanted)
  if (address === undefined) {
    const link = host.links.find((each) => each.name === wanted)
    return link === undefined ? `there is no interface ${wanted}` : { link, addresses: [] }
  }
  const link = owner(host, address)
  return link === undefined ? `no interface has the address ${wanted}` : { link, addresses: [address] }
}

/** Addresses come before names. With both families an address of each must match. */
function* byPattern(
  host: HostNetwork,
  pattern: RegExp,
  families: Families,
): Generator<Candidate | string, void> {
  const links = host.links.filter((link) => !isOverlayDevice(link))
  const wanted = familyNames(families)
  let found = false
  for (const link of links) {
    const matching = usableAddresses(host, link).filter((address) => pattern.test(formatIp(address)))
    const addresses = wanted.flatMap((family) => matching.find((each) => familyOf(each) === family) ?? [])
    if (addresses.length < wanted.length) continue
    found = true
    yield { link, addresses }
  }
  for (const link of links.filter(({ name }) => pattern.test(name))) {
    found = true
    yield { link, addresses: [] }
  }
  if (!found) yield `no address and no interface matches the pattern ${pattern.source}`
}

function byReach(host: HostNetwork, destination: IpAddress): Candidate | string {
  const own = owner(host, destination)
  // To its own address the kernel leads over the loopback interface.
  if (own !== undefined) return { link: own, addresses: [destination] }
  const { reach } = host
  const link = reach === undefined ? undefined : findLink(host, reach.linkIndex)
  if (link === undefined) return `no route leads to ${formatIp(destination)}`
  return { link, addresses: reach?.source === undefined ? [] : [reach.source] }
}

function byPublicAddress(host: HostNetwork, address: IpAddress): Candidate | string {
  const link = owner(host, address)
  if (link !== undefined) return { link, addresses: [address] }
  const flag = familyOf(address) === 'IPv4' ? 'public-ip' : 'public-ipv6'
  return `${flag} ${formatIp(address)} is not an address of this host (behind NAT, give iface as well)`
}

function byDefaultRoute(host: HostNetwork, families: Families): Candidate | string {
  const found: ObservedLink[] = []
  for (const family of familyNames(families)) {
    const route = host.defaultRoutes.find((each) => each.family === family)
    if (route === undefined) return `there is no ${family} default route that names an interface`
    const link = route.linkIndex === undefined ? undefined : findLink(host, route.linkIndex)
    if (link === undefined) return `the ${family} default route is multipath, so it names no interface`
    found.push(link)
  }
  const [link, other] = found
  if (link === undefined) return 'the network has neither IPv4 nor IPv6'
  if (other !== undefined && other.index !== link.index) {
    return `the IPv4 default route leads over ${link.name}, that of IPv6 over ${other.name}`
  }
  return { link, addresses: [] }
}

/** The addresses of a candidate, or why it is not usable. */
function settle(
  host: HostNetwork,
  candidate: Candidate,
  options: UnderlayOptions,
  families: Families,
): Underlay | string {
  const { link } = candidate
  if (link.mtu === 0) return `interface ${link.name} has MTU 0`
  const ipv4 = families.ipv4 ? pair(host, candidate, options.publicIp, isIpv4) : undefined
  const ipv6 = families.ipv6 ? pair(host, candidate, options.publicIpv6, isIpv6) : undefined
  if (families.ipv4 && ipv4 === undefined) return `interface ${link.name} has no usable IPv4 address`
  if (families.ipv6 && ipv6 === undefined) return `interface ${link.name} has no usable IPv6 address`
  return { link, ipv4, ipv6 }
}

function pair<A extends IpAddress>(
  host: HostNetwork,
  { link, addresses }: Candidate,
  announced: A | undefined,
  isOne: (address: IpAddress) => address is A,
): UnderlayAddress<A> | undefined {
  const own = addressesOf(host, link).map(({ address }) => address.address)
  const local =
    announced !== undefined && own.includes(announced)
      ? announced
      : [...addresses.filter(isUnicast), ...usableAddresses(host, link)].find(isOne)
  return local === undefined ? undefined : { local, public: announced ?? local }
}

const isIpv4 = (address: IpAddress): address is Ipv4 => typeof address === 'number'
const isIpv6 = (address: IpAddress): address is Ipv6 => typeof address === 'bigint'

const familyNames = ({ ipv4, ipv6 }: Families): Family[] => [
  ...(ipv4 ? (['IPv4'] as const) : []),
  ...(ipv6 ? (['IPv6'] as const) : []),
]

/**
 * The addresses of an interface that other hosts can be told of, the best first: flannel's order, and behind that the kernel's.
 * An address of which it is still being looked at whether another host has it is better than none.
 */
function usableAddresses(host: HostNetwork, link: ObservedLink): IpAddress[] {
  return addressesOf(host, link)
    .filter(({ address, deprecated, duplicate }) => isUnicast(address.address) && !deprecated && !duplicate)
    .map((each) => ({ address: each.address.address, rank: rank(each) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ address }) => address)
}

/** Lower is better; what is named first weighs more than all that follows. */
function rank({ address, scope, tentative, permanent, temporary }: HostAddress): number {
  const faults = [isLinkLocal(address.address), scope === 'host', tentative, !permanent, temporary]
  return faults.reduce((bits, fault) => bits * 2 + Number(fault), 0)
}

/** 169.254.0.0/16 (RFC 3927). Those of IPv6 are of no use without a zone, and so not usable at all. */
const isLinkLocal = (address: IpAddress): boolean => typeof address === 'number' && address >>> 16 === 0xa9fe

/** Ours or another network's, of an earlier run: its addresses are inside the overlay. */
const isOverlayDevice = ({ kind, name }: ObservedLink): boolean =>
  kind === 'vxlan' && /^flannel(-v6)?\.\d+$/.test(name)

const addressesOf = (host: HostNetwork, link: ObservedLink): HostAddress[] =>
  host.addresses.filter(({ linkIndex }) => linkIndex === link.index)

const findLink = (host: HostNetwork, index: number): ObservedLink | undefined =>
  host.links.find((link) => link.index === index)

function owner(host: HostNetwork, address: IpAddress): ObservedLink | undefined {
  const entry = host.addresses.find((each) => each.address.address === address)
  return entry === undefined ? undefined : findLink(host, entry.linkIndex)
}

function noUnderlay(reason: string, host: HostNetwork): OverlayError {
  const have = host.links
    .map((link) => {
      const addresses = addressesOf(host, link).map((each) => formatIp(each.address.address))
      return `${link.name} (${addresses.join(', ') || 'no address'})`
    })
    .join(', ')
  return new OverlayError(
    'no-underlay',
    `no underlay interface: ${reason}`,
    `choose one with --iface; this host has ${have}`,
  )
}
