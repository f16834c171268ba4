/**
 * Makes the kernel equal to what the peers want, again and again. A change of peers is applied alone, in time
 * that does not grow with their number. Everything else (start, drift, lost notifications, the slow period)
 * compares all that is on the device. `Schedule` decides when and why a pass runs, `Progress` knows how far
 * the kernel is, `Pass` does the work.
 */
import { performance } from 'node:perf_hooks'
import type { Kernel, KernelChange } from '../../kernel/kernel'
import type { Prefix } from '../../model/address'
import { describeError } from '../../model/errors'
import type { LinkSpec, ObservedLink } from '../../model/kernel/link'
import { emptyObjects, isKind, type KernelObjects, type ObjectId } from '../../model/kernel/objects'
import type { RouteKey } from '../../model/kernel/route'
import type { Peer, Revision } from '../../model/lease'
import type { PeerChange } from '../../plan/peers/claim'
import type { LocalChange } from '../../plan/prefixes/local-table'
import { wantedObjects } from '../../plan/reconcile/compare-slice'
import type { Work } from '../../plan/reconcile/schedule'
import { Alarm } from '../loop/alarm'
import { ChangeSignal } from '../serve/change-signal'
import type { Logger } from '../tell/logger'
import { Meters } from '../tell/meters'
import { Pass } from './pass'
import type { Convergence, ReconcilerOptions, TakeAddresses, Target, TargetChange } from './target'
import { type PeerTrouble, troubledPeers } from './trouble'

/** Milliseconds between two checks whether notifications were lost, without any notification. */
const OVERRUN_CHECK = 5_000

export class Reconciler {
  readonly #alarm = new Alarm()
  readonly #pass: Pass
  readonly #meters: Meters
  #target: Target
  /**
   * Changes of the target from the next pass on: a pass that is under way sees one target from end to end.
   */
  #change: TargetChange | undefined
  /** Requests for another target, and how many of them a pass over everything has made so. */
  readonly #retargets = { asked: 0, made: 0 }
  #lastSync: number | undefined
  /** Notifies after each pass that succeeded. */
  readonly #settled = new ChangeSignal()

  constructor(
    private readonly kernel: Kernel,
    target: Target,
    takeAddresses: TakeAddresses,
    private readonly log: Logger,
    { meters = new Meters(), ...options }: ReconcilerOptions = {},
  ) {
    this.#target = target
    this.#meters = meters
    this.#pass = new Pass(kernel, target, takeAddresses, log, { ...options, meters })
    this.#watch()
  }

  /** The device as it should be. */
  get desiredLink(): LinkSpec {
    return this.#change?.link ?? this.#target.link
  }

  /** The device as it was last seen. */
  get link(): ObservedLink | undefined {
    return this.#pass.device.link
  }

  /** Changes that the kernel refuses. */
  get refused(): number {
    return this.#pass.retries.size
  }

  get convergence(): Convergence {
    const { schedule, progress, retries, contests, repairs, device, objects } = this.#pass
    const failing = retries.size + contests.waiting().length
    const hasFailed = schedule.failures > 0
    return {
      converged:
        progress.isSettled && failing === 0 && !hasFailed && this.#retargets.made === this.#retargets.asked,
      revision: progress.revision,
      failing,
      contests: contests.contests(),
      operations: device.operations + objects.operations,
      lastSync: this.#lastSync,
      // An error that is over is in the events.
      lastError: hasFailed || retries.size > 0 ? repairs.lastError : undefined,
    }
  }

  /** The peers that are not in the kernel as they should be, and why; costs nothing while there are none. */
  peersAmiss(): ReadonlyMap<Peer, PeerTrouble> {
    return troubledPeers(this.#target.peers, this.#pass, performance.now())
  }

  /**
   * All objects that the kernel should have now, by the decisions of the last pass, in the order of the
   * subnets.
   * @param observed objects in the kernel: they are kept as long as the peers are those of a state file
   */
  desiredObjects(observed: KernelObjects): KernelObjects {
    return wantedObjects(this.#target.peers.peers(), observed, this.#pass.wanted(this.#target))
  }

  /** The same for some of the peers alone. */
  desiredObjectsOf(peers: Iterable<Peer>): KernelObjects {
    return wantedObjects(peers, emptyObjects(), this.#pass.wanted(this.#target))
  }

  /** Changes what the device should be or carry. The next pass, which is over everything, enforces it. */
  retarget(change: TargetChange): void {
    const stale = [...(this.#change?.stale ?? []), ...(change.stale ?? [])]
    this.#change = { ...this.#change, ...change, stale }
    this.#retargets.asked += 1
    this.#pass.schedule.request('retarget', performance.now())
    this.#alarm.wake()
  }

  /** etcd has listed the peers: from the next pass on, objects that they do not want are removed. */
  confirm(): void {
    if (this.#target.unconfirmed !== true) return
    this.#retargets.asked += 1
    this.#pass.schedule.request('confirmed', performance.now())
    this.#alarm.wake()
  }

  /**
   * Notes which peers changed; the next pass applies them.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  peersChanged(changes: readonly PeerChange[], revision: Revision, heardAt = performance.now()): void {
    this.#pass.progress.changed(changes, revision, heardAt, (peer) => this.#sharedBy(peer))
    this.#alarm.wake()
  }

  /** Notes that packets to these peers are to leave another way, or that their routes have another MTU. */
  waysChanged(peers: readonly Peer[]): void {
    for (const peer of peers) this.#pass.progress.touch(peer, this.#sharedBy(peer))
    this.#alarm.wake()
  }

  /**
   * Notes that prefixes besides the subnets are routed to other peers than before.
   * @param heardAt as for {@link peersChanged}
   */
  rerouted(prefixes: readonly RouteKey[], heardAt = performance.now()): void {
    if (prefixes.length === 0) return
    this.#watch()
    this.#pass.progress.rerouted(prefixes, heardAt)
    this.#alarm.wake()
  }

  /** Notes that this host is to have other objects of its own: `Target.local` has them already. */
  localChanged(change: LocalChange): void {
    if (change.routes.length + change.proxies.length === 0) return
    this.#watch()
    this.#pass.progress.localChanged(change)
    this.#alarm.wake()
  }

  /** Waits until the kernel has the object as it is wanted now, or has refused it, or the signal fires. */
  async applied(id: ObjectId, signal: AbortSignal): Promise<void> {
    const alarm = this.#settled.watch()
    try {
      while (!signal.aborted && this.#pass.progress.concerns(id))
        await alarm.sleep(Number.POSITIVE_INFINITY, signal)
    } finally {
      this.#settled.stop(alarm)
    }
  }

  /** Notes that an object, of whose changes the kernel tells nothing, is not as it should be. */
  drifted(): void {
    this.#pass.schedule.hint('place', performance.now(), false)
    this.#alarm.wake()
  }

  /** Notes a hint that the kernel's state changed; the truth comes from a dump. */
  kernelChanged(change: KernelChange): void {
    const { device, retries, schedule } = this.#pass
    if (!device.concerns(change, this.#target)) return
    const now = performance.now()
    if (change.kind === 'overrun')
      this.log.info('kernel: notifications were lost; everything is compared', { kind: 'kernel-overrun' })
    const isPlace = change.kind !== 'overrun' && change.inOurPlace === true
    const cause = change.kind === 'overrun' ? 'overrun' : isPlace ? 'place' : 'hint'
    // What was in the way may be gone.
    if (cause !== 'hint') retries.hasten(now)
    schedule.hint(cause, now, !isKind(change.kind))
    this.#alarm.wake()
  }

  /**
   * Runs until the signal fires.
   * @param alive called after each pass, and at least each `every` milliseconds while there is none to do:
   * not while a pass hangs, and not before a pass, which a new peer waits for
   */
  async run(signal: AbortSignal, alive: { readonly every: number; tell(): void }): Promise<void> {
    const checkOverruns = setInterval(() => this.#checkOverruns(), OVERRUN_CHECK)
    checkOverruns.unref()
    try {
      let hasSlept = false
      while (!signal.aborted) {
        const work = this.#nextWork()
        if (work.kind === 'none') {
          if (hasSlept) alive.tell()
          await this.#alarm.sleep(Math.min(work.until - performance.now(), alive.every), signal)
        } else {
          await this.#sync(work.kind, signal)
          alive.tell()
        }
        hasSlept = work.kind === 'none'
      }
    } finally {
      clearInterval(checkOverruns)
    }
  }

  /**
   * One pass over everything.
   * @throws {OverlayError} when the device cannot be made or read; single objects that fail are retried later
   */
  async syncAll(signal: AbortSignal): Promise<void> {
    const started = performance.now()
    this.#begin(started)
    const { asked } = this.#retargets
    const outcome = await this.#pass.full(this.#target, started, signal)
    this.#retargets.made = asked
    this.#settle()
    this.#pass.schedule.succeeded(performance.now(), outcome)
  }

  #sharedBy(peer: Peer): readonly Prefix[] {
    return this.#target.peers.sharedBy?.(peer) ?? []
  }

  #nextWork(): Work {
    const { schedule, device, progress, retries, contests } = this.#pass
    return schedule.next(performance.now(), {
      hasDevice: device.link !== undefined,
      hasScope: progress.hasPending,
      retryDue: retries.nextDue,
      contestDue: contests.nextDue,
    })
  }

  async #sync(kind: 'full' | 'scope', signal: AbortSignal): Promise<void> {
    const { schedule, progress, repairs, device } = this.#pass
    const hadFailed = schedule.failures > 0
    try {
      if (kind === 'full' || device.link === undefined) await this.syncAll(signal)
      else {
        await this.#pass.scope(this.#target, device.link, signal)
        this.#settle()
      }
      if (hadFailed) repairs.recovered(this.#target.link.name)
    } catch (error) {
      if (signal.aborted) return
      repairs.failed(error, !hadFailed)
      schedule.failed(performance.now())
      progress.failed()
      device.lose()
    }
  }

  /** Begins a pass over everything: the changes that were asked for until now are in it. */
  #begin(now: number): void {
    const { schedule, progress, contests, device } = this.#pass
    schedule.begin(now)
    progress.begin()
    contests.begin()
    if (schedule.causes.has('confirmed')) this.#target = { ...this.#target, unconfirmed: false }
    if (this.#change === undefined) return
    const { stale = [], ...change } = this.#change
    this.#change = undefined
    this.#target = { ...this.#target, ...change }
    device.succeed(stale, this.#target)
    this.#watch()
  }

  #watch(): void {
    this.kernel.watchNetwork(this.#target.network)
    if (this.#target.directRouting) this.kernel.watchAllRoutes()
    const { allowed = [], local, peers } = this.#target
    // What the kernel tells of a route over several links names no link.
    if (local?.isUsed === true || peers.isShared === true)
      for (const range of allowed) this.kernel.watchNetwork(range)
  }

  #settle(): void {
    this.#lastSync = performance.now()
    const latency = this.#pass.progress.settled(this.#lastSync)
    if (latency !== undefined) this.#meters.convergence.observe(latency)
    this.#settled.notify()
  }

  #checkOverruns(): void {
    try {
      this.kernel.checkOverruns()
    } catch (error) {
      // Unknown whether notifications were lost: as if they were.
      this.log.warn(`kernel: ${describeError(error)}`)
      this.kernelChanged({ kind: 'overrun' })
    }
  }
}
