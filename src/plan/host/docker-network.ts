/** One network of Docker on a free part of the host's subnet, as a command and as a request to the API. */
import {
  addressAfter,
  familyOf,
  formatIp,
  formatPrefix,
  type Ipv4Prefix,
  type Ipv6Prefix,
  networkOf,
  type Prefix,
  prefixContains,
} from '../../model/address'
import { type DockerNetwork, LONGEST_NETWORK, LONGEST_NETWORK6, type NetworkOption } from '../../model/docker'
import { found, type Result } from '../../model/result'
import { freePart, refusal, type TakenPart } from './free-part'

export interface NetworkRequest {
  readonly name: string
  /** This host's subnets. */
  readonly subnet: Ipv4Prefix
  readonly subnet6: Ipv6Prefix | undefined
  /** Of both families. They have parts where the subnets have none left. */
  readonly further?: readonly Prefix[]
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
export const NETWORK_NAME = /^[A-Za-z0-9][\w.-]{0,126}$/

const CODE = 'docker-network'
const refuse = refusal(CODE)

/** @param present the networks that Docker has */
export function planNetwork(
  request: NetworkRequest,
  present: readonly DockerNetwork[],
): Result<PlannedNetwork> {
  const { name, subnet, subnet6, options, further = [] } = request
  if (!NETWORK_NAME.test(name)) return refuse(`${JSON.stringify(name.slice(0, 128))} is no name of a network`)
  const taken = partsOfDocker(present)
  const own = taken.find(({ prefix }) => prefixContains(subnet, prefix.address))?.prefix.length
  const length = request.part?.length ?? request.length ?? own ?? subnet.length
  const four = further.filter((each) => !isSix(each))
  const widest = Math.min(subnet.length, ...four.map((each) => each.length))
  if (length < widest || length > LONGEST_NETWORK)
    return refuse(`a part of /${length} does not fit: ${fromTo(subnet)}`)
  const part = firstPart(wholeOf(subnet), four, request.part, length, taken)
  if (!part.ok) return part
  if (subnet6 === undefined) return found({ name, parts: [part.value], options })
  const length6 = subnet6.length + length - subnet.length
  if (length6 > LONGEST_NETWORK6)
    return refuse(`the IPv6 subnet ${formatPrefix(subnet6)} has no room for as many parts as that of IPv4`)
  const part6 = firstPart(wholeOf(subnet6), further.filter(isSix), undefined, length6, taken)
  if (!part6.ok) return part6
  return found({ name, parts: [part.value, part6.value], options })
}

const wholeOf = ({ address, length }: Prefix): Prefix => networkOf(address, length)

/** A part of the subnet, else of a further one; the failure is that of the subnet. */
function firstPart(
  subnet: Prefix,
  further: readonly Prefix[],
  part: Prefix | undefined,
  length: number,
  taken: readonly TakenPart[],
): Result<Prefix> {
  const isIn = (each: Prefix): boolean =>
    part === undefined ? each.length <= length : prefixContains(each, part.address)
  const inSubnet = { subnet, part, length, from: 'start' } as const
  const first =
    length < subnet.length && part === undefined
      ? refuse(`a part of /${length} does not fit: ${fromTo(subnet)}`)
      : freePart(inSubnet, taken, CODE)
  if (first.ok) return first
  const others = further.filter(isIn).map((each) => freePart({ ...inSubnet, subnet: each }, taken, CODE))
  // Where a part is asked for, the further subnet that has it says why it is not free.
  return others.find(({ ok }) => ok) ?? (part === undefined ? first : (others[0] ?? first))
}

/** The prefix length of the smallest network with a container. */
export const longestOf = (subnet: Prefix): number => (isSix(subnet) ? LONGEST_NETWORK6 : LONGEST_NETWORK)

/** `10.5.7.0/24 has parts from /24 to /30` */
export const fromTo = (subnet: Prefix): string => {
  const { address, length } = subnet
  return `${formatPrefix(networkOf(address, length))} has parts from /${length} to /${longestOf(subnet)}`
}

/** How Docker leaves room on a subnet that is all docker0's. */
export const SHARE_OUT =
  'share it out first: DOCKER_NETWORKS=27 in /etc/default/docker, or overlayctl docker-opts --networks=27'

/** The parts that Docker's networks have. */
export const partsOfDocker = (present: readonly DockerNetwork[]): readonly TakenPart[] =>
  present.flatMap(({ name, subnets }) =>
    subnets.map((prefix) => ({ name: `the network ${name}`, prefix, room: SHARE_OUT })),
  )

export const gatewayOf = ({ address }: Prefix): string => formatIp(addressAfter(address, 1n))
export const isSix = ({ address }: Prefix): boolean => familyOf(address) === 'IPv6'

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
