/** The snapshot of one network: what a listing of its keys makes. */

import type { HostEntry } from '../../model/host-record'
import { type Lease, MOST_MISNAMED, type Revision, type UnreadableLease } from '../../model/lease'
import { type GroupsEntry, MOST_GROUPS_ENTRIES } from '../../model/multicast'
import { MOST_PREFIX_ENTRIES, type PrefixEntry } from '../../model/prefixes'
import { decodeGroups } from '../codec/groups-codec'
import { decodeHost } from '../codec/host-codec'
import { type Keys, placeOf } from '../codec/keys'
import { decodeLease, isReadable } from '../codec/lease-codec'
import { decodePrefix } from '../codec/prefix-codec'
import type { KeyValue } from '../codec/wire'

/** All that etcd holds of one network, at one revision. */
export interface Snapshot {
  readonly revision: Revision
  /** The id of the cluster; undefined when not known. */
  readonly clusterId?: string
  /** The network config's JSON text; undefined when there is none. */
  readonly config: string | undefined
  readonly configRevision: Revision | undefined
  /** In key order. */
  readonly leases: readonly Lease[]
  readonly unreadable: readonly UnreadableLease[]
  /**
   * Keys that name no subnet and are not among `unreadable`, for there are more of them than are kept; absent
   * for none.
   */
  readonly moreMisnamed?: number
  /** The multicast groups that hosts want; absent when they were not read. */
  readonly groups?: readonly GroupsEntry[]
  /** The records of enrolled hosts; absent when they are not known. */
  readonly hosts?: readonly HostEntry[]
  /** Keys of hosts' groups that are not among `groups`, for there are more than are kept; absent for none. */
  readonly moreGroups?: number
  /** The prefixes that hosts announce, in key order; absent when they are not known. */
  readonly prefixes?: readonly PrefixEntry[] | undefined
  /** Keys of prefixes that are not among `prefixes`, for there are more than are kept; absent for none. */
  readonly morePrefixes?: number
}

/** A snapshot and its cluster. */
export interface ReadSnapshot {
  readonly snapshot: Snapshot
  readonly clusterId: string
  /** The highest revision of a key in the listing. */
  readonly newest: Revision
  /** Whether there are so many unwanted groups that the next listing had better skip them. */
  readonly hasManyGroups: boolean
}

/** Keys of unwanted groups in one page from which on another RPC is cheaper. */
const MANY_GROUPS = 64

/** Records of hosts that are kept: as many as there may be leases. */
const MOST_HOSTS = 262_144

/** Below all revisions. */
export const NEWEST = 0n as Revision

/** The config's text. Lossy as in Go: bytes that are no UTF-8 become U+FFFD. */
export const configText = ({ value }: KeyValue): string => value.toString()

/** Takes the keys of a listing one after another. */
export class SnapshotBuilder {
  #config: { readonly text: string; readonly revision: Revision } | undefined
  #newest = NEWEST
  readonly #leases: Lease[] = []
  readonly #unreadable: UnreadableLease[] = []
  #misnamed = 0
  readonly #groups: GroupsEntry[] = []
  #groupKeys = 0
  readonly #hosts: HostEntry[] = []
  readonly #prefixes: PrefixEntry[] = []
  #morePrefixes = 0
  #hasManyGroups = false
  #wanted: boolean | undefined

  constructor(
    private readonly keys: Keys,
    private readonly wants: (config: string | undefined) => boolean,
  ) {}

  /** Known once all keys before the groups are read: the config is among them. */
  get wantsGroups(): boolean {
    this.#wanted ??= this.wants(this.#config?.text)
    return this.#wanted
  }

  /** How many leases are kept, including unreadable ones that name a subnet. */
  get leases(): number {
    return this.#leases.length + this.#unreadable.length - Math.min(this.#misnamed, MOST_MISNAMED)
  }

  /** The rest of the groups is skipped. */
  passGroups(): void {
    this.#hasManyGroups = true
  }

  add(kv: KeyValue): void {
    const { modRevision } = kv
    const place = placeOf(this.keys, kv.key)
    if (place !== undefined && modRevision > this.#newest) this.#newest = modRevision
    if (place?.kind === 'config') {
      this.#config = { text: configText(kv), revision: modRevision }
    } else if (place?.kind === 'lease') {
      const lease = decodeLease(place, kv)
      if (isReadable(lease)) this.#leases.push(lease)
      else if (lease.misnamed === undefined || ++this.#misnamed <= MOST_MISNAMED) this.#unreadable.push(lease)
    } else if (place?.kind === 'groups') {
      this.#groupKeys += 1
      if (this.wantsGroups && this.#groups.length < MOST_GROUPS_ENTRIES)
        this.#groups.push(decodeGroups(place.name, kv))
    } else if (place?.kind === 'host' && this.#hosts.length < MOST_HOSTS)
      this.#hosts.push(decodeHost(place.name, kv))
    else if (place?.kind === 'prefix') {
      if (this.#prefixes.length < MOST_PREFIX_ENTRIES) this.#prefixes.push(decodePrefix(place.name, kv))
      else this.#morePrefixes += 1
    }
  }

  build(revision: Revision, clusterId: string): ReadSnapshot {
    const moreMisnamed = this.#misnamed - MOST_MISNAMED
    const moreGroups = this.#groupKeys - this.#groups.length
    const snapshot: Snapshot = {
      revision,
      clusterId,
      config: this.#config?.text,
      configRevision: this.#config?.revision,
      leases: this.#leases,
      hosts: this.#hosts,
      prefixes: this.#prefixes,
      unreadable: this.#unreadable,
      ...(moreMisnamed > 0 && { moreMisnamed }),
      ...(this.#morePrefixes > 0 && { morePrefixes: this.#morePrefixes }),
      ...(this.wantsGroups && { groups: this.#groups }),
      ...(this.wantsGroups && moreGroups > 0 && { moreGroups }),
    }
    const hasManyGroups = this.#hasManyGroups || (!this.wantsGroups && this.#groupKeys > MANY_GROUPS)
    return { snapshot, clusterId, newest: this.#newest, hasManyGroups }
  }
}
