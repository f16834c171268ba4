/**
 * Keeps what carries containers' multicast between hosts: a second VXLAN device that sends a copy to each host that takes part, filters on
 * the bridges of our containers that hand it what they send, and filters on it that hand them what others send. The kernel does all of that
 * itself; here is only seen to it that it is so, and that nothing is left when it is not wanted any more.
 *
 *     container ─▶ bridge, ingress: mirror ─▶ fl-mc.1 ─▶ a copy for each host ─▶ fl-mc.1, ingress: redirect ─▶ bridge ─▶ containers
 *
 * What comes in goes to the bridge's ports and never back through its ingress, and the device passes nothing on: so no frame can loop.
 */
import { performance } from 'node:perf_hooks'
import type { Kernel, KernelChange } from '../kernel/kernel'
import { MulticastKernel } from '../kernel/multicast'
import { disableIpv6 } from '../kernel/sysctl'
import { familyOf, type IpAddress, type Prefix } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import type { LinkSpec, ObservedLink } from '../model/kernel'
import {
  type LinkCounters,
  type MulticastOperation,
  type ObservedBridge,
  type ObservedFilter,
  ROUTER_PORT_ALWAYS,
} from '../model/multicast'
import { bridgesOf, diffDestinations, flood } from '../plan/multicast'
import {
  diffFilters,
  filterTag,
  inFilters,
  isOwnFilter,
  outFilters,
  routerBefore,
} from '../plan/multicast-filters'
import { applyLinkOperations, ensureLink } from './ensure-link'
import type { Logger } from './logger'
import { Waker } from './waker'

/** What there should be. */
export interface MulticastTarget {
  /** The device. */
  readonly link: LinkSpec
  /** What senders' addresses must be in, besides link-local ones. */
  readonly networks: readonly Prefix[]
  /** Ours: a bridge with an address in one of them has our containers. */
  readonly subnets: readonly Prefix[]
  /** The hosts that get copies. */
  readonly hosts: readonly IpAddress[]
  /** Whether others may get some too, for what is known of them may be old. */
  readonly unconfirmed: boolean
}

/** What the keeper is asked for again and again. */
export interface MulticastView {
  /** `undefined` when nothing is wanted. */
  target(): MulticastTarget | undefined
  /** The name that the device has or had. */
  readonly name: string
}

/** How it stands, for the status. */
export interface MulticastSummary {
  readonly device: string
  readonly vni: number
  /** Names of the bridges that take part. */
  readonly bridges: readonly string[]
  readonly hosts: number
  readonly counters: LinkCounters | undefined
}

/** All times in milliseconds. */
const PERIOD = 60_000
/** Events of one change come together. */
const SETTLE = 20
/** Between two passes, and when another program undoes what we do. */
const SPACING = { usual: 100, contested: 2000 }
/** So many repairs within that time: someone else is at it too. */
const CONTEST = { repairs: 5, within: 30_000 }
const RETRY: BackoffBounds = { first: 200, most: 10_000 }
/** Failures of one pass that are worth a line. */
const MOST_FAILURES = 3
/** An action can name as many links (linux/pkt_cls.h, TCA_ACT_MAX_PRIO). */
const MOST_BRIDGES = 32

/** A bridge that takes part. */
interface Joined {
  readonly name: string
  /** What mcast_router was before us; `undefined` where the kernel has none. */
  readonly routerBefore: number | undefined
  /** Whether the place for filters was there before ours. */
  readonly foreignQdisc: boolean
}

/** What was made last, so that it can be taken away. */
interface Made {
  readonly name: string
  readonly vni: number
}

export class MulticastKeeper {
  readonly #waker = new Waker()
  readonly #multicast: MulticastKernel
  /** index -> bridge */
  #joined = new Map<number, Joined>()
  #made: Made | undefined
  #link: ObservedLink | undefined
  #hosts = 0
  #due = 0
  #earliest = 0
  #failures = 0
  #problem: string | undefined
  /** What someone else does not leave alone, or cannot be done, while all else is right. */
  #complaint: string | undefined
  #repairs: readonly number[] = []

  constructor(
    private readonly kernel: Kernel,
    private readonly view: MulticastView,
    private readonly log: Logger,
  ) {
    this.#multicast = new MulticastKernel(kernel)
    kernel.watchFilters()
    kernel.onChange((change) => this.#kernelChanged(change))
  }

  /** Has what is wanted compared with what is there, soon. */
  wake(): void {
    this.#due = Math.min(this.#due, Math.max(performance.now() + SETTLE, this.#earliest))
    this.#waker.wake()
  }

  /** Why it does not work, or not as it should; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#problem ?? this.#complaint
  }

  /** `undefined` when nothing is wanted. */
  async summary(): Promise<MulticastSummary | undefined> {
    const target = this.view.target()
    if (target === undefined) return undefined
    const counters = this.#link && (await this.#multicast.counters(this.#link.index))
    return {
      device: target.link.name,
      vni: target.link.vni,
      bridges: [...this.#joined.values()].map(({ name }) => name),
      hosts: this.#hosts,
      counters,
    }
  }

  /** Runs until the signal fires. Ending removes nothing. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#waker.sleep(this.#due - performance.now(), signal)
      if (signal.aborted || performance.now() < this.#due) continue
      try {
        await this.#pass(signal)
        if (this.#problem !== undefined) this.log.info('multicast: works again')
        this.#problem = undefined
        this.#failures = 0
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof OverlayError)) throw error
        const problem = describeError(error)
        if (problem !== this.#problem) this.log.warn(`multicast: ${problem}; trying again, all else goes on`)
        this.#problem = problem
        this.#failures++
        this.#due = performance.now() + backoffDelay(this.#failures, RETRY, Math.random)
        this.#earliest = this.#due
      }
    }
  }

  async #pass(signal: AbortSignal): Promise<void> {
    this.#due = performance.now() + PERIOD
    const target = this.view.target()
    const { name, vni } = target?.link ?? { name: this.view.name, vni: undefined }
    if (this.#made !== undefined && (this.#made.name !== name || this.#made.vni !== vni)) {
      await this.#withdraw(this.#made, signal)
      this.#made = undefined
    }
    if (target === undefined) await this.#withdrawRest(name, signal)
    else await this.#bring(target, signal)
    const contested = this.#contested
    this.#earliest = performance.now() + (contested ? SPACING.contested : SPACING.usual)
    this.#due = Math.max(this.#due, this.#earliest)
  }

  /** Makes it so. */
  async #bring(target: MulticastTarget, signal: AbortSignal): Promise<void> {
    const { vni, name } = target.link
    const isNew = this.#made === undefined
    const { link, changed } = await this.#ensureDevice(target.link, signal)
    this.#made = { name, vni }
    const bridges = await this.#multicast.bridges(signal)
    const ours = await this.#findBridges(bridges, target, signal)
    const joined = new Map<number, Joined>()
    const operations: MulticastOperation[] = []
    for (const bridge of bridges) {
      const filters = await this.#ownFilters(bridge.index, vni, signal)
      if (!ours.includes(bridge)) {
        if (filters.length > 0 || this.#joined.has(bridge.index))
          operations.push(...(await this.#leave(bridge, filters, signal)))
        continue
      }
      const known = await this.#know(bridge, filters, signal)
      joined.set(bridge.index, known)
      const tag = filterTag(vni, known.routerBefore)
      operations.push(...(await this.#place(bridge.index, signal)))
      operations.push(...diffFilters(bridge.index, outFilters(link.index, tag), filters))
      if (bridge.multicastRouter !== undefined && bridge.multicastRouter !== ROUTER_PORT_ALWAYS) {
        operations.push({ kind: 'set-multicast-router', link: bridge.index, value: ROUTER_PORT_ALWAYS })
      }
    }
    operations.push(...(await this.#place(link.index, signal)))
    const incoming = await this.#ownFilters(link.index, vni, signal)
    const wanted = inFilters(
      target.networks,
      ours.map(({ index }) => index),
      filterTag(vni),
    )
    operations.push(...diffFilters(link.index, wanted, incoming))
    const there = await this.#multicast.destinations(link.index, signal)
    const sends = diffDestinations(link.index, flood(target.hosts), there, target.unconfirmed)
    await this.#apply([...operations, ...sends], signal)
    const isSame = this.#noteJoined(joined)
    // Hosts come and go; what else changes while the bridges are the same was done by someone.
    if (!isNew && isSame && !changed && operations.length > 0) this.#noteRepair(operations.length)
    if (target.hosts.length !== this.#hosts || isNew) {
      this.log.info(`multicast: ${name} (VNI ${vni}) sends to ${target.hosts.length} hosts`)
    }
    this.#hosts = target.hosts.length
    this.#complaint = this.#contested
      ? `another program changes filters, ${name} or mcast_router again and again; find it with \`tc monitor\` and \`ip monitor\``
      : undefined
  }

  /** @returns `changed` when it is new, or was put right */
  async #ensureDevice(
    spec: LinkSpec,
    signal: AbortSignal,
  ): Promise<{ readonly link: ObservedLink; readonly changed: boolean }> {
    const { link, operations } = await ensureLink(this.kernel, spec, this.log, signal, {
      index: this.#link?.index,
    })
    // Before it is up: a device without addresses asks for none and reports nothing.
    await disableIpv6(spec.name)
    const { index, name } = link
    if (!link.up)
      await applyLinkOperations(this.kernel, [{ kind: 'set-link-up', index, name }], this.log, signal)
    if (this.#link !== undefined && this.#link.index !== index) this.kernel.unwatchLink(this.#link.index)
    this.kernel.watchLink(index)
    this.#link = link
    return { link, changed: operations.length > 0 || !link.up }
  }

  async #findBridges(
    bridges: readonly ObservedBridge[],
    { subnets }: MulticastTarget,
    signal: AbortSignal,
  ): Promise<ObservedBridge[]> {
    const families = new Set(subnets.map(({ address }) => familyOf(address)))
    const addresses = []
    for (const family of families) addresses.push(...(await this.#multicast.addresses(family, signal)))
    const found = bridgesOf(bridges, addresses, subnets)
    if (found.length > MOST_BRIDGES) {
      throw new OverlayError(
        'too-many-bridges',
        `${found.length} bridges have an address in this host's subnet, and ${MOST_BRIDGES} can take part`,
        'give fewer bridges addresses of it',
      )
    }
    return found
  }

  async #ownFilters(link: number, vni: number, signal: AbortSignal): Promise<readonly ObservedFilter[]> {
    const filters = await this.#multicast.filters(link, 'in', signal)
    return filters.filter((filter) => isOwnFilter(filter, vni))
  }

  /** What is to be known of a bridge for the time when it takes no part any more. Our filters on it remember that too. */
  async #know(
    bridge: ObservedBridge,
    [filter]: readonly ObservedFilter[],
    signal: AbortSignal,
  ): Promise<Joined> {
    const { index, name } = bridge
    const before = this.#joined.get(index)
    if (before !== undefined) return { ...before, name }
    if (filter !== undefined) return { name, routerBefore: routerBefore(filter.tag), foreignQdisc: false }
    const foreignQdisc = (await this.#multicast.ingressQdisc(index, signal)) !== undefined
    return { name, routerBefore: bridge.multicastRouter, foreignQdisc }
  }

  /** A place for filters. */
  async #place(link: number, signal: AbortSignal): Promise<MulticastOperation[]> {
    return (await this.#multicast.ingressQdisc(link, signal)) === undefined
      ? [{ kind: 'add-qdisc', link }]
      : []
  }

  /** What takes a bridge out. Its place for filters goes too, unless it was there before us or has filters of others. */
  async #leave(
    bridge: ObservedBridge,
    filters: readonly ObservedFilter[],
    signal: AbortSignal,
  ): Promise<MulticastOperation[]> {
    const { index: link, multicastRouter } = bridge
    const { routerBefore: router, foreignQdisc } = await this.#know(bridge, filters, signal)
    const operations = diffFilters(link, [], filters)
    // What someone has set since is theirs.
    if (multicastRouter === ROUTER_PORT_ALWAYS && router !== undefined && router !== multicastRouter) {
      operations.push({ kind: 'set-multicast-router', link, value: router })
    }
    if (foreignQdisc) return operations
    const others = [
      ...(await this.#multicast.filters(link, 'in', signal)),
      ...(await this.#multicast.filters(link, 'out', signal)),
    ]
    if (others.length === filters.length) operations.push({ kind: 'delete-qdisc', link })
    return operations
  }

  /** Takes all away that was made under a name. */
  async #withdraw({ name, vni }: Made, signal: AbortSignal): Promise<void> {
    const operations: MulticastOperation[] = []
    for (const bridge of await this.#multicast.bridges(signal)) {
      const filters = await this.#ownFilters(bridge.index, vni, signal)
      const isOurs = filters.length > 0 || this.#joined.has(bridge.index)
      if (isOurs) operations.push(...(await this.#leave(bridge, filters, signal)))
    }
    await this.#apply(operations, signal)
    this.#joined = new Map()
    const link = await this.kernel.link(name, signal)
    if (link?.vxlan !== undefined) {
      const { index } = link
      this.kernel.unwatchLink(index)
      await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    }
    this.#link = undefined
    this.#hosts = 0
    this.#complaint = undefined
    this.log.info(`multicast: ${name} and its filters are removed`)
  }

  /** Takes away what an earlier run may have left. */
  async #withdrawRest(name: string, signal: AbortSignal): Promise<void> {
    const link = await this.kernel.link(name, signal)
    if (link?.vxlan !== undefined) await this.#withdraw({ name, vni: link.vxlan.vni }, signal)
    this.#due = Number.POSITIVE_INFINITY
  }

  /** @throws {OverlayError} with the first of what the kernel refuses */
  async #apply(operations: readonly MulticastOperation[], signal: AbortSignal): Promise<void> {
    if (operations.length === 0) return
    const failures = await this.#multicast.apply(operations, signal)
    if (failures.length === 0) return
    const told = failures.slice(0, MOST_FAILURES).map(({ error }) => describeError(error))
    const more = failures.length - told.length
    throw new OverlayError(
      'multicast-refused',
      `${told.join('; ')}${more > 0 ? `; and ${more} more` : ''}`,
      'see whether this kernel has cls_u32, act_mirred and sch_ingress (modprobe), or switch multicast off here (--multicast=off)',
    )
  }

  /** @returns whether they are those that took part already */
  #noteJoined(joined: Map<number, Joined>): boolean {
    const before = this.#joined
    this.#joined = joined
    const came = [...joined].filter(([index]) => !before.has(index))
    const went = [...before].filter(([index]) => !joined.has(index))
    for (const [, { name }] of came) this.log.info(`multicast: the bridge ${name} takes part`)
    for (const [, { name }] of went) this.log.info(`multicast: the bridge ${name} takes no part any more`)
    return came.length === 0 && went.length === 0
  }

  #noteRepair(changes: number): void {
    this.log.info(`multicast: put right what someone else changed: ${changes} changes`)
    this.#repairs = [...this.#repairs, performance.now()].slice(-CONTEST.repairs)
  }

  get #contested(): boolean {
    const first = this.#repairs.at(-CONTEST.repairs)
    return first !== undefined && performance.now() - first < CONTEST.within
  }

  #kernelChanged(change: KernelChange): void {
    if (this.#concerns(change)) this.wake()
  }

  /** Ports of bridges come and go, and have nothing to do with it. */
  #concerns(change: KernelChange): boolean {
    if (this.#due === Number.POSITIVE_INFINITY) return false
    if (change.kind === 'overrun' || change.kind === 'address' || change.linkIndex === undefined) return true
    return this.#joined.has(change.linkIndex) || change.linkIndex === this.#link?.index
  }
}
