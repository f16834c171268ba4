/**
 * Chooses the interface and addresses for the VXLAN packets (flannel: pkg/ipmatch/match.go, pkg/ip/iface.go).
 */
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
} from '../../model/address'
import { ConfigError } from '../../model/config/network-config'
import { isOverlayError, OverlayError } from '../../model/errors'
import type { HostAddress, HostNetwork, ObservedLink } from '../../model/kernel/link'
import { isWireguardName } from '../encryption/encryption-plan'

export interface UnderlayOptions {
  /** Interface names or addresses, tried in order. */
  readonly iface: readonly string[]
  /** Patterns for addresses or, if no address matches, for names; tried in order after `iface`. */
  readonly ifaceRegex: readonly RegExp[]
  /** Tried last: the interface of the route to this address. */
  readonly ifaceCanReach: IpAddress | undefined
  readonly publicIp: Ipv4 | undefined
  readonly publicIpv6: Ipv6 | undefined
}

export interface UnderlayAddress<A extends IpAddress = IpAddress> {
  /**
   * Address that packets are sent from: one of the interface, or the public one if another interface of this
   * host has it.
   */
  readonly local: A
  /** Address that other hosts send to; differs from `local` behind NAT. */
  readonly public: A
}

/** The largest packet, in bytes, and the interface that limits it. */
export interface Room {
  readonly mtu: number
  /** Name of the interface. */
  readonly name: string
}

export interface Underlay {
  readonly link: ObservedLink
  /** Each is set exactly if its family was requested. */
  readonly ipv4: UnderlayAddress<Ipv4> | undefined
  readonly ipv6: UnderlayAddress<Ipv6> | undefined
  /** The interface that limits the packets, if it is not the one with the addresses. */
  readonly carrier?: Room | undefined
}

/** Whether two underlays send from, and announce, the same addresses. */
export const sameAddresses = (a: Underlay, b: Underlay): boolean =>
  samePair(a.ipv4, b.ipv4) && samePair(a.ipv6, b.ipv6)

const samePair = (a: UnderlayAddress | undefined, b: UnderlayAddress | undefined): boolean =>
  a?.local === b?.local && a?.public === b?.public

/** The families of the overlay; the underlay needs an address of each. */
export interface Families {
  readonly ipv4: boolean
  readonly ipv6: boolean
}

/** An interface that may be chosen. */
interface Candidate {
  readonly link: ObservedLink
  /** Addresses by which it was requested: they are preferred to its other ones. */
  readonly addresses: readonly IpAddress[]
}

/**
 * Chooses the underlay: the first usable interface of `iface`, then of `ifaceRegex`, then `ifaceCanReach`.
 * Without any of the three: the owner of the public address. Without that too: the interface with the
 * remembered address, and then the interface of the first default route. If the chosen interface has several
 * addresses and no option names one, the remembered one is used.
 * @throws {OverlayError} `no-underlay` naming what was looked for and what the host has
 */
export function chooseUnderlay(
  host: HostNetwork,
  options: UnderlayOptions,
  families: Families,
  remembered: RememberedUnderlay = {},
): Underlay {
  const failures: string[] = []
  for (const candidate of candidates(host, options, families, remembered)) {
    const result =
      typeof candidate === 'string' ? candidate : settle(host, candidate, options, families, remembered)
    if (typeof result !== 'string') return result
    failures.push(result)
  }
  throw noUnderlay(failures.join('; '), host)
}

/** The addresses from which this host has sent before. */
export interface RememberedUnderlay {
  readonly ipv4?: UnderlayAddress<Ipv4> | undefined
  readonly ipv6?: UnderlayAddress<Ipv6> | undefined
}

/**
 * The underlay of a host that lacks an address of one family at present. The other family continues. The
 * missing family keeps its former address, or gets one that leads nowhere (`100::/64`, the discard prefix of
 * RFC 6666), until there is an address. A lease of both families must name an address of each, because
 * flanneld reads `PublicIPv6` without checking that it exists. Hosts are identified by IPv4, so that address
 * must be known.
 * @returns `undefined` if neither family has an address, or the IPv4 address is unknown
 */
export function choosePartly(
  host: HostNetwork,
  options: UnderlayOptions,
  remembered: RememberedUnderlay,
): PartUnderlay | undefined {
  const { publicIp, publicIpv6 } = options
  // The announced address of the missing family must not decide about the other family's interface.
  const four = attempt(() =>
    chooseUnderlay(host, { ...options, publicIpv6: undefined }, { ipv4: true, ipv6: false }, remembered),
  )
  if (four?.ipv4 !== undefined) {
    const { ipv6: before } = remembered
    const isKnown = before !== undefined && !leadsNowhere(before.local)
    const ipv6 = announcedAs(isKnown ? before : nowhere(four.ipv4.public), publicIpv6)
    return { underlay: { ...four, ipv6 }, missing: 'IPv6' }
  }
  const known = remembered.ipv4 ?? (publicIp && { local: publicIp, public: publicIp })
  if (known === undefined) return undefined
  const six = attempt(() =>
    chooseUnderlay(host, { ...options, publicIp: undefined }, { ipv4: false, ipv6: true }, remembered),
  )
  return six && { underlay: { ...six, ipv4: announcedAs(known, publicIp) }, missing: 'IPv4' }
}

/** An underlay without an address of one family. */
export interface PartUnderlay {
  readonly underlay: Underlay
  readonly missing: Family
}

const announcedAs = <A extends IpAddress>(
  { local, public: before }: UnderlayAddress<A>,
  announced: A | undefined,
): UnderlayAddress<A> => ({ local, public: announced ?? before })

function attempt(choose: () => Underlay): Underlay | undefined {
  try {
    return choose()
  } catch (error) {
    if (isOverlayError(error) && error.code === 'no-underlay') return undefined
    throw error
  }
}

/** 100::/64 */
const DISCARD = 0x0100n << 112n

/** An address in the discard prefix that is different for each host. */
function nowhere(address: Ipv4): UnderlayAddress<Ipv6> {
  const local = (DISCARD | BigInt(address)) as Ipv6
  return { local, public: local }
}

/** Whether an address only stands for a missing one. */
export const leadsNowhere = (address: IpAddress): boolean =>
  typeof address === 'bigint' && address >> 64n === DISCARD >> 64n

/** Addresses, besides this host's own, that an overlay network must not cover. */
export interface Surroundings {
  /** Addresses of etcd that are known without DNS. */
  readonly etcd: readonly IpAddress[]
  /** Gateways of default routes. */
  readonly gateways: readonly IpAddress[]
}

/**
 * Refuses networks that cover an address the host needs on the underlay: peers' routes would cut it off.
 * @param networks networks of both families
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
      `choose a ${field} that contains no address of the underlay, ` +
        'or start with --allow-network-overlap if no host gets that subnet',
    )
  }
}

/** Candidates in order of preference, and texts why others are not usable. */
function* candidates(
  host: HostNetwork,
  options: UnderlayOptions,
  families: Families,
  remembered: RememberedUnderlay,
): Generator<Candidate | string> {
  const { iface, ifaceRegex, ifaceCanReach } = options
  const announced = options.publicIp ?? options.publicIpv6
  for (const wanted of iface) yield byNameOrAddress(host, wanted)
  for (const pattern of ifaceRegex) yield* byPattern(host, pattern, families)
  if (ifaceCanReach !== undefined) yield byReach(host, ifaceCanReach)
  if (iface.length > 0 || ifaceRegex.length > 0 || ifaceCanReach !== undefined) return
  if (announced !== undefined) {
    yield byPublicAddress(host, announced)
    return
  }
  const before = byMemory(host, families, remembered)
  if (before !== undefined) yield before
  yield byDefaultRoute(host, families)
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

/** Matches addresses before names. With both families, an address of each must match. */
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
  // The kernel routes to its own addresses over the loopback interface.
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

/** The interface that has the remembered addresses, whatever its name is now. */
function byMemory(
  host: HostNetwork,
  families: Families,
  { ipv4, ipv6 }: RememberedUnderlay,
): Candidate | undefined {
  const locals = [families.ipv4 ? ipv4?.local : undefined, families.ipv6 ? ipv6?.local : undefined].filter(
    (local) => local !== undefined,
  )
  return host.links
    .filter((link) => link.up && !isOverlayDevice(link))
    .map((link) => ({ link, addresses: usableAmong(host, link, locals) }))
    .find(({ addresses }) => addresses.length > 0)
}

/** Those of the addresses that the interface has and that can be announced to other hosts. */
function usableAmong(host: HostNetwork, link: ObservedLink, wanted: readonly IpAddress[]): IpAddress[] {
  const usable = usableAddresses(host, link)
  return wanted.filter((address) => usable.includes(address))
}

function byDefaultRoute(host: HostNetwork, families: Families): Candidate | string {
  const found: ObservedLink[] = []
  for (const family of familyNames(families)) {
    const route = host.defaultRoutes.find((each) => {
      const over = each.linkIndex === undefined ? undefined : findLink(host, each.linkIndex)
      return each.family === family && (over === undefined || !isOverlayDevice(over))
    })
    if (route === undefined) return `there is no ${family} default route that names an interface`
    const link = route.linkIndex === undefined ? undefined : findLink(host, route.linkIndex)
    if (link === undefined) return `the ${family} default route is multipath, so it names no interface`
    found.push(link)
  }
  const [link, other] = found
  if (link === undefined) return 'the network has neither IPv4 nor IPv6'
  if (other !== undefined && other.index !== link.index) {
    return `the IPv4 default route uses ${link.name}, the IPv6 one ${other.name}`
  }
  return { link, addresses: [] }
}

/** The addresses of a candidate; or a text why it is not usable. */
function settle(
  host: HostNetwork,
  candidate: Candidate,
  options: UnderlayOptions,
  families: Families,
  remembered: RememberedUnderlay,
): Underlay | string {
  const { link } = candidate
  // An overlay device does not lead out, even if another program put an address on it or a route over it.
  if (isOverlayDevice(link)) return `${link.name} is an overlay device`
  const before = [remembered.ipv4?.local, remembered.ipv6?.local].filter((local) => local !== undefined)
  candidate = { link, addresses: [...candidate.addresses, ...usableAmong(host, link, before)] }
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
  // If this host has the announced address, on whatever interface (for example on lo, with BGP to the host),
  // packets are sent from it.
  const local =
    announced !== undefined && owner(host, announced) !== undefined
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
 * The addresses of an interface that can be announced to other hosts, best first: in flannel's order, and
 * within it in the kernel's. An address still checked for duplicates (tentative) is better than none.
 */
function usableAddresses(host: HostNetwork, link: ObservedLink): IpAddress[] {
  return addressesOf(host, link)
    .filter(({ address, deprecated, duplicate }) => isUnicast(address.address) && !deprecated && !duplicate)
    .map((each) => ({ address: each.address.address, rank: rank(each) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ address }) => address)
}

/** Lower is better. An earlier fault in the list outweighs all later ones. */
function rank({ address, scope, tentative, permanent, temporary }: HostAddress): number {
  const faults = [isLinkLocal(address.address), scope === 'host', tentative, !permanent, temporary]
  return faults.reduce((bits, fault) => bits * 2 + Number(fault), 0)
}

/** 169.254.0.0/16 (RFC 3927). IPv6 link-local addresses need a zone and are never usable. */
const isLinkLocal = (address: IpAddress): boolean => typeof address === 'number' && address >>> 16 === 0xa9fe

/** Whether it is a device of an overlay, of this network or another, perhaps left by an earlier run. */
export const isOverlayDevice = ({ kind, name }: ObservedLink): boolean =>
  (kind === 'vxlan' && /^flannel(-v6)?\.\d+$/.test(name)) || (kind === 'wireguard' && isWireguardName(name))

const addressesOf = (host: HostNetwork, link: ObservedLink): HostAddress[] =>
  host.addresses.filter(({ linkIndex }) => linkIndex === link.index)

const findLink = (host: HostNetwork, index: number): ObservedLink | undefined =>
  host.links.find((link) => link.index === index)

function owner(host: HostNetwork, address: IpAddress): ObservedLink | undefined {
  const entries = host.addresses.filter((each) => each.address.address === address)
  const links = entries.flatMap(({ linkIndex }) => findLink(host, linkIndex) ?? [])
  return links.find((link) => !isOverlayDevice(link))
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
