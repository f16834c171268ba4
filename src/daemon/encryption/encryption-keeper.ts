/**
 * Keeps the tunnels of this host as the plan and the peers want them, and says which peers get their packets
 * through them. Nothing of WireGuard is notified by the kernel: neither a handshake nor a change by another
 * program. So passes are frequent, and each reads the devices.
 */
import { performance } from 'node:perf_hooks'
import type { Kernel } from '../../kernel/kernel'
import type { WireguardDevices } from '../../kernel/wireguard/devices'
import { type Family, familyOf } from '../../model/address'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import type { GuardCounts } from '../../model/guard'
import type { ObservedWireguard } from '../../model/kernel/wireguard'
import { type Peer, SLOTS, type Slot, slotOf } from '../../model/lease'
import {
  type EncryptionPlan,
  type WireguardPlan,
  wireguardLinkName,
} from '../../plan/encryption/encryption-plan'
import { encryptionWord, type PeerEncryption, peerEncryption } from '../../plan/encryption/peer-encryption'
import {
  type TunnelHost,
  type TunnelHosts,
  type TunnelRefusal,
  tunnelHosts,
} from '../../plan/encryption/tunnel-hosts'
import {
  LINGER,
  NO_MEMORIES,
  planTunnels,
  slotWith,
  type TunnelMemories,
  type TunnelStep,
} from '../../plan/encryption/tunnels'
import { Loop, type Next } from '../loop/loop'
import { RecentRepairs } from '../loop/recent-repairs'
import type { Logger } from '../tell/logger'
import { type EncryptionState, type LackingSince, reviewPeers, stillLacking } from './encryption-state'
import { GuardKeeper } from './guard-keeper'
import type { HostWireguard } from './host-wireguard'
import { KeyChanges } from './key-changes'
import { SlotDevices } from './slot-devices'
import { wayNews } from './way-news'
import type { Ways } from './ways'

/** One family of this host, as far as encryption depends on it. */
export interface EncryptedFamily {
  readonly family: Family
  peers(): Iterable<Peer>
  /** The objects of these peers have to be compared: their packets leave another way. */
  touch(peers: readonly Peer[]): void
  /** Whether the kernel has all objects as wanted. */
  isSettled(): boolean
}

/** The inputs that the keeper reads in each pass. */
export interface EncryptionView {
  plan(): EncryptionPlan | undefined
  /** VNI of the network, which names the devices that an earlier run may have left. */
  vni(): number
  readonly families: readonly EncryptedFamily[]
  /** Whether this host knows only what an earlier run remembers. */
  isRemembered(): boolean
  /** VNIs of devices that an earlier config left, before this run. */
  readonly staleVnis: readonly number[]
  /** Milliseconds for which a key is used; 0 for ever. */
  readonly maxKeyAge: number
  /** Whether this host announces keys. */
  isAnnounced(): boolean
  /** Called after this host has got other keys or another turn, or needs none; makes another plan. */
  abilityChanged(): Promise<void>
  /** Called when packets to a host leave another way. */
  waysChanged(): void
  /** Called after each pass that began when etcd had answered, also one that failed. */
  looked(): void
}

/**
 * Milliseconds between two passes: at least, at most, and how many times as long as the pass before took. So
 * thousands of peers are read less often.
 */
interface Pace {
  readonly least: number
  readonly most: number
  readonly times: number
}
/** While a handshake is awaited, and otherwise. */
const AWAITED: Pace = { least: 200, most: 2000, times: 2 }
const USUAL: Pace = { least: 1000, most: 10_000, times: 20 }
/** Events of one change cause one pass. */
const SETTLE = 20
/** Milliseconds between two passes when another program undoes our changes. */
const CONTESTED = 2000
/**
 * Milliseconds that other hosts have to hear that encryption was switched off, before packets go in clear.
 */
const HEARING = 3000
/** Failures of one pass that are worth a line. */
const MOST_FAILURES = 3

/** Whether packets are encrypted, as far as this run has got. */
type Phase =
  | { readonly kind: 'off' }
  /** `vni` names the devices. */
  | { readonly kind: 'on'; readonly vni: number }
  /**
   * Packets go in clear from `clearAt` on, in monotonic milliseconds. The devices take those of hosts that
   * have not heard yet.
   */
  | { readonly kind: 'leaving'; readonly since: number; readonly clearAt: number }

/** What the last pass has left. */
interface Known {
  readonly memories: TunnelMemories
  /** key of a lease in etcd -> the host whose keys are used */
  readonly hosts: ReadonlyMap<string, TunnelHost>
  /** key of a lease in etcd -> why its keys are not used */
  readonly refused: ReadonlyMap<string, TunnelRefusal>
  readonly lackingSince: LackingSince
}

const NOTHING: Known = {
  memories: NO_MEMORIES,
  hosts: new Map(),
  refused: new Map(),
  lackingSince: new Map(),
}

export class EncryptionKeeper {
  readonly #loop: Loop
  readonly #repairs = new RecentRepairs()
  readonly #slots: SlotDevices
  readonly #guard: GuardKeeper
  readonly #keys: KeyChanges
  /** VNIs whose devices and rules are to be removed when no packet needs them. */
  readonly #former: Set<number>
  #phase: Phase = { kind: 'off' }
  #known: Known = NOTHING

  constructor(
    private readonly kernel: Kernel,
    private readonly wireguard: HostWireguard,
    private readonly ways: Ways,
    private readonly view: EncryptionView,
    private readonly log: Logger,
  ) {
    this.#former = new Set(view.staleVnis)
    this.#slots = new SlotDevices(kernel, wireguard, log)
    this.#guard = new GuardKeeper(() => this.wake(), log)
    this.#keys = new KeyChanges(wireguard, view.maxKeyAge)
    this.#loop = new Loop(
      {
        name: 'encryption',
        settle: SETTLE,
        pass: (signal) => this.#pass(signal),
        failed: (problem, before) => {
          if (problem !== before)
            log.warn(`encryption: ${problem}; trying again`, { kind: 'encryption-problem' })
        },
      },
      log,
    )
  }

  /** Asks for a pass soon. */
  wake(): void {
    this.#loop.wake()
  }

  /**
   * Asks for other keys. They are in use when other hosts have followed.
   * @throws {OverlayError} `rotate-key` while a change is under way
   */
  rotate(): void {
    this.#keys.ask()
    this.wake()
  }

  /** Notes VNIs of further devices that an earlier config left; {@link wake} has to be called after it. */
  succeed(staleVnis: readonly number[]): void {
    for (const vni of staleVnis) this.#former.add(vni)
  }

  /** Why encryption does not work, or not as it should; `undefined` when all is well. */
  get problem(): string | undefined {
    const isContested = this.#phase.kind === 'on' && this.#repairs.areContested
    return this.#loop.problem ?? (isContested ? CONTEST : undefined)
  }

  /**
   * The first pass, before the peers are put into the kernel: an entry through a tunnel of an earlier run
   * stays as it is. A failure is retried by {@link run}.
   */
  async prepare(signal: AbortSignal): Promise<void> {
    const plan = this.view.plan()
    if (plan?.kind === 'on' && plan.mode === 'required') this.ways.take(new Map(), 'none', [])
    try {
      await this.#pass(signal)
    } catch (error) {
      if (signal.aborted || !isOverlayError(error)) throw error
      this.#loop.fail(error)
    }
  }

  /** Runs until the signal fires. Devices and rules stay. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = this.kernel.onChange((change) => {
      if (this.#slots.concerns(change)) this.wake()
    })
    await this.#loop.run(signal).finally(() => {
      stop()
      this.close()
    })
  }

  /** Closes sockets; devices and rules stay. */
  close(): void {
    this.#guard.close()
  }

  /** How packets to a peer leave this host, and what keeps them from being encrypted. */
  encryptionOf(peer: Peer, { turn }: WireguardPlan): PeerEncryption {
    return peerEncryption(peer, this.ways.of(peer), { turn, ...this.#known })
  }

  /** `undefined` where this host does not encrypt. */
  state(): EncryptionState | undefined {
    const plan = this.view.plan()
    if (plan?.kind !== 'on') return undefined
    const of = (peer: Peer): PeerEncryption => this.encryptionOf(peer, plan)
    const { refused, lackingSince } = this.#known
    return {
      kind: 'on',
      mode: plan.mode,
      devices: plan.slots
        .filter(({ slot }) => this.#slots.has(slot))
        .map(({ link: { name }, port }) => ({ name, port })),
      ...reviewPeers(this.#peers(), of, lackingSince, performance.now()),
      refused,
      since: this.wireguard.keys?.since,
      problem: this.problem,
    }
  }

  /** Packets in clear that were dropped; `undefined` where clear packets may pass. */
  async dropped(): Promise<GuardCounts | undefined> {
    const plan = this.view.plan()
    return plan?.kind === 'on' && plan.guard !== undefined ? this.#guard.counts(plan.guard.name) : undefined
  }

  *#peers(): Generator<Peer> {
    for (const { peers } of this.view.families) yield* peers()
  }

  get #isSettled(): boolean {
    return this.view.families.every((family) => family.isSettled())
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    // As the hosts are: etcd may answer while the pass is under way, and the pass knows only the hosts of the
    // state file then.
    const isRemembered = this.view.isRemembered()
    try {
      return await this.#look(isRemembered, signal)
    } finally {
      if (!isRemembered) this.view.looked()
    }
  }

  async #look(isRemembered: boolean, signal: AbortSignal): Promise<Next> {
    const began = performance.now()
    const plan = this.view.plan()
    if (plan?.kind !== 'on') return this.#withdraw(signal)
    const { devices } = this.wireguard
    if (devices === undefined) throw new TypeError('a plan to encrypt, and no WireGuard was opened')
    await this.#keys.noteClock()
    const isTrying = await this.#enforce(plan, devices, isRemembered, signal)
    if (!isRemembered) {
      const turns = [...this.#known.hosts.values()].map(({ announced }) => announced.turn)
      if (await this.#keys.step(turns)) await this.view.abilityChanged()
    }
    const now = performance.now()
    if (this.#repairs.areContested) return { due: now + CONTESTED, earliest: now + CONTESTED }
    const { least, most, times } = isTrying ? AWAITED : USUAL
    return { due: now + Math.min(Math.max((now - began) * times, least), most) }
  }

  /** @returns whether a handshake is awaited */
  async #enforce(
    plan: WireguardPlan,
    devices: WireguardDevices,
    isRemembered: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    const failures: Error[] = []
    let repairs = await this.#enforceGuard(plan, signal).catch((error: unknown) => {
      // Packets that can be encrypted are.
      if (!isOverlayError(error)) throw error
      failures.push(error)
      return 0
    })
    const isFirst = await this.#begin(plan, signal)
    const { hosts, refused } = this.#findHosts(plan)
    const observed = { 0: undefined, 1: undefined } as Record<Slot, ObservedWireguard | undefined>
    for (const slotPlan of plan.slots) {
      const { slot } = slotPlan
      const isUsed = slot === slotOf(plan.turn) || hosts.some((host) => slotWith(plan.turn, host) === slot)
      if (!isUsed && !this.#slots.has(slot)) continue
      const made = await this.#slots.ensure(plan, slotPlan, devices, signal)
      observed[slot] = made.device
      repairs += made.repairs
    }
    const step = planTunnels({
      hosts,
      turn: plan.turn,
      isBehindNat: plan.isBehindNat,
      takesClear: plan.mode === 'prefer',
      devices: [observed[0], observed[1]],
      memories: this.#known.memories,
      now: Date.now(),
    })
    const apply = async (operations: TunnelStep['operations']): Promise<void> => {
      for (const slot of SLOTS)
        failures.push(...(await this.#slots.apply(devices, slot, operations[slot], signal)))
    }
    await apply(step.operations)
    this.#note({ hosts, refused }, step)
    this.#takeWays(step.ways, plan.mode === 'required' ? 'none' : 'clear')
    if (this.#isSettled && !isRemembered) {
      await apply(step.removals)
      await this.#clean(plan, step, signal)
    }
    if (isFirst) this.#logBegin(plan)
    else this.#noteRepairs(repairs + step.repairs)
    if (failures.length > 0) throw refusal(failures)
    return step.isTrying
  }

  /** Keeps the rules that let nothing pass in clear. @returns how many repairs were made */
  async #enforceGuard({ guard, slots }: WireguardPlan, signal: AbortSignal): Promise<number> {
    if (guard !== undefined) return this.#guard.ensure(guard, signal)
    // An earlier run, or an earlier config, may have left them.
    await this.#guard.remove(slots[0].link.name, signal)
    return 0
  }

  /**
   * Notes that packets are encrypted from now on. With another VNI the devices have other names: new ones are
   * made, and the former go at last.
   * @returns whether they were not before
   */
  async #begin(plan: WireguardPlan, signal: AbortSignal): Promise<boolean> {
    const vni = this.view.vni()
    const before = this.#phase
    this.#phase = { kind: 'on', vni }
    if (before.kind === 'on' && before.vni !== vni) {
      this.#former.add(before.vni)
      this.#slots.forget()
    }
    this.#former.delete(vni)
    if (before.kind === 'on') return false
    await this.#slots.find(plan, signal)
    return true
  }

  #findHosts({ slots }: WireguardPlan): TunnelHosts {
    return tunnelHosts(
      this.view.families.map(({ peers }) => peers()),
      slots.map(({ key }) => key),
    )
  }

  /**
   * Notes what a pass has found. Warns of a host whose key in use was replaced: a host that changes its keys
   * moves to the other slot.
   */
  #note({ hosts, refused }: TunnelHosts, { memories, isChanging }: TunnelStep): void {
    const byLease = new Map<string, TunnelHost>()
    for (const host of hosts) {
      const { turn, keys } = host.announced
      const slot = slotOf(turn)
      for (const lease of host.leases) {
        byLease.set(lease, host)
        const before = this.#known.hosts.get(lease)?.announced.keys
        if (before === undefined || before[slot] === keys[slot]) continue
        this.log.warn(`encryption: the key in use of ${lease} was replaced, and not by a rotation`, {
          kind: 'peer-key-replaced',
          about: [lease],
        })
      }
    }
    this.#known = { ...this.#known, memories, refused, hosts: byLease }
    this.#keys.note(isChanging)
  }

  /** Removes what no packet needs any more. */
  async #clean({ slots, turn }: WireguardPlan, { memories }: TunnelStep, signal: AbortSignal): Promise<void> {
    for (const slotPlan of slots)
      if (slotPlan.slot !== slotOf(turn) && memories[slotPlan.slot].size === 0)
        await this.#slots.removeIdle(slotPlan, signal)
    for (const vni of this.#former) {
      await this.#slots.removeAll(vni, signal)
      await this.#guard.remove(wireguardLinkName(0, vni), signal)
      this.#former.delete(vni)
    }
  }

  /** Tells the reconcilers which peers get their packets another way. */
  #takeWays(tunnels: TunnelStep['ways'], others: 'clear' | 'none'): void {
    const changed = this.ways.take(tunnels, others, this.#peers())
    const lacking = [...this.#peers()].filter((peer) => this.ways.of(peer).kind !== 'tunnel')
    const keys = lacking.map(({ key }) => key)
    this.#known = {
      ...this.#known,
      lackingSince: stillLacking(this.#known.lackingSince, keys, performance.now()),
    }
    if (changed.length === 0) return
    for (const { family, touch } of this.view.families)
      touch(changed.filter(({ publicIp }) => familyOf(publicIp) === family))
    this.view.waysChanged()
    this.#tellWays(changed)
  }

  #tellWays(changed: readonly Peer[]): void {
    const plan = this.view.plan()
    const news = changed.map((peer) => ({
      peer,
      encryption:
        plan?.kind === 'on'
          ? this.encryptionOf(peer, plan)
          : { word: encryptionWord(this.ways.of(peer)), obstacle: undefined },
    }))
    for (const { level, kind, text, about } of wayNews(news))
      this.log.log(level, `encryption: ${text}`, { kind, about })
  }

  #logBegin({ mode, slots, turn }: WireguardPlan): void {
    const { link, port } = slots[slotOf(turn)]
    this.log.info(`encryption: ${mode}, on ${link.name} and UDP port ${port}`, {
      kind: 'encryption-on',
      about: [link.name],
    })
  }

  #noteRepairs(repairs: number): void {
    if (repairs === 0) return
    this.log.info('encryption: repaired what another program changed', { kind: 'encryption-repair' })
    this.#repairs.add()
  }

  /**
   * Lets packets in clear pass, puts all packets back in the clear, and then removes the devices of this run
   * or an earlier one. Between the steps other hosts have time to hear of it.
   */
  async #withdraw(signal: AbortSignal): Promise<Next> {
    const now = performance.now()
    if (this.view.isRemembered()) return { due: now + USUAL.least }
    const all = [...this.#former, this.view.vni()]
    for (const vni of all) await this.#guard.remove(wireguardLinkName(0, vni), signal)
    // A host that sends in clear at once would lose what another host's rules drop until it has heard.
    const wait = this.#phase.kind === 'on' ? HEARING : 0
    if (this.#phase.kind !== 'leaving') this.#phase = { kind: 'leaving', since: now, clearAt: now + wait }
    const { since, clearAt } = this.#phase
    if (now < clearAt) return { due: clearAt }
    this.#takeWays(new Map(), 'clear')
    if (!this.#isSettled) return { due: now + AWAITED.least }
    let isAny = false
    for (const vni of all) isAny ||= await this.#slots.isThere(vni, signal)
    if (isAny && now < since + LINGER) return { due: since + LINGER }
    if (this.view.isAnnounced()) await this.view.abilityChanged()
    for (const vni of all) await this.#slots.removeAll(vni, signal)
    this.#former.clear()
    this.#known = { ...NOTHING, lackingSince: this.#known.lackingSince }
    this.#keys.note(false)
    this.#phase = { kind: 'off' }
    if (isAny) this.log.info('encryption: its devices are removed', { kind: 'encryption-off' })
    return { due: Number.POSITIVE_INFINITY }
  }
}

const CONTEST =
  'another program changes the WireGuard devices or the nftables table of encryption again and again; ' +
  'find it with `ip monitor` and `nft monitor`'

function refusal(failures: readonly Error[]): OverlayError {
  const told = failures.slice(0, MOST_FAILURES).map(describeError)
  const more = failures.length - told.length
  return new OverlayError('encryption-refused', `${told.join('; ')}${more > 0 ? `; and ${more} more` : ''}`)
}
