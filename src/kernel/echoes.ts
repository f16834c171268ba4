/**
 * Tells our own changes from those of others where the kernel does not say whose they are: it notifies forwarding entries, and the deletion of a
 * neighbour, as its own doing (port id 0). They are recognized by content: a notification that says what we last asked for is no
 * news. What someone else changes after that differs from it, and what they change back was told before.
 */
import type { IpAddress, MacAddress } from '../model/address'
import { type ObjectOperation, ODD_DESTINATION } from '../model/kernel'
import { destinationOf } from './fdb'
import { AF_BRIDGE, AF_INET, AF_INET6, NUD_PERMANENT } from './netlink/constants'
import { neighbourMessage } from './netlink/messages'

export class Echoes {
  /** link-layer address -> the destination it was last given; `undefined` while a deletion is not notified yet */
  private readonly forwarding = new Map<MacAddress, IpAddress | undefined>()
  /** Neighbours whose deletion is not notified yet. */
  private readonly deletedNeighbours = new Set<IpAddress>()

  /** Notes what is about to be asked of the kernel. */
  expect(operations: readonly ObjectOperation[]): void {
    for (const operation of operations) {
      if (operation.kind === 'set-fdb') this.forwarding.set(operation.mac, operation.destination)
      else if (operation.kind === 'delete-fdb') this.expectDeletion(operation.mac, operation.destination)
      else if (operation.kind === 'set-neighbour') this.deletedNeighbours.delete(operation.address)
      else if (operation.kind === 'delete-neighbour') this.deletedNeighbours.add(operation.address)
    }
  }

  /**
   * Whether a neighbour notification says what we asked for.
   * @throws {MalformedMessageError}
   */
  isEcho(view: DataView, start: number, end: number, deleted: boolean): boolean {
    // Most notifications are of neighbours that others add or refresh; those are not read further.
    const family = end > start ? view.getUint8(start) : 0
    const isNeighbour = family === AF_INET || family === AF_INET6
    if (family !== AF_BRIDGE && !(isNeighbour && deleted && this.deletedNeighbours.size > 0)) return false
    const message = neighbourMessage.decode(view, start, end)
    const { linkAddress, destination, state } = message
    if (isNeighbour) return destination !== undefined && this.deletedNeighbours.delete(destination)
    // One that is not permanent, or that we would not make, is someone else's doing.
    if (!deleted && ((state & NUD_PERMANENT) === 0 || destinationOf(message) === ODD_DESTINATION))
      return false
    return linkAddress !== undefined && this.isForwardingEcho(linkAddress, destination, deleted)
  }

  /** Forgets all: notifications were lost, or they will be about another link. */
  clear(): void {
    this.forwarding.clear()
    this.deletedNeighbours.clear()
  }

  private expectDeletion(mac: MacAddress, destination: IpAddress): void {
    // An old destination that is deleted after a new one was set says nothing about the new one.
    if (!this.forwarding.has(mac) || this.forwarding.get(mac) === destination)
      this.forwarding.set(mac, undefined)
  }

  private isForwardingEcho(mac: MacAddress, destination: IpAddress | undefined, deleted: boolean): boolean {
    if (!this.forwarding.has(mac)) return false
    const asked = this.forwarding.get(mac)
    if (!deleted) return asked !== undefined && asked === destination
    if (asked !== undefined) return false
    this.forwarding.delete(mac)
    return true
  }
}
