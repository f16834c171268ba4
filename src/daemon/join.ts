/** Makes this host part of the network: underlay, devices, lease, and all peers in the kernel. */
import { randomBytes } from 'node:crypto'
import { endpointAddresses } from '../etcd/endpoints'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { findProgram } from '../firewall/program'
import { readPreviousSubnets } from '../host/subnet-env'
import type { Kernel } from '../kernel/kernel'
import { bridgeNetfilter, enableIpForward, enableIpv6Forward } from '../kernel/sysctl'
import { FAMILIES, type Family, familyOf, type IpAddress, randomMac } from '../model/address'
import { OverlayError } from '../model/errors'
import type { LinkSpec, ObservedLink } from '../model/kernel'
import { type Lease, leaseHalf } from '../model/lease'
import { ConfigError, type NetworkConfig, type SubnetRange, subnetRanges } from '../model/network-config'
import { bridgeNetfilterProblem } from '../plan/bridge-netfilter'
import { desiredLink, familiesOf, linkMtu, linkName } from '../plan/desired'
import { chooseMac, isLeaseOf, leaseValue } from '../plan/own-lease'
import { PeerTable, type ProtectedAddress } from '../plan/peer-table'
import { type StaleLink, staleLinks } from '../plan/stale-links'
import type { Underlay, UnderlayAddress } from '../plan/underlay'
import { acquireLease } from './acquire-lease'
import { ensureLink } from './ensure-link'
import { FirewallKeeper } from './firewall-keeper'
import { LeaseKeeper, renewInterval } from './lease-keeper'
import type { Logger } from './logger'
import { Member } from './member'
import { instanceId, type Options } from './options'
import type { Overlay } from './overlay'
import { Reconciler, type Target } from './reconciler'
import { UnderlayKeeper } from './underlay-keeper'

/** What the daemon works with. */
export interface Tools {
  readonly options: Options
  readonly kernel: Kernel
  readonly registry: Registry
  readonly log: Logger
}

/** What one family needs before there is a lease. */
interface Half {
  readonly family: Family
  readonly range: SubnetRange
  readonly address: UnderlayAddress
  readonly link: LinkSpec
}

/**
 * Joins. What fails before the lease is taken leaves nothing in etcd.
 * @param snapshot what etcd has; `config` is read from it
 * @throws {ConfigError} when this host cannot use the config
 * @throws {OverlayError} `no-underlay`, `out-of-subnets`, ..., or the kernel's refusal
 */
export async function joinNetwork(
  tools: Tools,
  config: NetworkConfig,
  snapshot: Snapshot,
  signal: AbortSignal,
): Promise<Member> {
  const { options, kernel, registry, log } = tools
  const underlayKeeper = await UnderlayKeeper.choose(tools, config, signal)
  const underlay = underlayKeeper.current
  const publicIp = underlay.ipv4?.public ?? underlay.ipv6?.public
  if (publicIp === undefined) throw new OverlayError('no-underlay', 'the underlay has no address')
  const halves = await planHalves(kernel, config, underlay, snapshot, publicIp, signal)
  // Before the lease, so that a device that cannot be made leaves nothing in etcd.
  for (const { link } of halves) await ensureLink(kernel, link, log, signal)

  const value = leaseValue(
    config,
    underlay,
    halves.map(({ link }) => link),
  )
  const previous = await readPreviousSubnets(options['subnet-file'])
  for (const problem of previous.problems) log.warn(`subnet file: ${problem}`)
  const lease = await acquireLease(registry, snapshot, { config, publicIp, previous, value }, log, signal)
  const stale = await findStaleLinks(kernel, config, signal)
  const surroundings = await findSurroundings(tools, signal)
  const overlays = halves.map((half, i) =>
    makeOverlay(tools, config, half, lease, {
      stale: succeeded(stale, half.family, i === 0, familiesOf(config)),
      surroundings,
    }),
  )
  for (const { peers, reconciler } of overlays) {
    // Before the first dump, so that what changes after it is not missed.
    kernel.onChange((change) => reconciler.kernelChanged(change))
    reconciler.peersChanged(peers.reset(snapshot.leases, snapshot.unreadable), snapshot.revision)
  }
  // Before Docker starts: it drops what is forwarded if it has to switch forwarding on itself.
  if (options['ip-forward']) await enableForwarding(overlays, log)
  const firewall = await planFirewall(tools, config, overlays)
  // Side by side: an iptables that hangs holds up no route.
  await Promise.all([firewall.look(signal), ...overlays.map(({ reconciler }) => reconciler.syncAll(signal))])
  const keeper = new LeaseKeeper(
    registry,
    lease,
    value,
    log,
    renewInterval(options['subnet-lease-renew-margin']),
  )
  return new Member(
    { config, configText: snapshot.config, underlay: underlayKeeper, keeper, overlays, firewall },
    snapshot.revision,
    log,
  )
}

async function enableForwarding(overlays: readonly Overlay[], log: Logger): Promise<void> {
  const has = (family: Family): boolean => overlays.some((overlay) => overlay.family === family)
  const changed = [
    has('IPv4') && (await enableIpForward()) && 'IPv4',
    has('IPv6') && (await enableIpv6Forward()) && 'IPv6',
  ].filter((family) => family !== false)
  if (changed.length > 0) log.info(`forwarding: switched on for ${changed.join(' and ')}`)
}

async function planFirewall(
  { options, log }: Tools,
  config: NetworkConfig,
  overlays: readonly Overlay[],
): Promise<FirewallKeeper> {
  const mode = config.nftables ? 'nftables' : 'iptables'
  const scope = instanceId(options)
  if (mode === 'iptables') {
    const families = overlays.map(({ family }) => family)
    const problem = bridgeNetfilterProblem(await bridgeNetfilter(), families)
    if (problem !== undefined) log.warn(`firewall: ${problem}`)
  }
  const request = {
    mode,
    networks: overlays.map(({ network, subnet, reconciler }) => {
      return { network, subnet, link: reconciler.desiredLink.name }
    }),
    links: FAMILIES.map((family) => linkName(family, config.backend.vni)),
    ipMasq: options['ip-masq'],
    fullyRandom: !options['ip-masq-fully-random-disable'],
    forwardRules: options['iptables-forward-rules'],
    docker: (await findProgram('dockerd')) !== undefined,
    ...(scope !== undefined && { scope }),
  } as const
  return new FirewallKeeper(request, { log, period: options['iptables-resync'] * 1000 })
}

/** Least MTU of a link that carries IPv6 (RFC 8200, 5). */
const LEAST_IPV6_MTU = 1280

async function planHalves(
  kernel: Kernel,
  config: NetworkConfig,
  underlay: Underlay,
  snapshot: Snapshot,
  publicIp: IpAddress,
  signal: AbortSignal,
): Promise<Half[]> {
  if (config.ipv6 !== undefined && linkMtu(config, underlay, 'IPv6') < LEAST_IPV6_MTU) {
    throw new ConfigError(
      `an IPv6 overlay needs ${LEAST_IPV6_MTU} bytes, and ${linkMtu(config, underlay, 'IPv6')} are left on ${underlay.link.name}`,
      'raise the MTU of the interface or Backend.MTU to 1350 or more',
    )
  }
  const isOurs = (lease: Lease): boolean => isLeaseOf(lease, publicIp)
  const own = snapshot.leases.find(isOurs)
  const others = snapshot.leases.filter((lease) => !isOurs(lease)).map((lease) => lease.value)
  const halves: Half[] = []
  for (const range of subnetRanges(config)) {
    const address = typeof range.network.address === 'number' ? underlay.ipv4 : underlay.ipv6
    const family = familyOf(range.network.address)
    if (address === undefined) {
      throw new OverlayError('no-underlay', `interface ${underlay.link.name} has no ${family} address`)
    }
    const device = await kernel.link(linkName(family, config.backend.vni), signal)
    const lease = own && leaseHalf(own, family)?.vtep?.mac
    const mac = chooseMac({ device: device?.mac, lease }, others, () => randomMac(randomBytes(6)))
    halves.push({ family, range, address, link: desiredLink(config, underlay, address.local, mac) })
  }
  return halves
}

async function findStaleLinks(
  kernel: Kernel,
  config: NetworkConfig,
  signal: AbortSignal,
): Promise<readonly StaleLink[]> {
  const { links, addresses } = await kernel.hostNetwork({}, signal)
  return staleLinks(config, links, addresses)
}

/** The devices that one family's device succeeds; those of a family that is no more fall to the first. */
function succeeded(
  stale: readonly StaleLink[],
  family: Family,
  isFirst: boolean,
  families: readonly Family[],
): ObservedLink[] {
  return stale
    .filter((each) => each.family === family || (isFirst && !families.includes(each.family)))
    .map(({ link }) => link)
}

/** What this host needs to reach outside the overlay, as far as it can be known without DNS. */
async function findSurroundings(
  { kernel, options }: Tools,
  signal: AbortSignal,
): Promise<readonly ProtectedAddress[]> {
  const { defaultRoutes } = await kernel.hostNetwork({}, signal)
  const gateways = defaultRoutes.flatMap(({ gateway }) => gateway ?? [])
  return [
    ...endpointAddresses(options['etcd-endpoints']).map((address) => ({
      address,
      what: 'the address of etcd',
    })),
    ...gateways.map((address) => ({ address, what: 'the gateway of the default route' })),
  ]
}

function makeOverlay(
  { options, kernel, log }: Tools,
  config: NetworkConfig,
  { family, range, address, link }: Half,
  lease: Lease,
  host: Pick<Target, 'stale' | 'surroundings'>,
): Overlay {
  const subnet = leaseHalf(lease, family)?.subnet
  if (subnet === undefined) throw new TypeError(`the lease ${lease.key} has no ${family} subnet`)
  const peers = new PeerTable(
    { range, vni: config.backend.vni, overlap: options['allow-network-overlap'] },
    { key: lease.key, subnet, publicIp: address.public, mac: link.mac },
  )
  const target = {
    link,
    network: range.network,
    subnet,
    peers,
    directRouting: config.backend.directRouting,
    blackhole: options['ip-blackhole-route'],
    forward: options['ip-forward'],
    ...host,
  }
  return {
    family,
    network: range.network,
    subnet,
    peers,
    reconciler: new Reconciler(kernel, target, log),
  }
}
