/** Makes this host part of the network: underlay, device, lease, and all peers in the kernel. */
import { randomBytes } from 'node:crypto'
import { endpointAddresses } from '../etcd/endpoints'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { readPreviousSubnet } from '../host/subnet-env'
import type { Kernel } from '../kernel/kernel'
import { enableIpForward } from '../kernel/sysctl'
import { formatIpv4, randomMac } from '../model/address'
import type { Lease, LeaseValue } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { desiredLink, linkName } from '../plan/desired'
import { dockerRules } from '../plan/firewall'
import { chooseMac } from '../plan/own-lease'
import { PeerTable } from '../plan/peer-table'
import { checkUnderlayOutside, chooseUnderlay, requireIpv4, type Underlay } from '../plan/underlay'
import { acquireLease } from './acquire-lease'
import { ensureLink } from './ensure-link'
import { FirewallKeeper } from './firewall-keeper'
import { LeaseKeeper, renewInterval } from './lease-keeper'
import type { Logger } from './logger'
import { Member } from './member'
import type { Options } from './options'
import { Reconciler } from './reconciler'

/** What the daemon works with. */
export interface Tools {
  readonly options: Options
  readonly kernel: Kernel
  readonly registry: Registry
  readonly log: Logger
}

/**
 * Joins. What fails before the lease is taken leaves nothing in etcd.
 * @param snapshot what etcd has; `config` is read from it
 * @throws {ConfigError} when this host cannot use the config
 * @throws {OverlayError} `no-underlay`, `out-of-subnets`, ..., or the kernel's refusal
 */
export async function joinNetwork(
  { options, kernel, registry, log }: Tools,
  config: NetworkConfig,
  snapshot: Snapshot,
  signal: AbortSignal,
): Promise<Member> {
  const underlay = await findUnderlay(kernel, options, config, signal)
  const addresses = requireIpv4(underlay)
  log.info(
    `underlay: ${underlay.link.name}, sending from ${formatIpv4(addresses.local)}, announced as ${formatIpv4(addresses.public)}`,
  )
  if (config.backend.directRouting) {
    log.warn(
      'config: DirectRouting is not carried out by this version: peers in our own subnet are reached by VXLAN too',
    )
  }

  const device = await kernel.link(linkName(config), signal)
  const isOurs = (lease: Lease): boolean => lease.value.publicIp === addresses.public
  const mac = chooseMac(
    { device: device?.mac, lease: snapshot.leases.find(isOurs)?.value.vtep?.mac },
    snapshot.leases.filter((lease) => !isOurs(lease)).map((lease) => lease.value),
    () => randomMac(randomBytes(6)),
  )
  const link = desiredLink(config, underlay, mac)
  // Before the lease, so that a device that cannot be made leaves nothing in etcd.
  await ensureLink(kernel, link, log, signal)
  const value: LeaseValue = {
    publicIp: addresses.public,
    publicIpv6: undefined,
    backendType: 'vxlan',
    vtep: { vni: config.backend.vni, mac },
    vtep6: undefined,
  }
  const previous = await readPreviousSubnet(options['subnet-file'])
  if (previous.problem !== undefined) log.warn(`subnet file: ${previous.problem}`)
  const lease = await acquireLease(
    registry,
    snapshot,
    { config, publicIp: addresses.public, previous: previous.subnet, value },
    log,
    signal,
  )
  const subnet = lease.subnet.ipv4
  const peers = new PeerTable(config, { key: lease.key, subnet, publicIp: addresses.public, mac })
  const reconciler = new Reconciler(kernel, { link, network: config.network, subnet, peers }, log)
  // Before the first dump, so that what changes after it is not missed.
  kernel.onChange((change) => reconciler.kernelChanged(change))
  reconciler.peersChanged(peers.reset(snapshot.leases, snapshot.unreadable), snapshot.revision)
  // Before Docker starts: it drops what is forwarded if it has to switch forwarding on itself.
  if (options['ip-forward']) await enableIpForward()
  const firewall = await FirewallKeeper.forDocker(link.name, dockerRules(link.name, config.network), log)
  // Side by side: an iptables that hangs holds up no route.
  await Promise.all([firewall?.look(signal), reconciler.syncAll(signal)])
  const keeper = new LeaseKeeper(
    registry,
    lease,
    value,
    log,
    renewInterval(options['subnet-lease-renew-margin']),
  )
  return new Member(
    { config, configText: snapshot.config, underlay, keeper, peers, reconciler, firewall },
    log,
  )
}

/**
 * Chooses the underlay, and refuses a network that covers what the host needs on it.
 * @throws {OverlayError} `no-underlay`
 * @throws {ConfigError}
 */
async function findUnderlay(
  kernel: Kernel,
  options: Options,
  config: NetworkConfig,
  signal: AbortSignal,
): Promise<Underlay> {
  const reach = options['iface-can-reach']
  const host = await kernel.hostNetwork({ reach }, signal)
  const underlay = chooseUnderlay(
    host,
    {
      iface: options.iface,
      ifaceRegex: options['iface-regex'],
      ifaceCanReach: reach,
      publicIp: options['public-ip'],
      publicIpv6: options['public-ipv6'],
    },
    { ipv4: true, ipv6: false },
  )
  if (!options['allow-network-overlap']) {
    checkUnderlayOutside([config.network], underlay, {
      etcd: endpointAddresses(options['etcd-endpoints']),
      gateways: host.defaultRoutes.flatMap(({ gateway }) => gateway ?? []),
    })
  }
  return underlay
}
