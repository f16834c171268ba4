/** The bridges of the containers, Docker's or CNI's, told by their addresses, whatever their names. */
import { FAMILIES, type Family, formatPrefix, type Prefix } from '../../model/address'
import { MTU_OPTION } from '../../model/docker'
import { BRIDGE_NAMES, COMMANDS, ENGINES } from '../../model/engines'
import type { ObservedLink } from '../../model/kernel/link'
import { subnetWith } from '../../plan/host/own-subnets'
import type { Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import { deviceOf, familiesOf, OVERLAY, type OverlayFacts, ownSubnet, subnetsOf } from '../overlay'

/** Docker's bridge, unless Docker's option `bridge` names another. */
const DOCKER_BRIDGE = 'docker0'
/** Names of the bridges of Docker's networks begin so, unless an option names them. */
const NETWORK_BRIDGE = 'br-'
/** Start times are known to the second. subnet.env is written before the programs start that wait for it. */
const SLACK_MS = 2000

export const BRIDGE_CHECKS: readonly Check[] = [
  check({
    name: 'bridge',
    about: 'containers get addresses of our subnets, and no larger MTU than fits',
    needs: ['kernel'],
    uses: [...OVERLAY, 'dockerd', 'cni'],
    premise: 'started',
    run: checkBridge,
  }),
]

type BridgeFacts = OverlayFacts & Known<'kernel', 'dockerd' | 'cni'>

function checkBridge(facts: BridgeFacts): Outcome {
  const [family = 'IPv4'] = familiesOf(facts)
  const subnet = ownSubnet(facts, family)
  if (subnet === undefined) return { skipped: 'this host has no subnet yet', because: 'needless' }
  const bridges = containerBridges(facts, family)
  const { links } = facts.kernel.value
  const docker = links.find(({ name }) => name === DOCKER_BRIDGE)
  if (bridges.length === 0) {
    if (docker === undefined) return outcome('no container bridge yet', [])
    const finding = notOnSubnet(facts, docker, subnet)
    // CNI makes its bridge for the first container, and Docker may be there for something else.
    return outcome('', [facts.cni.value === true ? { ...finding, severity: 'warn' } : finding])
  }
  const words = bridges.map(
    ({ link, address }) => `${link.name} has ${formatPrefix(address)}, MTU ${link.mtu}`,
  )
  return outcome(
    few(words).join('; '),
    bridges.flatMap(({ link, address, subnet: whole }) => [
      // Bridges may share a subnet.
      address.length >= whole.length ? undefined : notOnSubnet(facts, link, whole),
      tooLarge(facts, link),
    ]),
  )
}

export interface OwnBridge {
  readonly link: ObservedLink
  /** Its address in one of our subnets, with the length of its part. */
  readonly address: Prefix
  /** The subnet of this host that the address is in. */
  readonly subnet: Prefix
}

/**
 * The bridges of the containers of one family: those with an address in a subnet of this host. Those of the
 * leased subnet are the first.
 */
export function containerBridges(facts: OverlayFacts, family: Family): readonly OwnBridge[] {
  const subnets = subnetsOf(facts, family)
  const { links, addresses, devices } = facts.kernel.value ?? { links: [], addresses: [], devices: [] }
  const found = new Map<number, OwnBridge>()
  for (const { linkIndex, address } of addresses) {
    const link = links.find(({ index }) => index === linkIndex)
    const isDevice =
      link?.kind === 'vxlan' ||
      link?.kind === 'wireguard' ||
      devices.some((device) => device.link.index === linkIndex)
    const subnet = subnetWith(subnets, address.address)
    if (link !== undefined && !isDevice && subnet !== undefined && !found.has(linkIndex))
      found.set(linkIndex, { link, address, subnet })
  }
  return [...found.values()].sort((a, b) => subnets.indexOf(a.subnet) - subnets.indexOf(b.subnet))
}

function notOnSubnet(facts: BridgeFacts, link: ObservedLink, subnet: Prefix): Finding {
  const addresses = facts.kernel.value.addresses
    .filter(({ linkIndex, scope }) => linkIndex === link.index && scope === 'global')
    .map(({ address }) => formatPrefix(address))
  const own = addresses.join(' and ') || 'no address'
  const has = `${link.name} has ${own}; the subnet of this host is ${formatPrefix(subnet)}`
  const breaks = 'containers get addresses that no other host knows the way to'
  const commands = ['systemctl restart docker']
  const file = facts.subnetFile.value
  const early = facts.dockerd.value?.find(({ startedAt }) => startedAt + SLACK_MS < (file?.writtenAt ?? 0))
  if (early !== undefined) {
    const seconds = Math.round(((file?.writtenAt ?? 0) - early.startedAt) / 1000)
    return {
      code: 'docker-started-early',
      severity: 'fail',
      what: 'Docker was started before overlayd had the subnet for it',
      evidence: [`dockerd (process ${early.pid}) started ${seconds} s before ${file?.path} was written`, has],
      breaks,
      fix: 'start it again; with the drop-in for its unit it waits at each boot',
      commands: ['overlayctl docker enable', ...commands],
    }
  }
  return {
    code: 'bridge-subnet',
    severity: 'fail',
    what: `the bridge ${link.name} is not on the subnet of this host`,
    evidence: [has],
    breaks,
    fix:
      'start Docker with the options of overlayctl docker-opts, as the drop-in for its unit does; ' +
      '"bip" in daemon.json must go',
    commands: ['overlayctl docker enable', ...commands],
  }
}

const ports = (first: string, others: number): string =>
  others === 0 ? `${first}, port of` : `${first} and ${others} other ports of`

/**
 * The ports of the bridge have the MTU of the containers. A bridge without ports has 1500 from the kernel.
 */
function tooLarge(facts: BridgeFacts, bridge: ObservedLink): Finding | undefined {
  const limits = FAMILIES.flatMap((family) => deviceOf(facts, family)?.link.mtu ?? [])
  const limit = facts.subnetFile.value?.mtu ?? Math.min(...limits)
  const wrong = facts.kernel.value.links.filter(({ master, mtu }) => master === bridge.index && mtu > limit)
  const [first] = wrong
  if (first === undefined || !Number.isFinite(limit)) return undefined
  const others = wrong.length - 1
  return {
    code: 'bridge-mtu',
    severity: 'fail',
    what: `containers have a larger MTU than fits through the overlay`,
    evidence: [`${ports(first.name, others)} ${bridge.name} have an MTU of ${first.mtu}; ${limit} fits`],
    breaks: 'large packets that must not be cut are lost: connections open, and hang when data flows',
    ...cureOfLarge(bridge.name, limit),
  }
}

/** Whose bridge it is, by the names that the engines and overlayctl give. */
function cureOfLarge(bridge: string, limit: number): Pick<Finding, 'fix' | 'commands'> {
  if (bridge.startsWith(NETWORK_BRIDGE))
    return {
      fix: `make its network anew with -o ${MTU_OPTION}=${limit}, as overlayctl docker-network prints it`,
      commands: ['overlayctl docker-network'],
    }
  const engine = ENGINES.find((each) => bridge.startsWith(BRIDGE_NAMES[each]))
  if (engine !== undefined)
    return {
      fix: `set "mtu" to ${limit} in the file of its network, then make the containers anew`,
      commands: [COMMANDS[engine]],
    }
  return {
    fix: `start Docker with --mtu=${limit} (overlayctl docker-opts does), then make the containers anew`,
    commands: ['systemctl restart docker'],
  }
}
