/**
 * The daemon from start to end: wait for a usable config, choose the underlay, make the device, get the lease, bring all peers into
 * the kernel, say ready, then follow etcd and the kernel. Ending it removes nothing.
 */
import { randomBytes } from 'node:crypto'
import type { Server } from 'node:http'
import { etcdPrefix, keysUnder } from '../etcd/keys'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import type { RegistryEvent, RegistryUpdate } from '../etcd/updates'
import { notifySystemd, watchdogMilliseconds } from '../host/sd-notify'
import { readPreviousSubnet, writeSubnetEnv } from '../host/subnet-env'
import type { Kernel } from '../kernel/kernel'
import { enableIpForward } from '../kernel/sysctl'
import { formatIpv4, formatIpv4Prefix, formatMac, randomMac } from '../model/address'
import { describeError } from '../model/errors'
import type { Lease, LeaseValue, Revision, UnreadableLease } from '../model/lease'
import { ConfigError, type NetworkConfig, parseNetworkConfig } from '../model/network-config'
import { desiredLink, linkName, overlayMtu } from '../plan/desired'
import { dockerRules } from '../plan/firewall'
import { chooseMac } from '../plan/own-lease'
import { type PeerChange, PeerTable } from '../plan/peer-table'
import { checkUnderlayOutside, chooseUnderlay, type Underlay } from '../plan/underlay'
import { acquireLease } from './acquire-lease'
import { serveControlSocket } from './control-socket'
import { ensureLink } from './ensure-link'
import { FirewallKeeper } from './firewall-keeper'
import { LeaseKeeper } from './lease-keeper'
import type { Logger } from './logger'
import type { Options } from './options'
import { Reconciler } from './reconciler'
import type { Status } from './status'
import { type DaemonView, reportStatus } from './status-report'

/** Everything that exists once the host is part of the network. */
export interface Member {
  readonly config: NetworkConfig
  readonly configText: string | undefined
  readonly underlay: Underlay
  readonly keeper: LeaseKeeper
  readonly peers: PeerTable
  readonly reconciler: Reconciler
  /** Only on hosts with Docker. */
  readonly firewall: FirewallKeeper | undefined
}

/** Signs of life in the time after which systemd gives us up: one may be late. */
const WATCHDOG_BEATS = 3
/** Lines about rejected leases at the start. */
const MOST_REJECTED_LINES = 20

export class Daemon {
  #phase: DaemonView['phase'] = 'starting'
  #member: Member | undefined
  /** Why the config in etcd is not in use; `undefined` when it is. */
  #configProblem: string | undefined
  #following: { readonly connected: boolean; readonly error?: string } = { connected: false }
  #revision: Revision | undefined
  #toldStatus: string | undefined

  constructor(
    private readonly options: Options,
    private readonly kernel: Kernel,
    private readonly registry: Registry,
    private readonly log: Logger,
    private readonly version: string,
  ) {}

  /**
   * Runs until the signal fires.
   * @throws {OverlayError} when it cannot go on: no underlay, device refused, no subnet free, subnet file not writable, ...
   */
  async run(stop: AbortSignal): Promise<void> {
    const server = await serveControlSocket(this.options['run-dir'], () => this.status(), this.log)
    // A part that fails ends all others, and its error is the daemon's.
    const failure = new AbortController()
    const signal = AbortSignal.any([stop, failure.signal])
    const fail = (error: unknown): void => failure.abort(error)
    await this.#follow(signal, fail).catch(fail)
    await close(server)
    if (failure.signal.aborted && !stop.aborted) throw failure.signal.reason
  }

  status(): Promise<Status> {
    return reportStatus(
      {
        options: this.options,
        version: this.version,
        phase: this.#phase,
        member: this.#member,
        configProblem: this.#configProblem,
        following: this.#following,
        revision: this.#revision,
      },
      this.registry,
    )
  }

  async #follow(signal: AbortSignal, fail: (error: unknown) => void): Promise<void> {
    while (!signal.aborted) {
      for await (const update of this.registry.follow(signal)) {
        this.#noteConnection(update)
        if (this.#member !== undefined) this.#take(this.#member, update)
        else if (update.kind === 'snapshot') await this.#tryStart(update.snapshot, signal, fail)
        else if (update.kind === 'events' && update.events.some((event) => event.kind === 'config')) {
          // Only a new listing is complete, so begin again with one.
          break
        }
      }
    }
  }

  #noteConnection(update: RegistryUpdate): void {
    if (update.kind === 'lost') {
      const error = describeError(update.error)
      if (this.#following.connected || this.#following.error === undefined) {
        this.log.warn(`etcd: ${error}; the kernel keeps everything, trying again`)
      }
      this.#following = { connected: false, error }
      this.#notify([])
      return
    }
    if (!this.#following.connected) this.log.info('etcd: following')
    this.#following = { connected: true }
    this.#revision = update.kind === 'snapshot' ? update.snapshot.revision : update.revision
  }

  async #tryStart(snapshot: Snapshot, signal: AbortSignal, fail: (error: unknown) => void): Promise<void> {
    try {
      const config = this.#readConfig(snapshot.config)
      this.#phase = 'starting'
      this.#member = await this.#start(config, snapshot, signal)
      this.#configProblem = undefined
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      this.#waitForConfig(describeError(error))
      return
    }
    const { reconciler, keeper, firewall } = this.#member
    const watchdog = watchdogMilliseconds()
    const every = watchdog === undefined ? Number.POSITIVE_INFINITY : watchdog / WATCHDOG_BEATS
    const tell = (): void => this.#notify(watchdog === undefined ? [] : ['WATCHDOG=1'])
    reconciler.run(signal, { every, tell }).catch(fail)
    keeper.run(signal).catch(fail)
    firewall?.run(signal).catch(fail)
    await this.#ready(this.#member)
  }

  #readConfig(text: string | undefined): NetworkConfig {
    if (text !== undefined) return parseNetworkConfig(text)
    throw new ConfigError(
      `there is no network config at ${this.#configKey}`,
      `put one: etcdctl put ${this.#configKey} '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
    )
  }

  get #configKey(): string {
    return keysUnder(etcdPrefix(this.options['etcd-prefix'])).config
  }

  #waitForConfig(problem: string): void {
    if (this.#configProblem !== problem) this.log.warn(`config: ${problem}; waiting for a usable one`)
    this.#configProblem = problem
    this.#phase = 'waiting-for-config'
    this.#notify([])
  }

  async #start(config: NetworkConfig, snapshot: Snapshot, signal: AbortSignal): Promise<Member> {
    const host = await this.kernel.hostNetwork(signal)
    const underlay = chooseUnderlay(host, {
      iface: this.options.iface,
      publicIp: this.options['public-ip'],
    })
    checkUnderlayOutside(config, underlay)
    this.log.info(
      `underlay: ${underlay.link.name}, sending from ${formatIpv4(underlay.local)}, announced as ${formatIpv4(underlay.publicIp)}`,
    )
    this.#warnAboutConfig(config)

    const device = await this.kernel.link(linkName(config), signal)
    const isOurs = (lease: Lease): boolean => lease.value.publicIp === underlay.publicIp
    const mac = chooseMac(
      { device: device?.mac, lease: snapshot.leases.find(isOurs)?.value.vtep?.mac },
      snapshot.leases.filter((lease) => !isOurs(lease)).map((lease) => lease.value),
      () => randomMac(randomBytes(6)),
    )
    const link = desiredLink(config, underlay, mac)
    // Before the lease, so that a device that cannot be made leaves nothing in etcd.
    await ensureLink(this.kernel, link, this.log, signal)
    const value: LeaseValue = {
      publicIp: underlay.publicIp,
      publicIpv6: undefined,
      backendType: 'vxlan',
      vtep: { vni: config.backend.vni, mac },
      vtep6: undefined,
    }
    const previous = await readPreviousSubnet(this.options['subnet-file'])
    if (previous.problem !== undefined) this.log.warn(`subnet file: ${previous.problem}`)
    const lease = await acquireLease(
      this.registry,
      snapshot,
      { config, publicIp: underlay.publicIp, previous: previous.subnet, value },
      this.log,
      signal,
    )
    const subnet = lease.subnet.ipv4
    const peers = new PeerTable(config, { key: lease.key, subnet, publicIp: underlay.publicIp, mac })
    const reconciler = new Reconciler(this.kernel, { link, network: config.network, subnet, peers }, this.log)
    // Before the first dump, so that what changes after it is not missed.
    this.kernel.onChange((change) => reconciler.kernelChanged(change))
    reconciler.peersChanged(peers.reset(snapshot.leases, snapshot.unreadable), snapshot.revision)
    this.#logAllRejected(peers)
    // Before Docker starts: it drops what is forwarded if it has to switch forwarding on itself.
    await enableIpForward()
    const firewall = await FirewallKeeper.forDocker(
      link.name,
      dockerRules(link.name, config.network),
      this.log,
    )
    await firewall?.look(signal)
    await reconciler.syncAll(signal)
    const keeper = new LeaseKeeper(this.registry, lease, value, this.log)
    return { config, configText: snapshot.config, underlay, keeper, peers, reconciler, firewall }
  }

  #warnAboutConfig(config: NetworkConfig): void {
    if (config.backend.directRouting) {
      this.log.warn(
        'config: DirectRouting is not carried out by this version: peers in our own subnet are reached by VXLAN too',
      )
    }
  }

  async #ready({ config, underlay, keeper, peers }: Member): Promise<void> {
    const { state } = keeper
    if (state.kind !== 'held') return
    const subnet = state.lease.subnet.ipv4
    const written = await writeSubnetEnv(this.options['subnet-file'], {
      network: config.network,
      subnet,
      mtu: overlayMtu(config, underlay),
      ipMasq: false,
    })
    if (written) this.log.info(`subnet file: wrote ${this.options['subnet-file']}`)
    this.#phase = 'running'
    this.log.info(`ready: ${formatIpv4Prefix(subnet)} on ${linkName(config)}, ${peers.size} peers`)
    this.#notify(['READY=1'])
  }

  /** Tells systemd, with the line that `systemctl status` shows when that has changed. */
  #notify(states: readonly string[]): void {
    const line = `STATUS=${this.#statusLine()}`
    const news = line === this.#toldStatus ? states : [...states, line]
    if (news.length === 0) return
    this.#toldStatus = line
    try {
      notifySystemd(news)
    } catch (error) {
      // systemd will make of it what it wants; the host works.
      this.log.error(describeError(error))
    }
  }

  #statusLine(): string {
    if (this.#member === undefined) return this.#configProblem ?? 'starting'
    const { keeper, peers, reconciler, config } = this.#member
    const subnet = formatIpv4Prefix(keeper.own.subnet.ipv4)
    const troubles = [
      !this.#following.connected && 'etcd away',
      keeper.state.kind !== 'held' && `lease ${keeper.state.kind}`,
      !reconciler.convergence.converged && 'kernel not converged',
      this.#configProblem !== undefined && 'config changed',
    ].filter((trouble) => trouble !== false)
    return `${subnet} on ${linkName(config)}, ${peers.size} peers, ${troubles.join(', ') || 'healthy'}`
  }

  /** Takes in what etcd tells while running. */
  #take(member: Member, update: RegistryUpdate): void {
    const { keeper, peers, reconciler } = member
    if (update.kind === 'lost') return
    if (update.kind === 'snapshot') {
      const { leases, unreadable, config, revision } = update.snapshot
      this.#noteConfig(member, config)
      const listed: (Lease | UnreadableLease)[] = [...leases, ...unreadable]
      keeper.observe(listed.find((lease) => lease.key === keeper.key))
      this.#peersChanged(reconciler, peers.reset(leases, unreadable), revision)
      return
    }
    const changes = update.events.flatMap((event) => this.#takeEvent(member, event))
    this.#peersChanged(reconciler, changes, update.revision)
  }

  #takeEvent(member: Member, event: RegistryEvent): PeerChange[] {
    const { keeper, peers } = member
    switch (event.kind) {
      case 'config':
        this.#noteConfig(member, event.text)
        return []
      case 'removed':
        if (event.key === keeper.key) keeper.observe(undefined)
        return peers.remove(event.key)
      case 'unreadable':
        if (event.lease.key === keeper.key) keeper.observe(event.lease)
        else this.#logRejected(event.lease.key, event.lease.reason)
        peers.putUnreadable(event.lease)
        return []
      case 'lease': {
        if (event.lease.key === keeper.key) keeper.observe(event.lease)
        const changes = peers.put(event.lease)
        const reason = peers.reasonAgainst(event.lease.key)
        if (reason !== undefined) this.#logRejected(event.lease.key, reason)
        return changes
      }
    }
  }

  #peersChanged(reconciler: Reconciler, changes: readonly PeerChange[], revision: Revision): void {
    for (const { before, after } of changes) {
      const peer = after ?? before
      if (peer === undefined) continue
      const what = before === undefined ? 'joined' : after === undefined ? 'left' : 'changed'
      const subnet = formatIpv4Prefix(peer.subnet)
      this.log.debug(`peer ${what}: ${subnet} at ${formatIpv4(peer.publicIp)} with ${formatMac(peer.mac)}`)
    }
    if (changes.length > 0) this.log.info(summarize(changes))
    reconciler.peersChanged(changes, revision)
  }

  /** A config that changes or goes while we run takes effect at the next start; until then what runs goes on. */
  #noteConfig(member: Member, text: string | undefined): void {
    const problem =
      text === member.configText
        ? undefined
        : `the network config in etcd ${text === undefined ? 'was deleted' : 'has changed'} since the start; it takes effect at the next start`
    if (problem !== undefined && problem !== this.#configProblem) this.log.warn(`config: ${problem}`)
    this.#configProblem = problem
  }

  /** A log that is flooded says nothing; `overlayctl status` lists them all. */
  #logAllRejected(peers: PeerTable): void {
    const rejected = [...peers.rejected()]
    for (const { key, reason } of rejected.slice(0, MOST_REJECTED_LINES)) this.#logRejected(key, reason)
    const more = rejected.length - MOST_REJECTED_LINES
    if (more > 0) this.log.warn(`peer rejected: ${more} more; overlayctl status lists them`)
  }

  #logRejected(key: string, reason: string): void {
    this.log.warn(`peer rejected: ${key}: ${reason}`)
  }
}

/** One line for any number of changes. */
function summarize(changes: readonly PeerChange[]): string {
  const joined = changes.filter(({ before }) => before === undefined).length
  const left = changes.filter(({ after }) => after === undefined).length
  const changed = changes.length - joined - left
  const parts = [
    joined > 0 && `${joined} joined`,
    left > 0 && `${left} left`,
    changed > 0 && `${changed} changed`,
  ]
  const [only] = changes
  const one = changes.length === 1 ? (only?.after ?? only?.before) : undefined
  const detail = one === undefined ? '' : `: ${formatIpv4Prefix(one.subnet)} at ${formatIpv4(one.publicIp)}`
  return `peers: ${parts.filter(Boolean).join(', ')}${detail}`
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
