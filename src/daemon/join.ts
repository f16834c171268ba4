/** Makes this host part of the network: underlay, device, lease, and all peers in the kernel. */
import { randomBytes } from 'node:crypto'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { findProgram } from '../firewall/program'
import { readPreviousSubnet } from '../host/subnet-env'
import type { Kernel } from '../kernel/kernel'
import { enableIpForward } from '../kernel/sysctl'
import { formatIpv4, randomMac } from '../model/address'
import type { Lease, LeaseValue } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { desiredLink, linkName } from '../plan/desired'
import { chooseMac } from '../plan/own-lease'
import { PeerTable } from '../plan/peer-table'
import { checkUnderlayOutside, chooseUnderlay } from '../plan/underlay'
import { acquireLease } from './acquire-lease'
import { ensureLink } from './ensure-link'
import { FirewallKeeper } from './firewall-keeper'
import { LeaseKeeper } from './lease-keeper'
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
  const host = await kernel.hostNetwork(signal)
  const underlay = chooseUnderlay(host, {
    iface: options.iface,
    publicIp: options['public-ip'],
  })
  checkUnderlayOutside(config, underlay)
  log.info(
    `underlay: ${underlay.link.name}, sending from ${formatIpv4(underlay.local)}, announced as ${formatIpv4(underlay.publicIp)}`,
  )
  if (config.backend.directRouting) {
    log.warn(
      'config: DirectRouting is not carried out by this version: peers in our own subnet are reached by VXLAN too',
    )
  }

  const device = await kernel.link(linkName(config), signal)
  const isOurs = (lease: Lease): boolean => lease.value.publicIp === underlay.publicIp
  const mac = chooseMac(
    { device: device?.mac, lease: snapshot.leases.find(isOurs)?.value.vtep?.mac },
    snapshot.leases.filter((lease) => !isOurs(lease)).map((lease) => lease.value),
    () => randomMac(randomBytes(6)),
  )
  const link = desiredLink(config, underlay, mac)
  // Before the lease, so that a device that cannot be made leaves nothing in etcd.
  await ensureLink(kernel, link, log, signal)
  const value: LeaseValue = {
    publicIp: underlay.publicIp,
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
    { config, publicIp: underlay.publicIp, previous: previous.subnet, value },
    log,
    signal,
  )
  const subnet = lease.subnet.ipv4
  const peers = new PeerTable(config, { key: lease.key, subnet, publicIp: underlay.publicIp, mac })
  const reconciler = new Reconciler(kernel, { link, network: config.network, subnet, peers }, log)
  // Before the first dump, so that what changes after it is not missed.
  kernel.onChange((change) => reconciler.kernelChanged(change))
  reconciler.peersChanged(peers.reset(snapshot.leases, snapshot.unreadable), snapshot.revision)
  // Before Docker starts: it drops what is forwarded if it has to switch forwarding on itself.
  await enableIpForward()
  const firewall = new FirewallKeeper(
    {
      mode: 'iptables',
      networks: [{ network: config.network, subnet, link: link.name }],
      links: [link.name],
      ipMasq: false,
      fullyRandom: true,
      forwardRules: false,
      docker: (await findProgram('dockerd')) !== undefined,
    },
    { log },
  )
  // Side by side: an iptables that hangs holds up no route.
  await Promise.all([firewall.look(signal), reconciler.syncAll(signal)])
  const keeper = new LeaseKeeper(registry, lease, value, log)
  return new Member(
    { config, configText: snapshot.config, underlay, keeper, peers, reconciler, firewall },
    log,
  )
}
