/**
 * A host with a lease. It follows one plan at a time: a change of the config or the underlay makes a new
 * plan, and all parts adopt that plan in one turn of the event loop.
 */
import { performance } from 'node:perf_hooks'
import { FAMILIES, type Family } from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import type { FirewallRequest } from '../../model/firewall'
import type { ObservedLink } from '../../model/kernel/link'
import type { Revision } from '../../model/lease'
import { checkMtu } from '../../plan/config/check-mtu'
import { planConfigChange } from '../../plan/config/config-change'
import type { Underlay } from '../../plan/host/underlay'
import { type HostPlan, planHost } from '../../plan/host-plan'
import { linkName } from '../../plan/reconcile/desired'
import { staleDevices } from '../../plan/reconcile/stale-links'
import type { Edges } from '../edges'
import { firewallRequest } from '../keepers/firewall-request'
import { Alarm } from '../loop/alarm'
import { inTurns } from '../loop/give-way'
import { Loop, type Next } from '../loop/loop'
import { readConfig, warnOfIgnored } from '../start/read-config'
import { WayIn } from '../way-in/way-in'
import { ConfigFollower } from './config-follower'
import { headline, summary, unready } from './describe-node'
import { Feed } from './feed'
import type { NodeParts, NodeView } from './parts'
import type { SortedUpdate } from './sort-update'

/** Called after another plan was adopted, with the new plan and the one before. */
export type PlanListener = (now: HostPlan, before: HostPlan) => void

/** What the adoption of a plan needs besides the plan. It is gathered before the adoption. */
interface Preparation {
  /** The request to the firewall, if it changes. */
  readonly firewall?: FirewallRequest
  /** Former devices of each family, which the devices of the plan replace. */
  readonly stale?: ReadonlyMap<Family, readonly ObservedLink[]>
}

export class Node {
  readonly wayIn: WayIn
  readonly #waker = new Alarm()
  readonly #config: ConfigFollower
  readonly #feed: Feed
  /** Names of all devices that this process used. Each is locked until the process ends. */
  readonly #names: Set<string>
  #plan: HostPlan
  /** Whether etcd has answered since the start. */
  #hasAnswered = false
  /** Whether devices of an earlier config may be there that no start has looked for. */
  #mayHaveStale: boolean
  #staleSearch: Loop | undefined
  #peersChanged = (): void => undefined

  /**
   * @param begin `text`: of the config in `plan`. `revision`: of the listing that the peer tables are filled
   * from. `isRemembered`: whether both come from the state file
   */
  constructor(
    private readonly edges: Edges,
    private readonly parts: NodeParts,
    plan: HostPlan,
    begin: {
      readonly text: string | undefined
      readonly revision: Revision
      readonly isRemembered: boolean
    },
  ) {
    const { log, options } = edges
    this.#plan = plan
    this.#names = new Set(deviceNames(plan.inputs.config))
    this.#config = new ConfigFollower(begin.text, log)
    const grace = options['peer-removal-grace'] * 1000
    this.#feed = new Feed(parts, begin.revision, grace, log, () => {
      parts.prefixes.review()
      this.#peersChanged()
    })
    parts.prefixes.holdWith((key) => this.#feed.holdBack.has(key))
    for (const { addresses } of parts.overlays) {
      addresses.onPeersChange((changes) => this.#feed.recordChanges(changes))
      addresses.onLinksChange(() => parts.prefixes.review())
    }
    this.#feed.reviewVerdicts()
    this.wayIn = new WayIn(edges, () => this.view)
    this.#mayHaveStale = begin.isRemembered
  }

  get view(): NodeView {
    return {
      ...this.parts,
      plan: this.#plan,
      configText: this.#config.textInUse,
      configProblem: this.#config.problem,
      holdBack: this.#feed.holdBack,
      wayIn: this.wayIn,
    }
  }

  /** A number that grows with every change of a peer. */
  get peersGeneration(): number {
    return this.#feed.generation
  }

  /** The same, and with every change of what hosts announce. */
  get generation(): number {
    return this.#feed.generation + this.parts.prefixes.generation
  }

  /** Why other hosts may not reach this host; `undefined` if nothing is known against it. */
  get unready(): string | undefined {
    return unready(this.view, this.edges.options['subnet-lease-renew-margin'])
  }

  /** `10.5.12.0/24 on flannel.1, 3 peers` */
  get headline(): string {
    return headline(this.view)
  }

  /** The headline, followed by the troubles or `healthy`. */
  summary(followsEtcd: boolean, more: readonly (string | false)[]): string {
    return summary(this.view, followsEtcd, more)
  }

  /** @param changed called whenever peers come, go or change */
  onPeersChange(changed: () => void): void {
    this.#peersChanged = changed
  }

  /**
   * Applies an update of etcd, in pieces of a few milliseconds. The caller applies one update at a time.
   * @throws the signal's reason
   */
  async apply(update: SortedUpdate, signal: AbortSignal): Promise<void> {
    const now = performance.now()
    if (update.kind === 'snapshot') this.#config.receive(update.snapshot.config, now)
    else if (update.kind === 'events' && update.sorted.config !== undefined)
      this.#config.receive(update.sorted.config.text, now)
    if (update.kind === 'snapshot' && update.snapshot.hosts !== undefined) {
      // Before the own lease is looked at: its value has to be the signed one then.
      this.parts.proof.hosts.replace(update.snapshot.hosts)
      await this.#prove()
    }
    await this.#feed.apply(update, signal)
    if (await inTurns(this.parts.prefixes.taking(update), signal)) this.parts.announcer.wake()
    if (update.kind === 'events' && update.sorted.hosts.length > 0) await this.#prove()
    if (update.kind !== 'lost') this.#waker.wake()
  }

  /** Applies that etcd has answered. It does so after each update. */
  confirm(): void {
    this.#hasAnswered = true
    this.#confirmWhenTried()
  }

  /**
   * From here on objects that nobody wants are removed. Not before etcd's config and etcd's peers have said
   * which are wanted: the state file may be older than both, and the kernel as new as they are.
   */
  #confirmWhenTried(): void {
    if (!this.#hasAnswered || !this.#config.isTried) return
    this.parts.encryption.confirm(() => {
      for (const { reconciler } of this.parts.overlays) reconciler.confirm()
    })
    this.#staleSearch?.wake()
  }

  /**
   * Runs until the signal fires: removes held-back peers when their time is over, follows the underlay, and
   * applies changes of the config.
   * @param replanned called after another plan was adopted
   */
  async run(signal: AbortSignal, replanned: PlanListener): Promise<void> {
    const { underlay, encryption } = this.parts
    encryption.onAbilityChange(async () => {
      const ability = await this.edges.wireguard.ability(this.#plan.inputs.config)
      this.#adopt(planHost({ ...this.#plan.inputs, ability }, this.#plan), {}, replanned)
    })
    await this.#prove()
    const pass = async (passSignal: AbortSignal) => this.#succeedStale(replanned, passSignal)
    this.#staleSearch = new Loop({ name: 'devices of an earlier config', pass }, this.edges.log)
    await Promise.all([
      this.#runTimers(signal, replanned),
      underlay.run(signal, async (now) => this.#move(now, replanned)),
      this.#staleSearch.run(signal),
    ])
  }

  async #runTimers(signal: AbortSignal, replanned: PlanListener): Promise<void> {
    while (!signal.aborted) {
      const due = Math.min(this.#config.due, this.#feed.due, this.parts.prefixes.due)
      await this.#waker.sleep(due - performance.now(), signal)
      if (signal.aborted) return
      this.#feed.letGoDue()
      if (this.parts.prefixes.due <= performance.now()) this.parts.prefixes.review()
      if (this.#config.due > performance.now()) continue
      const apply = (text: string) => this.#reconfigure(text, replanned, signal)
      // A text that differs and means the same changes no plan, but the state file has to contain it.
      if (await this.#config.attempt(apply, signal)) replanned(this.#plan, this.#plan)
      this.#confirmWhenTried()
    }
  }

  /** Adopts the plan for another underlay: devices send from another address, which the lease announces. */
  #move(underlay: Underlay, replanned: PlanListener): void {
    this.#adopt(planHost({ ...this.#plan.inputs, underlay }, this.#plan), {}, replanned)
  }

  /**
   * Applies a config that keeps this host's subnet. All checks that can fail come before the first change.
   * @returns why it cannot be applied while this daemon runs; `undefined` if it is applied
   * @throws {OverlayError} when this host cannot use the config; nothing has changed then
   */
  async #reconfigure(
    text: string,
    replanned: PlanListener,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { log, options, wireguard } = this.edges
    const { underlay, lease } = this.parts
    const config = readConfig(text, options)
    const change = planConfigChange(this.#plan.inputs.config, config, lease.own.subnet)
    if (change.kind === 'needs-new-subnet') {
      return (
        `this host needs a new subnet for the changed network config: ${change.reason}; ` +
        'the former config stays in use until overlayd is restarted'
      )
    }
    if (change.kind === 'apply') {
      checkMtu(config, underlay.current)
      await underlay.check(config, signal)
      const stale = await this.#renameDevices(config, signal)
      // Where encryption is switched off, the keys stay announced until it has been left.
      const ability = (await wireguard.ability(config)) ?? this.#plan.inputs.ability
      if (ability?.kind === 'able') await this.edges.identity.open()
      const next = () =>
        planHost({ ...this.#plan.inputs, config, underlay: underlay.current, ability }, this.#plan)
      const firewall = await firewallRequest(next().firewall, [...this.#names], log)
      signal.throwIfAborted()
      // No await from here on, so that no reader sees a plan that is half adopted. The underlay may have
      // changed during the awaits above, so the plan is made again.
      log.info(`config: changed in etcd, and applied: ${change.changes.join(', ')}`, {
        kind: 'config-change',
      })
      underlay.adopt(config)
      this.#adopt(next(), { firewall, stale }, replanned)
    }
    warnOfIgnored(text, log)
    return undefined
  }

  /** Adopts a plan. Nothing else changes the plan of what runs. */
  #adopt(plan: HostPlan, { firewall, stale }: Preparation, replanned: PlanListener): void {
    const before = this.#plan
    this.#plan = plan
    for (const [i, overlay] of this.parts.overlays.entries()) {
      const spec = plan.overlays[i]
      if (spec === undefined) throw new TypeError(`the plan has no ${overlay.spec.family}`)
      this.#feed.peersChanged(overlay, overlay.adopt(spec, stale?.get(spec.family) ?? []))
    }
    this.parts.prefixes.review()
    this.#feed.reviewVerdicts()
    if (firewall !== undefined) this.parts.firewall.retarget(firewall)
    this.parts.encryption.adopt(plan)
    this.#announce()
    replanned(plan, before)
  }

  /**
   * Finds the devices of an earlier config after a start from the state file: not before etcd's config is in
   * use, because the config of the file may be an earlier one itself.
   */
  async #succeedStale(replanned: PlanListener, signal: AbortSignal): Promise<Next> {
    const { kernel } = this.edges
    const isTime = (): boolean => this.#mayHaveStale && this.#hasAnswered && this.#config.isInUse
    const around = isTime() ? await kernel.hostNetwork({}, signal) : undefined
    // Another config may have come meanwhile. The attempt to apply it asks for a pass.
    if (around !== undefined && isTime()) {
      this.#mayHaveStale = false
      const { links, tunnels } = staleDevices(this.#plan.inputs.config, around)
      this.parts.encryption.succeed(tunnels)
      // Else nothing is to be done, and a pass over all peers would be for nothing.
      const isAny = tunnels.length > 0 || [...links.values()].some((each) => each.length > 0)
      if (isAny) this.#adopt(this.#plan, { stale: links }, replanned)
    }
    return { due: Number.POSITIVE_INFINITY }
  }

  /** Signs the lease if the subnet of this host has a pin now. */
  async #prove(): Promise<void> {
    await this.parts.proof.renew()
    this.#announce()
  }

  #announce(): void {
    const { lease, proof } = this.parts
    lease.announce(proof.signed(this.#plan.announced))
  }

  /**
   * Locks the device names that the config leads to.
   * @returns the devices of each family that have another name now
   */
  async #renameDevices(
    config: NetworkConfig,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<Family, readonly ObservedLink[]>> {
    const stale = new Map<Family, readonly ObservedLink[]>()
    for (const { family, link } of this.#plan.overlays) {
      const after = linkName(family, config.backend.vni)
      await this.edges.locks.take(after)
      this.#names.add(after)
      const former = after === link.name ? undefined : await this.edges.kernel.link(link.name, signal)
      if (former !== undefined) stale.set(family, [former])
    }
    return stale
  }
}

const deviceNames = ({ backend }: NetworkConfig): string[] =>
  FAMILIES.map((family) => linkName(family, backend.vni))
