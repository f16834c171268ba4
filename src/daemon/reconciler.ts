/**
 * Makes the kernel equal to what the peers want, again and again. A change of peers is applied alone, in time that does not grow with
 * their number; everything else (start, drift, overrun, the slow period) compares all that is on the device.
 */
import { performance } from 'node:perf_hooks'
import type { Kernel, KernelChange } from '../kernel/kernel'
import { type Family, familyOf, formatPrefix, type IpAddress, type Prefix } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeOperation } from '../model/describe-operation'
import { describeError } from '../model/errors'
import {
  type KernelObjects,
  type LinkSpec,
  type ObjectOperation,
  type ObservedLink,
  routeKey,
} from '../model/kernel'
import type { Peer, Revision } from '../model/lease'
import { blackholeRoute, desiredAddress, desiredObjects, type RouteStyle } from '../plan/desired'
import { applyOperation, diffAddresses, diffObjects, type ObjectMemory, remember } from '../plan/diff'
import { directLinkFinder } from '../plan/direct'
import { keepObserved } from '../plan/keep-observed'
import type { PeerChange, PeerTable } from '../plan/peer-table'
import { addPeer, emptyScope, inScope, isEmptyScope, peersIn, restrict, type Scope } from '../plan/scope'
import { applyLinkOperations, ensureLink } from './ensure-link'
import type { Logger } from './logger'
import { Retries } from './retries'
import { Waker } from './waker'

/** What the device of one family should be and carry. */
export interface Target {
  readonly link: LinkSpec
  readonly network: Prefix
  readonly subnet: Prefix
  readonly peers: PeerTable
  /** Whether peers that are reached without a gateway are routed past the device. */
  readonly directRouting: boolean
  /** Whether packets to containers of ours that do not exist are swallowed. */
  readonly blackhole: boolean
  /** Devices that ours succeeds: removed when it carries what they carried. */
  readonly stale: readonly ObservedLink[]
  /** While the peers are those of a state file what the kernel has may be newer, so it is only added to. */
  readonly unconfirmed?: boolean
}

/** What of it may become another. */
export type TargetChange = Partial<Pick<Target, 'link' | 'network' | 'directRouting' | 'stale'>>

/** How the reconciler stands, for status. */
export interface Convergence {
  readonly converged: boolean
  readonly revision: Revision | undefined
  readonly failing: number
  readonly operations: number
  /** Monotonic milliseconds. */
  readonly lastSync: number | undefined
  readonly lastError: string | undefined
}

/** All times in milliseconds. */
const PERIOD = 60_000
/** Events of one change come together; a short wait makes them one pass. */
const SETTLE = 10
/** Between two passes over everything: this many times what one takes, within these bounds, so that a storm of events cannot starve us. */
const SPACING = { factor: 4, least: 50, most: 500 }
const RETRY: BackoffBounds = { first: 200, most: 10_000 }
/** Without events, lost ones are looked for this often. */
const OVERRUN_CHECK = 5_000

export class Reconciler {
  readonly #waker = new Waker()
  readonly #retries = new Retries()
  readonly #family: Family
  readonly #style: RouteStyle
  #stale: readonly ObservedLink[]
  /** What the target is to be from the next pass on: one that is under way sees one target from end to end. */
  #change: TargetChange | undefined
  #link: ObservedLink | undefined
  #watched: number | undefined
  #directLink: (publicIp: IpAddress) => number | undefined = () => undefined
  /** Whether routes of ours that are not on the device may be there. */
  #looksElsewhere = true
  #memory: ObjectMemory = remember({
    neighbours: new Map(),
    fdb: new Map(),
    nexthops: new Map(),
    routes: new Map(),
  })
  #scope: Scope = emptyScope()
  /** When the next pass over everything is due. */
  #fullDue = 0
  #fullEarliest = 0
  #failedPasses = 0
  #wantedRevision: Revision | undefined
  #revision: Revision | undefined
  #operations = 0
  #lastSync: number | undefined
  #lastError: string | undefined

  constructor(
    private readonly kernel: Kernel,
    private target: Target,
    private readonly log: Logger,
    private readonly random: () => number = Math.random,
  ) {
    this.#family = familyOf(target.subnet.address)
    this.#style = kernel.usesNexthops(this.#family) ? 'nexthop' : 'gateway'
    this.#stale = target.stale
    if (target.directRouting) kernel.watchAllRoutes()
  }

  /** The device as it should be. */
  get desiredLink(): LinkSpec {
    return this.#change?.link ?? this.target.link
  }

  /** Takes in that the device should be or carry something else; it is made so in the next pass, which is over everything. */
  retarget(change: TargetChange): void {
    const stale = [...(this.#change?.stale ?? []), ...(change.stale ?? [])]
    this.#change = { ...this.#change, ...change, stale }
    this.#fullDue = performance.now()
    this.#waker.wake()
  }

  /** Takes in that etcd has told the peers: from now on what they do not want is removed. */
  confirm(): void {
    if (this.target.unconfirmed !== true) return
    this.target = { ...this.target, unconfirmed: false }
    this.#fullDue = performance.now()
    this.#waker.wake()
  }

  /** Takes in which peers changed; they are applied in the next pass. */
  peersChanged(changes: readonly PeerChange[], revision: Revision): void {
    for (const { before, after } of changes) {
      if (before !== undefined) addPeer(this.#scope, before)
      if (after !== undefined) addPeer(this.#scope, after)
    }
    this.#wantedRevision = revision
    if (changes.length === 0 && this.convergence.converged) this.#revision = revision
    this.#waker.wake()
  }

  /** Takes in a hint that the kernel's state changed; the truth comes from a dump. */
  kernelChanged(change: KernelChange): void {
    if (!this.#concerns(change)) return
    this.#fullDue = Math.min(this.#fullDue, Math.max(performance.now() + SETTLE, this.#fullEarliest))
    this.#waker.wake()
  }

  /**
   * One pass over everything.
   * @throws {OverlayError} when the device cannot be made or read; single objects that fail are retried later
   */
  async syncAll(signal: AbortSignal): Promise<void> {
    const started = performance.now()
    this.#fullDue = started + PERIOD * (0.9 + 0.2 * this.random())
    this.#takeChange()
    const link = await this.#ensureDevice(signal)
    this.#scope = emptyScope()
    const revision = this.#wantedRevision
    await this.#findDirectLinks(link, signal)
    const desired = this.#desired(this.target.peers.peers())
    this.#memory = remember(await this.#observe(link, signal))
    const changes = this.#retries.filter(this.#diff(desired, this.#memory), undefined, started)
    await this.#apply(link, changes, signal)
    await this.#removeStale(signal)
    this.#settled(revision)
    const took = performance.now() - started
    const spacing = Math.min(SPACING.most, Math.max(SPACING.least, SPACING.factor * took))
    this.#fullEarliest = performance.now() + spacing
    // What was notified meanwhile, our own work on the device among it, may wait that long too.
    this.#fullDue = Math.max(this.#fullDue, this.#fullEarliest)
    this.log.debug(
      `kernel: compared everything of ${formatPrefix(this.target.network)}: ${this.target.peers.size} peers, ${changes.length} changes, ${took.toFixed(0)} ms`,
    )
  }

  /**
   * Runs until the signal fires.
   * @param alive told whenever a pass is done or there is none to do, at least each `every` milliseconds: while a pass hangs it is not
   */
  async run(signal: AbortSignal, alive: { readonly every: number; tell(): void }): Promise<void> {
    const checkOverruns = setInterval(() => this.#checkOverruns(), OVERRUN_CHECK)
    checkOverruns.unref()
    try {
      while (!signal.aborted) {
        await this.#waker.sleep(Math.min(this.#nextWork() - performance.now(), alive.every), signal)
        if (!signal.aborted && this.#nextWork() <= performance.now()) await this.#pass(signal)
        alive.tell()
      }
    } finally {
      clearInterval(checkOverruns)
    }
  }

  get convergence(): Convergence {
    return {
      converged:
        this.#revision !== undefined &&
        this.#retries.size === 0 &&
        this.#failedPasses === 0 &&
        this.#change === undefined &&
        isEmptyScope(this.#scope),
      revision: this.#revision,
      failing: this.#retries.size,
      operations: this.#operations,
      lastSync: this.#lastSync,
      lastError: this.#lastError,
    }
  }

  /** The device as it was last seen. */
  get link(): ObservedLink | undefined {
    return this.#link
  }

  /** How a peer stands, and why if it does not. */
  peerState(peer: Peer): { readonly state: 'ok' | 'pending' | 'failing'; readonly reason?: string } {
    const scope = emptyScope()
    addPeer(scope, peer)
    for (const { operation, error } of this.#retries.failures()) {
      if (inScope(scope, operation)) {
        return { state: 'failing', reason: describeError(error) }
      }
    }
    const pending = this.#revision === undefined || this.#scope.neighbours.has(peer.subnet.address)
    return { state: pending ? 'pending' : 'ok' }
  }

  #takeChange(): void {
    if (this.#change === undefined) return
    const { stale = [], ...change } = this.#change
    this.#change = undefined
    this.target = { ...this.target, ...change }
    if (this.target.directRouting) this.kernel.watchAllRoutes()
    this.#stale = [...this.#stale, ...stale].filter(({ name }) => name !== this.target.link.name)
  }

  #checkOverruns(): void {
    try {
      this.kernel.checkOverruns()
    } catch (error) {
      // Whether something was lost cannot be told: as if it was.
      this.log.warn(`kernel: ${describeError(error)}`)
      this.kernelChanged({ kind: 'overrun' })
    }
  }

  #nextWork(): number {
    if (this.#link === undefined) return this.#fullDue
    if (!isEmptyScope(this.#scope)) return 0
    return Math.min(this.#fullDue, this.#retries.nextDue)
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const now = performance.now()
    try {
      if (now >= this.#fullDue || this.#link === undefined) await this.syncAll(signal)
      else await this.#syncScope(this.#link, now, signal)
      if (this.#failedPasses > 0) this.log.info(`kernel: device ${this.target.link.name} is in order again`)
      this.#failedPasses = 0
    } catch (error) {
      if (signal.aborted) return
      this.#failedPasses++
      this.#lastError = describeError(error)
      // The device itself is in doubt: only a pass over everything can tell.
      this.#fullDue = performance.now() + backoffDelay(this.#failedPasses, RETRY, this.random)
      this.#fullEarliest = this.#fullDue
      this.#link = undefined
      if (this.#failedPasses === 1) this.log.error(`kernel: ${this.#lastError}; trying again`)
    }
  }

  /** One pass over what changed. */
  async #syncScope(link: ObservedLink, now: number, signal: AbortSignal): Promise<void> {
    const revision = this.#wantedRevision
    const scope = this.#scope
    this.#scope = emptyScope()
    this.#retries.addDue(scope, now)
    const wanted = this.#desired(peersIn(scope, this.target.peers))
    const changes = this.#diff(restrict(wanted, scope), restrict(this.#memory, scope))
    await this.#apply(link, this.#retries.filter(changes, scope, now), signal)
    this.#settled(revision)
  }

  #diff(desired: KernelObjects, observed: KernelObjects): ObjectOperation[] {
    return diffObjects(this.target.unconfirmed === true ? keepObserved(desired, observed) : desired, observed)
  }

  #desired(peers: Iterable<Peer>): KernelObjects {
    const objects = desiredObjects(peers, { style: this.#style, directLink: this.#directLink })
    const { subnet, blackhole } = this.target
    if (!blackhole) return objects
    return { ...objects, routes: new Map([...objects.routes, [routeKey(subnet), [blackholeRoute(subnet)]]]) }
  }

  async #observe(link: ObservedLink, signal: AbortSignal): Promise<KernelObjects> {
    const { network, directRouting, blackhole } = this.target
    const elsewhere = {
      network: this.#looksElsewhere ? network : undefined,
      links: this.#stale.map(({ index }) => index),
    }
    const observed = await this.kernel.observe(this.#family, link.index, elsewhere, signal)
    // With both switched off only an earlier run of ours can have left some.
    this.#looksElsewhere = directRouting || blackhole
    return observed
  }

  async #findDirectLinks(link: ObservedLink, signal: AbortSignal): Promise<void> {
    if (!this.target.directRouting) {
      this.#directLink = () => undefined
      return
    }
    const routes = await this.kernel.underlayRoutes(this.#family, signal)
    const ours = new Set([link, ...this.#stale].map(({ index }) => index))
    this.#directLink = directLinkFinder(
      routes.filter(({ linkIndex }) => linkIndex === undefined || !ours.has(linkIndex)),
    )
  }

  async #removeStale(signal: AbortSignal): Promise<void> {
    for (const { index, name } of this.#stale) {
      await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    }
    this.#stale = []
  }

  /** Makes the device right, with its address and up. */
  async #ensureDevice(signal: AbortSignal): Promise<ObservedLink> {
    const { subnet, network, link: desired } = this.target
    const { link, operations } = await ensureLink(this.kernel, desired, this.log, signal)
    if (this.#watched !== undefined && this.#watched !== link.index) this.kernel.unwatchLink(this.#watched)
    this.#watched = link.index
    this.#link = link
    this.kernel.watchLink(link.index)
    const addresses = await this.kernel.linkAddresses(this.#family, link.index, signal)
    const corrections = diffAddresses(desiredAddress(subnet), network, link, addresses)
    await applyLinkOperations(this.kernel, corrections, this.log, signal)
    if (corrections.length > 0) this.#link = (await this.kernel.link(link.name, signal)) ?? link
    this.#operations += operations + corrections.length
    return link
  }

  async #apply(
    link: ObservedLink,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<void> {
    if (operations.length === 0) return
    const failures = await this.kernel.apply(link.index, operations, signal)
    const failed = new Set(failures.map(({ operation }) => operation))
    for (const operation of operations) {
      if (!failed.has(operation)) applyOperation(this.#memory, operation)
    }
    this.#operations += operations.length - failed.size
    for (const { error } of this.#retries.settle(operations, failures, performance.now(), this.random)) {
      this.#lastError = describeError(error)
      this.log.warn(`kernel: ${this.#lastError}; trying again with backoff, all others go on`)
    }
    for (const operation of operations.slice(0, 20)) this.log.silly(`kernel: ${describeOperation(operation)}`)
  }

  #settled(revision: Revision | undefined): void {
    this.#revision = revision
    this.#lastSync = performance.now()
  }

  #concerns(change: KernelChange): boolean {
    if (change.kind === 'overrun') return true
    if (change.linkIndex === undefined || this.#link === undefined) return true
    if (change.kind === 'route' && this.target.directRouting) return true
    return change.linkIndex === this.#link.index
  }
}
