/**
 * The daemon from start to end: wait for a usable config, choose the underlay, make the device, get the lease, bring all peers into
 * the kernel, say ready, then follow etcd and the kernel. Ending it removes nothing.
 */
import type { Server } from 'node:http'
import { CALL_DEADLINE_MS } from '../etcd/client'
import { etcdPrefix, keysUnder } from '../etcd/keys'
import type { Snapshot } from '../etcd/snapshot'
import type { RegistryEvent, RegistryUpdate } from '../etcd/updates'
import { readMoment } from '../host/moment'
import { notifySystemd, watchdogMilliseconds } from '../host/sd-notify'
import { readStateFile, type SavedState } from '../host/state-file'
import { writeSubnetEnv } from '../host/subnet-env'
import { describeError, OverlayError } from '../model/errors'
import { type Revision, sameLeaseValue } from '../model/lease'
import { ConfigError, type NetworkConfig } from '../model/network-config'
import { overlayMtu } from '../plan/desired'
import { GroupTable } from '../plan/group-table'
import { IdentityConflict } from '../plan/identity'
import { sameAddresses, type Underlay } from '../plan/underlay'
import { ChangeBell } from './change-bell'
import { serveControlSocket } from './control-socket'
import { describePresent } from './describe-present'
import { serveHealth } from './health-server'
import { type HostMemory, isReplaced, reasonAgainst, recall } from './host-memory'
import { joinNetwork, type Start, type Tools } from './join'
import type { Logger } from './logger'
import type { Member } from './member'
import { type MetricsText, serveMetrics, writeMetrics } from './metrics'
import { Multicast } from './multicast'
import type { Overlay } from './overlay'
import { readConfig } from './read-config'
import { settlesBefore } from './settles-before'
import { StateKeeper } from './state-keeper'
import type { Status } from './status'
import { type DaemonView, reportStatus } from './status-report'
import { takeGroups } from './take-groups'

/** Signs of life in the time after which systemd gives us up: one may be late. */
const WATCHDOG_BEATS = 3

/**
 * Milliseconds that etcd has for its first answer before a host comes up from its state file: one call to its deadline, other members
 * included. Coming up too early costs nothing, for whatever etcd says later is what counts; waiting costs traffic.
 */
const ETCD_PATIENCE = CALL_DEADLINE_MS

/** Milliseconds until a host that has another's address asks again whether that one lives; each time is a Put for all peers. */
const RIVAL_RETRY = 60_000

/** Failures of etcd that are worth a line also when it was away before: someone has to act, or a new listing follows. */
const NEWS: readonly string[] = ['etcd-refused', 'etcd-tls', 'etcd-compacted']

export class Daemon {
  #phase: DaemonView['phase'] = 'starting'
  #member: Member | undefined
  #multicast: Multicast | undefined
  /** What hosts say that they want of multicast. */
  readonly #groups = new GroupTable()
  /** Why the config in etcd is not in use; `undefined` when it is. */
  #configProblem: string | undefined
  #following: { readonly connected: boolean; readonly error?: string } = { connected: false }
  #revision: Revision | undefined
  #toldStatus: string | undefined
  /** The code of the failure of etcd that was logged last. */
  #toldLoss: string | undefined
  /** What an earlier run remembers. */
  #memory: HostMemory | undefined
  /** Why there is none, or none that may be used. */
  #memoryProblem: string | undefined
  /** When the member was started from the state file and etcd has said nothing since: when the file was written. */
  #fromState: string | undefined
  #triedState = false
  #rival: IdentityConflict | undefined
  /** Why there is no subnet for this host; `undefined` when there is, or when it is not known yet. */
  #subnetProblem: string | undefined
  /** The config in etcd. */
  #config: { readonly text: string | undefined; readonly revision: Revision | undefined } | undefined
  #clusterId: string | undefined
  /** Of the peers, as they were when the state was last told to have changed. */
  #peersGeneration = 0
  readonly #state: StateKeeper
  /** Rung when the status may be another one. */
  readonly #changes = new ChangeBell()

  constructor(
    private readonly tools: Tools,
    private readonly version: string,
  ) {
    this.#state = new StateKeeper(tools.options['state-dir'], () => this.#present(), tools.log)
  }

  get #log(): Logger {
    return this.tools.log
  }

  /**
   * Runs until the signal fires.
   * @throws {OverlayError} when it cannot go on: no underlay, device refused, no subnet free, subnet file not writable, ...
   */
  async run(stop: AbortSignal): Promise<void> {
    const servers: Server[] = []
    // A part that fails ends all others, and its error is the daemon's.
    const failure = new AbortController()
    const signal = AbortSignal.any([stop, failure.signal])
    const fail = (error: unknown): void => failure.abort(error)
    try {
      const sources = {
        status: (probe: boolean, brief: boolean) => this.status(probe, brief),
        changes: this.#changes,
        drain: (drained: boolean) => this.#drain(drained, signal),
        metrics: () => this.metrics(),
        events: this.tools.events,
      }
      servers.push(await serveControlSocket(this.tools.options['run-dir'], sources, this.#log))
      servers.push(...(await this.#serveHealth()), ...(await this.#serveMetrics()))
      await this.#recall()
      this.#state.run(signal).catch(fail)
      await this.#follow(signal, fail)
    } catch (error) {
      fail(error)
    }
    await Promise.all([...servers.map(close), this.#state.save()])
    if (failure.signal.aborted && !stop.aborted) throw failure.signal.reason
  }

  /** @returns the server, if one is asked for */
  async #serveHealth(): Promise<Server[]> {
    const { 'healthz-ip': ip, 'healthz-port': port } = this.tools.options
    if (port === 0) return []
    const server = await serveHealth({ ip, port }, () => this.#notReady())
    this.#log.info(`health: serving /healthz and /readyz on ${ip} port ${port}`)
    return [server]
  }

  /** @returns the server, if one is asked for */
  async #serveMetrics(): Promise<Server[]> {
    const { 'metrics-ip': ip, 'metrics-port': port } = this.tools.options
    if (port === 0) return []
    const server = await serveMetrics({ ip, port }, () => this.metrics(), this.#log)
    this.#log.info(`metrics: serving /metrics on ${ip} port ${port}`)
    return [server]
  }

  /** For {@link serveHealth}. That etcd is away takes no host out of service: what runs goes on without it. */
  #notReady(): string | undefined {
    return this.#phase === 'running'
      ? this.#member?.unready
      : (this.#rival?.message ?? this.#configProblem ?? this.#subnetProblem ?? '')
  }

  /**
   * @param probe whether etcd is asked for its latency
   * @param brief whether few peers will do
   */
  status(probe: boolean, brief: boolean): Promise<Status> {
    return reportStatus(this.#view(), probe ? this.tools.registry : undefined, brief)
  }

  /** In Prometheus's text format. The first time loads what makes it. */
  async metrics(): Promise<MetricsText> {
    const { events, meters } = this.tools
    meters.watchLoop()
    const multicastSummary = await this.#multicast?.keeper?.summary()
    const isReady = this.#notReady() === undefined
    return writeMetrics({ ...this.#view(), isReady, events, meters, multicastSummary })
  }

  #view(): DaemonView {
    return {
      options: this.tools.options,
      version: this.version,
      phase: this.#phase,
      member: this.#member?.parts,
      multicast: this.#multicast,
      configProblem: this.#configProblem ?? this.#member?.configProblem,
      following: this.#following,
      revision: this.#revision,
      stateFile: this.#stateStatus(),
      rival: this.#rival,
      subnetProblem: this.#subnetProblem,
    }
  }

  /**
   * Gives this host's lease back, or takes it again.
   * @throws {OverlayError} when there is none, or etcd does not take it
   */
  async #drain(drained: boolean, signal: AbortSignal): Promise<void> {
    const keeper = this.#member?.parts.keeper
    if (keeper === undefined) {
      throw new OverlayError('drain', 'this host has no lease yet', 'see why: overlayctl status')
    }
    if (drained) await keeper.drain(signal)
    else keeper.undrain()
    this.#notify([])
    this.#changes.ring()
  }

  #stateStatus(): DaemonView['stateFile'] {
    const savedAt = this.#fromState ?? this.#state.savedAt
    const problem = this.#state.problem ?? this.#memoryProblem
    return {
      inUse: this.#fromState !== undefined,
      ...(savedAt !== undefined && { savedAt }),
      ...(problem !== undefined && { problem }),
    }
  }

  /** Reads what an earlier run remembers; that there is nothing, or nothing usable, keeps nobody from starting. */
  async #recall(): Promise<void> {
    const { options } = this.tools
    const { state, refusal } = await readStateFile(options['state-dir'])
    const prefix = etcdPrefix(options['etcd-prefix'])
    const memory = state === undefined ? refusal : recall(state, prefix, keysUnder(prefix))
    if (typeof memory === 'string') {
      this.#log.warn(`state: ${memory}; starting without it`, { kind: 'state-problem' })
      this.#memoryProblem = memory
    } else this.#memory = memory
  }

  /** What is to be remembered; nothing while we only know what we remembered. */
  async #present(): Promise<SavedState | undefined> {
    if (this.#member === undefined || this.#fromState !== undefined) return undefined
    if (this.#revision === undefined) return undefined
    return describePresent(this.#member.parts, {
      prefix: etcdPrefix(this.tools.options['etcd-prefix']),
      clusterId: this.#clusterId,
      config: this.#config,
      revision: this.#revision,
    })
  }

  async #follow(signal: AbortSignal, fail: (error: unknown) => void): Promise<void> {
    const patience = performance.now() + ETCD_PATIENCE
    while (!signal.aborted) {
      const listing = new AbortController()
      const updates = this.tools.registry.follow(AbortSignal.any([signal, listing.signal]))
      try {
        for (;;) {
          const next = updates.next()
          await this.#startIfSilent(next, patience, signal, fail)
          const { done, value } = await next
          if (done === true) break
          const again = await this.#take(value, listing, signal, fail)
          this.#changes.ring()
          if (again) break
        }
      } finally {
        listing.abort()
        await updates.return()
      }
    }
  }

  /**
   * Takes in an update.
   * @returns whether to begin again with a new listing, for only that is complete
   */
  async #take(
    update: RegistryUpdate,
    listing: AbortController,
    signal: AbortSignal,
    fail: (error: unknown) => void,
  ): Promise<boolean> {
    this.#noteConnection(update)
    const areGroupsNews = takeGroups(this.#groups, update, performance.now())
    if (this.#member !== undefined) {
      this.#member.take(this.#fromState === undefined ? update : this.#comparedWithMemory(update))
      if (update.kind !== 'lost') this.#confirm(this.#member)
      if (areGroupsNews) this.#multicast?.wake()
    } else if (update.kind === 'snapshot') {
      await this.#startFromEtcd(update.snapshot, signal, fail)
      if (this.#rival !== undefined) setTimeout(() => listing.abort(), RIVAL_RETRY).unref()
    } else if (update.kind === 'events') {
      return update.events.some(
        (event) => event.kind === 'config' || this.#freesSubnet(event) || this.#concernsRival(event),
      )
    }
    return false
  }

  #freesSubnet(event: RegistryEvent): boolean {
    return this.#subnetProblem !== undefined && event.kind === 'removed'
  }

  /** Whether the host that has our address may be gone. What we write ourselves to ask for it changes nothing. */
  #concernsRival(event: RegistryEvent): boolean {
    const rival = this.#rival?.lease
    if (rival === undefined) return false
    if (event.kind === 'removed') return event.key === rival.key
    return (
      event.kind === 'lease' &&
      event.lease.key === rival.key &&
      !sameLeaseValue(event.lease.value, rival.value)
    )
  }

  /** The first answer after a start from the state file follows what that remembers, as a later one follows an earlier. */
  #comparedWithMemory(update: RegistryUpdate): RegistryUpdate {
    if (update.kind !== 'snapshot' || this.#memory === undefined) return update
    return isReplaced(this.#memory, update.snapshot) ? { ...update, replaced: true } : update
  }

  /** etcd has answered: what it says is what counts from now on, whatever the state file said. */
  #confirm(member: Member): void {
    for (const { reconciler } of member.parts.overlays) reconciler.confirm()
    const isFirst = this.#fromState !== undefined
    if (isFirst) {
      this.#fromState = undefined
      this.#multicast?.wake()
      this.#memory = undefined
      this.#log.info('state: etcd has answered; what it says counts from now on')
    }
    // Whoever renews a lease by writing it again, as flannel does, is no reason to write the file.
    if (!isFirst && member.peersGeneration === this.#peersGeneration) return
    this.#peersGeneration = member.peersGeneration
    this.#state.changed(false)
  }

  /** Comes up from the state file when there is no update in time. Later updates are then taken in like anyone's. */
  async #startIfSilent(
    next: Promise<unknown>,
    patience: number,
    signal: AbortSignal,
    fail: (error: unknown) => void,
  ): Promise<void> {
    const memory = this.#memory
    if (
      memory === undefined ||
      this.#triedState ||
      this.#member !== undefined ||
      this.#revision !== undefined
    )
      return
    const isAnswered = await settlesBefore(next, patience, signal)
    if (!isAnswered) await this.#startFromState(memory, signal, fail)
  }

  async #startFromState(
    memory: HostMemory,
    signal: AbortSignal,
    fail: (error: unknown) => void,
  ): Promise<void> {
    const { savedAt } = memory
    // Once: nothing but etcd's answer makes it better.
    this.#triedState = true
    const refusal = reasonAgainst(memory, readMoment())
    try {
      if (refusal !== undefined) throw new OverlayError('state-unusable', refusal)
      this.#log.warn(
        `state: etcd has not answered for ${ETCD_PATIENCE / 1000} s; coming up from what was known at ${savedAt}`,
        { kind: 'state-in-use' },
      )
      const config = this.#readConfig(memory.snapshot.config)
      this.#fromState = savedAt
      await this.#start(config, { origin: 'state', snapshot: memory.snapshot, memory }, signal, fail)
    } catch (error) {
      this.#fromState = undefined
      if (!(error instanceof OverlayError && ['state-unusable', 'config-invalid'].includes(error.code)))
        throw error
      this.#memoryProblem = `what was known at ${savedAt} is not used: ${describeError(error)}`
      this.#log.warn(`state: ${this.#memoryProblem}; waiting for etcd, the kernel keeps everything`, {
        kind: 'state-problem',
      })
    }
  }

  #noteConnection(update: RegistryUpdate): void {
    if (update.kind === 'lost') {
      const error = describeError(update.error)
      const news = NEWS.includes(update.error.code) && update.error.code !== this.#toldLoss
      if (this.#following.connected || this.#following.error === undefined || news) {
        this.#toldLoss = update.error.code
        this.#log.warn(`etcd: ${error}; the kernel keeps everything, trying again`, {
          kind: update.error.code === 'etcd-compacted' ? 'etcd-compacted' : 'etcd-lost',
        })
      }
      this.#following = { connected: false, error }
      this.#notify([])
      return
    }
    if (!this.#following.connected) this.#log.info('etcd: following', { kind: 'etcd-connected' })
    if (update.kind === 'snapshot') {
      const { revision, leases, unreadable } = update.snapshot
      const count = leases.length + unreadable.length
      this.#log.debug(`etcd: listed at revision ${revision}: ${count} leases`, { kind: 'etcd-listed' })
    }
    this.#following = { connected: true }
    this.#revision = update.kind === 'snapshot' ? update.snapshot.revision : update.revision
    if (update.kind === 'snapshot') {
      this.#config = { text: update.snapshot.config, revision: update.snapshot.configRevision }
      this.#clusterId = update.snapshot.clusterId
    } else {
      const config = update.events.findLast((event) => event.kind === 'config')
      if (config !== undefined) this.#config = { text: config.text, revision: config.modRevision }
    }
  }

  async #startFromEtcd(
    snapshot: Snapshot,
    signal: AbortSignal,
    fail: (error: unknown) => void,
  ): Promise<void> {
    try {
      const config = this.#readConfig(snapshot.config)
      await this.#start(config, { origin: 'etcd', snapshot, memory: this.#memory }, signal, fail)
      this.#memory = undefined
      this.#rival = undefined
    } catch (error) {
      if (error instanceof IdentityConflict) this.#noteRival(error)
      else if (error instanceof ConfigError) this.#waitForConfig(describeError(error))
      else if (error instanceof OverlayError && error.code === 'out-of-subnets')
        this.#waitForSubnet(describeError(error))
      else throw error
    }
  }

  #noteRival(rival: IdentityConflict): void {
    if (this.#rival?.message !== rival.message) {
      this.#log.error(
        `lease: CONFLICT: ${describeError(rival)}; nothing is written over, the kernel keeps everything`,
        { kind: 'lease-conflict' },
      )
    }
    this.#rival = rival
    this.#notify([])
  }

  async #start(
    config: NetworkConfig,
    start: Start,
    signal: AbortSignal,
    fail: (error: unknown) => void,
  ): Promise<void> {
    this.#phase = 'starting'
    const member = await joinNetwork(this.tools, config, start, signal)
    this.#member = member
    this.#configProblem = undefined
    this.#subnetProblem = undefined
    this.#memoryProblem = undefined
    const { overlays, keeper, firewall, underlay } = member.parts
    const watchdog = watchdogMilliseconds()
    const every = watchdog === undefined ? Number.POSITIVE_INFINITY : watchdog / WATCHDOG_BEATS
    const alive = new Set<Overlay>()
    for (const overlay of overlays) {
      const tell = (): void => {
        this.#changes.ring()
        alive.add(overlay)
        if (alive.size < overlays.length) return
        // All of them are alive, not only the one that tells most often.
        alive.clear()
        this.#notify(watchdog === undefined ? [] : ['WATCHDOG=1'])
      }
      overlay.reconciler.run(signal, { every, tell }).catch(fail)
    }
    keeper.run(signal).catch(fail)
    await this.#ready(member)
    const multicast = new Multicast(this.tools, member, this.#groups, () => this.#fromState !== undefined)
    this.#multicast = multicast
    member.onPeersChange(() => multicast.wake())
    multicast.follow(signal).catch(fail)
    // It begins with starting a program, which others need not wait for.
    firewall.run(signal).catch(fail)
    keeper.onChange(() => {
      this.#state.changed(true)
      multicast.publisher?.wake()
      this.#changes.ring()
    })
    this.#state.changed(true)
    const moved = async (now: Underlay, before: Underlay): Promise<void> => {
      if (!sameAddresses(now, before)) this.tools.registry.reconnect()
      member.move(now)
      multicast.wake()
      this.#state.changed(true)
      await this.#writeSubnetFile(member)
    }
    underlay.run(signal, moved).catch(fail)
    const reconfigured = async (): Promise<void> => {
      multicast.follow(signal).catch(fail)
      this.#state.changed(true)
      await this.#writeSubnetFile(member)
    }
    member.run(signal, reconfigured).catch(fail)
  }

  #readConfig(text: string | undefined): NetworkConfig {
    if (text !== undefined) return readConfig(text, this.tools.options)
    throw new ConfigError(
      `there is no network config at ${this.#configKey}`,
      `put one: overlayctl config set --etcd-prefix=${this.tools.options['etcd-prefix']} '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
    )
  }

  get #configKey(): string {
    return keysUnder(etcdPrefix(this.tools.options['etcd-prefix'])).config
  }

  #waitForConfig(problem: string): void {
    if (this.#configProblem !== problem)
      this.#log.warn(`config: ${problem}; waiting for a usable one`, { kind: 'config-problem' })
    this.#configProblem = problem
    this.#phase = 'waiting-for-config'
    this.#notify([])
  }

  /** Another start would find the same: a subnet comes free with a lease that goes. */
  #waitForSubnet(problem: string): void {
    if (this.#subnetProblem !== problem)
      this.#log.error(`lease: ${problem}; waiting for one that comes free`, { kind: 'lease-none-free' })
    this.#subnetProblem = problem
    this.#phase = 'waiting-for-subnet'
    this.#notify([])
  }

  async #ready(member: Member): Promise<void> {
    await this.#writeSubnetFile(member)
    this.#phase = 'running'
    this.#log.info(`ready: ${member.headline}`, { kind: 'ready' })
    this.#notify(['READY=1'])
  }

  async #writeSubnetFile({ parts: { config, underlay, keeper } }: Member): Promise<void> {
    const { ipv4, ipv6 } = keeper.own.subnet
    const written = await writeSubnetEnv(this.tools.options['subnet-file'], {
      ipv4: config.ipv4 && ipv4 && { network: config.ipv4.network, subnet: ipv4 },
      ipv6: config.ipv6 && ipv6 && { network: config.ipv6.network, subnet: ipv6 },
      mtu: overlayMtu(config, underlay.current),
      ipMasq: this.tools.options['ip-masq'],
    })
    if (written) this.#log.info(`subnet file: wrote ${this.tools.options['subnet-file']}`)
  }

  /** Tells systemd, with the line that `systemctl status` shows when that has changed. */
  #notify(states: readonly string[]): void {
    const summary =
      this.#member?.summary(this.#following.connected) ??
      (this.#rival === undefined
        ? (this.#configProblem ?? this.#subnetProblem ?? 'starting')
        : 'another live host has our address')
    const line = `STATUS=${summary}`
    const news = line === this.#toldStatus ? states : [...states, line]
    if (news.length === 0) return
    this.#toldStatus = line
    try {
      notifySystemd(news)
    } catch (error) {
      // systemd will make of it what it wants; the host works.
      this.#log.error(describeError(error))
    }
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
