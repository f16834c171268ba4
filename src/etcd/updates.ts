import type { Lease, Revision, UnreadableLease } from '../model/lease'
import type { GroupsEntry } from '../model/multicast'
import type { EtcdError } from './errors'
import { decodeGroups, groupsName } from './groups-codec'
import type { Keys } from './keys'
import { decodeLease, isReadable } from './lease-codec'
import type { Snapshot } from './snapshot'
import type { WatchEvent } from './wire'

/** One change under the prefix. */
export type RegistryEvent =
  | { readonly kind: 'lease'; readonly lease: Lease }
  | { readonly kind: 'unreadable'; readonly lease: UnreadableLease }
  | { readonly kind: 'removed'; readonly key: string; readonly modRevision: Revision }
  | { readonly kind: 'groups'; readonly groups: GroupsEntry }
  | { readonly kind: 'groups-removed'; readonly name: string; readonly modRevision: Revision }
  | { readonly kind: 'config'; readonly text: string | undefined; readonly modRevision: Revision }

/** What a follower is told. */
export type RegistryUpdate =
  /**
   * Everything, in place of all that was told before. `replaced`: it is not what became of that, for the store is another one, or an
   * older state of it.
   */
  | { readonly kind: 'snapshot'; readonly snapshot: Snapshot; readonly replaced?: boolean }
  /** Changes in etcd's order up to `revision`. After `lost` the list may be empty: nothing happened meanwhile. */
  | {
      readonly kind: 'events'
      readonly revision: Revision
      readonly events: readonly RegistryEvent[]
      /** When the first of them came, in monotonic milliseconds. */
      readonly receivedAt: number
    }
  /** Not following just now, until the next snapshot or events. What was told before is still the best there is. */
  | { readonly kind: 'lost'; readonly error: EtcdError }

/** Reads one event of etcd; undefined when its key is not ours to read. Never throws. */
export function decodeEvent(keys: Keys, { type, keyValue }: WatchEvent): RegistryEvent | undefined {
  const { key, modRevision } = keyValue
  if (key === keys.config) {
    return { kind: 'config', text: type === 'Put' ? keyValue.value : undefined, modRevision }
  }
  if (key.startsWith(keys.groups)) {
    return type === 'Put'
      ? { kind: 'groups', groups: decodeGroups(keys, keyValue) }
      : { kind: 'groups-removed', name: groupsName(keys, key), modRevision }
  }
  if (!key.startsWith(keys.subnets)) return undefined
  if (type === 'Delete') return { kind: 'removed', key, modRevision }
  const lease = decodeLease(keys, keyValue)
  return isReadable(lease) ? { kind: 'lease', lease } : { kind: 'unreadable', lease }
}

type EventsUpdate = Extract<RegistryUpdate, { kind: 'events' }>
type Queued =
  | Exclude<RegistryUpdate, EventsUpdate>
  | (Omit<EventsUpdate, 'events'> & { events: RegistryEvent[] })

/**
 * Updates on their way to one consumer that may be slower than etcd. It then gets fewer and larger ones with the same outcome:
 * events behind events are joined, and a snapshot takes the place of everything before it.
 */
export class UpdateQueue {
  #queued: Queued[] = []
  #wake: (() => void) | undefined

  /** @param signal ends the queue: nothing is taken from it any more */
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
