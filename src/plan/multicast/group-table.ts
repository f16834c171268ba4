/** The groups that other hosts announce in etcd, and how long the announcements can be trusted. */
import {
  GROUPS_TTL_SECONDS,
  type GroupsEntry,
  type HostGroups,
  MOST_GROUPS_ENTRIES,
  MOST_GROUPS_KEPT,
} from '../../model/multicast'

/** All times in milliseconds. After a longer absence of etcd the announcements may have expired. */
const BELIEVED = GROUPS_TTL_SECONDS * 1000
/**
 * The wait after etcd is back, or after another store: for the missed events to arrive, and for hosts that
 * lost etcd too to announce their changes.
 */
const CATCHING_UP = 15_000

export class GroupTable {
  /** name -> entry */
  readonly #entries = new Map<string, GroupsEntry>()
  /** Groups of all entries. */
  #groups = 0
  /** Entries that were dropped because there are too many. Their hosts want groups that we do not know. */
  #left = 0
  /** Whether the last listing had the groups. */
  #isListed = true
  #lostAt: number | undefined
  #believedFrom = 0

  /**
   * Replaces all entries.
   * @param entries `undefined` when they were not read: the table is empty then
   * @param more the number of entries that were not read
   */
  reset(entries: Iterable<GroupsEntry> | undefined, more = 0): void {
    this.#entries.clear()
    this.#groups = 0
    this.#left = more
    this.#isListed = entries !== undefined
    for (const entry of entries ?? []) this.put(entry)
  }

  put(entry: GroupsEntry): void {
    this.remove(entry.name)
    const groups = this.#groups + groupsOf(entry)
    if (this.#entries.size >= MOST_GROUPS_ENTRIES || groups > MOST_GROUPS_KEPT) {
      this.#left += 1
      return
    }
    this.#groups = groups
    this.#entries.set(entry.name, entry)
  }

  /** Removes an entry. A dropped entry stays counted until the next listing. */
  remove(name: string): void {
    const before = this.#entries.get(name)
    if (before === undefined) return
    this.#groups -= groupsOf(before)
    this.#entries.delete(name)
  }

  /** The connection to etcd is lost. */
  lost(now: number): void {
    this.#lostAt ??= now
  }

  /**
   * The connection to etcd stands.
   * @returns whether it was lost before
   */
  heard(now: number): boolean {
    const since = this.#lostAt
    if (since !== undefined && now - since > BELIEVED) this.doubt(now)
    this.#lostAt = undefined
    return since !== undefined
  }

  /** The entries may be of an earlier time: they are not trusted for a while. */
  doubt(now: number): void {
    this.#believedFrom = now + CATCHING_UP
  }

  /** The entry of a host, by the key of its lease. */
  entryOf(leaseKey: string): GroupsEntry | undefined {
    return this.#entries.get(leaseKey.slice(leaseKey.lastIndexOf('/') + 1))
  }

  /** The groups that a host announces, by the key of its lease. */
  toldBy(leaseKey: string): HostGroups | undefined {
    return this.entryOf(leaseKey)?.value
  }

  /** The entries that cannot be read. */
  unreadable(): readonly GroupsEntry[] {
    return [...this.#entries.values()].filter(({ reason }) => reason !== undefined)
  }

  /** Why the entries cannot be trusted now; `undefined` when they can. */
  distrust(now: number): string | undefined {
    if (!this.#isListed) return 'the groups of hosts have not been read yet'
    if (this.#left > 0) {
      const bounds = `${MOST_GROUPS_ENTRIES} keys and ${MOST_GROUPS_KEPT} groups`
      return `hosts announce more than ${bounds}: ${this.#left} keys under overlay/groups/ are left out`
    }
    if (this.#lostAt !== undefined && now - this.#lostAt > BELIEVED)
      return `etcd has not answered for ${GROUPS_TTL_SECONDS} s`
    return now < this.#believedFrom ? 'etcd has only just answered again' : undefined
  }

  /** When {@link distrust} changes without a report; Infinity when it does not. */
  changesAt(now: number): number {
    if (this.#lostAt !== undefined && now - this.#lostAt <= BELIEVED) return this.#lostAt + BELIEVED + 1
    return now < this.#believedFrom ? this.#believedFrom : Number.POSITIVE_INFINITY
  }
}

const groupsOf = ({ value }: GroupsEntry): number => value?.groups.length ?? 0
