/**
 * Networks of container engines other than Docker, on a part of the host's subnet: a list of CNI plugins
 * (github.com/containernetworking/cni, SPEC.md 1.0.0), and a network of Podman for netavark.
 */
import { createHash } from 'node:crypto'
import {
  formatPrefix,
  type Ipv4,
  type Ipv4Prefix,
  type Ipv6Prefix,
  networkOf,
  type Prefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import { LONGEST_NETWORK6 } from '../../model/docker'
import { BRIDGE_NAMES, COMMANDS, type Engine } from '../../model/engines'
import { found, type Result } from '../../model/result'
import { fromTo, gatewayOf, isSix, longestOf, NETWORK_NAME } from './docker-network'
import { freePart, refusal, type TakenPart } from './free-part'
import { ownSubnets, subnetWith } from './own-subnets'

/** What subnet.env says, parsed, and the further subnets. */
export interface HostSubnets {
  readonly subnet: Ipv4Prefix
  readonly subnet6: Ipv6Prefix | undefined
  /** Further subnets of the host: a network is on one where it is asked for, or has been. */
  readonly further?: readonly Prefix[]
  /** Bytes. */
  readonly mtu: number
  /** Whether overlayd masquerades what leaves the overlay. */
  readonly ipMasq: boolean
}

export interface EngineNetworkRequest {
  readonly engine: Engine
  readonly name: string
  /** The wanted parts, at most one of each family; of a family without one: the former one, or a free one. */
  readonly parts: readonly Prefix[]
  /** Of the IPv4 part; if it is left out, that of the former part, of docker0's part, or of the subnet. */
  readonly length: number | undefined
  /** The parts that the network has had, as its present file says. */
  readonly former: readonly Prefix[]
}

/** A network that an engine can make. */
export interface EngineNetwork {
  readonly name: string
  /** Name of the bridge. Another part has another bridge, so that containers on a former part keep theirs. */
  readonly bridge: string
  /** One of IPv4 and, where the host has an IPv6 subnet, one of IPv6. */
  readonly parts: readonly Prefix[]
  /** Bytes. */
  readonly mtu: number
}

/** The key, in a list of CNI plugins and among the labels of a network of Podman, of a file made here. */
const MADE_BY = 'overlayd'
/** Codes of refusals. */
export const ENGINE_CODES: Readonly<Record<Engine, string>> = { cni: 'cni', podman: 'podman-network' }

/** Bytes: IPv4's minimum (RFC 791) and Linux's maximum. */
const MTU = { least: 68, most: 65_535 }

/** @param variables those of subnet.env */
export function readHostSubnets(
  variables: Readonly<Record<string, string | undefined>>,
  engine: Engine,
): Result<HostSubnets> {
  const refuse = refusal(ENGINE_CODES[engine])
  const wrong = (name: string, what: string) =>
    refuse(`${name} is ${JSON.stringify((variables[name] ?? '').slice(0, 64))}, which is ${what}`)
  const subnet = parseIpv4Prefix(variables['FLANNEL_SUBNET'] ?? '')
  if (subnet === undefined)
    return variables['FLANNEL_SUBNET'] === undefined
      ? refuse('there is no FLANNEL_SUBNET, and the network needs an IPv4 subnet')
      : wrong('FLANNEL_SUBNET', 'not an address with a prefix length')
  const six = variables['FLANNEL_IPV6_SUBNET']
  const subnet6 = six === undefined ? undefined : parseIpv6Prefix(six)
  if (six !== undefined && subnet6 === undefined)
    return wrong('FLANNEL_IPV6_SUBNET', 'not an IPv6 address with a prefix length')
  const mtu = /^\d{1,5}$/.test(variables['FLANNEL_MTU'] ?? '') ? Number(variables['FLANNEL_MTU']) : 0
  if (mtu < MTU.least || mtu > MTU.most)
    return wrong('FLANNEL_MTU', `not a number from ${MTU.least} to ${MTU.most}`)
  const masq = variables['FLANNEL_IPMASQ']
  if (masq !== 'true' && masq !== 'false') return wrong('FLANNEL_IPMASQ', 'neither true nor false')
  return found({ subnet, subnet6, mtu, ipMasq: masq === 'true' })
}

/**
 * Chooses the parts. A former part that still fits stays. Without one the last free part is taken, because
 * Docker hands out parts from the start.
 * @param taken what other networks have
 */
export function planEngineNetwork(
  request: EngineNetworkRequest,
  { subnet, subnet6, further, mtu }: HostSubnets,
  taken: readonly TakenPart[],
): Result<EngineNetwork> {
  const { engine, name } = request
  const refuse = refusal(ENGINE_CODES[engine])
  if (!NETWORK_NAME.test(name)) return refuse(`${JSON.stringify(name.slice(0, 128))} is no name of a network`)
  const leased = networkOf(subnet.address, subnet.length)
  const leased6 = subnet6 && networkOf(subnet6.address, subnet6.length)
  const own = ownSubnets(leased6 === undefined ? [leased] : [leased, leased6], further)
  const [four, six] = [placeOf(request, own, isFour), placeOf(request, own, isSix)]
  const strays = strayFrom(own, four.asked) ?? strayFrom(own, six.asked)
  if (strays !== undefined) return refuse(strays)
  const whole = four.whole ?? leased
  const length = lengthOf(request, whole, taken)
  const part = choosePart(request, { whole, length, asked: four.asked }, taken)
  if (!part.ok) return part
  const bridge = bridgeOf(engine, part.value.address as Ipv4)
  const whole6 = six.whole ?? leased6
  if (whole6 === undefined) return found({ name, bridge, parts: [part.value], mtu })
  const had6 = six.isFurther && request.length === undefined ? six.former?.length : undefined
  // A part of a further subnet may be larger than the leased one.
  const length6 = six.asked?.length ?? had6 ?? whole6.length + Math.max(0, length - subnet.length)
  if (six.asked === undefined && length6 > LONGEST_NETWORK6)
    return refuse(`the IPv6 subnet ${formatPrefix(whole6)} has no room for as many parts as that of IPv4`)
  const part6 = choosePart(request, { whole: whole6, length: length6, asked: six.asked }, taken)
  return part6.ok ? found({ name, bridge, parts: [part.value, part6.value], mtu }) : part6
}

const isFour = (prefix: Prefix): boolean => !isSix(prefix)

/** Where the part of one family is to be, by what is asked for and by what the network has had. */
function placeOf(
  { parts, former }: EngineNetworkRequest,
  own: readonly Prefix[],
  isOf: (prefix: Prefix) => boolean,
) {
  const subnets = own.filter(isOf)
  const asked = parts.find(isOf)
  const had = former.find((each) => subnetWith(subnets, each.address) !== undefined)
  const place = asked ?? had
  const whole = place && subnetWith(subnets, place.address)
  return { asked, former: had, whole, isFurther: whole !== undefined && whole !== subnets[0] }
}

/** Why a part that is asked for is in no subnet of the host; `undefined` where it is in one. */
function strayFrom(own: readonly Prefix[], asked: Prefix | undefined): string | undefined {
  if (asked === undefined || subnetWith(own, asked.address) !== undefined) return undefined
  const isOf = isSix(asked) ? isSix : isFour
  const [leased, ...further] = own.filter(isOf).map(formatPrefix)
  if (leased === undefined) return `${formatPrefix(asked)} is IPv6, and this host has no IPv6 subnet`
  const nor = further.length === 0 ? '' : `, nor in a further one: ${further.join(', ')}`
  return `${formatPrefix(asked)} is not in this host's subnet ${leased}${nor}`
}

/** A former part that still fits stays. */
function choosePart(
  { engine, former }: EngineNetworkRequest,
  { whole, length, asked }: { whole: Prefix; length: number; asked: Prefix | undefined },
  taken: readonly TakenPart[],
): Result<Prefix> {
  const code = ENGINE_CODES[engine]
  if (length < whole.length || length > longestOf(whole))
    return refusal(code)(`a part of /${length} does not fit: ${fromTo(whole)}`)
  const stays = former.find(
    (part) =>
      part.length === length &&
      prefixContains(whole, part.address) &&
      !taken.some(({ prefix }) => prefixesOverlap(prefix, part)),
  )
  return freePart({ subnet: whole, part: asked ?? stays, length, from: 'end' }, taken, code)
}

function lengthOf(
  { parts, length, former }: EngineNetworkRequest,
  subnet: Prefix,
  taken: readonly TakenPart[],
): number {
  const wanted = parts.find(isFour)?.length ?? length
  if (wanted !== undefined) return wanted
  const had = former.find(isFour)?.length
  const beside = taken.find(({ prefix }) => prefixContains(subnet, prefix.address))?.prefix.length
  // Whoever has all of the subnet is named by freePart().
  return Math.max(had ?? beside ?? subnet.length, subnet.length)
}

/** Of a part: 12 characters; the kernel takes 15 (IFNAMSIZ). */
const bridgeOf = (engine: Engine, address: Ipv4): string =>
  `${BRIDGE_NAMES[engine]}-${address.toString(16).padStart(8, '0')}`

/**
 * The list of plugins: a bridge, and published ports.
 *
 * The bridge does not masquerade. Its rule would match what goes to other hosts too, and overlayd masquerades
 * what leaves the overlay.
 */
export const cniList = ({ name, bridge, parts, mtu }: EngineNetwork): object => ({
  cniVersion: '1.0.0',
  name,
  [MADE_BY]: COMMANDS.cni,
  plugins: [
    {
      type: 'bridge',
      bridge,
      isGateway: true,
      ipMasq: false,
      hairpinMode: true,
      mtu,
      ipam: {
        type: 'host-local',
        ranges: parts.map((part) => [{ subnet: formatPrefix(part), gateway: gatewayOf(part) }]),
        routes: parts.map((part) => ({ dst: isSix(part) ? '::/0' : '0.0.0.0/0' })),
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
})

/**
 * The network as Podman reads it. Podman asks for an id of 64 hexadecimal digits that no other network has,
 * and gives networks the SHA-256 of their names.
 */
export const podmanNetwork = ({ name, bridge, parts, mtu }: EngineNetwork): object => ({
  name,
  id: createHash('sha256').update(name).digest('hex'),
  driver: 'bridge',
  network_interface: bridge,
  subnets: parts.map((part) => ({ subnet: formatPrefix(part), gateway: gatewayOf(part) })),
  ipv6_enabled: parts.some(isSix),
  internal: false,
  dns_enabled: true,
  labels: { [MADE_BY]: COMMANDS.podman },
  options: { mtu: `${mtu}` },
  ipam_options: { driver: 'host-local' },
})
