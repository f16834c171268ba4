/** The network config, and whether it fits this host's own network. */
import { problemsOf, problemText } from '../../api/problems'
import {
  familyOf,
  formatPrefix,
  type IpAddress,
  type Ipv4,
  type Ipv6,
  networkOf,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import { findIgnored, type NetworkConfig, subnetRanges } from '../../model/config/network-config'
import { describeError, isOverlayError } from '../../model/errors'
import type { UnderlayRoute } from '../../model/kernel/route'
import type { Problem } from '../../model/result'
import { checkUnderlayOutside, type Underlay, type UnderlayAddress } from '../../plan/host/underlay'
import type { DaemonFacts, Given, Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import {
  deviceOf,
  familyWord,
  linkNameOf,
  OVERLAY,
  type OverlayFacts,
  parentOf,
  peersOf,
  subnetsOf,
} from '../overlay'

export const CONFIG_CHECKS: readonly Check[] = [
  check({
    name: 'config',
    about: 'the network config is there, right, and the one in use',
    needs: ['etcd'],
    uses: ['config', 'daemon'],
    premise: 'config',
    run: checkConfig,
  }),
  check({
    name: 'overlap',
    about: "the network covers nothing of this host's own network",
    needs: ['kernel', 'config'],
    uses: OVERLAY,
    premise: 'config',
    run: checkOverlap,
  }),
]

function checkConfig(facts: Known<'etcd', 'config' | 'daemon'>): Outcome {
  const { config } = facts
  const waiting = facts.daemon.value?.daemon.waiting
  if (!config.ok) return outcome('', [badConfig(facts, config.problem)])
  const network = subnetRanges(config.value)
    .map((range) => formatPrefix(range.network))
    .join(' and ')
  const { vni, port } = config.value.backend
  const summary = `${network}, vxlan, VNI ${vni}${port === undefined ? '' : `, port ${port}`}`
  const problems = facts.daemon.ok ? problemsOf(facts.daemon.value) : []
  // A host that waits runs with no config yet: its problem with the config is what it waits for.
  const told = waiting === undefined ? problems.filter(({ part }) => part === 'config').map(problemText) : []
  const differences = facts.daemon.value === undefined ? [] : differencesOf(config.value, facts.daemon.value)
  const ignored = ignoredFields(facts.etcd.value.config)
  if (told.length + differences.length === 0) return outcome(summary, ignored)
  return outcome(summary, [
    ...ignored,
    {
      code: 'config-changed',
      severity: 'warn',
      what: 'the network config in etcd is not the one this host runs with',
      evidence: [...differences, ...told],
      breaks: 'hosts that start now use the new one, and may not reach this one',
      fix:
        'put the old config back, or restart overlayd and Docker on every host: where the subnet changes, ' +
        'containers get other addresses',
      commands: ['overlayctl config get', 'systemctl restart overlayd docker'],
    },
  ])
}

/** Fields that have no effect: whoever wrote them expected one. */
function ignoredFields(text: string | undefined): Finding[] {
  const ignored = text === undefined ? [] : findIgnored(text)
  if (ignored.length === 0) return []
  return [
    {
      code: 'config-ignored',
      severity: 'warn',
      what: 'something in the network config does nothing',
      evidence: few(ignored),
      breaks: 'the network is not as whoever wrote that wants it',
      fix: 'correct the name or the place of the field, or remove it',
      commands: ['overlayctl config get', 'overlayctl config set FILE'],
    },
  ]
}

function badConfig({ etcdPrefix }: Given, { code, text: reason }: Problem): Finding {
  const invalid = code === 'config-invalid'
  return {
    code: invalid ? 'config-invalid' : 'config-missing',
    severity: 'fail',
    what: invalid ? 'the network config in etcd cannot be used' : 'there is no network config in etcd',
    evidence: [reason],
    breaks: 'hosts that run go on, but none can start',
    fix: invalid ? 'correct it' : `put one, or give the --etcd-prefix of this network (now ${etcdPrefix})`,
    commands: [`overlayctl config set '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`],
  }
}

function differencesOf(config: NetworkConfig, { network }: DaemonFacts): string[] {
  if (network === undefined) return []
  const { ipv4, ipv6, backend } = config
  const rows: (readonly [string, unknown, unknown])[] = [
    ['Network', network.network, ipv4 && formatPrefix(ipv4.network)],
    ['SubnetLen', network.subnetLength, ipv4?.subnetLength],
    ['IPv6Network', network.ipv6Network, ipv6 && formatPrefix(ipv6.network)],
    ['IPv6SubnetLen', network.ipv6SubnetLength, ipv6?.subnetLength],
    ['Backend.VNI', network.vni, backend.vni],
    ['Backend.Port', network.port, backend.port],
  ]
  return rows
    .filter(([, used, wanted]) => used !== wanted)
    .map(([name, used, wanted]) => `${name}: in use ${used ?? 'none'}, in etcd ${wanted ?? 'none'}`)
}

type OverlapFacts = OverlayFacts & Known<'kernel' | 'config'>

function checkOverlap(facts: OverlapFacts): Outcome {
  const networks = subnetRanges(facts.config.value).map(({ network }) => network)
  const covered = coveredAddress(facts, networks)
  const findings = covered === undefined ? overlappingRoutes(facts, networks) : [covered]
  return outcome(`${networks.map(formatPrefix).join(' and ')} is nobody else's here`, findings)
}

/** An address that this host needs and that peers' routes would hide. */
function coveredAddress(facts: OverlapFacts, networks: readonly Prefix[]): Finding | undefined {
  const underlay = underlayOf(facts)
  if (underlay === undefined) return undefined
  const gateways = facts.kernel.value.defaultRoutes.flatMap(({ gateway }) => gateway ?? [])
  try {
    checkUnderlayOutside(networks, underlay, { etcd: facts.etcdAddresses, gateways })
    return undefined
  } catch (error) {
    return {
      code: 'network-covers-host',
      severity: 'fail',
      what: 'the network covers an address that this host needs',
      evidence: [isOverlayError(error) ? error.message : describeError(error)],
      breaks: 'as soon as a host gets the subnet with that address, this one is cut off from it',
      fix: (isOverlayError(error) ? error.fix : undefined) ?? 'choose another network',
    }
  }
}

/** The underlay of the devices that exist. */
function underlayOf(facts: OverlapFacts): Underlay | undefined {
  const [four, six] = [deviceOf(facts, 'IPv4'), deviceOf(facts, 'IPv6')]
  const device = four ?? six
  const link = device && parentOf(facts, device)
  if (link === undefined) return undefined
  const pair = <A extends IpAddress>(local: IpAddress | undefined): UnderlayAddress<A> | undefined =>
    local === undefined ? undefined : { local: local as A, public: local as A }
  return { link, ipv4: pair<Ipv4>(four?.link.vxlan?.local), ipv6: pair<Ipv6>(six?.link.vxlan?.local) }
}

/**
 * Routes of others into the network that hide no peer now, but may hide a later one. The check `routes` has
 * the others.
 */
function overlappingRoutes(facts: OverlapFacts, networks: readonly Prefix[]): Finding[] {
  const peers = peersOf(facts)
  const subnets = new Set(peers.map(({ subnet }) => formatPrefix(subnet)))
  const lengths = new Set(peers.map(({ subnet }) => subnet.length))
  const isInPeer = ({ address, length }: Prefix): boolean =>
    [...lengths].some((wide) => wide <= length && subnets.has(formatPrefix(networkOf(address, wide))))
  const routes = facts.kernel.value.routes.filter(
    (route) =>
      networks.some((network) => concerns(route, network)) &&
      !isOurs(facts, route) &&
      !isInPeer(route.destination),
  )
  if (routes.length === 0) return []
  const one = routes.length === 1
  const via = (route: UnderlayRoute): string =>
    `${formatPrefix(route.destination)} dev ${linkNameOf(facts, route.linkIndex)}`
  return [
    {
      code: 'network-overlaps-route',
      severity: 'warn',
      what: `this host has ${one ? 'a route' : 'routes'} of its own into the overlay's network`,
      evidence: few(routes.map(via)),
      breaks: 'a host that gets a subnet there, and what this route leads to now, are not both reachable',
      fix: 'remove the route, or keep hosts out of there with SubnetMin and SubnetMax of the network config',
      commands: routes
        .slice(0, 1)
        .map((route) => `ip ${familyWord(route.destination.address)}route del ${via(route)}`),
    },
  ]
}

const isInside = (inner: Prefix, outer: Prefix): boolean =>
  inner.length >= outer.length && prefixContains(outer, inner.address)

/**
 * A route inside the network; or a larger one without a gateway, so that it has hosts of its own on its link.
 */
function concerns({ destination, hasGateway }: UnderlayRoute, network: Prefix): boolean {
  if (!prefixesOverlap(destination, network)) return false
  return destination.length >= network.length || (!hasGateway && destination.length > 0)
}

/** A route on our devices, or a bridge's into a subnet of ours. */
function isOurs(facts: OverlapFacts, { destination, linkIndex }: UnderlayRoute): boolean {
  const family = familyOf(destination.address)
  if (facts.kernel.value.devices.some(({ link }) => link.index === linkIndex)) return true
  return subnetsOf(facts, family).some((own) => isInside(destination, own))
}
