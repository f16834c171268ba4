/**
 * Recognizes notifications of our own changes where the kernel does not say whose they are: it notifies
 * forwarding entries, and the deletion of a neighbour, as its own doing (port id 0). Such notifications are
 * compared with what we last asked for: one that says the same is no news. What another program changes after
 * that differs from it, and what the program changes back was notified before.
 */
import type { IpAddress, MacAddress } from '../../model/address'
import {
  deletesAll,
  type ForwardingTarget,
  isUnknownTarget,
  type ObjectOperation,
  sameTarget,
} from '../../model/kernel/objects'
import { AF_BRIDGE, AF_INET, AF_INET6, NUD_PERMANENT } from '../netlink/constants'
import { neighbourMessage } from '../netlink/messages'
import { forwardingTargetOf } from '../objects/fdb'

export class Echoes {
  /** Link-layer address -> the destination that we set last; `undefined` until our deletion is notified. */
  private readonly forwarding = new Map<MacAddress, ForwardingTarget | undefined>()
  /** Neighbours that we deleted, until the deletion is notified. */
  private readonly deletedNeighbours = new Set<IpAddress>()

  /** Records operations that the kernel gets next. Notifications of the other kinds name the sender. */
  expect(operations: readonly ObjectOperation[]): void {
    for (const { do: verb, kind, key, value } of operations) {
      if (kind === 'fdb') {
        if (verb === 'set') this.forwarding.set(key, value)
        else this.expectDeletion(key, value)
      } else if (kind === 'neighbour') {
        if (verb === 'set') this.deletedNeighbours.delete(key)
        else this.deletedNeighbours.add(key)
      }
    }
  }

  /**
   * Whether the notification of a neighbour or a forwarding entry says what we asked for.
   * @throws {MalformedMessageError}
   */
  isEcho(view: DataView, start: number, end: number, deleted: boolean): boolean {
    // Most notifications are about neighbours that others add or refresh: these are not decoded.
    const family = end > start ? view.getUint8(start) : 0
    const isNeighbour = family === AF_INET || family === AF_INET6
    if (family !== AF_BRIDGE && !(isNeighbour && deleted && this.deletedNeighbours.size > 0)) return false
    const message = neighbourMessage.decode(view, start, end)
    const { linkAddress, destination, state } = message
    if (isNeighbour) return destination !== undefined && this.deletedNeighbours.delete(destination)
    const target = forwardingTargetOf(message)
    // An entry that is not permanent, or that we would not make, is somebody else's.
    if (!deleted && ((state & NUD_PERMANENT) === 0 || isUnknownTarget(target))) return false
    return linkAddress !== undefined && this.isForwardingEcho(linkAddress, target, deleted)
  }

  /** Forgets all: notifications were lost, or another link is watched from now on. */
  clear(): void {
    this.forwarding.clear()
    this.deletedNeighbours.clear()
  }

  private expectDeletion(mac: MacAddress, target: ForwardingTarget): void {
    const asked = this.forwarding.get(mac)
    // The deletion of an old destination after a new one was set does not concern the new one.
    if (asked === undefined || deletesAll(target) || sameTarget(asked, target))
      this.forwarding.set(mac, undefined)
  }

  private isForwardingEcho(mac: MacAddress, target: ForwardingTarget, deleted: boolean): boolean {
    if (!this.forwarding.has(mac)) return false
    const asked = this.forwarding.get(mac)
    if (!deleted) return asked !== undefined && sameTarget(asked, target)
    if (asked !== undefined) return false
    this.forwarding.delete(mac)
    return true
  }
}
