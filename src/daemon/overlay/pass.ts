/** One pass of the reconciler: over everything, or over the objects of peers that changed. */
import { performance } from 'node:perf_hooks'
import type { Kernel } from '../../kernel/kernel'
import { type Family, familyOf, formatPrefix, type IpAddress, ipv4 } from '../../model/address'
import { count } from '../../model/count'
import type { ObservedLink } from '../../model/kernel/link'
import type { ObjectOperation } from '../../model/kernel/objects'
import type { RouteKey } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import { compareSlice, passSlices, SLICE, type Wanted } from '../../plan/reconcile/compare-slice'
import { Contests } from '../../plan/reconcile/contests'
import { Progress } from '../../plan/reconcile/progress'
import { Retries } from '../../plan/reconcile/retries'
import { looksForRepairs, type Outcome, readsElsewhere, Schedule } from '../../plan/reconcile/schedule'
import { peersIn, restrict } from '../../plan/reconcile/scope'
import { giveWay } from '../loop/give-way'
import type { Logger } from '../tell/logger'
import { Meters } from '../tell/meters'
import { ObjectApplier } from './apply-objects'
import { Device, type Enforced } from './device'
import { RepairLog } from './log-repairs'
import type { ReconcilerOptions, TakeAddresses, Target } from './target'

/** Milliseconds between two passes over everything. */
const PERIOD = 60_000
/** Comparisons of the device in one pass, while it does not come to rest. */
const MOST_LOOKS = 3

export class Pass {
  readonly schedule: Schedule
  readonly progress = new Progress()
  readonly retries = new Retries()
  readonly contests: Contests
  readonly repairs: RepairLog
  readonly device: Device
  readonly objects: ObjectApplier
  readonly #family: Family
  readonly #meters: Meters

  constructor(
    private readonly kernel: Kernel,
    target: Target,
    private readonly takeAddresses: TakeAddresses,
    private readonly log: Logger,
    { random = Math.random, period = PERIOD, meters = new Meters() }: ReconcilerOptions,
  ) {
    this.#family = familyOf(target.subnet.address)
    this.#meters = meters
    this.schedule = new Schedule(period, random)
    this.contests = new Contests(random)
    this.repairs = new RepairLog(log, target.peers, this.contests)
    this.device = new Device(kernel, this.#family, this.contests, this.repairs, log, target.stale)
    this.objects = new ObjectApplier(kernel, this.#family, this.retries, log, meters, random)
  }

  /**
   * Compares and corrects everything: the device, then all objects.
   * @param started when the pass began, in monotonic milliseconds
   * @throws {OverlayError} when the device cannot be made or read; single objects that fail are retried later
   */
  async full(target: Target, started: number, signal: AbortSignal): Promise<Outcome> {
    const { causes } = this.schedule
    const { peers, subnet, network, local } = target
    const { link, isNew } = await this.#enforceDevice(target, looksForRepairs(causes), signal)
    this.progress.begin()
    await this.device.findDirectLinks(target, signal)
    await this.#observe(target, link, signal)
    // Not a repair: objects lost with a re-created device, and objects of peers that changed before or during
    // this pass.
    const isRepair = (operation: ObjectOperation): boolean =>
      looksForRepairs(causes) && !isNew && !this.progress.concerns(operation)
    const repairs: ObjectOperation[] = []
    let changes = 0
    const parts = { subnet, local: local?.objects, table: peers, failed: () => this.retries.scope() }
    for (const slice of passSlices(peers.peers(), this.objects.memory, parts)) {
      const compared = compareSlice(slice, this.objects.memory, this.wanted(target))
      const allowed = this.retries
        .filter(compared, slice.scope, started)
        .filter((operation) => !isRepair(operation) || this.contests.admit(operation, started))
      for (const operation of allowed) if (isRepair(operation)) repairs.push(operation)
      changes += allowed.length
      await this.#apply(target, link, allowed, signal)
      await giveWay(signal)
    }
    this.repairs.repaired(repairs, started)
    await this.objects.explainFailures(signal)
    await this.device.removeStale(signal)
    const took = performance.now() - started
    this.log.debug(
      `kernel: compared everything of ${formatPrefix(network)}: ` +
        `${count(peers.size, 'peer')}, ${count(changes, 'change')}, ${took.toFixed(0)} ms`,
    )
    const isContested = this.contests.contests().length > 0
    return { took, isContested, settleDue: this.contests.nextSettle }
  }

  /** Compares and corrects the objects of peers that changed, and those whose retry is due. */
  async scope(target: Target, link: ObservedLink, signal: AbortSignal): Promise<void> {
    const now = performance.now()
    const { peers, subnet, local } = target
    const scope = this.progress.begin()
    this.retries.addDue(scope, now)
    const changed = peersIn(scope, peers)
    const isSmall = scope.route.size + scope.proxy.size <= SLICE
    const memory = isSmall ? undefined : restrict(this.objects.memory, scope)
    const parts = { subnet, local: local?.objects, table: peers, failed: () => this.retries.scope() }
    const slices = memory === undefined ? [{ peers: changed, scope }] : passSlices(changed, memory, parts)
    for (const slice of slices) {
      const compared = compareSlice(slice, this.objects.memory, this.wanted(target))
      await this.#apply(target, link, this.retries.filter(compared, slice.scope, now), signal)
      if (!isSmall) await giveWay(signal)
    }
  }

  /**
   * Makes the device right, and hands over the addresses of this host, which no peer may cover. The device is
   * compared again when it changed meanwhile, as our own changes do: so all hints until now are covered by
   * what is read after it, and need no other pass.
   */
  async #enforceDevice(target: Target, isRepair: boolean, signal: AbortSignal): Promise<Enforced> {
    let isNew = false
    for (let look = 1; ; look += 1) {
      this.schedule.look()
      const device = await this.device.enforce(target, isRepair, signal)
      isNew ||= device.isNew
      const ours = [device.link.index, ...this.device.stale]
      const addresses = await this.kernel.addresses(this.#family, signal)
      const links = addresses.filter(({ linkIndex }) => !ours.includes(linkIndex))
      for (const { before, after } of this.takeAddresses(links.map(({ address }) => address)))
        for (const peer of [before, after])
          if (peer !== undefined) this.progress.touch(peer, target.peers.sharedBy?.(peer))
      // Notifications that have arrived meanwhile are read here.
      await giveWay(signal)
      if (this.schedule.rest() || look === MOST_LOOKS) return { link: device.link, isNew }
    }
  }

  async #observe(
    { network, allowed = [], directRouting, blackhole, local, mtus }: Target,
    { index }: ObservedLink,
    signal: AbortSignal,
  ): Promise<void> {
    const proxies = local?.isUsed === true || readsElsewhere(this.schedule.causes)
    const routes = directRouting || blackhole || proxies
    const elsewhere = { network, allowed, routes, proxies, links: this.device.stale }
    const started = performance.now()
    const observed = await this.kernel.observe(this.#family, index, elsewhere, signal)
    this.#meters.netlinkReads.observe(performance.now() - started)
    mtus?.seed(observed.route)
    this.objects.remember(observed)
  }

  /** What a pass compares the kernel with, by the decisions of the last pass. */
  wanted({ subnet, blackhole, local, unconfirmed = false, wayOf, mtus, peers }: Target): Wanted {
    const style = this.kernel.usesNexthops(this.#family) ? 'nexthop' : 'gateway'
    const directLink = (publicIp: IpAddress): number | undefined => this.device.directLink(publicIp)
    const routing = {
      style,
      directLink,
      taken: this.objects.taken,
      ...(wayOf !== undefined && { wayOf }),
      ...(mtus !== undefined && { mtuOf: mtus.of }),
      prefixesOf: (peer: Peer) => peers.prefixesOf?.(peer) ?? [],
      carriersOf: (key: RouteKey) => peers.carriersOf?.(key) ?? [],
    } as const
    return { subnet, blackhole, local: local?.objects, unconfirmed, routing }
  }

  async #apply(
    { peers }: Target,
    { index }: ObservedLink,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<void> {
    const { refused, refusedAgain, taken } = await this.objects.apply(index, operations, signal)
    this.repairs.refused(refused)
    this.repairs.refusedAgain(refusedAgain, performance.now())
    for (const id of taken) {
      const peer = peers.peerAt(ipv4(id))
      if (peer !== undefined) this.progress.touch(peer, peers.sharedBy?.(peer))
    }
  }
}
