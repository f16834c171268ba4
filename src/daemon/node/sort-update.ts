/** Sorts an update of etcd by the parts that it concerns. An update is sorted once. Pure. */
import type { RegistryEvent, RegistryUpdate } from '../../etcd/follow/updates'

type EventOf<K extends RegistryEvent['kind']> = Extract<RegistryEvent, { kind: K }>
/** A change of a key below `subnets/`. */
export type LeaseEvent = EventOf<'lease' | 'unreadable' | 'removed'>
export type GroupsEvent = EventOf<'groups' | 'groups-removed'>
/** A change of the record of an enrolled host. */
export type HostEvent = EventOf<'host' | 'host-removed'>
/** A change of a prefix that a host announces. */
export type PrefixEvent = EventOf<'prefix' | 'prefix-removed'>
export type ConfigEvent = EventOf<'config'>

export interface SortedEvents {
  /** The last change of the network config; undefined if it did not change. */
  readonly config: ConfigEvent | undefined
  /** lease key -> its last event, in etcd's order */
  readonly leases: ReadonlyMap<string, LeaseEvent>
  /** All events of one lease key, in etcd's order. */
  readonly ofKey: (key: string) => readonly LeaseEvent[]
  readonly groups: readonly GroupsEvent[]
  readonly hosts: readonly HostEvent[]
  readonly prefixes: readonly PrefixEvent[]
}

export type SortedUpdate =
  | Extract<RegistryUpdate, { kind: 'lost' | 'snapshot' }>
  | (Omit<Extract<RegistryUpdate, { kind: 'events' }>, 'events'> & { readonly sorted: SortedEvents })

export const keyOf = (event: LeaseEvent): string => (event.kind === 'removed' ? event.key : event.lease.key)

export function sortUpdate(update: RegistryUpdate): SortedUpdate {
  if (update.kind !== 'events') return update
  const { events, ...rest } = update
  return { ...rest, sorted: sortEvents(events) }
}

export function sortEvents(events: readonly RegistryEvent[]): SortedEvents {
  const leases = new Map<string, LeaseEvent>()
  const all: LeaseEvent[] = []
  const groups: GroupsEvent[] = []
  const hosts: HostEvent[] = []
  const prefixes: PrefixEvent[] = []
  let config: ConfigEvent | undefined
  for (const event of events) {
    switch (event.kind) {
      case 'config':
        config = event
        break
      case 'groups':
      case 'groups-removed':
        groups.push(event)
        break
      case 'host':
      case 'host-removed':
        hosts.push(event)
        break
      case 'prefix':
      case 'prefix-removed':
        prefixes.push(event)
        break
      case 'lease':
      case 'unreadable':
      case 'removed': {
        const key = keyOf(event)
        // Delete first: a Map keeps the place of a key's first insertion, and here the last event counts.
        leases.delete(key)
        leases.set(key, event)
        all.push(event)
        break
      }
      default:
        event satisfies never
    }
  }
  return {
    config,
    leases,
    groups,
    hosts,
    prefixes,
    ofKey: (key) => all.filter((event) => keyOf(event) === key),
  }
}
