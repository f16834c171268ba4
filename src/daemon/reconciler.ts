/**
 * Makes the kernel equal to what the peers want, again and again. A change of peers is applied alone, in time that does not grow with
 * their number; everything else (start, drift, overrun, the slow period) compares all that is on the device.
 */
import { constants } from 'node:os'
import { performance } from 'node:perf_hooks'
import { isNativeError } from 'node:util/types'
import type { Kernel, KernelChange } from '../kernel/kernel'
import { NetlinkError } from '../kernel/netlink/errors'
import { keepForwarding } from '../kernel/sysctl'
import { type Family, familyOf, formatPrefix, type IpAddress, ipv4, type Prefix } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeObject, describeOperation, isObjectOperation, objectKind } from '../model/describe-operation'
import { describeError, OverlayError } from '../model/errors'
import {
  type KernelObjects,
  type LinkOperation,
  type LinkSpec,
  type NexthopId,
  type ObjectMemory,
  type ObjectOperation,
  type ObservedLink,
  type OperationFailure,
  type Route,
  type RouteKey,
  routeKey,
} from '../model/kernel'
import type { Peer, Revision } from '../model/lease'
import { blackholeRoute, desiredAddress, desiredObjects, type RouteStyle } from '../plan/desired'
import { applyOperation, diffAddresses, diffObjects } from '../plan/diff'
import { directLinkFinder } from '../plan/direct'
import { keepObserved } from '../plan/keep-observed'
import type { PeerChange, PeerTable, ProtectedAddress } from '../plan/peer-table'
import {
  addOperation,
  addPeer,
  emptyScope,
  inScope,
  isEmptyScope,
  peersIn,
  restrict,
  type Scope,
} from '../plan/scope'
import { orphansOf, type Slice, slicesOf } from '../plan/slices'
import { type Contest, Contests } from './contests'
import { applyLinkOperations, ensureLink } from './ensure-link'
import { giveWay } from './give-way'
import type { Logger } from './logger'
import { errnoOf, Meters } from './meters'
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
  /** Whether the host is kept forwarding. */
  readonly forward: boolean
  /** What a peer's subnet must not cover, besides this host's own addresses, which are looked for in each pass. */
  readonly surroundings: readonly ProtectedAddress[]
}

/** `random` and `period` are for tests. */
export interface ReconcilerOptions {
  readonly random?: () => number
  /** Milliseconds between two passes over everything without an event, in case one was lost. */
  readonly period?: number
  /** Counts what is done; default one that nobody reads. */
  readonly meters?: Meters
}

/** What of it may become another. */
export type TargetChange = Partial<Pick<Target, 'link' | 'network' | 'directRouting' | 'stale'>>

/** How the reconciler stands, for status. */
export interface Convergence {
  readonly converged: boolean
  readonly revision: Revision | undefined
  /** Changes that the kernel refuses, and objects that are left wrong for a while because someone else keeps changing them. */
  readonly failing: number
  /** Objects that someone else keeps changing. */
  readonly contests: readonly Contest[]
  readonly operations: number
  /** Monotonic milliseconds. */
  readonly lastSync: number | undefined
  readonly lastError: string | undefined
}

/** How a peer stands that is not in the kernel as it should be. */
export interface PeerTrouble {
  readonly state: 'pending' | 'failing'
  readonly reason?: string
}

/** All times in milliseconds. */
const PERIOD = 60_000
/** Events of one change come together; a short wait makes them one pass. */
const SETTLE = 10
/** Between two passes over everything: this many times what one takes, within these bounds, so that a storm of events cannot starve us. */
const SPACING = { factor: 4, least: 50, most: 500 }
/** The same while someone else keeps changing our objects; other drift is still found within a second. */
const CONTEST_SPACING = { factor: 10, least: 200, most: 700 }
const RETRY: BackoffBounds = { first: 200, most: 10_000 }
/** Without events, lost ones are looked for this often. */
const OVERRUN_CHECK = 5_000
/** Peers compared in one turn of the event loop, a millisecond or two, and programmed together. */
const SLICE = 256
/** Of what is no object, in one pass, while it does not come to rest. */
const MOST_LOOKS = 3
/** Objects looked at in one turn for whether a peer owns them. */
const LOOK = 4096

/** Changes of what a pass over everything reads anew. */
const OBJECT_CHANGES: ReadonlySet<KernelChange['kind']> = new Set(['neighbour', 'route', 'nexthop'])

export class Reconciler {
  readonly #waker = new Waker()
  readonly #retries = new Retries()
  readonly #contests: Contests
  readonly #random: () => number
  readonly #meters: Meters
  readonly #period: number
  readonly #family: Family
  readonly #style: RouteStyle
  #stale: readonly ObservedLink[]
  /** What the target is to be from the next pass on: one that is under way sees one target from end to end. */
  #change: TargetChange | undefined
  #link: ObservedLink | undefined
  #watched: number | undefined
  #directLink: (publicIp: IpAddress) => number | undefined = () => undefined
  /** Links that direct routes lead over: the kernel drops them, and tells nobody, when such a link goes down. */
  readonly #directLinks = new Set<number>()
  /** Ids that nexthops of ours would have, and that are someone else's. */
  #takenNexthops: ReadonlySet<NexthopId> = new Set()
  /** Whether routes of ours that are not on the device may be there. */
  #looksElsewhere = true
  #memory: ObjectMemory = { neighbours: new Map(), fdb: new Map(), nexthops: new Map(), routes: new Map() }
  /** What of peers changed since the last pass began, and what the pass that is under way, or failed, took of it. */
  #scope: Scope = emptyScope()
  #underWay: Scope = emptyScope()
  /** When the next pass over everything is due, unless a hint of the kernel's comes, and when one for that is. */
  #plannedDue = 0
  #hintDue = Number.POSITIVE_INFINITY
  #fullEarliest = 0
  /** Whether the planned pass was asked for; else it is one of the slow period. */
  #isAsked = true
  /** Whether a hint was about more than the objects that a pass over everything reads. */
  #isDeviceHinted = false
  #failedPasses = 0
  /** Whether there was a pass, or one is under way. */
  #hasBegun = false
  /** Whether the device is to be another than it was: then its changes are no repairs. */
  #retargeted = false
  #wantedRevision: Revision | undefined
  /** When the oldest change that no pass has begun with was heard of, and when that of the present pass; monotonic milliseconds. */
  #heardAt: number | undefined
  #syncsSince: number | undefined
  #revision: Revision | undefined
  #operations = 0
  #lastSync: number | undefined
  #lastError: string | undefined
  #peersTold = (_changes: readonly PeerChange[]): void => undefined

  constructor(
    private readonly kernel: Kernel,
    private target: Target,
    private readonly log: Logger,
    { random = Math.random, period = PERIOD, meters = new Meters() }: ReconcilerOptions = {},
  ) {
    this.#random = random
    this.#meters = meters
    this.#period = period
    this.#contests = new Contests(random)
    this.#family = familyOf(target.subnet.address)
    this.#style = kernel.usesNexthops(this.#family) ? 'nexthop' : 'gateway'
    this.#stale = target.stale
    kernel.watchNetwork(target.network)
    if (target.directRouting) kernel.watchAllRoutes()
  }

  /** Has it told of peers that are others because of addresses that this host has now. */
  onPeersChange(told: (changes: readonly PeerChange[]) => void): void {
    this.#peersTold = told
  }

  /** The device as it should be. */
  get desiredLink(): LinkSpec {
    return this.#change?.link ?? this.target.link
  }

  /** Takes in that the device should be or carry something else; it is made so in the next pass, which is over everything. */
  retarget(change: TargetChange): void {
    const stale = [...(this.#change?.stale ?? []), ...(change.stale ?? [])]
    this.#change = { ...this.#change, ...change, stale }
    this.#isAsked = true
    this.#plannedDue = performance.now()
    this.#waker.wake()
  }

  /** Takes in that etcd has told the peers: from now on what they do not want is removed. */
  confirm(): void {
    if (this.target.unconfirmed !== true) return
    this.target = { ...this.target, unconfirmed: false }
    this.#retargeted = true
    this.#isAsked = true
    this.#plannedDue = performance.now()
    this.#waker.wake()
  }

  /**
   * Takes in which peers changed; they are applied in the next pass.
   * @param heardAt when etcd's word of it came, in monotonic milliseconds
   */
  peersChanged(changes: readonly PeerChange[], revision: Revision, heardAt = performance.now()): void {
    if (changes.length > 0) this.#heardAt ??= heardAt
    // The first pass is over everything anyway.
    for (const { before, after } of this.#hasBegun ? changes : []) {
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
    if (!OBJECT_CHANGES.has(change.kind)) this.#isDeviceHinted = true
    if (change.kind === 'overrun')
      this.log.info('kernel: notifications were lost; everything is compared', { kind: 'kernel-overrun' })
    if (change.kind === 'overrun' || change.inOurPlace) {
      // What was in the way may be gone, and a route of our protocol may have come.
      this.#looksElsewhere = true
      this.#retries.hasten(performance.now())
    }
    this.#hintDue = Math.min(this.#hintDue, Math.max(performance.now() + SETTLE, this.#fullEarliest))
    this.#waker.wake()
  }

  /**
   * One pass over everything.
   * @throws {OverlayError} when the device cannot be made or read; single objects that fail are retried later
   */
  async syncAll(signal: AbortSignal): Promise<void> {
    const started = performance.now()
    if (!this.#isAsked && this.#hintDue === Number.POSITIVE_INFINITY) this.#looksElsewhere = true
    this.#plannedDue = started + this.#period * (0.9 + 0.2 * this.#random())
    this.#isAsked = false
    this.#hasBegun = true
    this.#contests.begin()
    this.#takeChange()
    // What we set ourselves to change nobody else has.
    const isPlanned = this.#revision === undefined || this.#retargeted
    const device = await this.#ensureBasis(isPlanned, signal)
    const { link } = device
    const changed = this.#takeScope()
    const revision = this.#wantedRevision
    await this.#findDirectLinks(link, signal)
    this.#memory = await this.#observe(link, signal)
    // What went with the device, or was never there, nobody changed; nor what peers changed, before this pass or while it is under way.
    const isRepair = (operation: ObjectOperation): boolean =>
      !isPlanned && !device.isNew && !inScope(changed, operation) && !inScope(this.#scope, operation)
    const repairs: ObjectOperation[] = []
    let changes = 0
    for (const slice of this.#slices(this.target.peers.peers(), this.#memory)) {
      const wanted = this.#retries.filter(this.#compare(slice), slice.scope, started)
      const allowed = wanted.filter(
        (operation) => !isRepair(operation) || !this.#contests.holds(describeObject(operation), started),
      )
      for (const operation of allowed) if (isRepair(operation)) repairs.push(operation)
      changes += allowed.length
      await this.#apply(link, allowed, signal)
      await giveWay(signal)
    }
    this.#noteRepairs(repairs, started)
    await this.#explainFailures(signal)
    await this.#removeStale(signal)
    this.#settled(revision)
    const took = performance.now() - started
    const { factor, least, most } = this.#contests.contests().length === 0 ? SPACING : CONTEST_SPACING
    this.#fullEarliest = performance.now() + Math.min(most, Math.max(least, factor * took))
    // What was notified meanwhile, our own work on the device among it, may wait that long too.
    this.#hintDue = Math.max(this.#hintDue, this.#fullEarliest)
    this.#plannedDue = Math.max(Math.min(this.#plannedDue, this.#contests.nextSettle), this.#fullEarliest)
    this.log.debug(
      `kernel: compared everything of ${formatPrefix(this.target.network)}: ${this.target.peers.size} peers, ${changes} changes, ${took.toFixed(0)} ms`,
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
        this.#contests.waiting === 0 &&
        this.#failedPasses === 0 &&
        this.#change === undefined &&
        isEmptyScope(this.#scope) &&
        isEmptyScope(this.#underWay),
      revision: this.#revision,
      failing: this.#retries.size + this.#contests.waiting,
      contests: this.#contests.contests(),
      operations: this.#operations,
      lastSync: this.#lastSync,
      lastError: this.#lastError,
    }
  }

  /** Changes that the kernel refuses. */
  get refused(): number {
    return this.#retries.size
  }

  /** The device as it was last seen. */
  get link(): ObservedLink | undefined {
    return this.#link
  }

  /** The peers that are not as they should be, and why; costs nothing while there are none. */
  peersAmiss(): ReadonlyMap<Peer, PeerTrouble> {
    const { peers } = this.target
    const amiss = new Map<Peer, PeerTrouble>()
    const note = (peer: Peer, trouble: PeerTrouble): void => {
      if (!amiss.has(peer)) amiss.set(peer, trouble)
    }
    for (const { operation, error } of this.#retries.failures()) {
      const changed = emptyScope()
      addOperation(changed, operation)
      for (const peer of peersIn(changed, peers)) {
        const owned = emptyScope()
        addPeer(owned, peer)
        if (inScope(owned, operation)) note(peer, { state: 'failing', reason: describeError(error) })
      }
    }
    // A contest has the words for its object, and no more.
    for (const peer of this.#contests.waiting > 0 ? peers.peers() : []) {
      const contest = this.#contests.waitingFor(`the route to ${formatPrefix(peer.subnet)}`)
      if (contest !== undefined) note(peer, { state: 'failing', reason: describeContest(contest) })
    }
    const pending =
      this.#revision === undefined
        ? peers.peers()
        : [this.#scope, this.#underWay].flatMap(({ neighbours }) => [
            ...peersIn({ ...emptyScope(), neighbours }, peers),
          ])
    for (const peer of pending) note(peer, { state: 'pending' })
    return amiss
  }

  /** @returns what changed since the last time that it was taken */
  #takeScope(): Scope {
    const scope = this.#scope
    this.#scope = emptyScope()
    this.#underWay = scope
    // What a pass that failed has left undone is older.
    this.#syncsSince ??= this.#heardAt
    this.#heardAt = undefined
    return scope
  }

  #takeChange(): void {
    if (this.#change === undefined) return
    const { stale = [], ...change } = this.#change
    this.#change = undefined
    this.#retargeted = true
    this.target = { ...this.target, ...change }
    this.kernel.watchNetwork(this.target.network)
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

  get #fullDue(): number {
    return Math.min(this.#plannedDue, this.#hintDue)
  }

  #nextWork(): number {
    if (this.#link === undefined) return this.#fullDue
    if (!isEmptyScope(this.#scope)) return 0
    return Math.min(this.#fullDue, this.#retries.nextDue, this.#contestsDue)
  }

  /** When a contested object may be put right again: by a pass over everything. */
  get #contestsDue(): number {
    const { nextDue } = this.#contests
    return nextDue === Number.POSITIVE_INFINITY ? nextDue : Math.max(nextDue, this.#fullEarliest)
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const now = performance.now()
    try {
      if (now >= Math.min(this.#fullDue, this.#contestsDue) || this.#link === undefined)
        await this.syncAll(signal)
      else await this.#syncScope(this.#link, now, signal)
      if (this.#failedPasses > 0)
        this.log.info(`kernel: device ${this.target.link.name} is in order again`, { kind: 'device-change' })
      this.#failedPasses = 0
    } catch (error) {
      if (signal.aborted) return
      this.#failedPasses++
      this.#lastError = describeError(error)
      // The device itself is in doubt: only a pass over everything can tell.
      this.#plannedDue = performance.now() + backoffDelay(this.#failedPasses, RETRY, this.#random)
      this.#hintDue = Number.POSITIVE_INFINITY
      this.#fullEarliest = this.#plannedDue
      this.#isAsked = true
      this.#link = undefined
      if (this.#failedPasses === 1)
        this.log.error(`kernel: ${this.#lastError}; trying again`, {
          kind: 'device-problem',
          errno: isNativeError(error) ? errnoOf(error) : undefined,
        })
    }
  }

  /** One pass over what changed. */
  async #syncScope(link: ObservedLink, now: number, signal: AbortSignal): Promise<void> {
    const revision = this.#wantedRevision
    const scope = this.#takeScope()
    this.#retries.addDue(scope, now)
    const peers = peersIn(scope, this.target.peers)
    const isSmall = scope.routes.size <= SLICE
    for (const part of isSmall ? [{ peers, scope }] : this.#slices(peers, restrict(this.#memory, scope))) {
      const changes = this.#compare(part)
      await this.#apply(link, this.#retries.filter(changes, part.scope, now), signal)
      if (!isSmall) await giveWay(signal)
    }
    this.#settled(revision)
  }

  /**
   * The parts of a pass: our own object, the peers', what failed before, and in the end what is nobody's. What is found to be nobody's has
   * to be compared in the same turn, for in the next one it may be somebody's.
   * @param objects what of the memory the pass is about
   */
  *#slices(peers: Iterable<Peer>, objects: KernelObjects): Generator<Slice> {
    const { subnet, peers: table } = this.target
    yield { peers: [], scope: { ...emptyScope(), routes: new Set([routeKey(subnet)]) } }
    yield* slicesOf(peers, SLICE)
    const failed = this.#retries.scope()
    if (!isEmptyScope(failed)) yield { peers: peersIn(failed, table), scope: failed }
    for (const scope of orphansOf(objects, table, LOOK)) yield { peers: [], scope }
  }

  /** What has to change of the objects in the scope. */
  #compare({ peers, scope, isWhole }: Slice): ObjectOperation[] {
    const wanted = this.#desired(peers, scope)
    const desired = isWhole ? wanted : restrict(wanted, scope)
    const observed = restrict(this.#memory, scope)
    return diffObjects(this.target.unconfirmed === true ? keepObserved(desired, observed) : desired, observed)
  }

  /** Of those peers, and the object that is the host's own if the scope has it. */
  #desired(peers: Iterable<Peer>, scope: Scope): KernelObjects {
    const objects = desiredObjects(peers, {
      style: this.#style,
      directLink: this.#directLink,
      taken: this.#takenNexthops,
    })
    const { subnet, blackhole } = this.target
    const key = routeKey(subnet)
    if (!blackhole || !scope.routes.has(key)) return objects
    const own = [key, [blackholeRoute(subnet)]] as const
    return { ...objects, routes: new Map<RouteKey, readonly Route[]>([...objects.routes, own]) }
  }

  async #observe(link: ObservedLink, signal: AbortSignal): Promise<ObjectMemory> {
    const { network, directRouting, blackhole } = this.target
    const elsewhere = {
      network,
      routes: this.#looksElsewhere,
      links: this.#stale.map(({ index }) => index),
    }
    const started = performance.now()
    const memory = await this.kernel.observe(this.#family, link.index, elsewhere, signal)
    this.#meters.netlinkReads.observe(performance.now() - started)
    // With both switched off only an earlier run of ours can have left some, or another program have made them.
    this.#looksElsewhere = directRouting || blackhole
    // A nexthop that was ours in the last pass and is on another link now is ours still: someone changed it.
    const changed = [...memory.takenNexthops].filter((id) => this.#memory.nexthops.has(id))
    for (const id of changed) memory.nexthops.set(id, ipv4(0))
    this.#takenNexthops = new Set([...memory.takenNexthops].filter((id) => !changed.includes(id)))
    return memory
  }

  async #findDirectLinks(link: ObservedLink, signal: AbortSignal): Promise<void> {
    if (!this.target.directRouting) {
      this.#directLink = () => undefined
      return
    }
    const routes = await this.kernel.underlayRoutes(this.#family, signal)
    const ours = new Set([link, ...this.#stale].map(({ index }) => index))
    const find = directLinkFinder(
      routes.filter(({ linkIndex }) => linkIndex === undefined || !ours.has(linkIndex)),
    )
    this.#directLinks.clear()
    this.#directLink = (publicIp) => {
      const direct = find(publicIp)
      if (direct !== undefined) this.#directLinks.add(direct)
      return direct
    }
  }

  async #removeStale(signal: AbortSignal): Promise<void> {
    for (const { index, name } of this.#stale) {
      await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    }
    this.#stale = []
  }

  /**
   * Makes all that objects need: the device, forwarding, addresses that no peer covers. It is looked at again when something of it changed
   * meanwhile, as our own changes do: so all that was heard of until now is in what is read after it, and needs no other pass.
   */
  async #ensureBasis(
    isPlanned: boolean,
    signal: AbortSignal,
  ): Promise<{ readonly link: ObservedLink; readonly isNew: boolean }> {
    let isNew = false
    for (let look = 1; ; look += 1) {
      this.#isDeviceHinted = false
      const device = await this.#ensureDevice(isPlanned, signal)
      isNew ||= device.isNew
      await this.#keepForwarding(device.link)
      await this.#protectAddresses(device.link, signal)
      // Has what the kernel told meanwhile be heard.
      await giveWay(signal)
      if (!this.#isDeviceHinted) this.#hintDue = Number.POSITIVE_INFINITY
      if (!this.#isDeviceHinted || look === MOST_LOOKS) return { link: device.link, isNew }
    }
  }

  /**
   * Makes the device right, with its address and up.
   * @returns `isNew` when all that was on it is gone: it was made, or had been down
   */
  async #ensureDevice(
    isPlanned: boolean,
    signal: AbortSignal,
  ): Promise<{ readonly link: ObservedLink; readonly isNew: boolean }> {
    const started = performance.now()
    const { subnet, network, link: desired } = this.target
    const isHeld = (operation: LinkOperation): boolean =>
      this.#contests.holds(describeObject(operation), started)
    const mayChange = (operations: readonly LinkOperation[]): boolean => !operations.some(isHeld)
    const { link, operations } = await ensureLink(this.kernel, desired, this.log, signal, {
      index: this.#watched,
      mayChange,
    })
    if (this.#watched !== undefined && this.#watched !== link.index) this.kernel.unwatchLink(this.#watched)
    this.#watched = link.index
    this.#link = link
    this.kernel.watchLink(link.index)
    const addresses = await this.kernel.linkAddresses(this.#family, link.index, signal)
    const corrections = diffAddresses(desiredAddress(subnet), network, link, addresses).filter(
      (operation) => !isHeld(operation),
    )
    await applyLinkOperations(this.kernel, corrections, this.log, signal)
    if (corrections.length > 0) this.#link = (await this.kernel.link(link.name, signal)) ?? link
    const done = [...operations, ...corrections]
    this.#operations += done.length
    const isNew = done.some(({ kind }) => kind === 'create-link' || kind === 'set-link-up')
    if (!isPlanned) this.#noteRepairs(done, started)
    this.#retargeted = false
    return { link, isNew }
  }

  async #keepForwarding({ name }: ObservedLink): Promise<void> {
    if (!this.target.forward) return
    if (await keepForwarding(this.#family, name)) {
      this.log.warn(`forwarding: ${this.#family} was switched off, and is switched on again`, {
        kind: 'forwarding-repair',
      })
    }
  }

  /** Has no peer cover an address that this host has now, or needs. */
  async #protectAddresses(link: ObservedLink, signal: AbortSignal): Promise<void> {
    const { peers, surroundings } = this.target
    const ours = [link, ...this.#stale].map(({ index }) => index)
    const addresses = await this.kernel.addresses(this.#family, signal)
    const own = addresses
      .filter(({ linkIndex }) => !ours.includes(linkIndex))
      .map(({ address }) => ({ address: address.address, what: 'an address of this host' }))
    const changes = peers.protect([...surroundings, ...own])
    for (const { before, after } of changes) {
      for (const peer of [before, after]) if (peer !== undefined) addPeer(this.#scope, peer)
      const key = before?.key ?? after?.key ?? ''
      const reason = peers.reasonAgainst(key)
      const about = [before, after].flatMap((peer) => (peer === undefined ? [] : formatPrefix(peer.subnet)))
      if (reason !== undefined)
        this.log.warn(`peer rejected: ${key}: ${reason}`, { kind: 'peer-rejected', about })
    }
    this.#peersTold(changes)
  }

  /** Says what was put right, and what someone else does not leave alone. */
  #noteRepairs(operations: readonly (LinkOperation | ObjectOperation)[], now: number): void {
    const kinds = new Map(operations.map((operation) => [describeObject(operation), objectKind(operation)]))
    const objects = [...kinds.keys()]
    const [first, ...more] = objects
    if (first !== undefined) {
      const others = more.length === 0 ? '' : ` and ${more.length} more`
      const tally: Record<string, number> = {}
      for (const kind of kinds.values()) tally[kind] = (tally[kind] ?? 0) + 1
      this.log.info(`kernel: put right what someone else changed: ${first}${others}`, {
        kind: 'kernel-repair',
        about: [...this.#peersOf(operations), ...objects],
        tally,
      })
    }
    for (const contest of this.#contests.note(objects, now)) {
      this.log.warn(`kernel: ${describeContest(contest)}; it is put right less often from now on`, {
        kind: 'kernel-contest',
        about: [contest.what],
      })
    }
    for (const { what, times } of this.#contests.settle(now)) {
      this.log.info(`kernel: nobody changes ${what} any more; it was put right ${times} times`, {
        kind: 'kernel-contest',
        about: [what],
      })
    }
  }

  /** Finds out what is in the way of the changes that fail. */
  async #explainFailures(signal: AbortSignal): Promise<void> {
    if (this.#retries.size === 0) return
    const failures = [...this.#retries.failures()].map(({ operation, error }) => ({
      operation,
      error: error.cause instanceof Error ? error.cause : error,
    }))
    this.#retries.explain(await this.kernel.explain(this.#family, failures, signal))
  }

  async #apply(
    link: ObservedLink,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<void> {
    if (operations.length === 0) return
    const refused = await this.#applyInOrder(link, operations, signal)
    this.#operations += operations.length - refused.length
    const failures = this.#avoidTakenNexthops(refused)
    const news = this.#retries.settle(operations, failures, performance.now(), this.#random)
    const explained = await this.kernel.explain(this.#family, news, signal)
    this.#retries.explain(explained)
    for (const { operation, error } of explained.slice(0, MOST_FAILURE_LINES)) {
      this.#lastError = describeError(error)
      this.log.warn(`kernel: ${this.#lastError}; trying again with backoff, all others go on`, {
        kind: 'kernel-refusal',
        about: this.#namesOf(operation),
        errno: errnoOf(error),
      })
    }
    const known = new Set(news.map(({ operation }) => operation))
    const again = failures.filter(({ operation }) => !known.has(operation))
    for (const { operation, error } of again.slice(0, MOST_FAILURE_LINES)) this.#noteRetry(operation, error)
    const more = explained.length - MOST_FAILURE_LINES
    if (more > 0) this.log.warn(`kernel: ${more} more changes fail; overlayctl status lists them`)
    for (const operation of operations.slice(0, 20)) this.log.silly(`kernel: ${describeOperation(operation)}`)
  }

  /** Says that a change was refused once more, and when it is tried again. */
  #noteRetry(operation: ObjectOperation, error: Error): void {
    const failing = this.#retries.stateOf(operation)
    if (failing === undefined) return
    const seconds = Math.max(0, (failing.dueAt - performance.now()) / 1000).toFixed(1)
    const words = describeError(failing.error)
    this.log.debug(`kernel: ${words}; refused ${failing.attempts} times, again in ${seconds} s`, {
      kind: 'kernel-retry',
      about: this.#namesOf(operation),
      errno: errnoOf(error),
    })
  }

  #namesOf(operation: ObjectOperation): string[] {
    return [...this.#peersOf([operation]), describeObject(operation)]
  }

  /** The subnets of the peers whose objects these change, as far as there is room for them in an event. */
  #peersOf(operations: readonly (LinkOperation | ObjectOperation)[]): string[] {
    const scope = emptyScope()
    for (const operation of operations.slice(0, MOST_FAILURE_LINES))
      if (isObjectOperation(operation)) addOperation(scope, operation)
    return [...peersIn(scope, this.target.peers)].map(({ subnet }) => formatPrefix(subnet))
  }

  /** Nexthops before the routes that name them: one that was refused may be a stranger's, and no packet of ours may go there. */
  async #applyInOrder(
    link: ObservedLink,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    const setsNexthops = operations.some(({ kind }) => kind === 'set-nexthop')
    const cut = setsNexthops ? operations.findIndex(({ kind }) => kind === 'set-route') : -1
    if (cut === -1) return this.#applyAll(link, operations, signal)
    const refused = await this.#applyAll(link, operations.slice(0, cut), signal)
    const rest = operations.slice(cut)
    const blocked = refused.length === 0 ? [] : rest.filter((operation) => this.#lacksNexthop(operation))
    const error = new OverlayError('nexthop-missing', 'its nexthop object could not be made')
    return [
      ...refused,
      ...blocked.map((operation) => ({ operation, error })),
      ...(await this.#applyAll(
        link,
        blocked.length === 0 ? rest : rest.filter((operation) => !blocked.includes(operation)),
        signal,
      )),
    ]
  }

  #lacksNexthop(operation: ObjectOperation): boolean {
    if (operation.kind !== 'set-route') return false
    const { target } = operation.route
    return target.kind === 'nexthop' && !this.#memory.nexthops.has(target.id)
  }

  async #applyAll(
    link: ObservedLink,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    if (operations.length === 0) return []
    const started = performance.now()
    const failures = await this.kernel.apply(link.index, operations, signal)
    this.#meters.wrote(operations, failures, performance.now() - started)
    const failed = failures.length === 0 ? undefined : new Set(failures.map(({ operation }) => operation))
    for (const operation of operations) {
      if (!failed?.has(operation)) applyOperation(this.#memory, operation)
    }
    return failures
  }

  /**
   * A nexthop whose id is someone else's cannot be made: the peer's route names its gateway itself, from the next pass on.
   * @returns the other failures
   */
  #avoidTakenNexthops(refused: readonly OperationFailure[]): readonly OperationFailure[] {
    const taken = refused.flatMap(({ operation, error }) =>
      operation.kind === 'set-nexthop' && isTaken(error) ? [operation.id] : [],
    )
    if (taken.length === 0) return refused
    this.#takenNexthops = new Set([...this.#takenNexthops, ...taken])
    for (const id of taken) {
      const peer = this.target.peers.peerAt(ipv4(id))
      if (peer !== undefined) addPeer(this.#scope, peer)
    }
    this.#waker.wake()
    return refused.filter(({ operation, error }) => {
      if (operation.kind === 'set-nexthop') return !isTaken(error)
      const target = operation.kind === 'set-route' ? operation.route.target : undefined
      return target?.kind !== 'nexthop' || !taken.includes(target.id)
    })
  }

  #settled(revision: Revision | undefined): void {
    // What came meanwhile may have changed no peer.
    this.#revision = isEmptyScope(this.#scope) ? this.#wantedRevision : revision
    this.#underWay = emptyScope()
    this.#lastSync = performance.now()
    if (this.#syncsSince !== undefined) this.#meters.convergence.observe(this.#lastSync - this.#syncsSince)
    this.#syncsSince = undefined
  }

  #concerns(change: KernelChange): boolean {
    if (change.kind === 'overrun') return true
    if (change.family !== undefined && change.family !== this.#family) return false
    if (change.linkIndex === undefined || this.#link === undefined) return true
    if (change.inOurPlace) return true
    if (change.kind === 'route' && this.target.directRouting) return true
    return change.linkIndex === this.#link.index || this.#directLinks.has(change.linkIndex)
  }
}

/** Lines about refused changes of one pass: a log that is flooded says nothing. */
const MOST_FAILURE_LINES = 20

const isTaken = (error: Error): boolean =>
  error instanceof NetlinkError && error.errno === constants.errno.EEXIST

/** A contest in words that follow "kernel:". */
export const describeContest = ({ what, times, since }: Contest): string =>
  `another program changes ${what} again and again: put right ${times} times in ${((performance.now() - since) / 1000).toFixed(0)} s; find it with \`ip monitor\` or \`bridge monitor\` and stop it`
