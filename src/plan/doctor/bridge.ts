/** The bridge of the containers, Docker's or that of CNI: told by its address, whatever its name. */
import { FAMILIES, formatPrefix, type Prefix, prefixContains } from '../../model/address'
import type { ObservedLink } from '../../model/kernel'
import type { Facts } from './facts'
import { type Check, type Finding, outcome } from './finding'
import { deviceOf, familiesOf, ownSubnet } from './overlay'

/** Docker's, unless its option `bridge` says otherwise. */
const DOCKER_BRIDGE = 'docker0'
/** Start times are known to the second, and a file is written before those who wait for it start. */
const SLACK_MS = 2000

export const BRIDGE_CHECKS: readonly Check[] = [
  {
    name: 'bridge',
    about: 'containers get addresses of our subnet, and no larger MTU than fits',
    run: checkBridge,
  },
]

function checkBridge(facts: Facts) {
  if (facts.kernel.value === undefined) return { skipped: facts.kernel.missing }
  const [family = 'IPv4'] = familiesOf(facts)
  const subnet = ownSubnet(facts, family)
  if (subnet === undefined) return { skipped: 'this host has no subnet yet' }
  const bridge = findBridge(facts, subnet)
  const { links } = facts.kernel.value
  const docker = links.find(({ name }) => name === DOCKER_BRIDGE)
  if (bridge === undefined) {
    if (docker === undefined) return outcome('no container bridge yet', [])
    return outcome('', [notOnSubnet(facts, docker, subnet)])
  }
  const summary = `${bridge.link.name} has ${formatPrefix(bridge.address)}, MTU ${bridge.link.mtu}`
  return outcome(summary, [
    bridge.address.length === subnet.length ? undefined : notOnSubnet(facts, bridge.link, subnet),
    tooLarge(facts, bridge.link),
  ])
}

function findBridge(
  facts: Facts,
  subnet: Prefix,
): { readonly link: ObservedLink; readonly address: Prefix } | undefined {
  const { links, addresses, devices } = facts.kernel.value ?? { links: [], addresses: [], devices: [] }
  for (const { linkIndex, address } of addresses) {
    const link = links.find(({ index }) => index === linkIndex)
    const isDevice = link?.kind === 'vxlan' || devices.some((device) => device.link.index === linkIndex)
    if (link !== undefined && !isDevice && prefixContains(subnet, address.address)) return { link, address }
  }
  return undefined
}

function notOnSubnet(facts: Facts, link: ObservedLink, subnet: Prefix): Finding {
  const addresses = (facts.kernel.value?.addresses ?? [])
    .filter(({ linkIndex, scope }) => linkIndex === link.index && scope === 'global')
    .map(({ address }) => formatPrefix(address))
  const has = `${link.name} has ${addresses.join(' and ') || 'no address'}; the subnet of this host is ${formatPrefix(subnet)}`
  const breaks = 'containers get addresses that no other host knows the way to'
  const commands = ['systemctl restart docker']
  const early = facts.host.dockerd.find(
    ({ startedAt }) => startedAt + SLACK_MS < (facts.subnetFile.value?.writtenAt ?? 0),
  )
  if (early !== undefined) {
    const seconds = Math.round(((facts.subnetFile.value?.writtenAt ?? 0) - early.startedAt) / 1000)
    return {
      code: 'docker-started-early',
      severity: 'fail',
      what: 'Docker was started before overlayd had the subnet for it',
      evidence: [
        `dockerd (process ${early.pid}) started ${seconds} s before ${facts.subnetFile.value?.path} was written`,
        has,
      ],
      breaks,
      fix: 'start it again; the drop-in docker.service.d/40-overlayd.conf has it wait at each boot',
      commands,
    }
  }
  return {
    code: 'bridge-subnet',
    severity: 'fail',
    what: `the bridge ${link.name} is not on the subnet of this host`,
    evidence: [has],
    breaks,
    fix: 'start Docker with the options of overlayctl docker-opts, as the drop-in docker.service.d/40-overlayd.conf does; "bip" in daemon.json must go',
    commands,
  }
}

/** What counts is what containers are told, which their ports have; a bridge without ports says nothing (the kernel gives it 1500). */
function tooLarge(facts: Facts, bridge: ObservedLink): Finding | undefined {
  const limits = FAMILIES.flatMap((family) => deviceOf(facts, family)?.link.mtu ?? [])
  const limit = facts.subnetFile.value?.mtu ?? Math.min(...limits)
  const ports = facts.kernel.value?.links.filter(({ master }) => master === bridge.index) ?? []
  const wrong = ports.filter(({ mtu }) => mtu > limit)
  if (wrong.length === 0 || !Number.isFinite(limit)) return undefined
  return {
    code: 'bridge-mtu',
    severity: 'fail',
    what: `containers have a larger MTU than fits through the overlay`,
    evidence: [
      `${wrong[0]?.name} and ${wrong.length - 1} other ports of ${bridge.name} have an MTU of ${wrong[0]?.mtu}; ${limit} fits`.replace(
        ' and 0 other ports of',
        ', port of',
      ),
    ],
    breaks: 'large packets that must not be cut are lost: connections open, and hang when data flows',
    fix: `start Docker with --mtu=${limit} (overlayctl docker-opts does), then make the containers anew`,
    commands: ['systemctl restart docker'],
  }
}
