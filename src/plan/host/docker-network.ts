/** One network of Docker on a free part of the host's subnet, as a command and as a request to the API. */
import {
  addressAfter,
  addressBits,
  familyOf,
  formatIp,
  formatPrefix,
  type Ipv4Prefix,
  type Ipv6Prefix,
  networkOf,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import { type DockerNetwork, LONGEST_NETWORK, LONGEST_NETWORK6, type NetworkOption } from '../../model/docker'
import { type Failed, failed, found, type Result } from '../../model/result'

export interface NetworkRequest {
  readonly name: string
  /** This host's subnets. */
  readonly subnet: Ipv4Prefix
  readonly subnet6: Ipv6Prefix | undefined
  readonly options: readonly NetworkOption[]
  /** The wanted part; if it is left out, a free one of the length is looked for. */
  readonly part?: Ipv4Prefix | undefined
  /** Of the part; if it is left out, that of docker0's part or, where docker0 is elsewhere, of the subnet. */
  readonly length?: number | undefined
}

/** A network that Docker can make. */
export interface PlannedNetwork {
  readonly name: string
  /** One of IPv4 and, where the host has an IPv6 subnet, one of IPv6. */
  readonly parts: readonly Prefix[]
  readonly options: readonly NetworkOption[]
}

/** Docker's names of networks (RestrictedNamePattern in moby), which need no quotes in a shell. */
const NAME = /^[A-Za-z0-9][\w.-]{0,126}$/

const refuse = (text: string): Failed => failed({ part: 'docker-network', code: 'docker-network', text })

/** @param present the networks that Docker has */
export function planNetwork(
  request: NetworkRequest,
  present: readonly DockerNetwork[],
): Result<PlannedNetwork> {
  const { name, subnet, subnet6, options } = request
  if (!NAME.test(name)) return refuse(`${JSON.stringify(name.slice(0, 128))} is no name of a network`)
  const taken = present.flatMap((network) => network.subnets.map((prefix) => ({ network, prefix })))
  const own = taken.find(({ prefix }) => prefixContains(subnet, prefix.address))?.prefix.length
  const length = request.part?.length ?? request.length ?? own ?? subnet.length
  if (length < subnet.length || length > LONGEST_NETWORK)
    return refuse(`a part of /${length} does not fit: ${fromTo(subnet)}`)
  const whole = networkOf(subnet.address, subnet.length)
  const part = choose(whole, request.part, length, taken)
  if (!part.ok) return part
  if (subnet6 === undefined) return found({ name, parts: [part.value], options })
  const length6 = subnet6.length + length - subnet.length
  if (length6 > LONGEST_NETWORK6)
    return refuse(`the IPv6 subnet ${formatPrefix(subnet6)} has no room for as many parts as that of IPv4`)
  const part6 = choose(networkOf(subnet6.address, subnet6.length), undefined, length6, taken)
  if (!part6.ok) return part6
  return found({ name, parts: [part.value, part6.value], options })
}

const fromTo = ({ address, length }: Prefix): string =>
  `${formatPrefix(networkOf(address, length))} has parts from /${length} to /${LONGEST_NETWORK}`

interface Taken {
  readonly network: DockerNetwork
  readonly prefix: Prefix
}

function choose(
  subnet: Prefix,
  part: Prefix | undefined,
  length: number,
  taken: readonly Taken[],
): Result<Prefix> {
  if (part === undefined) return firstFree(subnet, length, taken)
  const wanted = networkOf(part.address, part.length)
  if (!prefixContains(subnet, wanted.address))
    return refuse(`${formatPrefix(part)} is not in this host's subnet ${formatPrefix(subnet)}`)
  const other = taken.find(({ prefix }) => prefixesOverlap(prefix, wanted))
  return other === undefined
    ? found(wanted)
    : refuse(
        `${formatPrefix(wanted)} overlaps ${formatPrefix(other.prefix)} of the network ${other.network.name}`,
      )
}

/** The first part of the length that no network overlaps. Each step passes a network, or ends. */
function firstFree(subnet: Prefix, length: number, taken: readonly Taken[]): Result<Prefix> {
  const bits = addressBits(familyOf(subnet.address))
  let candidate: Prefix = networkOf(subnet.address, length)
  for (;;) {
    const inTheWay = taken.find(({ prefix }) => prefixesOverlap(prefix, candidate))
    if (inTheWay === undefined) return found(candidate)
    const passed = Math.min(inTheWay.prefix.length, length)
    const block = networkOf(candidate.address, passed)
    const next = networkOf(addressAfter(block.address, 1n << BigInt(bits - passed)), length)
    const isOver = passed <= subnet.length || !prefixContains(subnet, next.address)
    if (isOver || next.address <= candidate.address) return noneFree(subnet, length, taken)
    candidate = next
  }
}

function noneFree(subnet: Prefix, length: number, taken: readonly Taken[]): Failed {
  const inside = taken.filter(({ prefix }) => prefixesOverlap(prefix, subnet))
  const all = inside.find(({ prefix }) => prefix.length <= subnet.length)
  return refuse(
    all === undefined
      ? `no part of /${length} of ${formatPrefix(subnet)} is free: ${inside.length} networks have parts of it`
      : `all of ${formatPrefix(subnet)} is taken by the network ${all.network.name}; share it out first: ` +
          'DOCKER_NETWORKS=27 in /etc/default/docker, or overlayctl docker-opts --networks=27',
  )
}

const gatewayOf = ({ address }: Prefix): string => formatIp(addressAfter(address, 1n))
const isSix = ({ address }: Prefix): boolean => familyOf(address) === 'IPv6'

/** The words of `docker network create`. None of them needs quotes. */
export const createCommand = ({ name, parts, options }: PlannedNetwork): readonly string[] => [
  ...['docker', 'network', 'create', '--driver=bridge'],
  ...(parts.some(isSix) ? ['--ipv6'] : []),
  ...parts.flatMap((part) => [`--subnet=${formatPrefix(part)}`, `--gateway=${gatewayOf(part)}`]),
  ...options.flatMap(([option, value]) => ['-o', `${option}=${value}`]),
  name,
]

/** The same as a request: POST /networks/create. */
export const createRequest = ({ name, parts, options }: PlannedNetwork): object => ({
  Name: name,
  // Docker before 25 makes a second network of the same name otherwise.
  CheckDuplicate: true,
  Driver: 'bridge',
  EnableIPv6: parts.some(isSix),
  IPAM: {
    Driver: 'default',
    Config: parts.map((part) => ({ Subnet: formatPrefix(part), Gateway: gatewayOf(part) })),
  },
  Options: Object.fromEntries(options),
})
