/**
 * Keeps what carries containers' multicast between hosts: a second VXLAN device that sends a copy to each host that takes part, rules on the
 * bridges of our containers that hand it what they send, and rules on it that hand them what others send. The kernel does all of that
 * itself; here is only seen to it that it is so, and that nothing is left when it is not wanted any more.
 *
 *     container ─▶ bridge, ingress: dup ─▶ fl-mc.1 ─▶ a copy for each host ─▶ fl-mc.1, ingress: fwd ─▶ bridge ─▶ containers
 *
 * What comes in goes to the bridge's ports and never back through its ingress, and the device passes nothing on: so no frame can loop.
 */
import { performance } from 'node:perf_hooks'
import type { Kernel, KernelChange } from '../kernel/kernel'
import { MulticastKernel } from '../kernel/multicast'
import { type TableObject, wantedObjects } from '../kernel/netfilter-objects'
import { disableIpv6 } from '../kernel/sysctl'
import { FAMILIES, familyOf, type IpAddress, type Prefix } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import type { InterfaceAddress, LinkSpec, ObservedLink } from '../model/kernel'
import {
  type FrameTable,
  type HostGroups,
  type LinkCounters,
  type MulticastOperation,
  type ObservedBridge,
  ROUTER_PORT_ALWAYS,
} from '../model/multicast'
import { bridgesOf, diffDestinations } from '../plan/multicast'
import { type GroupPlan, isSelective, planGroups } from '../plan/multicast-groups'
import {
  bridgesInChains,
  diffSets,
  frameTable,
  isSameBridge,
  LIMIT_CHAIN,
  type OutBridge,
  restoreRouters,
} from '../plan/multicast-rules'
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
  /** The hosts that get copies, and what they want. */
  readonly hosts: ReadonlyMap<IpAddress, HostGroups>
  /** Packets in a second that go to them; `undefined` for any number. */
  readonly limit: number | undefined
}

/** What the keeper asks for again and again. */
export interface MulticastView {
  /** `undefined` when nothing is wanted. */
  target(): MulticastTarget | undefined
  /** Whether that is what an earlier run remembers: on the word of that nothing is taken away. */
  isRemembered(): boolean
  /** Why what hosts say that they want is not to be believed, and when that changes by itself; monotonic milliseconds. */
  distrust(now: number): { readonly why: string | undefined; readonly until: number }
  /** The name that the device has or had. */
  readonly name: string
  /** Told when other bridges take part. */
  bridgesChanged(): void
}

/** How it stands, for the status. */
export interface MulticastSummary {
  readonly device: string
  readonly vni: number
  /** Names of the bridges that take part. */
  readonly bridges: readonly string[]
  readonly hosts: number
  /** What goes where; `undefined` before it is in the kernel. */
  readonly plan: GroupPlan | undefined
  readonly counters: LinkCounters | undefined
  /** Packets in a second, and those that were over it since the rules were written. */
  readonly limit: number | undefined
  readonly overLimit: number | undefined
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

/** The table as it was wanted when it was written, and as the kernel showed it then: not the same on a kernel that tells more than we know. */
interface Written {
  readonly table: FrameTable
  readonly wanted: string
  readonly shown: string
}

export class MulticastKeeper {
  readonly #waker = new Waker()
  #opened: MulticastKernel | undefined
  /** The bridges that take part. */
  #joined: readonly OutBridge[] = []
  /** The name of what was made last. */
  #made: string | undefined
  #link: ObservedLink | undefined
  /** The table at the end of the last pass. */
  #there: Written | undefined
  #hosts = 0
  /** What goes where in the kernel. */
  #plan: GroupPlan | undefined
  #due = 0
  #earliest = 0
  #failures = 0
  #problem: string | undefined
  /** What someone else does not leave alone, while all is right just now. */
  #complaint: string | undefined
  #repairs: readonly number[] = []

  constructor(
    private readonly kernel: Kernel,
    private readonly view: MulticastView,
    private readonly log: Logger,
  ) {
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

  /** Indexes of the bridges that take part. */
  get bridges(): readonly number[] {
    return this.#joined.map(({ index }) => index)
  }

  /** What goes where in the kernel; `undefined` before anything does. */
  get plan(): GroupPlan | undefined {
    return this.#plan
  }

  /** `undefined` when nothing is wanted. */
  async summary(): Promise<MulticastSummary | undefined> {
    const target = this.view.target()
    if (target === undefined) return undefined
    const {
      limit,
      link: { name },
    } = target
    // A status without counters is better than none.
    const nothing = (): undefined => undefined
    const counters = this.#link && (await this.#opened?.counters(this.#link.index).catch(nothing))
    const overLimit =
      limit === undefined ? undefined : await this.#opened?.counted(name, LIMIT_CHAIN).catch(nothing)
    return {
      device: name,
      vni: target.link.vni,
      bridges: this.#joined.map(({ name }) => name),
      hosts: this.#hosts,
      plan: this.#plan,
      counters,
      limit,
      overLimit,
    }
  }

  /** Runs until the signal fires. Ending removes nothing. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#opened?.close(), { once: true })
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
    const now = performance.now()
    this.#due = Math.min(now + PERIOD, this.view.distrust(now).until)
    const target = this.view.target()
    const name = target?.link.name ?? this.view.name
    if (target === undefined && this.view.isRemembered()) return
    const multicast = await this.#open()
    if (this.#made !== undefined && this.#made !== name) await this.#withdraw(multicast, this.#made, signal)
    if (target === undefined) {
      await this.#withdraw(multicast, name, signal)
      this.#due = Number.POSITIVE_INFINITY
      return
    }
    await this.#bring(multicast, target, signal)
    this.#earliest = performance.now() + (this.#contested ? SPACING.contested : SPACING.usual)
    this.#due = Math.max(this.#due, this.#earliest)
  }

  /** @throws {OverlayError} on a kernel without nftables, which costs this host nothing else */
  async #open(): Promise<MulticastKernel> {
    const changed = (): void => this.wake()
    const report = (error: Error): void => {
      this.log.warn(`multicast: ${describeError(error)}`)
      this.wake()
    }
    this.#opened ??= await MulticastKernel.open(this.kernel, () => this.view.name, changed, report)
    return this.#opened
  }

  /** Makes it so. */
  async #bring(multicast: MulticastKernel, target: MulticastTarget, signal: AbortSignal): Promise<void> {
    const { vni, name } = target.link
    const isNew = this.#made === undefined
    this.#made = name
    const { link, changed } = await this.#ensureDevice(target.link, signal)
    const bridges = await multicast.bridges(signal)
    const shown = await multicast.readTable(name, signal)
    const found = await this.#findBridges(bridges, target, signal)
    const joined = found.map((bridge): OutBridge => {
      const { name, index, multicastRouter } = bridge
      const before = this.#known(shown).find((each) => isSameBridge(each, bridge))
      return { name, index, routerBefore: before === undefined ? multicastRouter : before.routerBefore }
    })
    const left = this.#known(shown).filter((each) => !joined.some((bridge) => isSameBridge(each, bridge)))
    const routers = [
      ...found
        .filter(({ multicastRouter }) => ![undefined, ROUTER_PORT_ALWAYS].includes(multicastRouter))
        .map(
          ({ index }) => ({ kind: 'set-multicast-router', link: index, value: ROUTER_PORT_ALWAYS }) as const,
        ),
      ...restoreRouters(left, bridges),
    ]
    const there = await multicast.destinations(link.index, signal)
    const { why } = this.view.distrust(performance.now())
    const plan = planGroups(target.hosts, why)
    const sends = diffDestinations(link.index, plan.destinations, there, this.view.isRemembered())
    await this.#apply(multicast, sends.additions, signal)
    // The table before mcast_router is set: it remembers what bridges were before us.
    const table = frameTable(link, target.networks, joined, target.limit, plan.families)
    const repaired = await this.#writeTable(multicast, table, shown, signal)
    await this.#apply(multicast, [...routers, ...sends.removals], signal)
    this.#notePlan(plan)
    const isSame = this.#noteJoined(joined)
    // Hosts come and go; what else changes while the bridges are the same was done by someone.
    if (!isNew && isSame && !changed && (repaired || routers.length > 0)) this.#noteRepair()
    const { size } = target.hosts
    if (isNew || size !== this.#hosts) {
      this.log.info(
        `multicast: ${name} (VNI ${vni}) sends to ${size} other ${size === 1 ? 'host' : 'hosts'}`,
        isNew ? { kind: 'multicast-on', about: [name] } : undefined,
      )
    }
    this.#hosts = size
    this.#complaint = this.#contested
      ? `another program changes the nftables table netdev ${name} or mcast_router of a bridge again and again; find it with \`nft monitor\` and \`ip monitor\``
      : undefined
  }

  /**
   * Has the rules be those, without a moment in which there are others or none.
   * @param shown the table as it is now
   * @returns whether they were the same before, and someone has changed them
   */
  async #writeTable(
    multicast: MulticastKernel,
    table: FrameTable,
    shown: readonly TableObject[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const all = (objects: readonly TableObject[]): string => objects.map(({ words }) => words).join('\n')
    const wanted = all(wantedObjects(table))
    const now = all(shown)
    const { name, sets: wantedSets = [] } = table
    const before = this.#there
    const isThere = now === wanted || (before?.wanted === wanted && before.shown === now)
    const isOurs = before?.shown === now && haveSameChains(before.table, table)
    const sets = isThere || isOurs ? await multicast.readSets(name, wantedSets, signal) : undefined
    if (sets === undefined) {
      this.#there = undefined
      await multicast.writeTable(table, signal)
      this.#there = { table, wanted, shown: all(await multicast.readTable(name, signal)) }
      return before?.wanted === wanted
    }
    // What is let out is let out before anything is kept in.
    const changes = diffSets(wantedSets, sets)
    const [added, removed] = [changes.map((each) => each.added), changes.map((each) => each.removed)]
    await multicast.changeSets(name, 'add-addresses', added, signal)
    const chains = isThere ? [] : table.chains.filter((chain, i) => !isSame(chain, before?.table.chains[i]))
    await multicast.replaceRules(name, chains, signal)
    await multicast.changeSets(name, 'delete-addresses', removed, signal)
    this.#there = { table, wanted, shown: isThere ? now : all(await multicast.readTable(name, signal)) }
    return before !== undefined && diffSets(before.table.sets ?? [], sets).length > 0
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
    const addresses: InterfaceAddress[] = []
    for (const family of new Set(subnets.map(({ address }) => familyOf(address)))) {
      addresses.push(...(await this.kernel.addresses(family, signal)))
    }
    return bridgesOf(bridges, addresses, subnets)
  }

  /** The bridges that took part until now; what an earlier run left tells them too. */
  #known(shown: readonly TableObject[]): readonly OutBridge[] {
    return this.#joined.length > 0 ? this.#joined : bridgesInChains(shown.flatMap(({ chain }) => chain ?? []))
  }

  /** Takes away what was made under a name, by this run or an earlier one. */
  async #withdraw(multicast: MulticastKernel, name: string, signal: AbortSignal): Promise<void> {
    const shown = await multicast.readTable(name, signal)
    const restored = restoreRouters(this.#known(shown), await multicast.bridges(signal))
    await this.#apply(multicast, restored, signal)
    if (shown.length > 0) await multicast.deleteTable(name, signal)
    const link = await this.kernel.link(name, signal)
    if (link?.vxlan !== undefined) {
      const { index } = link
      this.kernel.unwatchLink(index)
      await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    }
    if (shown.length > 0 || link !== undefined)
      this.log.info(`multicast: ${name} and its rules are removed`, { kind: 'multicast-off', about: [name] })
    this.#joined = []
    this.view.bridgesChanged()
    this.#made = undefined
    this.#link = undefined
    this.#there = undefined
    this.#hosts = 0
    this.#plan = undefined
    this.#complaint = undefined
  }

  /** @throws {OverlayError} with what the kernel refuses */
  async #apply(
    multicast: MulticastKernel,
    operations: readonly MulticastOperation[],
    signal: AbortSignal,
  ): Promise<void> {
    if (operations.length === 0) return
    const failures = await multicast.apply(operations, signal)
    if (failures.length === 0) return
    const told = failures.slice(0, MOST_FAILURES).map(({ error }) => describeError(error))
    const more = failures.length - told.length
    throw new OverlayError('multicast-refused', `${told.join('; ')}${more > 0 ? `; and ${more} more` : ''}`)
  }

  #notePlan(plan: GroupPlan): void {
    const before = this.#plan
    this.#plan = plan
    if (before === undefined || modesOf(before) === modesOf(plan)) return
    if (isSelective(plan)) {
      this.log.info('multicast: groups are sent only to hosts that want them', {
        kind: 'multicast-selective',
      })
      return
    }
    const why = FAMILIES.flatMap((family) => plan.families[family].why ?? [])
    this.log.info(`multicast: hosts get groups that they may not want: ${[...new Set(why)].join('; ')}`, {
      kind: 'multicast-flooding',
    })
  }

  /** @returns whether they are those that took part already */
  #noteJoined(joined: readonly OutBridge[]): boolean {
    const before = this.#joined
    this.#joined = joined
    const without = (some: readonly OutBridge[], others: readonly OutBridge[]): readonly OutBridge[] =>
      some.filter(({ index, name }) => !others.some((each) => each.index === index && each.name === name))
    const [came, went] = [without(joined, before), without(before, joined)]
    for (const { name } of came) this.log.info(`multicast: the bridge ${name} takes part`)
    for (const { name } of went) this.log.info(`multicast: the bridge ${name} takes no part any more`)
    const isSame = came.length === 0 && went.length === 0
    if (!isSame) this.view.bridgesChanged()
    return isSame
  }

  #noteRepair(): void {
    this.log.info('multicast: put right what someone else changed')
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
    const { linkIndex } = change
    return linkIndex === this.#link?.index || this.#joined.some(({ index }) => index === linkIndex)
  }
}

const modesOf = ({ families }: GroupPlan): string => FAMILIES.map((family) => families[family].mode).join()

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

/** Whether the one becomes the other by its rules and sets alone. */
const haveSameChains = (a: FrameTable, b: FrameTable): boolean => {
  const heads = ({ chains }: FrameTable) => chains.map(({ rules, ...head }) => head)
  return isSame(heads(a), heads(b))
}
