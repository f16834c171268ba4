/**
 * The network config of a cluster: the JSON at `<prefix>/config` (flannel: pkg/subnet/config.go,
 * Documentation/configuration.md). It is read by Go's rules, completed with flannel's defaults, and checked.
 */
import type { z } from 'zod'
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
  parseIpv6,
  prefixContains,
  prefixesOverlap,
  prefixSize,
  samePrefix,
} from '../address'
import { describeError, OverlayError } from '../errors'
import { ofFamily } from '../family'
import { firstIssue, foldGoObject, foldName, parseGoObject } from '../go-json'
import { type Member, membersOf, placeIn } from '../json-text'
import { KERNEL_VXLAN_PORT } from '../kernel/link'
import { nearest } from '../nearest'
import { BACKEND_FIELDS, CONFIG_FIELDS, type GoType, namesOf, schemaOf } from './fields'
import { objectionTo } from './prefix-allowance'

/** Settings of the vxlan backend. `undefined` leaves a setting to the kernel or to the underlay. */
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
  /** VNI for multicast between the containers of different hosts; `undefined` if multicast is off. */
  readonly multicast: number | undefined
  /**
   * Most multicast packets per second that the containers of one host may send to others; `undefined`: no
   * limit.
   */
  readonly multicastLimit: number | undefined
  /** `undefined` if packets between hosts go in clear. */
  readonly encryption: Encryption | undefined
}

/** Encryption between hosts. */
export interface Encryption {
  /**
   * `prefer`: a host sends in clear to hosts that cannot decrypt. `required`: no packet leaves or enters a
   * host in clear.
   */
  readonly mode: 'prefer' | 'required'
  /** The first of two UDP ports in a row. */
  readonly port: number
}

/** The range that one family's subnets are taken from. */
export interface SubnetRange<Address extends IpAddress = IpAddress> {
  readonly network: Prefix<Address>
  /** Prefix length of each host's subnet. */
  readonly subnetLength: number
  /** First and last subnet that may be leased, inclusive; both are multiples of the subnet size. */
  readonly subnetMin: Address
  readonly subnetMax: Address
}

/** A checked network config. At least one family is set. */
export interface NetworkConfig {
  readonly ipv4: SubnetRange<Ipv4> | undefined
  readonly ipv6: SubnetRange<Ipv6> | undefined
  /** Whether the firewall rules are kept with nft instead of iptables. */
  readonly nftables: boolean
  readonly backend: VxlanBackend
  /** Ranges in which hosts may announce prefixes besides their subnets; absent for none. */
  readonly prefixes?: readonly Prefix[]
}

/** The ranges of the families in the config. */
export const subnetRanges = ({ ipv4, ipv6 }: NetworkConfig): SubnetRange[] =>
  [ipv4, ipv6].filter((range) => range !== undefined)

/** The networks of a config as text: `10.5.0.0/16 and fd00:5::/48`. */
export const formatNetworks = (config: NetworkConfig): string =>
  subnetRanges(config)
    .map(({ network }) => formatPrefix(network))
    .join(' and ')

/** The config cannot be used. The message says why, `fix` says what to write instead. */
export class ConfigError extends OverlayError {
  constructor(message: string, fix: string) {
    super('config-invalid', message, fix)
  }
}

const CONFIG_NAMES = namesOf(CONFIG_FIELDS)
const BACKEND_NAMES = namesOf(BACKEND_FIELDS)
const configSchema = schemaOf(CONFIG_FIELDS)
const backendSchema = schemaOf(BACKEND_FIELDS)

/** Most characters of a config's text. A config with all fields has 600. */
const LONGEST_TEXT = 65_536

const EXAMPLE = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'

/**
 * Reads and checks the config's JSON text.
 * @throws {ConfigError} with the first thing that is wrong and how to correct it
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  if (text.length > LONGEST_TEXT) {
    throw new ConfigError(
      `the network config has ${text.length} characters; at most ${LONGEST_TEXT} are read`,
      `write it as in ${EXAMPLE}`,
    )
  }
  const fields = readObject(() => parseGoObject(text, CONFIG_NAMES), 'the network config')
  const members = membersOf(text) ?? []
  checkAsGo(text, members, CONFIG_TYPES, '')
  for (const { text: backend, at } of members.filter(({ name }) => foldName(name) === 'backend'))
    checkAsGo(text, membersOf(backend) ?? [], BACKEND_TYPES, 'Backend.', at)
  const config = check(configSchema.safeParse(fields), 'the network config')
  const wantsIpv4 = config.EnableIPv4 ?? true
  const wantsIpv6 = config.EnableIPv6 ?? false
  if (!wantsIpv4 && !wantsIpv6) {
    throw new ConfigError(
      'EnableIPv4 is false and EnableIPv6 is not true, so no family is left',
      'enable one',
    )
  }
  const ranges = {
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
  }
  const prefixes = allowedPrefixes(config.Prefixes?.Allowed ?? [], ranges)
  return {
    ...ranges,
    ...(prefixes.length > 0 && { prefixes }),
    nftables: config.EnableNFTables ?? false,
    backend: parseBackend(config.Backend),
  }
}

/** Checks the ranges of announced prefixes. */
function allowedPrefixes(
  allowed: readonly Prefix[],
  config: Pick<NetworkConfig, 'ipv4' | 'ipv6'>,
): readonly Prefix[] {
  for (const range of allowed) {
    checkUsable('Prefixes.Allowed', range)
    const objection = objectionTo(range, ofFamily(config, familyOf(range.address)))
    if (objection !== undefined) throw new ConfigError(`Prefixes.Allowed: ${objection.reason}`, objection.fix)
  }
  return allowed
}

/** Folded name of a field -> how Go reads its value. */
const goTypes = (fields: Readonly<Record<string, { readonly go?: GoType }>>): ReadonlyMap<string, GoType> =>
  new Map(Object.entries(fields).map(([name, { go = 'other' }]) => [foldName(name), go]))

const CONFIG_TYPES = goTypes(CONFIG_FIELDS)
const BACKEND_TYPES = goTypes(BACKEND_FIELDS)

/**
 * Refuses values that flanneld refuses. `24.0` and `1e3` are not integers to Go. `null` and escapes are not
 * addresses, because flannel's address types read the raw text (IPv6SubnetMin and IPv6SubnetMax are pointers
 * and may be `null`). All members of one name are checked, not only the last.
 * @param from index in `text` of the object that the members belong to
 */
function checkAsGo(
  text: string,
  members: readonly Member[],
  types: ReadonlyMap<string, GoType>,
  prefix: string,
  from = 0,
): void {
  for (const { name, text: value, at } of members) {
    const type = types.get(foldName(name))
    const place = placeIn(text, from + at)
    if (type === 'whole' && /^[-\d]/.test(value) && !/^-?\d+$/.test(value)) {
      throw new ConfigError(
        `${prefix}${name} is ${value} (${place}): expected a number without point and exponent; ` +
          'flanneld refuses the config',
        `write ${Number.isSafeInteger(Number(value)) ? Number(value) : 'it'} in digits`,
      )
    }
    if (type === 'address' && (value === 'null' || value.includes('\\'))) {
      throw new ConfigError(
        `${prefix}${name} is ${value.slice(0, 80)} (${place}): expected an address in plain text; ` +
          'flanneld refuses the config',
        value === 'null' ? `leave ${prefix}${name} out, or write an address` : 'write it without backslashes',
      )
    }
  }
}

/**
 * Finds parts of a config that have no effect, although their author meant something: fields of unknown name,
 * in the wrong place, or written twice.
 * @param text a valid config
 * @returns one warning each, at most {@link MOST_IGNORED}
 */
export function findIgnored(text: string): string[] {
  const members = membersOf(text) ?? []
  const backend = members.findLast(({ name }) => foldName(name) === 'backend')
  return [
    ...ignoredOf(members, '', CONFIG_NAMES, 'Backend.', BACKEND_NAMES),
    ...ignoredOf(membersOf(backend?.text ?? '') ?? [], 'Backend.', BACKEND_NAMES, '', CONFIG_NAMES),
  ].slice(0, MOST_IGNORED)
}

/** Most warnings about one config: its text may have thousands of fields. */
const MOST_IGNORED = 20

function ignoredOf(
  members: readonly Member[],
  prefix: string,
  known: readonly string[],
  otherPrefix: string,
  elsewhere: readonly string[],
): string[] {
  const seen = new Set<string>()
  return members.flatMap(({ name }) => {
    const is = (field: string): boolean => foldName(field) === foldName(name)
    const shown = `${prefix}${name.slice(0, 60)}`
    const field = known.find(is)
    if (field !== undefined) {
      const isAgain = seen.has(field)
      seen.add(field)
      return isAgain ? [`${prefix}${field} appears more than once: the last one counts`] : []
    }
    const misplaced = elsewhere.find(is)
    if (misplaced !== undefined) {
      const where = otherPrefix === '' ? 'beside Backend' : 'inside Backend'
      return [`${shown} does nothing there: ${misplaced} belongs ${where} (${otherPrefix}${misplaced})`]
    }
    const near = nearest(foldName(name).slice(0, 60), [...known, ...elsewhere].map(foldName))
    const meant = [
      ...known.map((each) => prefix + each),
      ...elsewhere.map((each) => otherPrefix + each),
    ].find(
      (each) =>
        near !== undefined &&
        foldName(each).endsWith(near) &&
        foldName(each.replace(/^Backend\./, '')) === near,
    )
    return [
      `${shown} is not a field of the network config and has no effect` +
        (meant === undefined ? '' : `: did you mean ${meant}?`),
    ]
  })
}

/** Whether hosts of a network with that config exchange multicast; false for an invalid config. */
export function wantsMulticast(text: string): boolean {
  try {
    return parseNetworkConfig(text).backend.multicast !== undefined
  } catch (error) {
    if (error instanceof ConfigError) return false
    throw error
  }
}

function parseBackend(raw: unknown): VxlanBackend {
  if (raw === undefined || raw === null) {
    throw new ConfigError(
      'Backend is missing, which means the udp backend in flannel, and only vxlan is supported',
      `write it as in ${EXAMPLE}`,
    )
  }
  const fields = readObject(() => foldGoObject(raw, BACKEND_NAMES), 'Backend')
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
    encryption: encryptionOf(backend),
  }
}

/** UDP port of WireGuard by convention (wg-quick(8)). */
const WIREGUARD_PORT = 51_820

function encryptionOf(backend: z.output<typeof backendSchema>): Encryption | undefined {
  const { Encryption: mode = 'off', EncryptionPort: port = WIREGUARD_PORT } = backend
  if (mode === 'off') return undefined
  const vxlan = backend.Port || KERNEL_VXLAN_PORT
  if (vxlan === port || vxlan === port + 1) {
    throw new ConfigError(
      `Backend.EncryptionPort ${port} needs the ports ${port} and ${port + 1}, and VXLAN uses ${vxlan}`,
      'set another Backend.EncryptionPort',
    )
  }
  if (backend.DirectRouting === true) {
    throw new ConfigError(
      'Backend.DirectRouting sends packets in clear, and Backend.Encryption encrypts them',
      'leave one of the two out',
    )
  }
  return { mode, port }
}

/**
 * Chooses the VNI for multicast. By default it is the network's own VNI with its highest bit flipped:
 * different for each network, and far from the VNIs that people number their networks with.
 */
function multicastVni(vni: number, wanted: number | undefined): number {
  const chosen = wanted ?? vni ^ 0x800000
  // Happens for VNI 8388608 only. A host cannot announce VNI 0.
  if (chosen === 0) {
    throw new ConfigError(
      `no VNI for multicast can be derived from Backend.VNI ${vni}`,
      'set Backend.MulticastVNI',
    )
  }
  if (chosen !== vni) return chosen
  throw new ConfigError(
    `Backend.MulticastVNI is ${vni}, and so is Backend.VNI: multicast needs one of its own`,
    'set another, or leave it out',
  )
}

/** Names of one family's fields, with flannel's limits and defaults. */
interface FieldNames {
  readonly network: string
  readonly length: string
  readonly min: string
  readonly max: string
  /** Longest prefix of a subnet: it needs at least two addresses. */
  readonly longest: number
  readonly defaultLength: number
  readonly example: string
}

const IPV4_FIELDS: FieldNames = {
  network: 'Network',
  length: 'SubnetLen',
  min: 'SubnetMin',
  max: 'SubnetMax',
  longest: 30,
  defaultLength: 24,
  example: EXAMPLE,
}

const IPV6_FIELDS: FieldNames = {
  network: 'IPv6Network',
  length: 'IPv6SubnetLen',
  min: 'IPv6SubnetMin',
  max: 'IPv6SubnetMax',
  longest: 126,
  defaultLength: 64,
  example: '{"EnableIPv6":true,"IPv6Network":"fd00:5::/48", ...}',
}

/** Applies the defaults and checks of flannel's CheckNetworkConfig, in its order. */
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
  checkUsable(names.network, network)
  const family = familyOf(network.address)
  const subnetLength = chooseSubnetLength(names, network, length ?? 0)
  const size = prefixSize(family, subnetLength)
  // The null address is Go's zero value, so it counts as absent.
  const subnetMin = min || addressAfter(network.address, size)
  const subnetMax = max || addressAfter(network.address, prefixSize(family, network.length) - size)
  checkBound(names.min, subnetMin, names.network, network, subnetLength)
  checkBound(names.max, subnetMax, names.network, network, subnetLength)
  if (subnetMin > subnetMax) {
    throw new ConfigError(
      `${names.min} ${formatIp(subnetMin)} is above ${names.max} ${formatIp(subnetMax)}: no subnet is left`,
      'exchange the two',
    )
  }
  return { network, subnetLength, subnetMin, subnetMax }
}

/**
 * Networks that cannot be used for containers: the kernel does not forward their packets, or their addresses
 * are not those of hosts. flannel rejects a network of length /0 too.
 */
const UNUSABLE: readonly (readonly [Prefix, string])[] = [
  [{ address: parseIpv4('0.0.0.0') as Ipv4, length: 8 }, 'addresses of no host (RFC 1122)'],
  [
    { address: parseIpv4('127.0.0.0') as Ipv4, length: 8 },
    'loopback addresses (RFC 1122), which the kernel sends nowhere',
  ],
  [{ address: parseIpv4('224.0.0.0') as Ipv4, length: 4 }, 'multicast groups (RFC 5771)'],
  [{ address: parseIpv6('::') as Ipv6, length: 8 }, 'loopback and mapped addresses (RFC 4291)'],
  [{ address: parseIpv6('fe80::') as Ipv6, length: 10 }, 'link-local addresses (RFC 4291)'],
  [{ address: parseIpv6('ff00::') as Ipv6, length: 8 }, 'multicast groups (RFC 4291)'],
]

function checkUsable(name: string, network: Prefix): void {
  const found = UNUSABLE.find(([unusable]) => prefixesOverlap(unusable, network))
  if (found === undefined) return
  const [unusable, what] = found
  throw new ConfigError(
    samePrefix(unusable, network)
      ? `${name} ${formatPrefix(network)} consists of ${what}`
      : `${name} ${formatPrefix(network)} overlaps ${formatPrefix(unusable)}: ${what}`,
    familyOf(network.address) === 'IPv4'
      ? 'choose a private network, as in 10.5.0.0/16 (RFC 1918)'
      : 'choose a unique local network, as in fd00:5::/48 (RFC 4193)',
  )
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
        `${names.network} ${formatPrefix(network)} is too small: ` +
          `it must hold at least four subnets of /${names.longest}`,
        `use a /${names.longest - 2} or larger`,
      )
    }
    return Math.max(shortest, names.defaultLength)
  }
  if (wanted > names.longest) {
    throw new ConfigError(
      `${names.length} ${wanted} is too long: a subnet of a host needs at least two addresses`,
      `use ${names.longest} or less`,
    )
  }
  if (wanted < shortest) {
    throw new ConfigError(
      `${names.length} ${wanted} is too short: ` +
        `${names.network} ${formatPrefix(network)} must hold at least four subnets`,
      `use ${shortest} or more`,
    )
  }
  return wanted
}

function readObject<T>(read: () => T, what: string): T {
  try {
    return read()
  } catch (error) {
    const because = error instanceof SyntaxError ? ' because it is not JSON' : ''
    throw new ConfigError(
      `${what} cannot be read${because}: ${describeError(error)}`,
      `write it as in ${EXAMPLE}`,
    )
  }
}

function check<T>(result: z.ZodSafeParseResult<T>, what: string): T {
  if (result.success) return result.data
  throw new ConfigError(`${what} is not valid: ${firstIssue(result.error)}`, 'correct that field')
}
