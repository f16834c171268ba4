/** What other hosts say that they want, as etcd has it, and how long that is to be believed. */
import { GROUPS_TTL_SECONDS, type GroupsEntry, type HostGroups } from '../model/multicast'

/** All times in milliseconds. Others' words may be out of date when they are not heard for longer than these live. */
const BELIEVED = GROUPS_TTL_SECONDS * 1000
/** Once heard again, or of a store that is another one: for history to arrive, and for hosts that etcd was away from too to say what has changed with them. */
const CATCHING_UP = 10_000

export class GroupTable {
  /** name -> entry */
  readonly #entries = new Map<string, GroupsEntry>()
  #lostAt: number | undefined
  #believedFrom = 0

  /** Takes in all there are. */
  reset(entries: Iterable<GroupsEntry>): void {
    this.#entries.clear()
    for (const entry of entries) this.#entries.set(entry.name, entry)
  }

  put(entry: GroupsEntry): void {
    this.#entries.set(entry.name, entry)
  }

  remove(name: string): void {
    this.#entries.delete(name)
  }

  /** Takes in that etcd is not heard any more. */
  lost(now: number): void {
    this.#lostAt ??= now
  }

  /**
   * Takes in that it is heard.
   * @returns whether it was not before
   */
  heard(now: number): boolean {
    const since = this.#lostAt
    if (since !== undefined && now - since > BELIEVED) this.doubt(now)
    this.#lostAt = undefined
    return since !== undefined
  }

  /** Takes in that what is heard may be of an earlier time. */
  doubt(now: number): void {
    this.#believedFrom = now + CATCHING_UP
  }

  /** What etcd has of a host, by the key of its lease. */
  entryOf(leaseKey: string): GroupsEntry | undefined {
    return this.#entries.get(leaseKey.slice(leaseKey.lastIndexOf('/') + 1))
  }

  /** What a host says, by the key of its lease. */
  toldBy(leaseKey: string): HostGroups | undefined {
    return this.entryOf(leaseKey)?.value
  }

  /** Those that cannot be read. */
  unreadable(): readonly GroupsEntry[] {
    return [...this.#entries.values()].filter(({ reason }) => reason !== undefined)
  }

  /** Why nothing of it is to be believed now; `undefined` when it is. */
  distrust(now: number): string | undefined {
    if (this.#lostAt !== undefined && now - this.#lostAt > BELIEVED)
      return `etcd has not been heard for ${GROUPS_TTL_SECONDS} s`
    return now < this.#believedFrom ? 'etcd has only just been heard again' : undefined
  }

  /** When that changes without a word; Infinity when it does not. */
  changesAt(now: number): number {
    if (this.#lostAt !== undefined && now - this.#lostAt <= BELIEVED) return this.#lostAt + BELIEVED + 1
    return now < this.#believedFrom ? this.#believedFrom : Number.POSITIVE_INFINITY
  }
}
