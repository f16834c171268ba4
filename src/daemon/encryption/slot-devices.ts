/**
 * The WireGuard devices of this host, one for each slot: made right, and removed. Which peers they have is
 * not decided here.
 */
import type { Kernel, KernelChange } from '../../kernel/kernel'
import { loosenReversePath } from '../../kernel/sysctl'
import type { WireguardDevices } from '../../kernel/wireguard/devices'
import { familyOf, samePrefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { LinkOperation, ObservedLink } from '../../model/kernel/link'
import type { ObservedWireguard, WireguardOperation } from '../../model/kernel/wireguard'
import { SLOTS, type Slot } from '../../model/lease'
import {
  type SlotPlan,
  type WireguardPlan,
  wireguardLinkName,
  wireguardTable,
} from '../../plan/encryption/encryption-plan'
import { nameTaken } from '../../plan/reconcile/diff-link'
import { applyLinkOperations } from '../overlay/ensure-link'
import type { Logger } from '../tell/logger'
import type { HostWireguard } from './host-wireguard'

/** A device as it is now. */
export interface EnsuredDevice {
  readonly device: ObservedWireguard
  /** Changes that undo what another program did. */
  readonly repairs: number
}

export class SlotDevices {
  /** Indexes by slot; `undefined` for a device that is not there, or that this run has not seen yet. */
  #indexes: readonly [number | undefined, number | undefined] = [undefined, undefined]

  constructor(
    private readonly kernel: Kernel,
    private readonly wireguard: HostWireguard,
    private readonly log: Logger,
  ) {}

  /** Whether the device of the slot is there. */
  has(slot: Slot): boolean {
    return this.#indexes[slot] !== undefined
  }

  /** Whether a change of the kernel can be about one of the devices. */
  concerns({ kind, linkIndex }: KernelChange & { readonly linkIndex?: number | undefined }): boolean {
    if (kind === 'overrun') return true
    return linkIndex !== undefined && this.#indexes.includes(linkIndex)
  }

  /** Finds the devices that an earlier run has left. */
  async find({ slots }: WireguardPlan, signal: AbortSignal): Promise<void> {
    for (const { slot, link } of slots) {
      const found = await this.kernel.link(link.name, signal)
      if (found?.kind === 'wireguard') this.#note(slot, found.index)
    }
  }

  /** The devices have other names from now on; those that are there stay as they are. */
  forget(): void {
    for (const slot of SLOTS) this.#note(slot, undefined)
  }

  /**
   * Makes the device of a slot right, and reads its peers.
   * @throws {OverlayError} `name-taken`, `port-in-use`, `table-taken`, `device-vanished`, or the kernel's
   *   refusal
   */
  async ensure(
    plan: WireguardPlan,
    slotPlan: SlotPlan,
    devices: WireguardDevices,
    signal: AbortSignal,
  ): Promise<EnsuredDevice> {
    const { slot, key, port, table } = slotPlan
    const before = this.#indexes[slot]
    const { observed, operations } = await this.#ensureLink(slotPlan, before, signal)
    const { index, name } = observed
    this.#note(slot, index)
    const found = await this.#read(devices, observed, signal)
    const isOurs = found.publicKey === key && found.port === port
    if (!isOurs) await devices.configure(index, { privateKey: this.wireguard.secret(slot), port }, signal)
    let repairs = operations + (isOurs ? 0 : 1)
    // The address is there before the device is up: a packet that comes early passes the filter.
    repairs += await this.#ensureAddresses(plan, observed, signal)
    if (!observed.up)
      await applyLinkOperations(this.kernel, [{ kind: 'set-link-up', index, name }], this.log, signal)
    if (plan.families.includes('IPv4') && (await loosenReversePath(name))) repairs += 1
    if (plan.families.includes('IPv6') && (await devices.ensureRule6({ index, name }, table, signal)))
      repairs += 1
    const device = isOurs ? found : await this.#read(devices, observed, signal)
    return { device, repairs: before === undefined ? 0 : repairs }
  }

  /**
   * Changes peers of a slot's device.
   * @returns the errors of operations that were refused
   */
  async apply(
    devices: WireguardDevices,
    slot: Slot,
    operations: readonly WireguardOperation[],
    signal: AbortSignal,
  ): Promise<Error[]> {
    const index = this.#indexes[slot]
    if (operations.length === 0 || index === undefined) return []
    return (await devices.apply(index, operations, signal)).map(({ error }) => error)
  }

  /** Removes the device of a slot that neither this host nor another one uses. */
  async removeIdle({ slot, link, table }: SlotPlan, signal: AbortSignal): Promise<void> {
    const index = this.#indexes[slot]
    if (index === undefined) return
    this.#note(slot, undefined)
    await this.#remove({ index, name: link.name }, table, signal)
  }

  /** Whether a network of that VNI has a device here, of this run or of an earlier one. */
  async isThere(vni: number, signal: AbortSignal): Promise<boolean> {
    for (const slot of SLOTS) {
      const link = await this.kernel.link(wireguardLinkName(slot, vni), signal)
      if (link?.kind === 'wireguard') return true
    }
    return false
  }

  /**
   * Removes the devices of a network, made by this run or an earlier one.
   * @returns how many there were
   */
  async removeAll(vni: number, signal: AbortSignal): Promise<number> {
    let removed = 0
    for (const slot of SLOTS) {
      const link = await this.kernel.link(wireguardLinkName(slot, vni), signal)
      if (link?.kind !== 'wireguard') continue
      if (this.#indexes[slot] === link.index) this.#note(slot, undefined)
      await this.#remove(link, wireguardTable(slot, vni), signal)
      removed += 1
    }
    return removed
  }

  #note(slot: Slot, index: number | undefined): void {
    const before = this.#indexes[slot]
    if (before === index) return
    if (before !== undefined) this.kernel.unwatchLink(before)
    if (index !== undefined) this.kernel.watchLink(index)
    this.#indexes = slot === 0 ? [index, this.#indexes[1]] : [this.#indexes[0], index]
  }

  async #read(
    devices: WireguardDevices,
    { index, name }: ObservedLink,
    signal: AbortSignal,
  ): Promise<ObservedWireguard> {
    const device = await devices.read(index, signal)
    if (device === undefined) throw vanished(name)
    return device
  }

  async #ensureLink(
    { link }: SlotPlan,
    before: number | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly observed: ObservedLink; readonly operations: number }> {
    const { name, mtu } = link
    const found = await this.kernel.link(name, signal)
    if (found !== undefined && found.kind !== 'wireguard') throw nameTaken(found, 'wireguard')
    const operations: LinkOperation[] = []
    if (found === undefined) {
      const index = await this.#renamed(before, signal)
      operations.push(
        index === undefined ? { kind: 'create-wireguard', link } : { kind: 'rename-link', index, name },
      )
    } else {
      const { index, master } = found
      if (found.mtu !== mtu) operations.push({ kind: 'change-link', index, name, mtu })
      if (master !== undefined) operations.push({ kind: 'change-link', index, name, detach: true })
    }
    await applyLinkOperations(this.kernel, operations, this.log, signal)
    const observed = operations.length === 0 ? found : await this.kernel.link(name, signal)
    if (observed === undefined) throw vanished(name)
    return { observed, operations: operations.length }
  }

  /** The index of a device that was ours, if it is there under another name. */
  async #renamed(before: number | undefined, signal: AbortSignal): Promise<number | undefined> {
    if (before === undefined) return undefined
    const links = await this.kernel.links(signal)
    return links.find(({ index, kind }) => index === before && kind === 'wireguard')?.index
  }

  /** Gives the device the IPv4 address of the VXLAN device: without one, rp_filter drops its packets. */
  async #ensureAddresses(
    { addresses }: WireguardPlan,
    { index }: ObservedLink,
    signal: AbortSignal,
  ): Promise<number> {
    const wanted = addresses.filter(({ address }) => familyOf(address) === 'IPv4')
    if (wanted.length === 0) return 0
    const present = (await this.kernel.linkAddresses('IPv4', index, signal)).map(({ address }) => address)
    const operations: LinkOperation[] = [
      ...wanted
        .filter((each) => !present.some((other) => samePrefix(each, other)))
        .map((address) => ({ kind: 'add-address', index, address }) as const),
      ...present
        .filter((each) => !wanted.some((other) => samePrefix(each, other)))
        .map((address) => ({ kind: 'delete-address', index, address }) as const),
    ]
    await applyLinkOperations(this.kernel, operations, this.log, signal)
    return operations.length
  }

  async #remove(
    { index, name }: Pick<ObservedLink, 'index' | 'name'>,
    table: number,
    signal: AbortSignal,
  ): Promise<void> {
    await applyLinkOperations(this.kernel, [{ kind: 'delete-link', index, name }], this.log, signal)
    await this.wireguard.devices?.removeRule6(name, table, signal)
  }
}

const vanished = (name: string): OverlayError =>
  new OverlayError('device-vanished', `device ${name} vanished while it was being set up`)
