/**
 * Makes Docker's options from subnet.env, byte for byte as flannel's dist/mk-docker-opts.sh. The daemon's
 * user owns subnet.env, and root starts dockerd with the options. So only addresses, an MTU, true and false
 * pass, written from the parsed values.
 */
import { formatIpv4, parseIpv4Prefix } from '../../model/address'
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
  }
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

const wrong = (name: string, value: string, what: string): Failed =>
  failed({ part: name, code: 'docker-opts', text: `${name} is ${shown(value)}, which is ${what}` })

const shown = (value: string): string =>
  JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}...` : value)
