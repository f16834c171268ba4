/**
 * Joins the network: chooses the underlay, makes the devices, takes the lease, puts all peers into the
 * kernel.
 */
import { endpointAddresses } from '../../etcd/client/endpoints'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { readPreviousSubnets } from '../../host/subnet-env'
import { enableIpForward, enableIpv6Forward } from '../../kernel/sysctl'
import { FAMILIES, type Family, familyOf, type Prefix } from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import type { HostNetwork, ObservedLink } from '../../model/kernel/link'
import { formatLeaseSubnet, type Lease, type LeaseSubnet } from '../../model/lease'
import type { Waiting } from '../../model/waiting'
import type { Options } from '../../options/schema'
import { checkMtu } from '../../plan/config/check-mtu'
import { checkAbility } from '../../plan/encryption/encryption-plan'
import { describeOverlap, overlapped } from '../../plan/host/host-prefixes'
import { type OverlaySpec, planDevices, planHost } from '../../plan/host-plan'
import { findMove, leaseValue, type Move } from '../../plan/lease/own-lease'
import type { ProtectedAddress } from '../../plan/peers/claim'
import { PeerTable } from '../../plan/peers/peer-table'
import { LocalTable } from '../../plan/prefixes/local-table'
import { linkName } from '../../plan/reconcile/desired'
import { NO_STALE_DEVICES, staleDevices } from '../../plan/reconcile/stale-links'
import { HostBook } from '../../plan/trust/host-book'
import type { Edges } from '../edges'
import { Encryption } from '../encryption/encryption'
import { Ways } from '../encryption/ways'
import { FirewallKeeper } from '../keepers/firewall-keeper'
import { firewallRequest } from '../keepers/firewall-request'
import { LeaseKeeper, renewInterval } from '../keepers/lease-keeper'
import { UnderlayKeeper } from '../keepers/underlay-keeper'
import { giveWay, inTurns } from '../loop/give-way'
import { hostPolicy } from '../node/host-policy'
import { Node } from '../node/node'
import { Proof } from '../node/proof'
import { AddressGuard } from '../overlay/address-guard'
import { ensureLink } from '../overlay/ensure-link'
import { Overlay } from '../overlay/overlay'
import { PathMtus } from '../overlay/path-mtus'
import { Reconciler } from '../overlay/reconciler'
import type { Target } from '../overlay/target'
import { AnnouncedPrefixes } from '../prefixes/announced'
import { Announcer } from '../prefixes/announcer'
import { Deliverer } from '../prefixes/deliverer'
import type { Logger } from '../tell/logger'
import { acquireLease, type LeaseRequest } from './acquire-lease'
import { chooseMacs } from './choose-macs'
import { gatherIdentity, type HostIdentification } from './gather-identity'
import type { HostMemory } from './host-memory'
import { type Claims, settleClaims } from './settle-claims'

/** The data that a start is based on: those in etcd, or those that an earlier run saved in the state file. */
export interface StartBasis {
  readonly origin: 'etcd' | 'state'
  /** The config as text, and all leases. */
  readonly snapshot: Snapshot
  /** The content of the state file, if it is usable. */
  readonly memory: HostMemory | undefined
}

/**
 * Joins the network. A failure before the lease is taken leaves nothing in etcd. A start from the state file
 * does not ask etcd, and neither replaces nor removes anything in the kernel: the kernel may be newer.
 * @param config the parsed config of `start.snapshot`
 * @param waits called with each reason to wait, and with `undefined` when the wait is over
 * @throws {ConfigError} when this host cannot use the config
 * @throws {IdentityConflict} when another live host has our address
 * @throws {OverlayError} `no-underlay`, `out-of-subnets`, `state-unusable`, ..., or the kernel's refusal
 */
export async function joinNetwork(
  edges: Edges,
  config: NetworkConfig,
  start: StartBasis,
  waits: (waiting: Waiting | undefined) => void,
  signal: AbortSignal,
): Promise<Node> {
  const { options, kernel, registry, locks, identity, log } = edges
  const { snapshot, origin } = start
  const underlayKeeper = await UnderlayKeeper.choose(edges, config, start.memory, signal)
  const underlay = underlayKeeper.current
  const subnetFile = await readPreviousSubnets(options['subnet-file'])
  for (const problem of subnetFile.problems) log.warn(`subnet file: ${problem}`)
  const host = await gatherIdentity(kernel, config, underlay, start.memory, subnetFile, signal)
  const claims =
    origin === 'state'
      ? rememberedLease(start.memory, host)
      : await settleClaims(registry, config, snapshot.leases, host, log, signal, waits)
  await giveWay(signal)
  checkMtu(config, underlay)
  const macs = chooseMacs(snapshot.leases, claims.known, host)
  const ability = await edges.wireguard.ability(config)
  checkAbility(config, ability)
  const devices = planDevices({ config, underlay, macs })
  for (const { link } of devices) await locks.take(link.name)
  // Before the lease, so that a device that cannot be made leaves nothing in etcd.
  for (const { link } of devices) await ensureLink(kernel, link, log, signal)

  // Nothing is pinned for a start from the state file: its peers were proven when it was written.
  const hosts = new HostBook(snapshot.hosts, start.memory?.seenSerials)
  const isPinned = claims.leases.some(({ subnet, value }) =>
    hosts.isKnown ? hosts.isPinned(subnet) : value.signature !== undefined,
  )
  if (isPinned || ability?.kind === 'able') await identity.open()
  for (const lease of [...claims.leases, ...(start.memory === undefined ? [] : [start.memory.own])])
    identity.learn(lease)
  const value = identity.sign(leaseValue(config, underlay, devices, ability), isPinned)
  const lease = await ownLease(
    edges,
    config,
    start,
    underlayKeeper,
    { value, claimed: claims.leases, publicIp: host.publicIp, previous: { ...NO_SUBNET, ...host.subnet } },
    waits,
    signal,
  )
  const moved = findMove(config, host.had, lease, snapshot.leases, claims.appointed !== undefined)
  if (moved !== undefined) logMove(log, lease, moved)
  const around = await kernel.hostNetwork({}, signal)
  const isRemembered = origin === 'state'
  // The state file may be older than the kernel's state. After a start from the file the node looks for such
  // devices when etcd has answered.
  const stale = isRemembered ? NO_STALE_DEVICES : staleDevices(config, around)
  const surroundings = protectedAddresses(options, around)
  const plan = planHost({ config, underlay, macs, lease: lease.subnet, policy: hostPolicy(options), ability })
  const ways = new Ways()
  const overlays = plan.overlays.map((spec) => {
    const succeeds = stale.links.get(spec.family) ?? []
    const overlay = makeOverlay(edges, spec, lease, surroundings, {
      stale: succeeds,
      unconfirmed: isRemembered,
      wayOf: (peer) => ways.of(peer),
    })
    // The first pass reads them anew. To know them now saves it from judging all peers a second time.
    overlay.addresses.protect(foreignAddresses(around, spec, succeeds))
    return overlay
  })
  const stops: (() => void)[] = []
  for (const { peers, reconciler } of overlays) {
    // Before the first dump, so that no change after the dump is missed.
    stops.push(kernel.onChange((change) => reconciler.kernelChanged(change)))
    const { leases, unreadable, moreMisnamed } = snapshot
    const listed = peers.resetting(leases, () => ({ leases: unreadable, moreMisnamed }), hosts.pins)
    const changes = await inTurns(listed, signal)
    reconciler.peersChanged(changes, snapshot.revision)
  }
  const prefixes = new AnnouncedPrefixes({ overlays, own: lease, surroundings }, log)
  const deliverer = new Deliverer(kernel, overlays, prefixes, log, around)
  prefixes.onReview(() => deliverer.update())
  stops.push(kernel.onChange((change) => deliverer.kernelChanged(change)))
  // Before the first pass, which removes what nobody wants.
  const { prefixes: entries, morePrefixes: more = 0 } = snapshot
  const revision = isRemembered ? undefined : snapshot.revision
  if (entries !== undefined) await inTurns(prefixes.listing({ entries, more, revision }), signal)
  await prefixes.settle(signal)
  // Before Docker starts: if Docker has to enable forwarding itself, it sets the policy of FORWARD to DROP.
  if (options['ip-forward']) await enableForwarding(plan.overlays, log)
  const names = FAMILIES.map((family) => linkName(family, config.backend.vni))
  const request = await firewallRequest(plan.firewall, names, log)
  const firewall = new FirewallKeeper(request, { log, period: options['iptables-resync'] * 1000 })
  // Before the peers are put into the kernel: entries through tunnels of an earlier run stay as they are.
  const encryption = new Encryption(edges, overlays, ways, plan, {
    isRemembered,
    staleVnis: stale.tunnels,
  })
  await encryption.prepare(signal)
  // In parallel: an iptables that hangs must not delay routes.
  await Promise.all([
    firewall.look(signal),
    ...overlays.map(({ reconciler }) => reconciler.syncAll(signal)),
  ]).catch((error: unknown) => {
    // The next attempt makes reconcilers of its own.
    for (const stop of stops) stop()
    encryption.close()
    throw error
  })
  const keeper = new LeaseKeeper(registry, lease, value, log, {
    renewEvery: renewInterval(options['subnet-lease-renew-margin']),
    ...(isRemembered && { renewal: start.memory?.renewal }),
    moved,
    isFormer: (found) => identity.isFormer(found),
  })
  const proof = new Proof(hosts, identity, lease, log)
  const announcer = new Announcer(registry, keeper, prefixes, deliverer, log, start.memory?.announced)
  const parts = {
    underlay: underlayKeeper,
    lease: keeper,
    overlays,
    firewall,
    encryption,
    proof,
    prefixes,
    deliverer,
    announcer,
  }
  return new Node(edges, parts, plan, { text: snapshot.config, revision: snapshot.revision, isRemembered })
}

/**
 * The lease of a host that starts from its state file.
 * @throws {OverlayError} `state-unusable` if another machine wrote the file, or this one at another address
 */
function rememberedLease(memory: HostMemory | undefined, { difference }: HostIdentification): Claims {
  if (memory === undefined) throw new TypeError('a start from the state file without its content')
  if (difference === undefined) return { leases: [memory.own], known: [memory.own] }
  throw new OverlayError(
    'state-unusable',
    `it was written by another host, or at another address: ${difference}`,
  )
}

const NO_SUBNET: LeaseSubnet = { ipv4: undefined, ipv6: undefined }

function logMove(log: Logger, { subnet }: Lease, { from, reason }: Move): void {
  const about = [formatLeaseSubnet(subnet), formatLeaseSubnet(from)]
  log.warn(
    `lease: this host has moved from ${about[1]} to ${about[0]}: ${reason}. ` +
      'Containers started before have addresses of the former subnet and are cut off: restart Docker',
    { kind: 'lease-moved', about },
  )
}

/** Acquires the lease, or returns the remembered one; logs a subnet that overlaps prefixes of this host. */
async function ownLease(
  { registry, log }: Edges,
  config: NetworkConfig,
  { origin, snapshot }: StartBasis,
  underlay: UnderlayKeeper,
  request: Required<Pick<LeaseRequest, 'value' | 'claimed' | 'publicIp' | 'previous'>>,
  waits: (waiting: Waiting | undefined) => void,
  signal: AbortSignal,
): Promise<Lease> {
  const [remembered] = request.claimed
  const own = await underlay.lookInside(true, signal)
  if (origin === 'state' && remembered !== undefined) return remembered
  const inside = overlapped(request.previous, own)
  if (inside !== undefined)
    log.warn(
      `lease: the subnet that this host had last overlaps ${inside.what}; ` +
        'another one is taken unless the former is leased to this host',
    )
  const avoid = own.map(({ prefix }) => prefix)
  const lease = await acquireLease(registry, snapshot, { config, ...request, avoid }, log, signal, waits)
  const overlap = overlapped(lease.subnet, own)
  if (overlap !== undefined)
    log.error(
      `lease: ${describeOverlap(lease.subnet, overlap)}; ` +
        'enlarge the network, or reserve another subnet for this host',
      { kind: 'lease-overlap' },
    )
  return lease
}

/** Enables forwarding for the families of the overlays, where it is off. */
async function enableForwarding(overlays: readonly OverlaySpec[], log: Logger): Promise<void> {
  const has = (family: Family): boolean => overlays.some((overlay) => overlay.family === family)
  const changed = [
    has('IPv4') && (await enableIpForward()) && 'IPv4',
    has('IPv6') && (await enableIpv6Forward()) && 'IPv6',
  ].filter((family) => family !== false)
  if (changed.length > 0) log.info(`forwarding: switched on for ${changed.join(' and ')}`)
}

/** The addresses of one family on all links but the device and those that it replaces. */
function foreignAddresses(
  { links, addresses }: Pick<HostNetwork, 'links' | 'addresses'>,
  { family, link }: OverlaySpec,
  stale: readonly ObservedLink[],
): Prefix[] {
  const names = new Set([link, ...stale].map(({ name }) => name))
  const ours = new Set(links.filter(({ name }) => names.has(name)).map(({ index }) => index))
  return addresses
    .filter(({ address, linkIndex }) => familyOf(address.address) === family && !ours.has(linkIndex))
    .map(({ address }) => address)
}

/**
 * Addresses outside the overlay that no peer may cover: etcd and default gateways. Names are not resolved.
 */
function protectedAddresses(
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
  { options, kernel, meters, log }: Edges,
  spec: OverlaySpec,
  lease: Lease,
  surroundings: readonly ProtectedAddress[],
  present: Pick<Target, 'stale' | 'unconfirmed' | 'wayOf'>,
): Overlay {
  const { link, range, subnet, allowed, vni, publicIp, directRouting, blackhole, forward } = spec
  const peers = new PeerTable(
    { range, vni, overlap: options['allow-network-overlap'] },
    { key: lease.key, subnet, publicIp, mac: link.mac },
  )
  const mtus = new PathMtus(options['path-mtu'] === 'auto' && options.probe === 'on')
  const local = new LocalTable()
  const target = {
    link,
    network: range.network,
    allowed,
    subnet,
    peers,
    directRouting,
    blackhole,
    forward,
    mtus,
    local,
    ...present,
  }
  const addresses = new AddressGuard(peers, surroundings, log)
  const reconciler = new Reconciler(kernel, target, (links) => addresses.protect(links), log, { meters })
  return new Overlay(spec, peers, addresses, reconciler, mtus, local)
}
