/**
 * Makes Docker's options from subnet.env, byte for byte as flannel's dist/mk-docker-opts.sh. The daemon's
 * user owns subnet.env, and root starts dockerd with the options. So only addresses, an MTU, true and false
 * pass, written from the parsed values.
 *
 * Beyond flannel, the subnet can be shared out between docker0 and the networks that Docker makes later.
 */
import {
  formatIpv4,
  type Ipv4Prefix,
  type Prefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
} from '../../model/address'
import {
  type DockerVersion,
  defaultFlags,
  hasNetworkDefaults,
  LONGEST_NETWORK,
  type NetworkOption,
  networkOptions,
} from '../../model/docker'
import { sharedFlags } from '../../model/docker-lines'
import { type Failed, failed, found, type Result } from '../../model/result'

export interface DockerOptionsRequest {
  /** Write one variable per option. */
  readonly individual: boolean
  /** Write all options in one variable. If neither of the two is set, both are written. */
  readonly combined: boolean
  /** Name of that one variable. */
  readonly key: string
  /** Whether to write Docker's --ip-masq. */
  readonly ipMasq: boolean
  /** Shares the subnet out. If it is left out, all of it is docker0's, as in flannel. */
  readonly networks?: NetworksRequest
  /** Flags that dockerd needs beside its nftables backend; none for the default, iptables. */
  readonly backend?: readonly string[]
}

export interface NetworksRequest {
  /** Prefix length of docker0 and of each network. */
  readonly length: number
  /** Of the dockerd that reads the options; `undefined` if it is not known. */
  readonly docker: DockerVersion | undefined
  /** Further subnets of the host. */
  readonly further?: readonly Prefix[]
}

const PREFIX = 'DOCKER_OPT_'

/** The variables of subnet.env that are used. */
export const SUBNET_VARIABLES = [
  'FLANNEL_NETWORK',
  'FLANNEL_SUBNET',
  'FLANNEL_IPV6_NETWORK',
  'FLANNEL_IPV6_SUBNET',
  'FLANNEL_MTU',
  'FLANNEL_IPMASQ',
] as const

/** Names of variables (POSIX). */
const NAME = /^[A-Za-z_]\w*$/

export const isVariableName = (text: string): boolean => NAME.test(text)

/** Bytes: IPv4's minimum (RFC 791) and Linux's maximum. */
const MTU = { least: 68, most: 65_535 }

/**
 * Quotes a value, escaping what a shell, and systemd in an EnvironmentFile=, interpret within double quotes.
 */
const quote = (value: string): string => `"${value.replace(/["\\$`]/g, '\\$&')}"`

/**
 * The text of the options file.
 * @param variables the environment, overridden by subnet.env; options (DOCKER_OPT_*) among them are kept
 * @returns the text; a failure names the invalid variable
 */
export function dockerOptions(
  variables: Readonly<Record<string, string | undefined>>,
  request: DockerOptionsRequest,
): Result<string> {
  const options = new Map<string, string>()
  for (const [name, value] of Object.entries(variables)) {
    if (name.startsWith(PREFIX) && NAME.test(name) && value !== undefined) options.set(name, value)
  }
  const { FLANNEL_SUBNET: subnet, FLANNEL_MTU: mtu, FLANNEL_IPMASQ: masq } = variables
  if (subnet) {
    const bridge = parseIpv4Prefix(subnet)
    if (bridge === undefined) return wrong('FLANNEL_SUBNET', subnet, 'not an address with a prefix length')
    options.set(`${PREFIX}BIP`, `--bip=${formatIpv4(bridge.address)}/${bridge.length}`)
    if (request.networks !== undefined) {
      const shared = shareFlags(variables, bridge, request.networks)
      if (!shared.ok) return shared
      for (const [name, value] of shared.value) options.set(`${PREFIX}${name}`, value)
    }
  }
  if (!subnet && variables['FLANNEL_IPV6_SUBNET'] && request.networks !== undefined)
    return refuse('--networks shares out an IPv4 subnet, and this host has only one of IPv6')
  if (mtu) {
    const bytes = /^\d{1,5}$/.test(mtu) ? Number(mtu) : Number.NaN
    if (!(bytes >= MTU.least && bytes <= MTU.most))
      return wrong('FLANNEL_MTU', mtu, `not a number from ${MTU.least} to ${MTU.most}`)
    options.set(`${PREFIX}MTU`, `--mtu=${bytes}`)
  }
  if (masq && request.ipMasq) {
    // Either overlayd or Docker masquerades, so Docker gets the opposite value.
    const opposite = masq === 'true' ? 'false' : masq === 'false' ? 'true' : undefined
    if (opposite === undefined) return wrong('FLANNEL_IPMASQ', masq, 'neither true nor false')
    options.set(`${PREFIX}IPMASQ`, `--ip-masq=${opposite}`)
  }
  if (request.networks?.docker !== undefined && hasNetworkDefaults(request.networks.docker)) {
    const defaults = defaultFlags(optionsOfNetworks(variables, request))
    if (defaults.length > 0) options.set(`${PREFIX}NETWORK`, defaults.join(' '))
  }
  const { backend = [] } = request
  if (backend.length > 0) options.set(`${PREFIX}FIREWALL`, backend.join(' '))
  const sorted = [...options].sort(([a], [b]) => (a < b ? -1 : 1))
  const both = request.individual === request.combined
  const lines = request.individual || both ? sorted.map(([name, value]) => `${name}=${quote(value)}`) : []
  if (request.combined || both) {
    const before = variables[request.key]
    const start = before ? `${before} ` : ''
    lines.push(`${request.key}=${quote(`${start}${sorted.map(([, value]) => ` ${value}`).join('')}`)}`)
  }
  return found(lines.map((line) => `${line}\n`).join(''))
}

/**
 * The options that every network of this host needs, by the same variables.
 * @param variables those of which {@link dockerOptions} made options
 */
export const optionsOfNetworks = (
  { FLANNEL_MTU: mtu, FLANNEL_IPMASQ: masq }: Readonly<Record<string, string | undefined>>,
  { ipMasq }: Pick<DockerOptionsRequest, 'ipMasq'>,
): readonly NetworkOption[] => networkOptions(mtu ? Number(mtu) : undefined, ipMasq && masq === 'true')

/** Variable, without its prefix, and its value, for docker0's part and the pools of the rest. */
function shareFlags(
  { FLANNEL_NETWORK: network, FLANNEL_IPV6_SUBNET: subnet6 }: Readonly<Record<string, string | undefined>>,
  subnet: Ipv4Prefix,
  { length, further = [] }: NetworksRequest,
): Result<readonly (readonly [string, string])[]> {
  const six = subnet6 ? parseIpv6Prefix(subnet6) : undefined
  if (subnet6 && six === undefined)
    return wrong('FLANNEL_IPV6_SUBNET', subnet6, 'not an IPv6 address with a prefix length')
  if (length > LONGEST_NETWORK)
    return refuse(`--networks=${length}: a network of /${length} has no room for a container; the most is 30`)
  const flags = sharedFlags(subnet, six, length, further)
  if (flags === undefined) {
    const own = six === undefined ? `/${subnet.length}` : `/${subnet.length} and /${six.length}`
    return refuse(
      `--networks=${length}: a subnet of ${own} cannot be shared out in parts of /${length}; ` +
        wider(subnet, length, parseIpv4Prefix(network ?? '')),
    )
  }
  const { bip, ipv6, pools } = flags
  return found([
    ['BIP', bip],
    ...(ipv6.length === 0 ? [] : [['IPV6', ipv6.join(' ')] as const]),
    ['POOL', pools.join(' ')],
  ])
}

/** What to change where the parts are too large for the subnet: they, or the subnets of all hosts. */
function wider(subnet: Ipv4Prefix, length: number, network: Ipv4Prefix | undefined): string {
  const smaller = `smaller parts fit, as --networks=${Math.min(subnet.length + 3, LONGEST_NETWORK)}`
  // Four parts: docker0 and three networks. A network config needs room for four subnets.
  const wanted = length - 2
  if (network === undefined || wanted < network.length + 2) return smaller
  return (
    `${smaller}, or give each host a wider subnet: "SubnetLen": ${wanted} in the network config ` +
    `has room for docker0 and 3 networks of /${length}`
  )
}

/** A problem of the request, not of subnet.env. */
export const OF_REQUEST = '--networks'
const refuse = (text: string): Failed => failed({ part: OF_REQUEST, code: 'docker-opts', text })

const wrong = (name: string, value: string, what: string): Failed =>
  failed({ part: name, code: 'docker-opts', text: `${name} is ${shown(value)}, which is ${what}` })

const shown = (value: string): string =>
  JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}...` : value)
