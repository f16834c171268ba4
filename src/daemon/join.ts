/** Makes this host part of the network: underlay, devices, lease, and all peers in the kernel. */
import { endpointAddresses } from '../etcd/endpoints'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { readPreviousSubnets } from '../host/subnet-env'
import type { Kernel } from '../kernel/kernel'
import { enableIpForward, enableIpv6Forward } from '../kernel/sysctl'
import { FAMILIES, type Family } from '../model/address'
import { OverlayError } from '../model/errors'
import type { HostNetwork, ObservedLink } from '../model/kernel'
import { type Lease, leaseHalf } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { familiesOf, linkName } from '../plan/desired'
import { leaseValue } from '../plan/own-lease'
import { PeerTable, type ProtectedAddress } from '../plan/peer-table'
import { type StaleLink, staleLinks } from '../plan/stale-links'
import { acquireLease, type LeaseRequest } from './acquire-lease'
import type { DeviceLocks } from './device-lock'
import { ensureLink } from './ensure-link'
import type { EventLog } from './events'
import { FirewallKeeper } from './firewall-keeper'
import { firewallRequest } from './firewall-request'
import { giveWay, inTurns } from './give-way'
import type { HostMemory } from './host-memory'
import { type HostIdentification, identify } from './identify'
import { LeaseKeeper, renewInterval } from './lease-keeper'
import type { Logger } from './logger'
import { Member } from './member'
import type { Meters } from './meters'
import type { Options } from './options'
import type { Overlay } from './overlay'
import { type Half, planHalves } from './plan-halves'
import { Reconciler, type Target } from './reconciler'
import { type Claims, settleClaims } from './settle-claims'
import { UnderlayKeeper } from './underlay-keeper'

/** What the daemon works with. */
export interface Tools {
  readonly options: Options
  readonly kernel: Kernel
  readonly registry: Registry
  readonly locks: DeviceLocks
  readonly log: Logger
  /** What the log says with a kind. */
  readonly events: EventLog
  readonly meters: Meters
}

/** What to start with: what etcd has, or what an earlier run remembers of it. */
export interface Start {
  readonly origin: 'etcd' | 'state'
  /** The network; its config is parsed from it. */
  readonly snapshot: Snapshot
  /** What the state file remembers of this host. */
  readonly memory: HostMemory | undefined
}

/**
 * Joins. What fails before the lease is taken leaves nothing in etcd. From a state file nothing is asked of etcd, and nothing in the kernel
 * is replaced or removed: what is there may be newer.
 * @throws {ConfigError} when this host cannot use the config
 * @throws {IdentityConflict} when another live host has our address
 * @throws {OverlayError} `no-underlay`, `out-of-subnets`, `state-unusable`, ..., or the kernel's refusal
 */
export async function joinNetwork(
  tools: Tools,
  config: NetworkConfig,
  start: Start,
  signal: AbortSignal,
): Promise<Member> {
  const { options, kernel, registry, locks, log } = tools
  const { snapshot, origin } = start
  const underlayKeeper = await UnderlayKeeper.choose(tools, config, signal)
  const underlay = underlayKeeper.current
  const host = await identify(kernel, config, underlay, start.memory, signal)
  const claims =
    origin === 'state'
      ? rememberedLease(start.memory, host)
      : await settleClaims(registry, config, snapshot.leases, host, log, signal)
  await giveWay(signal)
  const halves = planHalves(config, underlay, snapshot.leases, claims.known, host)
  for (const { link } of halves) await locks.take(link.name)
  // Before the lease, so that a device that cannot be made leaves nothing in etcd.
  for (const { link } of halves) await ensureLink(kernel, link, log, signal)

  const links = halves.map(({ link }) => link)
  const value = leaseValue(config, underlay, links)
  const lease = await ownLease(
    tools,
    config,
    start,
    { value, claimed: claims.leases, publicIp: host.publicIp },
    signal,
  )
  const around = await kernel.hostNetwork({}, signal)
  // On the word of a state file nothing is removed.
  const stale = origin === 'state' ? [] : staleLinks(config, around.links, around.addresses)
  const surroundings = findSurroundings(options, around)
  const overlays = halves.map((half, i) => {
    const succeeds = succeeded(stale, half.family, i === 0, familiesOf(config))
    return makeOverlay(tools, config, half, lease, {
      stale: succeeds,
      unconfirmed: origin === 'state',
      surroundings,
    })
  })
  for (const { peers, reconciler } of overlays) {
    // Before the first dump, so that what changes after it is not missed.
    kernel.onChange((change) => reconciler.kernelChanged(change))
    const changes = await inTurns(peers.resetting(snapshot.leases, snapshot.unreadable), signal)
    reconciler.peersChanged(changes, snapshot.revision)
  }
  // Before Docker starts: it drops what is forwarded if it has to switch forwarding on itself.
  if (options['ip-forward']) await enableForwarding(overlays, log)
  const request = await firewallRequest(
    tools,
    config,
    overlays.map(({ network, subnet, reconciler }) => {
      return { network, subnet, link: reconciler.desiredLink.name }
    }),
    FAMILIES.map((family) => linkName(family, config.backend.vni)),
  )
  const firewall = new FirewallKeeper(request, { log, period: options['iptables-resync'] * 1000 })
  // Side by side: an iptables that hangs holds up no route.
  await Promise.all([firewall.look(signal), ...overlays.map(({ reconciler }) => reconciler.syncAll(signal))])
  const keeper = new LeaseKeeper(registry, lease, value, log, {
    renewEvery: renewInterval(options['subnet-lease-renew-margin']),
    ...(origin === 'state' && { renewal: start.memory?.renewal }),
  })
  return new Member(
    tools,
    { config, configText: snapshot.config, underlay: underlayKeeper, keeper, overlays, firewall },
    snapshot.revision,
  )
}

/**
 * The lease of a host that starts from its state file.
 * @throws {OverlayError} `state-unusable` when the file was written by another machine, or this one at another address
 */
function rememberedLease(memory: HostMemory | undefined, { difference }: HostIdentification): Claims {
  if (memory === undefined) throw new TypeError('a start from state without a state')
  if (difference === undefined) return { leases: [memory.own], known: [memory.own] }
  throw new OverlayError(
    'state-unusable',
    `it was written by another host, or at another address: ${difference}`,
  )
}

async function ownLease(
  { options, registry, log }: Tools,
  config: NetworkConfig,
  { origin, snapshot, memory }: Start,
  { value, claimed, publicIp }: Required<Pick<LeaseRequest, 'value' | 'claimed' | 'publicIp'>>,
  signal: AbortSignal,
): Promise<Lease> {
  const [remembered] = claimed
  if (origin === 'state' && remembered !== undefined) return remembered
  const previous = await readPreviousSubnets(options['subnet-file'])
  for (const problem of previous.problems) log.warn(`subnet file: ${problem}`)
  const request = { config, publicIp, claimed, preferred: memory?.own.key, previous, value }
  return acquireLease(registry, snapshot, request, log, signal)
}

async function enableForwarding(overlays: readonly Overlay[], log: Logger): Promise<void> {
  const has = (family: Family): boolean => overlays.some((overlay) => overlay.family === family)
  const changed = [
    has('IPv4') && (await enableIpForward()) && 'IPv4',
    has('IPv6') && (await enableIpv6Forward()) && 'IPv6',
  ].filter((family) => family !== false)
  if (changed.length > 0) log.info(`forwarding: switched on for ${changed.join(' and ')}`)
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
function findSurroundings(
  options: Options,
  { defaultRoutes }: Pick<HostNetwork, 'defaultRoutes'>,
): readonly ProtectedAddress[] {
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
  { options, kernel, meters, log }: Tools,
  config: NetworkConfig,
  { family, range, address, link }: Half,
  lease: Lease,
  host: Pick<Target, 'stale' | 'unconfirmed' | 'surroundings'>,
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
    reconciler: new Reconciler(kernel, target, log, { meters }),
  }
}
