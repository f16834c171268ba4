/**
 * The network config of a cluster: the JSON at `<prefix>/config` (flannel: pkg/subnet/config.go, Documentation/configuration.md),
 * read by Go's rules, completed with flannel's defaults and checked.
 */
import { z } from 'zod'
import {
  formatIpv4,
  formatPrefix,
  type Ipv4,
  type Ipv4Prefix,
  ipv4,
  isNetwork,
  networkOf,
  parseIpv4,
  parseIpv4Prefix,
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
}

/** A checked network config. */
export interface NetworkConfig {
  readonly network: Ipv4Prefix
  /** Prefix length of each host's subnet. */
  readonly subnetLength: number
  /** First and last subnet that may be leased, both included, both multiples of the subnet size. */
  readonly subnetMin: Ipv4
  readonly subnetMax: Ipv4
  readonly backend: VxlanBackend
}

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
  'Backend',
] as const

const BACKEND_FIELDS = ['Type', 'VNI', 'Port', 'MTU', 'GBP', 'Learning', 'DirectRouting'] as const

const ipv4Field = z.string().transform((text, context) => {
  const address = parseIpv4(text)
  if (address !== undefined) return address
  context.addIssue({ code: 'custom', message: `"${text}" is not an IPv4 address` })
  return z.NEVER
})

const networkField = z.string().transform((text, context) => {
  const prefix = parseIpv4Prefix(text)
  if (prefix !== undefined) return networkOf(prefix.address, prefix.length)
  context.addIssue({ code: 'custom', message: `"${text}" is not an IPv4 network such as 10.5.0.0/16` })
  return z.NEVER
})

const configSchema = z.object({
  EnableIPv4: goField(z.boolean()),
  EnableIPv6: goField(z.boolean()),
  EnableNFTables: goField(z.boolean()),
  Network: goField(networkField),
  SubnetLen: goField(z.int().min(0)),
  SubnetMin: goField(ipv4Field),
  SubnetMax: goField(ipv4Field),
  Backend: z.unknown().optional(),
})

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
})

const EXAMPLE = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'

/**
 * Reads and checks the config's JSON text.
 * @throws {ConfigError} with the first thing that is wrong and how to mend it
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  const fields = readObject(() => parseGoObject(text, CONFIG_FIELDS), 'the network config')
  const config = check(configSchema.safeParse(fields), 'the network config')
  if (config.EnableIPv6 === true) {
    throw new ConfigError(
      'EnableIPv6 is true, and this version carries IPv4 only',
      'remove EnableIPv6 from the config',
    )
  }
  if (config.EnableIPv4 === false) {
    throw new ConfigError('EnableIPv4 is false, so no family is left', 'remove EnableIPv4 from the config')
  }
  if (config.Network === undefined) {
    throw new ConfigError('Network is missing', `write it as in ${EXAMPLE}`)
  }
  return { ...subnetRange(config.Network, config), backend: parseBackend(config.Backend) }
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
  return {
    vni: backend.VNI ?? 1,
    port: backend.Port === 0 ? undefined : backend.Port,
    mtu: backend.MTU,
    gbp: backend.GBP ?? false,
    learning: backend.Learning ?? false,
    directRouting: backend.DirectRouting ?? false,
  }
}

/** Defaults and checks of flannel's CheckNetworkConfig, in its order; N = network length, L = subnet length. */
function subnetRange(
  network: Ipv4Prefix,
  config: z.infer<typeof configSchema>,
): Omit<NetworkConfig, 'backend'> {
  const subnetLength = chooseSubnetLength(network, config.SubnetLen ?? 0)
  const size = Number(prefixSize('IPv4', subnetLength))
  // 0.0.0.0 is Go's zero value: the same as absent.
  const subnetMin = config.SubnetMin || ipv4(network.address + size)
  const subnetMax =
    config.SubnetMax || ipv4(network.address + Number(prefixSize('IPv4', network.length)) - size)
  for (const [name, address] of [
    ['SubnetMin', subnetMin],
    ['SubnetMax', subnetMax],
  ] as const) {
    if (!prefixContains(network, address)) {
      throw new ConfigError(
        `${name} ${formatIpv4(address)} is outside Network ${formatPrefix(network)}`,
        `choose an address inside Network, or remove ${name}`,
      )
    }
    if (!isNetwork({ address, length: subnetLength })) {
      throw new ConfigError(
        `${name} ${formatIpv4(address)} is not the first address of a /${subnetLength}`,
        `write ${formatIpv4(networkOf(address, subnetLength).address)}`,
      )
    }
  }
  if (subnetMin > subnetMax) {
    throw new ConfigError(
      `SubnetMin ${formatIpv4(subnetMin)} is above SubnetMax ${formatIpv4(subnetMax)}, so no subnet is left`,
      'exchange the two',
    )
  }
  return { network, subnetLength, subnetMin, subnetMax }
}

function chooseSubnetLength(network: Ipv4Prefix, wanted: number): number {
  const shortest = network.length + 2
  if (wanted === 0) {
    if (network.length > 28) {
      throw new ConfigError(
        `Network ${formatPrefix(network)} is too small: it must hold at least four subnets of /30`,
        'use a /28 or larger',
      )
    }
    return network.length <= 22 ? 24 : shortest
  }
  if (wanted > 30) {
    throw new ConfigError(
      `SubnetLen ${wanted} is too long: a subnet of a host needs at least two addresses`,
      'use 30 or less',
    )
  }
  if (wanted < shortest) {
    throw new ConfigError(
      `SubnetLen ${wanted} is too short: Network ${formatPrefix(network)} must hold at least four subnets`,
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
