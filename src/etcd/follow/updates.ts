import type { HostEntry } from '../../model/host-record'
import type { Lease, Revision, UnreadableLease } from '../../model/lease'
import type { GroupsEntry } from '../../model/multicast'
import type { PrefixEntry } from '../../model/prefixes'
import type { EtcdError } from '../client/errors'
import { decodeGroups } from '../codec/groups-codec'
import { decodeHost } from '../codec/host-codec'
import { type Keys, parseSubnetName, placeOf } from '../codec/keys'
import { decodeLease, isReadable, type LeasePlace } from '../codec/lease-codec'
import { decodePrefix } from '../codec/prefix-codec'
import type { WatchEvent } from '../codec/wire'
import { configText, type Snapshot } from './snapshot'

/** One change under the prefix. */
export type RegistryEvent =
  | { readonly kind: 'lease'; readonly lease: Lease }
  | { readonly kind: 'unreadable'; readonly lease: UnreadableLease }
  | {
      readonly kind: 'removed'
      readonly key: string
      readonly modRevision: Revision
      /** Whether the key names no subnet, and so never was a lease. */
      readonly misnamed?: true
    }
  | { readonly kind: 'groups'; readonly groups: GroupsEntry }
  | { readonly kind: 'groups-removed'; readonly name: string; readonly modRevision: Revision }
  | { readonly kind: 'host'; readonly host: HostEntry }
  | { readonly kind: 'host-removed'; readonly name: string; readonly modRevision: Revision }
  | { readonly kind: 'prefix'; readonly prefix: PrefixEntry }
  | { readonly kind: 'prefix-removed'; readonly name: string; readonly modRevision: Revision }
  | { readonly kind: 'config'; readonly text: string | undefined; readonly modRevision: Revision }

/** A report of the follower. */
export type RegistryUpdate =
  /**
   * Everything, in place of all former reports. `replaced`: the snapshot is no successor of these, for the
   * store is another one, or an older state.
   */
  | { readonly kind: 'snapshot'; readonly snapshot: Snapshot; readonly replaced?: boolean }
  /**
   * Changes in etcd's order up to `revision`. After `lost` the list may be empty: nothing changed meanwhile.
   */
  | {
      readonly kind: 'events'
      readonly revision: Revision
      readonly events: readonly RegistryEvent[]
      /** When the first of the changes arrived, in monotonic milliseconds. */
      readonly receivedAt: number
    }
  /** The connection is lost until the next snapshot or events. Former reports stay the best known state. */
  | { readonly kind: 'lost'; readonly error: EtcdError }

/**
 * Reads one event of etcd; undefined for a key that is not read. Never throws.
 * @param wantsGroups whether the groups of hosts are read
 */
export function decodeEvent(
  keys: Keys,
  { type, keyValue }: WatchEvent,
  wantsGroups = true,
): RegistryEvent | undefined {
  const { modRevision } = keyValue
  const place = placeOf(keys, keyValue.key)
  switch (place?.kind) {
    case undefined:
      return undefined
    case 'config':
      return { kind: 'config', text: type === 'Put' ? configText(keyValue) : undefined, modRevision }
    case 'groups': {
      if (!wantsGroups) return undefined
      const { name } = place
      return type === 'Put'
        ? { kind: 'groups', groups: decodeGroups(name, keyValue) }
        : { kind: 'groups-removed', name, modRevision }
    }
    case 'host': {
      const { name } = place
      return type === 'Put'
        ? { kind: 'host', host: decodeHost(name, keyValue) }
        : { kind: 'host-removed', name, modRevision }
    }
    case 'prefix': {
      const { name } = place
      return type === 'Put'
        ? { kind: 'prefix', prefix: decodePrefix(name, keyValue) }
        : { kind: 'prefix-removed', name, modRevision }
    }
    case 'lease': {
      if (type === 'Delete') return removed(place, modRevision)
      const lease = decodeLease(place, keyValue)
      return isReadable(lease) ? { kind: 'lease', lease } : { kind: 'unreadable', lease }
    }
  }
}

function removed({ key, name }: LeasePlace, modRevision: Revision): RegistryEvent {
  const isMisnamed = parseSubnetName(name).reason !== undefined
  return { kind: 'removed', key, modRevision, ...(isMisnamed && { misnamed: true }) }
}

type EventsUpdate = Extract<RegistryUpdate, { kind: 'events' }>
type Queued =
  | Exclude<RegistryUpdate, EventsUpdate>
  | (Omit<EventsUpdate, 'events'> & { events: RegistryEvent[] })

/**
 * Updates on their way to one consumer, which may be slower than etcd. A slow consumer gets fewer and larger
 * updates with the same outcome: events are joined to events before them, and a snapshot replaces all updates
 * before it.
 */
export class UpdateQueue {
  #queued: Queued[] = []
  #wake: (() => void) | undefined

  /** @param signal ends the queue: no update is taken from it after that */
  constructor(private readonly signal: AbortSignal) {
    signal.addEventListener('abort', () => this.#wake?.(), { once: true })
  }

  push(update: RegistryUpdate): void {
    const last = this.#queued.at(-1)
    if (update.kind === 'snapshot') {
      const replaced = this.#queued.some((each) => each.kind === 'snapshot' && each.replaced)
      this.#queued = [replaced ? { ...update, replaced } : update]
    } else if (update.kind === 'lost') {
      if (last?.kind === 'lost') this.#queued.pop()
      this.#queued.push(update)
    } else if (last?.kind === 'events') {
      const events = last.events
      for (const event of update.events) events.push(event)
      this.#queued.splice(-1, 1, { ...update, events, receivedAt: last.receivedAt })
    } else {
      this.#queued.push({ ...update, events: [...update.events] })
    }
    this.#wake?.()
  }

  /** Waits for the next update; undefined when the signal has fired. */
  async take(): Promise<RegistryUpdate | undefined> {
    while (this.#queued.length === 0 && !this.signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.signal.aborted ? undefined : this.#queued.shift()
  }
}
