/**
 * The daemon from start to end. It waits for a usable config, chooses the underlay, makes the device,
 * acquires the lease, puts all peers into the kernel and reports ready; then it follows etcd and the kernel.
 * Its end removes nothing. This file connects the parts: `Starter` makes the attempts to start, `Node` is the
 * host with its lease.
 */
import { etcdPrefix } from '../etcd/codec/keys'
import type { RegistryUpdate } from '../etcd/follow/updates'
import { forgetLastExit } from '../host/last-exit'
import type { SavedState } from '../host/state-file'
import { commandsFor, networkOfRunDirectory } from '../model/commands'
import { type NetworkConfig, wantsMulticast } from '../model/config/network-config'
import { OverlayError } from '../model/errors'
import { describeWaiting, type Waiting } from '../model/waiting'
import { etcdEndpointNames } from '../options/etcd'
import { shareableOptions } from '../options/tell'
import { sameAddresses } from '../plan/host/underlay'
import { describeShortage } from '../plan/host/underlay-room'
import type { HostPlan } from '../plan/host-plan'
import { GroupTable } from '../plan/multicast/group-table'
import type { Edges } from './edges'
import { type EtcdLink, knowledgeOf, linkAfter } from './etcd-link'
import { StateKeeper } from './keepers/state-keeper'
import { SubnetFile } from './keepers/subnet-file'
import { Multicast } from './multicast/multicast'
import { takeGroups } from './multicast/take-groups'
import type { Node } from './node/node'
import { type SortedUpdate, sortUpdate } from './node/sort-update'
import type { Overlay } from './overlay/overlay'
import { startProber } from './probing/prober'
import { ChangeSignal } from './serve/change-signal'
import { reportMetrics } from './serve/metrics-report'
import { reportObjects } from './serve/objects-report'
import { prefixSources } from './serve/prefix-sources'
import { startServers } from './serve/servers'
import { reportStatus } from './serve/status-report'
import type { DaemonView } from './serve/view'
import { describePresent } from './start/describe-present'
import { joinNetwork, type StartBasis } from './start/join'
import { warnOfIgnored } from './start/read-config'
import { type Run, Starter } from './start/starter'
import { confirmed, type DaemonState, type HostState, metOf, phaseOf, waitingOf } from './state'
import { logLink } from './tell/log-link'
import type { Logger } from './tell/logger'
import { Systemd } from './tell/systemd'

export class Daemon {
  /** The host once it has its lease. Before, the state is that of the starter. */
  #host: HostState | undefined
  #link: EtcdLink = { kind: 'connecting' }
  /** The shortage of the underlay's MTU that was logged last. Undefined: there is none. */
  #shortage: string | undefined
  /** The node's `generation` when the state file was last marked as changed. */
  #generation = 0
  /** Multicast groups that hosts announce in etcd. */
  readonly #groups = new GroupTable()
  readonly #starter: Starter
  readonly #stateFile: StateKeeper
  readonly #subnetFile: SubnetFile
  /** Notifies those who wait for a change of the status. */
  readonly #changes = new ChangeSignal()
  readonly #systemd: Systemd

  constructor(
    private readonly edges: Edges,
    private readonly version: string,
  ) {
    const { options, log } = edges
    this.#systemd = new Systemd(() => this.#summary(), log)
    this.#starter = new Starter(
      edges,
      (config, start, waits, run) => this.#start(config, start, waits, run),
      () => this.#changed(),
    )
    this.#subnetFile = new SubnetFile(options['subnet-file'], log, () => this.#changed())
    this.#stateFile = new StateKeeper(options['state-dir'], () => this.#present(), log)
  }

  get #log(): Logger {
    return this.edges.log
  }

  get #state(): DaemonState {
    return this.#host ?? this.#starter.state
  }

  get #node(): Node | undefined {
    return this.#host?.node
  }

  get #multicast(): Multicast | undefined {
    return this.#host?.multicast
  }

  /** When the state file was written; undefined once etcd has answered. */
  get #fromState(): string | undefined {
    return this.#host?.fromState
  }

  get #waiting(): Waiting | undefined {
    return waitingOf(this.#state, this.#link, etcdEndpointNames(this.edges.options))
  }

  /**
   * Runs until the signal fires.
   * @throws {OverlayError} when the daemon cannot go on: no underlay, device refused, subnet file not
   * writable, ...
   */
  async run(stop: AbortSignal): Promise<void> {
    const failure = new AbortController()
    const signal = AbortSignal.any([stop, failure.signal])
    const run: Run = { signal, fail: (error) => failure.abort(error) }
    let closeServers = async (): Promise<void> => undefined
    try {
      const sources = {
        status: (probe: boolean, brief: boolean) =>
          reportStatus(this.#view(), probe ? this.edges.registry : undefined, brief),
        objects: () => {
          const { overlays = [], announcer } = this.#node?.view ?? {}
          return reportObjects(this.edges.kernel, overlays, announcer?.further ?? [])
        },
        changes: this.#changes,
        settings: () => shareableOptions(this.edges.options),
        ...prefixSources(() => this.#node?.view, signal),
        drain: (drained: boolean) => this.#drain(drained, signal),
        rotateKey: () => this.#rotateKey(),
        identity: () => this.edges.identity.demand(),
        metrics: () => reportMetrics(this.#view(), this.edges, this.#notReady() === undefined),
        notReady: () => this.#notReady(),
        events: this.edges.events,
      }
      closeServers = await startServers(this.edges.options, sources, this.#log)
      await this.#starter.recall()
      this.#stateFile.run(signal).catch(run.fail)
      await this.#follow(run)
    } catch (error) {
      run.fail(error)
    }
    await Promise.all([closeServers(), this.#stateFile.save()])
    if (failure.signal.aborted && !stop.aborted) throw failure.signal.reason
  }

  /**
   * For {@link startServers}: why this host is not ready, as text, which may be empty; `undefined` if it is
   * ready. An outage of etcd does not make a running host unready: its traffic goes on.
   */
  #notReady(): string | undefined {
    if (this.#host?.kind === 'running') return join([this.#host.node.unready, this.#host.prober?.unready])
    const waiting = this.#waiting
    return waiting === undefined ? '' : describeWaiting(waiting)
  }

  #view(): DaemonView {
    return {
      options: this.edges.options,
      version: this.version,
      phase: phaseOf(this.#state),
      node: this.#node?.view,
      multicast: this.#multicast,
      mesh: this.#host?.prober,
      link: this.#link,
      waiting: this.#waiting,
      obstacle: metOf(this.#state)?.obstacle,
      stateFile: this.#stateStatus(),
      subnetFileProblem: this.#subnetFile.problem,
    }
  }

  #stateStatus(): DaemonView['stateFile'] {
    const fromState = this.#fromState
    const savedAt = fromState ?? this.#stateFile.savedAt
    const problem = this.#stateFile.problem ?? this.#starter.memoryProblem
    return {
      inUse: fromState !== undefined,
      ...(savedAt !== undefined && { savedAt }),
      ...(problem !== undefined && { problem }),
    }
  }

  /** Notifies systemd and all who wait for a change of the status. */
  #changed(): void {
    this.#systemd.changed()
    this.#changes.notify()
  }

  /**
   * Gives this host's lease back, or takes it again.
   * @param drained true: give back; false: take again
   * @throws {OverlayError} when the host has no lease yet, or etcd refuses
   */
  async #drain(drained: boolean, signal: AbortSignal): Promise<void> {
    const lease = this.#node?.view.lease
    if (lease === undefined) {
      throw new OverlayError('drain', 'this host has no lease yet', 'see why: overlayctl status')
    }
    if (drained) await lease.drain(signal)
    else lease.undrain()
    this.#changed()
  }

  /**
   * Asks for a change of this host's WireGuard keys.
   * @throws {OverlayError} when the host has no lease yet, does not encrypt, or changes its keys already, and
   *   while etcd is away
   */
  #rotateKey(): void {
    const node = this.#node
    if (node === undefined) {
      throw new OverlayError('rotate-key', 'this host has no lease yet', 'see why: overlayctl status')
    }
    if (this.#link.kind !== 'following') {
      throw new OverlayError(
        'rotate-key',
        'etcd does not answer, so other hosts would not hear of the change',
        'see why: overlayctl status',
      )
    }
    node.view.encryption.rotate()
  }

  /** The content for the state file; undefined as long as this host knows nothing newer than that file. */
  async #present(): Promise<SavedState | undefined> {
    const known = knowledgeOf(this.#link)
    const node = this.#node
    if (node === undefined || this.#fromState !== undefined || known === undefined) return undefined
    return describePresent(node.view, {
      prefix: etcdPrefix(this.edges.options['etcd-prefix']),
      ...known,
    })
  }

  async #follow(run: Run): Promise<void> {
    const { signal } = run
    const stop = this.edges.kernel.onChange((change) => {
      if (this.#host === undefined) this.#starter.hostChanged(change)
    })
    signal.addEventListener('abort', stop, { once: true })
    while (!signal.aborted) {
      const ending = AbortSignal.any([signal, this.#starter.beginListing()])
      const updates = this.edges.registry.follow(ending, (config) => this.#wantsGroups(config))
      try {
        for (;;) {
          const next = updates.next()
          if (this.#host === undefined && knowledgeOf(this.#link) === undefined)
            await this.#starter.fromStateIfSilent(next, run)
          const { done, value } = await next
          if (done === true) break
          const again = await this.#apply(value, run)
          this.#changes.notify()
          if (again) break
        }
      } finally {
        this.#starter.endListing()
        await updates.return()
      }
    }
  }

  /** Whether multicast groups are followed: the config in etcd wants multicast, or the config in use does. */
  #wantsGroups(config: string | undefined): boolean {
    return this.#node?.view.plan.multicast !== undefined || (config !== undefined && wantsMulticast(config))
  }

  /**
   * Applies an update.
   * @returns whether to begin again with a new listing
   */
  async #apply(update: RegistryUpdate, run: Run): Promise<boolean> {
    const sorted = sortUpdate(update)
    this.#updateLink(sorted)
    const areGroupsNews = takeGroups(this.#groups, sorted, performance.now())
    const node = this.#node
    if (node !== undefined) {
      const isFirst = this.#fromState !== undefined
      await node.apply(isFirst ? this.#starter.comparedWithMemory(sorted) : sorted, run.signal)
      if (sorted.kind !== 'lost') this.#confirm(node)
      if (areGroupsNews) this.#multicast?.wake()
    } else if (sorted.kind === 'snapshot') await this.#starter.fromEtcd(sorted.snapshot, run)
    else if (sorted.kind === 'events') return this.#starter.isAwaited(sorted.sorted)
    return false
  }

  /** Applies that etcd has answered: from now on its data prevail over those of the state file. */
  #confirm(node: Node): void {
    node.confirm()
    const isFirst = this.#fromState !== undefined
    if (isFirst) {
      this.#host = this.#host && confirmed(this.#host)
      this.#multicast?.wake()
      this.#starter.confirmed()
      this.#log.info('state: etcd has answered; its data are used from now on')
    }
    // A renewal by Put, as flannel's, changes nothing of it: it is no reason to write the file.
    if (!isFirst && node.generation === this.#generation) return
    this.#generation = node.generation
    this.#stateFile.changed(false)
  }

  #updateLink(update: SortedUpdate): void {
    logLink(this.#link, update, this.#log)
    this.#link = linkAfter(this.#link, update)
    if (update.kind === 'lost') this.#systemd.changed()
  }

  /**
   * One attempt to start.
   * @param waits called with each reason to wait, and with `undefined` when the wait is over
   */
  async #start(
    config: NetworkConfig,
    start: StartBasis,
    waits: (waiting: Waiting | undefined) => void,
    { signal, fail }: Run,
  ): Promise<void> {
    const node = await joinNetwork(this.edges, config, start, waits, signal).finally(() => waits(undefined))
    const fromState = start.origin === 'state' ? start.memory?.savedAt : undefined
    this.#host = { kind: 'joined', node, fromState }
    this.#starter.joined()
    if (start.snapshot.config !== undefined) warnOfIgnored(start.snapshot.config, this.#log)
    const { overlays, lease, firewall, encryption, announcer, deliverer } = node.view
    this.#runReconcilers(overlays, { signal, fail })
    lease.run(signal).catch(fail)
    await this.#ready(node)
    announcer.onChange(() => {
      this.#stateFile.changed(true)
      this.#multicast?.wake()
      this.#changes.notify()
    })
    announcer.run(signal).catch(fail)
    deliverer.run(signal).catch(fail)
    this.#subnetFile.run(signal).catch(fail)
    const multicast = new Multicast(this.edges, node, this.#groups, () => this.#fromState !== undefined)
    const prober = startProber(
      this.edges,
      { node, followsEtcd: () => this.#link.kind === 'following', changed: () => this.#changed() },
      { signal, fail },
    )
    this.#host = { ...this.#host, kind: 'running', multicast, prober }
    node.onPeersChange(() => {
      multicast.wake()
      encryption.wake()
    })
    encryption.onWaysChange(() => {
      multicast.wake()
      this.#changes.notify()
    })
    encryption.follow(signal).catch(fail)
    multicast.follow(signal).catch(fail)
    // Its run begins with the start of a program, which nothing here has to wait for.
    firewall.run(signal).catch(fail)
    node.wayIn.onChange(() => this.#changed())
    node.wayIn.run(signal).catch(fail)
    lease.onChange(() => {
      this.#stateFile.changed(true)
      multicast.publisher?.wake()
      announcer.wake()
      this.#changes.notify()
    })
    this.#stateFile.changed(true)
    const replanned = (now: HostPlan, before: HostPlan): void => {
      if (!sameAddresses(now.inputs.underlay, before.inputs.underlay)) this.edges.registry.reconnect()
      multicast.follow(signal).catch(fail)
      encryption.follow(signal).catch(fail)
      this.#stateFile.changed(true)
      this.#writeSubnetFile(now).catch(fail)
    }
    node.run(signal, replanned).catch(fail)
  }

  /**
   * Runs the reconcilers. systemd's watchdog is notified once each reconciler has reported since the last
   * notification.
   */
  #runReconcilers(overlays: readonly Overlay[], { signal, fail }: Run): void {
    const alive = new Set<Overlay>()
    for (const overlay of overlays) {
      const report = (): void => {
        this.#changes.notify()
        alive.add(overlay)
        if (alive.size < overlays.length) return
        alive.clear()
        this.#systemd.alive()
      }
      overlay.reconciler.run(signal, { every: this.#systemd.beat, tell: report }).catch(fail)
    }
  }

  async #ready(node: Node): Promise<void> {
    await this.#writeSubnetFile(node.view.plan)
    if (this.#host !== undefined) this.#host = { ...this.#host, kind: 'running' }
    await forgetLastExit(this.edges.options['run-dir'])
    this.#log.info(`ready: ${node.headline}`, { kind: 'ready' })
    this.#systemd.ready()
  }

  async #writeSubnetFile({ inputs, subnetFile }: HostPlan): Promise<void> {
    this.#logShortage(describeShortage(inputs.config, inputs.underlay))
    await this.#subnetFile.want(subnetFile)
  }

  /** Logs a device that is smaller than the config wants it, because of the underlay's MTU. */
  #logShortage(shortage: string | undefined): void {
    if (shortage !== undefined && shortage !== this.#shortage)
      this.#log.warn(`device: ${shortage}`, { kind: 'mtu-limited' })
    this.#shortage = shortage
  }

  #summary(): string {
    const waiting = this.#waiting
    const words =
      this.#node?.summary(this.#link.kind === 'following', [
        this.#subnetFile.problem !== undefined && 'subnet file not in order',
        (this.#host?.prober?.verdict.kind ?? 'fine') !== 'fine' && 'peers do not answer probes',
      ]) ?? (waiting === undefined ? 'starting' : `waiting: ${describeWaiting(waiting)}`)
    return commandsFor(networkOfRunDirectory(this.edges.options['run-dir']), words)
  }
}

/** The troubles as one text; `undefined` for none. */
function join(troubles: readonly (string | undefined)[]): string | undefined {
  const known = troubles.filter((trouble) => trouble !== undefined)
  return known.length === 0 ? undefined : known.join(', ')
}
