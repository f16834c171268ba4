/**
 * Keeps the parts of the kernel that carry containers' multicast between hosts: a second VXLAN device, rules
 * on the bridges of our containers, and rules on the device. The kernel does the forwarding. This class only
 * keeps the parts in place, and removes them when multicast is switched off. README.md has the picture.
 */
import { MulticastDevice } from '../../kernel/bridges/multicast'
import type { Kernel, KernelChange } from '../../kernel/kernel'
import { AppliedTable } from '../../kernel/nftables/apply-table'
import type { TableObject } from '../../kernel/nftables/netfilter-objects'
import { disableIpv6 } from '../../kernel/sysctl'
import { FAMILIES, familyOf, type IpAddress, type Prefix } from '../../model/address'
import { describeError, OverlayError } from '../../model/errors'
import type { InterfaceAddress, LinkSpec, ObservedLink } from '../../model/kernel/link'
import type { TableId } from '../../model/kernel/tables'
import {
  type LinkCounters,
  type MulticastOperation,
  type ObservedBridge,
  ROUTER_PORT_ALWAYS,
} from '../../model/multicast'
import { type GroupPlan, isSelective, type MulticastHost, planGroups } from '../../plan/multicast/groups'
import { bridgesOf, diffDestinations } from '../../plan/multicast/multicast'
import {
  bridgesInChains,
  frameTable,
  isSameBridge,
  LIMIT_CHAIN,
  type OutBridge,
  restoreRouters,
} from '../../plan/multicast/rules'
import { Loop, type Next } from '../loop/loop'
import { RecentRepairs } from '../loop/recent-repairs'
import { applyLinkOperations, ensureLink } from '../overlay/ensure-link'
import type { Logger } from '../tell/logger'

/** The multicast that is wanted of this host. */
export interface MulticastTarget {
  /** The device. */
  readonly link: LinkSpec
  /** The networks of senders' addresses, besides link-local ones. */
  readonly networks: readonly Prefix[]
  /** Our subnets: a bridge with an address in one of them has our containers. */
  readonly subnets: readonly Prefix[]
  /** The hosts that get copies, and the groups that they want. */
  readonly hosts: ReadonlyMap<IpAddress, MulticastHost>
  /** Packets per second that go to other hosts; `undefined` for any number. */
  readonly limit: number | undefined
}

/** The inputs that the keeper reads in each pass. */
export interface MulticastView {
  /** `undefined` when multicast is not wanted. */
  target(): MulticastTarget | undefined
  /** Whether the target is only what an earlier run remembers: nothing is removed then. */
  isRemembered(): boolean
  /**
   * Why the announcements of hosts cannot be trusted, and when that changes by itself; monotonic
   * milliseconds.
   */
  distrust(now: number): { readonly why: string | undefined; readonly until: number }
  /** The name that the device has or had. */
  readonly name: string
  /** Called when other bridges take part than before. */
  bridgesChanged(): void
}

/** The keeper's part of the status. */
export interface MulticastSummary {
  readonly device: string
  readonly vni: number
  /** Names of the bridges that take part. */
  readonly bridges: readonly string[]
  readonly hosts: number
  /** Which groups go to which hosts; `undefined` before the device is made. */
  readonly plan: GroupPlan | undefined
  readonly counters: LinkCounters | undefined
  /** Packets per second, and the packets over that limit since the rules were written. */
  readonly limit: number | undefined
  readonly overLimit: number | undefined
}

/** All times in milliseconds. */
const PERIOD = 60_000
/** Events of one change cause one pass. */
const SETTLE = 20
/** Between two passes, and when another program undoes our changes. */
const SPACING = { usual: 100, contested: 2000 }
/** Failures of one pass that are worth a line. */
const MOST_FAILURES = 3

/** The device with its rules, as far as this run knows. */
type Device =
  /** Not made by this run; an earlier run may have left one. */
  | { readonly kind: 'absent' }
  /** A pass has begun to make it, and none has succeeded yet. */
  | { readonly kind: 'begun'; readonly name: string; readonly link: ObservedLink | undefined }
  /** As the last pass that succeeded left it. */
  | {
      readonly kind: 'made'
      readonly name: string
      readonly link: ObservedLink
      /** The bridges that take part. */
      readonly bridges: readonly OutBridge[]
      /** Which groups go to which hosts. */
      readonly plan: GroupPlan
      /** How many hosts get copies. */
      readonly hosts: number
      /** Packets per second that the rules let pass; `undefined`: all. */
      readonly limit: number | undefined
      /** Why the device may not stay as it is. */
      readonly complaint: string | undefined
    }

const ABSENT: Device = { kind: 'absent' }

const tableOf = (name: string): TableId => ({ family: 'netdev', name })

/** The kernel's calls, and the table of rules as this run wrote it. */
interface Opened {
  readonly multicast: MulticastDevice
  readonly table: AppliedTable
}

export class MulticastKeeper {
  readonly #loop: Loop
  readonly #repairs = new RecentRepairs()
  #opened: Opened | undefined
  #device: Device = ABSENT

  constructor(
    private readonly kernel: Kernel,
    private readonly view: MulticastView,
    private readonly log: Logger,
  ) {
    this.#loop = new Loop(
      {
        name: 'multicast',
        settle: SETTLE,
        pass: (signal) => this.#pass(signal),
        failed: (problem, before) => {
          if (problem !== before) log.warn(`multicast: ${problem}; trying again, all else goes on`)
        },
      },
      log,
    )
    kernel.onChange((change) => {
      if (this.#concerns(change)) this.wake()
    })
  }

  /** Asks for a pass soon, which compares the target with the kernel. */
  wake(): void {
    this.#loop.wake()
  }

  /** Why multicast does not work, or not as it should; `undefined` when all is well. */
  get problem(): string | undefined {
    const complaint = this.#device.kind === 'made' ? this.#device.complaint : undefined
    return this.#loop.problem ?? complaint
  }

  /** Indexes of the bridges that take part. */
  get bridges(): readonly number[] {
    return this.#joined.map(({ index }) => index)
  }

  /** Which groups go to which hosts in the kernel; `undefined` before the device is made. */
  get plan(): GroupPlan | undefined {
    return this.#device.kind === 'made' ? this.#device.plan : undefined
  }

  /** `undefined` when multicast is not wanted. */
  async summary(): Promise<MulticastSummary | undefined> {
    const target = this.view.target()
    if (target === undefined) return undefined
    const { name } = target.link
    // A status without counters is better than none.
    const nothing = (): undefined => undefined
    const link = this.#link
    const multicast = this.#opened?.multicast
    const counters = link && (await multicast?.counters(link.index).catch(nothing))
    const made = this.#device.kind === 'made' ? this.#device : undefined
    const limit = made?.limit
    const overLimit =
      limit === undefined
        ? undefined
        : await multicast?.tables.counted(tableOf(name), LIMIT_CHAIN).catch(nothing)
    return {
      device: name,
      vni: target.link.vni,
      bridges: this.#joined.map(({ name }) => name),
      hosts: made?.hosts ?? 0,
      plan: made?.plan,
      counters,
      limit,
      overLimit: overLimit === undefined ? undefined : Number(overLimit),
    }
  }

  /** Runs until the signal fires. The device and its rules stay. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#opened?.multicast.close(), { once: true })
    await this.#loop.run(signal)
  }

  get #link(): ObservedLink | undefined {
    return this.#device.kind === 'absent' ? undefined : this.#device.link
  }

  get #joined(): readonly OutBridge[] {
    return this.#device.kind === 'made' ? this.#device.bridges : []
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    const now = performance.now()
    // All in one turn: etcd may answer while the pass is under way, and the target is that of the state file
    // then.
    const { why, until } = this.view.distrust(now)
    const isRemembered = this.view.isRemembered()
    const due = Math.min(now + PERIOD, until)
    const target = this.view.target()
    const name = target?.link.name ?? this.view.name
    if (target === undefined && isRemembered) return { due }
    const opened = await this.#open()
    const former = this.#device.kind === 'absent' ? undefined : this.#device.name
    if (former !== undefined && former !== name) await this.#withdraw(opened, former, signal)
    if (target === undefined) {
      await this.#withdraw(opened, name, signal)
      return { due: Number.POSITIVE_INFINITY }
    }
    await this.#enforce(opened, target, { isRemembered, why }, signal)
    const spacing = this.#repairs.areContested ? SPACING.contested : SPACING.usual
    return { due, earliest: performance.now() + spacing }
  }

  /** @throws {OverlayError} on a kernel without nftables; unicast works without it */
  async #open(): Promise<Opened> {
    if (this.#opened !== undefined) return this.#opened
    const changed = (): void => this.wake()
    const report = (error: Error): void => {
      this.log.warn(`multicast: ${describeError(error)}`)
      this.wake()
    }
    const multicast = await MulticastDevice.open(this.kernel, () => this.view.name, changed, report)
    this.#opened = { multicast, table: new AppliedTable(multicast.tables) }
    return this.#opened
  }

  /** Makes the device, its rules and its destinations as the target says. */
  async #enforce(
    { multicast, table }: Opened,
    target: MulticastTarget,
    { isRemembered, why }: { readonly isRemembered: boolean; readonly why: string | undefined },
    signal: AbortSignal,
  ): Promise<void> {
    const { vni, name } = target.link
    const before = this.#device.kind === 'made' ? this.#device : undefined
    // From here on changes of the kernel concern this class.
    if (this.#device.kind === 'absent') this.#device = { kind: 'begun', name, link: undefined }
    const { link, changed } = await this.#ensureDevice(target.link, signal)
    const bridges = await multicast.bridges(signal)
    const shown = await multicast.tables.read(tableOf(name), signal)
    const found = await this.#findBridges(bridges, target, signal)
    const joined = found.map((bridge): OutBridge => {
      const { name, index, multicastRouter } = bridge
      const known = this.#known(shown).find((each) => isSameBridge(each, bridge))
      return { name, index, routerBefore: known === undefined ? multicastRouter : known.routerBefore }
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
    const present = await multicast.destinations(link.index, signal)
    const plan = planGroups(target.hosts, why)
    const sends = diffDestinations(link.index, plan.destinations, present, isRemembered)
    await this.#apply(multicast, sends.additions, signal)
    // The table before mcast_router is set: the table remembers the former values.
    const wanted = frameTable(link, target.networks, joined, target.limit, plan.families)
    const applied = await table.apply(wanted, shown, signal)
    await this.#apply(multicast, [...routers, ...sends.removals], signal)
    this.#logPlan(before?.plan, plan)
    const isSame = this.#logJoined(joined)
    // Destinations change with the hosts. Any other change while the bridges are the same was made by another
    // program.
    if (before !== undefined && isSame && !changed && (applied === 'repaired' || routers.length > 0)) {
      this.log.info('multicast: repaired what another program changed')
      this.#repairs.add()
    }
    const { size } = target.hosts
    if (size !== before?.hosts) {
      this.log.info(
        `multicast: ${name} (VNI ${vni}) sends to ${size} other ${size === 1 ? 'host' : 'hosts'}`,
        before === undefined ? { kind: 'multicast-on', about: [name] } : undefined,
      )
    }
    const complaint = this.#repairs.areContested
      ? `another program changes the nftables table netdev ${name} or mcast_router of a bridge again ` +
        `and again; find it with \`nft monitor\` and \`ip monitor\``
      : undefined
    const { limit } = target
    this.#device = { kind: 'made', name, link, bridges: joined, plan, hosts: size, limit, complaint }
    if (!isSame) this.view.bridgesChanged()
  }

  /** @returns `changed` when the device is new, or was changed */
  async #ensureDevice(
    spec: LinkSpec,
    signal: AbortSignal,
  ): Promise<{ readonly link: ObservedLink; readonly changed: boolean }> {
    const before = this.#link
    const { link, operations } = await ensureLink(this.kernel, spec, this.log, signal, {
      index: before?.index,
    })
    // Before the device is up: a device without IPv6 sends no neighbour discovery and no MLD.
    await disableIpv6(spec.name)
    const { index, name } = link
    if (!link.up)
      await applyLinkOperations(this.kernel, [{ kind: 'set-link-up', index, name }], this.log, signal)
    if (before !== undefined && before.index !== index) this.kernel.unwatchLink(before.index)
    this.kernel.watchLink(index)
    if (this.#device.kind !== 'absent') this.#device = { ...this.#device, link }
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

  /** The bridges that took part until now; of an earlier run, as the names of its chains show them. */
  #known(shown: readonly TableObject[]): readonly OutBridge[] {
    return this.#joined.length > 0 ? this.#joined : bridgesInChains(shown.flatMap(({ chain }) => chain ?? []))
  }

  /** Removes the device of a name and its rules, made by this run or an earlier one. */
  async #withdraw({ multicast, table }: Opened, name: string, signal: AbortSignal): Promise<void> {
    const shown = await multicast.tables.read(tableOf(name), signal)
    const restored = restoreRouters(this.#known(shown), await multicast.bridges(signal))
    await this.#apply(multicast, restored, signal)
    if (shown.length > 0) await multicast.tables.delete(tableOf(name), signal)
    const link = await this.kernel.link(name, signal)
    if (link?.vxlan !== undefined) {
      const { index } = link
      this.kernel.unwatchLink(index)
      await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    }
    if (shown.length > 0 || link !== undefined)
      this.log.info(`multicast: ${name} and its rules are removed`, { kind: 'multicast-off', about: [name] })
    table.forget()
    this.#device = ABSENT
    this.view.bridgesChanged()
  }

  /** @throws {OverlayError} that names the refused operations */
  async #apply(
    multicast: MulticastDevice,
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

  /** Logs when groups go to other hosts than before. */
  #logPlan(before: GroupPlan | undefined, plan: GroupPlan): void {
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

  /** Logs the bridges that are new or gone. @returns whether the same take part as before */
  #logJoined(joined: readonly OutBridge[]): boolean {
    const before = this.#joined
    const without = (some: readonly OutBridge[], others: readonly OutBridge[]): readonly OutBridge[] =>
      some.filter(({ index, name }) => !others.some((each) => each.index === index && each.name === name))
    const [came, went] = [without(joined, before), without(before, joined)]
    for (const { name } of came) this.log.info(`multicast: the bridge ${name} takes part`)
    for (const { name } of went) this.log.info(`multicast: the bridge ${name} takes no part any more`)
    return came.length === 0 && went.length === 0
  }

  /** Links that are neither ours nor a bridge of ours, such as ports of bridges, do not matter. */
  #concerns(change: KernelChange): boolean {
    if (this.#device.kind === 'absent') return false
    if (change.kind === 'overrun' || change.kind === 'address' || change.linkIndex === undefined) return true
    const { linkIndex } = change
    return linkIndex === this.#link?.index || this.#joined.some(({ index }) => index === linkIndex)
  }
}

const modesOf = ({ families }: GroupPlan): string => FAMILIES.map((family) => families[family].mode).join()
