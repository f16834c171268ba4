/**
 * The network config of a cluster: the JSON at `<prefix>/config` (flannel: pkg/subnet/config.go, Documentation/configuration.md),
 * read by Go's rules, completed with flannel's defaults and checked.
 */
import { z } from 'zod'
import {
  addressAfter,
  familyOf,
  formatIp,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  isNetwork,
  networkOf,
  type Prefix,
  parseIpv4,
  parseIpv4Prefix,
  parseIpv6,
  parseIpv6Prefix,
  prefixContains,
  prefixSize,
} from './address'
import { describeError, OverlayError } from './errors'
import { firstIssue, foldGoObject, goField, parseGoObject } from './go-json'

/** The vxlan backend's settings; `undefined` means that the operator left it to the kernel or the underlay. */
export interface VxlanBackend {
  /** 0 to 16777215 (24 bits, RFC 7348); flannel's default is 1. */
  readonly vni: number
  /** UDP port; `undefined` is the kernel's own default, 8472 (drivers/net/vxlan). */
  readonly port: number | undefined
  /** Size of the outer packet in bytes; `undefined` is the underlay interface's MTU. */
  readonly mtu: number | undefined
  readonly gbp: boolean
  readonly learning: boolean
  readonly directRouting: boolean
  /** VNI by which hosts exchange their containers' multicast; `undefined` when they do not. */
  readonly multicast: number | undefined
  /** Packets that the containers of one host may send to others so in a second; `undefined` without a limit. */
  readonly multicastLimit: number | undefined
}

/** What one family's subnets are taken from. */
export interface SubnetRange<Address extends IpAddress = IpAddress> {
  readonly network: Prefix<Address>
  /** Prefix length of each host's subnet. */
  readonly subnetLength: number
  /** First and last subnet that may be leased, both included, both multiples of the subnet size. */
  readonly subnetMin: Address
  readonly subnetMax: Address
}

/** A checked network config. At least one family is there. */
export interface NetworkConfig {
  readonly ipv4: SubnetRange<Ipv4> | undefined
  readonly ipv6: SubnetRange<Ipv6> | undefined
  /** Whether rules of the firewall are kept with nft instead of iptables. */
  readonly nftables: boolean
  readonly backend: VxlanBackend
}

/** The ranges of the families that the config has. */
export const subnetRanges = ({ ipv4, ipv6 }: NetworkConfig): SubnetRange[] =>
  [ipv4, ipv6].filter((range) => range !== undefined)

/** The networks of a config in words: `10.5.0.0/16 and fd00:5::/48`. */
export const formatNetworks = (config: NetworkConfig): string =>
  subnetRanges(config)
    .map(({ network }) => formatPrefix(network))
    .join(' and ')

/** The config cannot be used; the message says why, the fix what to write instead. */
export class ConfigError extends OverlayError {
  constructor(message: string, fix: string) {
    super('config-invalid', message, fix)
  }
}

const CONFIG_FIELDS = [
  'EnableIPv4',
  'EnableIPv6',
  'EnableNFTables',
  'Network',
  'SubnetLen',
  'SubnetMin',
  'SubnetMax',
  'IPv6Network',
  'IPv6SubnetLen',
  'IPv6SubnetMin',
  'IPv6SubnetMax',
  'Backend',
] as const

/** The last three are ours: flannel passes over what it does not know. */
const BACKEND_FIELDS = [
  'Type',
  'VNI',
  'Port',
  'MTU',
  'GBP',
  'Learning',
  'DirectRouting',
  'Multicast',
  'MulticastVNI',
  'MulticastLimit',
] as const

/** Text that a parser must accept. */
const parsed = <T>(parse: (text: string) => T | undefined, wanted: string) =>
  z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: `"${text}" is not ${wanted}` })
    return z.NEVER
  })

/** Host bits are masked away, as in flannel. */
const maskedNetwork =
  <Address extends IpAddress>(parse: (text: string) => Prefix<Address> | undefined) =>
  (text: string): Prefix<Address> | undefined => {
    const prefix = parse(text)
    return prefix && networkOf(prefix.address, prefix.length)
  }

const configSchema = z.object({
  EnableIPv4: goField(z.boolean()),
  EnableIPv6: goField(z.boolean()),
  EnableNFTables: goField(z.boolean()),
  Network: goField(parsed(maskedNetwork(parseIpv4Prefix), 'an IPv4 network such as 10.5.0.0/16')),
  SubnetLen: goField(z.int().min(0)),
  SubnetMin: goField(parsed(parseIpv4, 'an IPv4 address')),
  SubnetMax: goField(parsed(parseIpv4, 'an IPv4 address')),
  IPv6Network: goField(parsed(maskedNetwork(parseIpv6Prefix), 'an IPv6 network such as fd00:5::/48')),
  IPv6SubnetLen: goField(z.int().min(0)),
  IPv6SubnetMin: goField(parsed(parseIpv6, 'an IPv6 address')),
  IPv6SubnetMax: goField(parsed(parseIpv6, 'an IPv6 address')),
  Backend: z.unknown().optional(),
})

/** Packets in a second: one for each microsecond, which is more than a processor copies. */
const HIGHEST_MULTICAST_LIMIT = 1_000_000

/** Smallest outer packet: 68 bytes of IPv4 (RFC 791) and 50 of encapsulation. */
const SMALLEST_OUTER_MTU = 118

const backendSchema = z.object({
  Type: goField(z.string()),
  VNI: goField(z.int().min(0).max(0xffffff)),
  Port: goField(z.int().min(0).max(0xffff)),
  MTU: goField(z.int().min(SMALLEST_OUTER_MTU).max(0xffff)),
  GBP: goField(z.boolean()),
  Learning: goField(z.boolean()),
  DirectRouting: goField(z.boolean()),
  Multicast: goField(z.boolean()),
  MulticastVNI: goField(z.int().min(1).max(0xffffff)),
  MulticastLimit: goField(z.int().min(1).max(HIGHEST_MULTICAST_LIMIT)),
})

const EXAMPLE = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'

/**
 * Reads and checks the config's JSON text.
 * @throws {ConfigError} with the first thing that is wrong and how to mend it
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  const fields = readObject(() => parseGoObject(text, CONFIG_FIELDS), 'the network config')
  const config = check(configSchema.safeParse(fields), 'the network config')
  const wantsIpv4 = config.EnableIPv4 ?? true
  const wantsIpv6 = config.EnableIPv6 ?? false
  if (!wantsIpv4 && !wantsIpv6) {
    throw new ConfigError(
      'EnableIPv4 is false and EnableIPv6 is not true, so no family is left',
      'enable one',
    )
  }
  return {
    ipv4: wantsIpv4
      ? subnetRange(IPV4_FIELDS, config.Network, config.SubnetLen, config.SubnetMin, config.SubnetMax)
      : undefined,
    ipv6: wantsIpv6
      ? subnetRange(
          IPV6_FIELDS,
          config.IPv6Network,
          config.IPv6SubnetLen,
          config.IPv6SubnetMin,
          config.IPv6SubnetMax,
        )
      : undefined,
    nftables: config.EnableNFTables ?? false,
    backend: parseBackend(config.Backend),
  }
}

function parseBackend(raw: unknown): VxlanBackend {
  if (raw === undefined || raw === null) {
    throw new ConfigError(
      'Backend is missing, which means the udp backend in flannel, and only vxlan is supported',
      `write it as in ${EXAMPLE}`,
    )
  }
  const fields = readObject(() => foldGoObject(raw, BACKEND_FIELDS), 'Backend')
  const type = fields.Type
  if (typeof type !== 'string' || type.toLowerCase() !== 'vxlan') {
    throw new ConfigError(
      `Backend.Type is ${JSON.stringify(type ?? '')}, and only vxlan is supported`,
      `write it as in ${EXAMPLE}`,
    )
  }
  const backend = check(backendSchema.safeParse(fields), 'Backend')
  const vni = backend.VNI ?? 1
  return {
    vni,
    port: backend.Port === 0 ? undefined : backend.Port,
    mtu: backend.MTU,
    gbp: backend.GBP ?? false,
    learning: backend.Learning ?? false,
    directRouting: backend.DirectRouting ?? false,
    multicast: backend.Multicast ? multicastVni(vni, backend.MulticastVNI) : undefined,
    multicastLimit: backend.Multicast ? backend.MulticastLimit : undefined,
  }
}

/**
 * Unless another is asked for it is the network's own VNI with its highest bit turned over: one for each network, and far from
 * those that people number their networks with.
 */
function multicastVni(vni: number, wanted: number | undefined): number {
  const chosen = wanted ?? vni ^ 0x800000
  // Only of VNI 8388608: 0 would be no VNI that a host could announce.
  if (chosen === 0) {
    throw new ConfigError(
      `Backend.VNI ${vni} leaves no VNI for multicast to be chosen by itself`,
      'set Backend.MulticastVNI',
    )
  }
  if (chosen !== vni) return chosen
  throw new ConfigError(
    `Backend.MulticastVNI is ${vni}, and so is Backend.VNI: multicast needs one of its own`,
    'set another, or leave it out',
  )
}

/** How one family's fields are called, and what flannel bounds and completes them with. */
interface FieldNames {
  readonly network: string
  readonly length: string
  readonly min: string
  readonly max: string
  /** A subnet needs two addresses at least. */
  readonly longest: number
  readonly usual: number
  readonly example: string
}

const IPV4_FIELDS: FieldNames = {
  network: 'Network',
  length: 'SubnetLen',
  min: 'SubnetMin',
  max: 'SubnetMax',
  longest: 30,
  usual: 24,
  example: EXAMPLE,
}

const IPV6_FIELDS: FieldNames = {
  network: 'IPv6Network',
  length: 'IPv6SubnetLen',
  min: 'IPv6SubnetMin',
  max: 'IPv6SubnetMax',
  longest: 126,
  usual: 64,
  example: '{"EnableIPv6":true,"IPv6Network":"fd00:5::/48", ...}',
}

/** Defaults and checks of flannel's CheckNetworkConfig, in its order. */
function subnetRange<Address extends IpAddress>(
  names: FieldNames,
  network: Prefix<Address> | undefined,
  length: number | undefined,
  min: Address | undefined,
  max: Address | undefined,
): SubnetRange<Address> {
  if (network === undefined) {
    throw new ConfigError(`${names.network} is missing`, `write it as in ${names.example}`)
  }
  const family = familyOf(network.address)
  const subnetLength = chooseSubnetLength(names, network, length ?? 0)
  const size = prefixSize(family, subnetLength)
  // The null address is Go's zero value: the same as absent.
  const subnetMin = min || addressAfter(network.address, size)
  const subnetMax = max || addressAfter(network.address, prefixSize(family, network.length) - size)
  checkBound(names.min, subnetMin, names.network, network, subnetLength)
  checkBound(names.max, subnetMax, names.network, network, subnetLength)
  if (subnetMin > subnetMax) {
    throw new ConfigError(
      `${names.min} ${formatIp(subnetMin)} is above ${names.max} ${formatIp(subnetMax)}, so no subnet is left`,
      'exchange the two',
    )
  }
  return { network, subnetLength, subnetMin, subnetMax }
}

function checkBound(
  name: string,
  bound: IpAddress,
  networkName: string,
  network: Prefix,
  length: number,
): void {
  if (!prefixContains(network, bound)) {
    throw new ConfigError(
      `${name} ${formatIp(bound)} is outside ${networkName} ${formatPrefix(network)}`,
      `choose an address inside ${networkName}, or remove ${name}`,
    )
  }
  if (!isNetwork({ address: bound, length })) {
    throw new ConfigError(
      `${name} ${formatIp(bound)} is not the first address of a /${length}`,
      `write ${formatIp(networkOf(bound, length).address)}`,
    )
  }
}

function chooseSubnetLength(names: FieldNames, network: Prefix, wanted: number): number {
  const shortest = network.length + 2
  if (wanted === 0) {
    if (shortest > names.longest) {
      throw new ConfigError(
        `${names.network} ${formatPrefix(network)} is too small: it must hold at least four subnets of /${names.longest}`,
        `use a /${names.longest - 2} or larger`,
      )
    }
    return Math.max(shortest, names.usual)
  }
  if (wanted > names.longest) {
    throw new ConfigError(
      `${names.length} ${wanted} is too long: a subnet of a host needs at least two addresses`,
      `use ${names.longest} or less`,
    )
  }
  if (wanted < shortest) {
    throw new ConfigError(
      `${names.length} ${wanted} is too short: ${names.network} ${formatPrefix(network)} must hold at least four subnets`,
      `use ${shortest} or more`,
    )
  }
  return wanted
}

function readObject<T>(read: () => T, what: string): T {
  try {
    return read()
  } catch (error) {
    throw new ConfigError(`${what} cannot be read: ${describeError(error)}`, `write it as in ${EXAMPLE}`)
  }
}

function check<T>(result: z.ZodSafeParseResult<T>, what: string): T {
  if (result.success) return result.data
  throw new ConfigError(`${what} is not valid: ${firstIssue(result.error)}`, 'correct that field')
}
