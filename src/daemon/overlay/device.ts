/**
 * Our device: made right, with its address, up, and with the settings that its packets need. Objects of peers
 * are not its trade.
 */
import type { Kernel } from '../../kernel/kernel'
import { keepForwarding, loosenReversePath } from '../../kernel/sysctl'
import { FAMILIES, type Family, formatPrefix, type IpAddress, prefixContains } from '../../model/address'
import type { KernelChange } from '../../model/kernel/change'
import type { InterfaceAddress, LinkOperation, ObservedLink } from '../../model/kernel/link'
import { type Setting, subjectOf } from '../../model/kernel/subject'
import type { Contests } from '../../plan/reconcile/contests'
import { desiredAddress } from '../../plan/reconcile/desired'
import { diffAddresses, isHarmful } from '../../plan/reconcile/diff-link'
import { directLinkFinder } from '../../plan/reconcile/direct'
import type { Logger } from '../tell/logger'
import { applyLinkOperations, ensureLink } from './ensure-link'
import type { RepairLog } from './log-repairs'
import type { Target } from './target'

/** How peers past the device are reached. */
interface DirectLinks {
  /** The link that a PublicIP is reached over without a gateway. */
  find(publicIp: IpAddress): number | undefined
  /**
   * Links that direct routes lead over: the kernel drops the routes without a notification when such a link
   * goes down.
   */
  readonly used: ReadonlySet<number>
}

const NO_DIRECT_LINKS: DirectLinks = { find: () => undefined, used: new Set() }

type Basis =
  | { readonly kind: 'none' }
  | { readonly kind: 'ready'; readonly link: ObservedLink; readonly direct: DirectLinks }
  /** A pass failed, and the device is in doubt. */
  | { readonly kind: 'lost'; readonly index: number }

/** One comparison of the device. */
export interface Enforced {
  readonly link: ObservedLink
  /** Whether all that was on the device is gone: it was made, or had been down. */
  readonly isNew: boolean
}

export class Device {
  #basis: Basis = { kind: 'none' }
  /** Devices that ours succeeds, and that are still there. */
  #stale: readonly ObservedLink[]
  #operations = 0

  constructor(
    private readonly kernel: Kernel,
    private readonly family: Family,
    private readonly contests: Contests,
    private readonly repairs: RepairLog,
    private readonly log: Logger,
    stale: readonly ObservedLink[],
  ) {
    this.#stale = stale
  }

  /** The device as it was last seen; `undefined` before it was made, and while it is in doubt. */
  get link(): ObservedLink | undefined {
    return this.#basis.kind === 'ready' ? this.#basis.link : undefined
  }

  /** How many changes of the device the kernel has accepted. */
  get operations(): number {
    return this.#operations
  }

  /** Indexes of devices that ours succeeds. */
  get stale(): readonly number[] {
    return this.#stale.map(({ index }) => index)
  }

  /** Notes further devices that are to be removed when ours carries what they carried. */
  succeed(stale: readonly ObservedLink[], { link }: Target): void {
    this.#stale = [...this.#stale, ...stale].filter(({ name }) => name !== link.name)
  }

  /** A pass failed: the device is in doubt. */
  lose(): void {
    const index = this.#index
    this.#basis = index === undefined ? { kind: 'none' } : { kind: 'lost', index }
  }

  /** Whether a hint of the kernel can be about the device or about objects of its peers. */
  concerns(change: KernelChange, { directRouting, local }: Target): boolean {
    if (change.kind === 'overrun') return true
    if (change.family !== undefined && change.family !== this.family) return false
    if (change.linkIndex === undefined || this.#basis.kind !== 'ready') return true
    if (change.inOurPlace) return true
    if (change.kind === 'route' && directRouting) return true
    const { link, direct } = this.#basis
    const { linkIndex } = change
    return linkIndex === link.index || direct.used.has(linkIndex) || local?.links.has(linkIndex) === true
  }

  /**
   * Makes the device right.
   * @param isRepair whether differences are the doing of another program
   * @throws {OverlayError} when the kernel refuses, or somebody else's device has the name
   */
  async enforce(target: Target, isRepair: boolean, signal: AbortSignal): Promise<Enforced> {
    const started = performance.now()
    const isHeld = (operation: LinkOperation): boolean => !this.contests.admit(subjectOf(operation), started)
    const before = this.#index
    const made = await ensureLink(this.kernel, target.link, this.log, signal, {
      index: before,
      mayChange: (operations) => !operations.some(isHeld),
      mayKeep: (setting) => this.contests.admit({ kind: 'setting', key: setting }, started),
      kept: (setting) => void this.contests.note([{ kind: 'setting', key: setting }], started),
    })
    if (before !== undefined && before !== made.link.index) this.kernel.unwatchLink(before)
    this.kernel.watchLink(made.link.index)
    this.#note(made.link)
    const corrections = await this.#diffAddresses(made.link, target, signal)
    const allowed = corrections.filter((operation) => !isHeld(operation))
    await applyLinkOperations(this.kernel, allowed, this.log, signal)
    const link =
      allowed.length === 0 ? made.link : ((await this.kernel.link(made.link.name, signal)) ?? made.link)
    this.#note(link)
    const done = [...made.operations, ...allowed]
    this.#operations += done.length
    if (isRepair) this.repairs.repaired(done, started)
    await this.#keepSettings(link, target)
    return { link, isNew: done.some(({ kind }) => kind === 'create-link' || kind === 'set-link-up') }
  }

  /** The link that a PublicIP is reached over without a gateway, if direct routing is wanted. */
  directLink(publicIp: IpAddress): number | undefined {
    return this.#basis.kind === 'ready' ? this.#basis.direct.find(publicIp) : undefined
  }

  /** Finds out which links lead to peers without a gateway. */
  async findDirectLinks({ directRouting }: Target, signal: AbortSignal): Promise<void> {
    if (this.#basis.kind !== 'ready') return
    const { link } = this.#basis
    const direct = directRouting ? await this.#readDirectLinks(link, signal) : NO_DIRECT_LINKS
    this.#basis = { kind: 'ready', link, direct }
  }

  async #readDirectLinks(link: ObservedLink, signal: AbortSignal): Promise<DirectLinks> {
    const routes = await this.kernel.underlayRoutes(this.family, signal)
    const ours = new Set([link.index, ...this.stale])
    const find = directLinkFinder(
      routes.filter(({ linkIndex }) => linkIndex === undefined || !ours.has(linkIndex)),
    )
    const used = new Set<number>()
    return {
      used,
      find(publicIp) {
        const direct = find(publicIp)
        if (direct !== undefined) used.add(direct)
        return direct
      },
    }
  }

  /** Removes the devices that ours succeeds. */
  async removeStale(signal: AbortSignal): Promise<void> {
    for (const { index, name } of this.#stale)
      await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    this.#stale = []
  }

  /** The index that the device has, or had: another program may have renamed it. */
  get #index(): number | undefined {
    if (this.#basis.kind === 'ready') return this.#basis.link.index
    return this.#basis.kind === 'lost' ? this.#basis.index : undefined
  }

  #note(link: ObservedLink): void {
    const direct = this.#basis.kind === 'ready' ? this.#basis.direct : NO_DIRECT_LINKS
    this.#basis = { kind: 'ready', link, direct }
  }

  /** Of both families: an address of the other one may lead packets of the underlay here as well. */
  async #diffAddresses(
    link: ObservedLink,
    { subnet, network }: Target,
    signal: AbortSignal,
  ): Promise<LinkOperation[]> {
    const operations: LinkOperation[] = []
    for (const family of FAMILIES) {
      const all = await this.kernel.addresses(family, signal)
      const own = all.filter(({ linkIndex }) => linkIndex === link.index)
      const others = all.filter(({ linkIndex }) => linkIndex !== link.index)
      const elsewhere = new Set(others.map(({ address }) => address.address))
      const foreign = own.filter(
        (each) => !prefixContains(network, each.address.address) && isHarmful(each, elsewhere),
      )
      if (family === this.family)
        operations.push(...diffAddresses(desiredAddress(subnet), network, link, own, elsewhere))
      else
        operations.push(
          ...foreign.map(({ address }) => ({ kind: 'delete-address', index: link.index, address }) as const),
        )
      this.#logForeign(link, foreign)
    }
    return operations
  }

  #logForeign({ name }: ObservedLink, foreign: readonly InterfaceAddress[]): void {
    for (const { address } of foreign) {
      const text = formatPrefix(address)
      this.log.warn(
        `device: another program gave ${name} the address ${text}, which leads packets of this host into ` +
          'the overlay; it is removed. Keep that program off the device (dhcpcd: denyinterfaces flannel*; ' +
          'ifupdown, NetworkManager, systemd-networkd: unmanaged)',
        { kind: 'device-change', about: [name, text] },
      )
    }
  }

  /** Keeps the settings that the packets of the device need. A contested one waits like any other object. */
  async #keepSettings({ name }: ObservedLink, { forward, directRouting }: Target): Promise<void> {
    const now = performance.now()
    const keep = async (setting: Setting, act: () => Promise<boolean>): Promise<void> => {
      if (!this.contests.admit({ kind: 'setting', key: setting }, now) || !(await act())) return
      this.repairs.settingRepaired(setting, name, now)
    }
    if (forward) await keep(`forwarding of ${this.family}`, () => keepForwarding(this.family, name))
    // A peer may reach us directly while we reach it over the device: its packets come in on another
    // interface than ours leave by.
    if (this.family === 'IPv4' && directRouting)
      await keep(`rp_filter of ${name}`, () => loosenReversePath(name))
  }
}
