/**
 * When this host announces its groups: joins at once, leaves after a while. With too many changes it asks for
 * everything.
 */
import { type Family, familyOf, type IpAddress } from '../../model/address'
import type { HostGroups } from '../../model/multicast'

/**
 * Groups of one host in etcd, at most 12 KB of text. A host with more does not announce the family that has
 * most.
 */
export const MOST_GROUPS = 256

/**
 * All times in milliseconds. A member that leaves may be back soon, and the frames that are sent to it
 * meanwhile cost little.
 */
const LEAVE_AFTER = 3000
/**
 * Each write is reported to all hosts. Half of the writes are kept for joins, which other hosts must not
 * miss.
 */
const WINDOW = 60_000
const MOST_WRITES = 20
const MOST_PATIENT_WRITES = MOST_WRITES / 2
/** How long a host with more changes asks for everything. */
const PAUSE = 60_000

type Wanted = Omit<HostGroups, 'vni'>

export type PublicationStep =
  /** Nothing to do before `due`. */
  | { readonly kind: 'wait'; readonly due: number }
  | { readonly kind: 'write'; readonly value: HostGroups }
  /** The announcement is deleted, so that the host gets everything. */
  | { readonly kind: 'withdraw' }

export class Publication {
  #wanted: Wanted = { tells: [], groups: [] }
  /** group -> when it was left */
  readonly #left = new Map<IpAddress, number>()
  /** The times of the last writes. */
  #writes: readonly number[] = []
  #pausedUntil = 0

  /** Sets the groups that the host wants now. */
  take({ tells, groups }: Wanted, now: number): void {
    const joined = new Set(groups)
    for (const group of this.#wanted.groups) if (!joined.has(group)) this.#left.set(group, now)
    for (const group of joined) this.#left.delete(group)
    this.#wanted = { tells, groups }
  }

  /** Records a write. */
  wrote(now: number): void {
    this.#writes = [...this.#writes, now].slice(-MOST_WRITES)
  }

  /** Why less is announced than is known; `undefined` when everything is. */
  problem(now: number): string | undefined {
    if (now < this.#pausedUntil) return `groups change more than ${MOST_WRITES} times a minute`
    const isAllSaid = this.#bounded(now).tells.length === this.#wanted.tells.length
    return isAllSaid ? undefined : `containers have joined more than ${MOST_GROUPS} groups`
  }

  /**
   * The next step.
   * @param said the value in etcd; `undefined` for none
   */
  next(said: HostGroups | undefined, vni: number, now: number): PublicationStep {
    for (const [group, at] of this.#left) if (at + LEAVE_AFTER <= now) this.#left.delete(group)
    const { tells, groups } = this.#bounded(now)
    const value = { vni, tells, groups }
    const isPaused = now < this.#pausedUntil
    if (isPaused || tells.length === 0) {
      if (said !== undefined) return { kind: 'withdraw' }
      return { kind: 'wait', due: isPaused ? this.#pausedUntil : this.#leaveDue }
    }
    if (said !== undefined && sameGroups(said, value)) return { kind: 'wait', due: this.#leaveDue }
    const recent = this.#writes.filter((at) => at + WINDOW > now)
    if (said !== undefined && !isEnough(said, value)) {
      if (recent.length < MOST_WRITES) return { kind: 'write', value }
      this.#pausedUntil = now + PAUSE
      return { kind: 'withdraw' }
    }
    // A group that we no longer want can be withdrawn late: others only send us too much.
    if (recent.length < MOST_PATIENT_WRITES) return { kind: 'write', value }
    const frees = recent.at(-MOST_PATIENT_WRITES) ?? now
    return { kind: 'wait', due: Math.min(frees + WINDOW, this.#leaveDue) }
  }

  get #leaveDue(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#left.values()].map((at) => at + LEAVE_AFTER))
  }

  /** The groups that may be announced: without the families that have too many. */
  #bounded(now: number): Wanted {
    const late = [...this.#left].filter(([, at]) => at + LEAVE_AFTER > now).map(([group]) => group)
    const { tells } = this.#wanted
    const all = [...this.#wanted.groups, ...late].filter((group) => tells.includes(familyOf(group)))
    const of = (family: Family): IpAddress[] => all.filter((group) => familyOf(group) === family)
    const largest = of('IPv4').length >= of('IPv6').length ? 'IPv4' : 'IPv6'
    const kept = all.length <= MOST_GROUPS ? tells : tells.filter((family) => family !== largest)
    const groups = kept.flatMap(of)
    if (groups.length > MOST_GROUPS) return { tells: [], groups: [] }
    return { tells: kept, groups: groups.sort((a, b) => (a < b ? -1 : 1)) }
  }
}

/** Whether hosts that follow the announced value send all wanted groups. */
const isEnough = (said: HostGroups, wanted: HostGroups): boolean => {
  if (said.vni !== wanted.vni) return true
  const known = new Set(said.groups)
  return (
    said.tells.every((family) => wanted.tells.includes(family)) &&
    wanted.groups.every((group) => known.has(group) || !said.tells.includes(familyOf(group)))
  )
}

export function sameGroups(a: HostGroups, b: HostGroups): boolean {
  const known = new Set(b.groups)
  return (
    a.vni === b.vni &&
    a.tells.length === b.tells.length &&
    a.tells.every((family) => b.tells.includes(family)) &&
    a.groups.length === known.size &&
    a.groups.every((group) => known.has(group))
  )
}
