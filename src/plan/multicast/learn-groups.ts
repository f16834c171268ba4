/**
 * The groups that this host wants. They are known only behind bridges on which a querier has asked long
 * enough.
 */
import { FAMILIES, type Family, familyOf, type IpAddress } from '../../model/address'
import type { BridgeMembers, HostGroups, ObservedBridge } from '../../model/multicast'
import { isTold } from './groups'

/** A bridge of ours and the members behind it. */
export interface SeenBridge {
  readonly bridge: ObservedBridge
  readonly members: readonly BridgeMembers[]
}

/** The groups that this host wants, as far as they are known. */
export interface Learnt extends Omit<HostGroups, 'vni'> {
  /** Why the groups of a family are not known; absent for a known family. */
  readonly why: Readonly<Partial<Record<Family, string>>>
  /** When the bridges have to be read again, on the clock of `now`; Infinity when only a change matters. */
  readonly due: number
}

/** Remembers since when each bridge has had a querier. */
export class GroupLearner {
  /** bridge and family -> the first of an unbroken row of reads that found a querier, in milliseconds */
  #since: ReadonlyMap<string, number> = new Map()

  /** Takes the bridges of ours as they were just read. */
  look(seen: readonly SeenBridge[], now: number): Learnt {
    const since = new Map<string, number>()
    for (const { bridge } of seen) {
      for (const family of bridge.snooping?.queriers ?? []) {
        const name = `${bridge.index} ${family}`
        since.set(name, this.#since.get(name) ?? now)
      }
    }
    this.#since = since
    const why: Partial<Record<Family, string>> = {}
    let due = Number.POSITIVE_INFINITY
    for (const family of FAMILIES) {
      if (seen.length === 0) why[family] = 'no bridge has our subnet'
      for (const { bridge, members } of seen) {
        const { known, reason } = this.#verdict(bridge, members, family, now)
        if (reason !== undefined) why[family] ??= reason
        if (known > now) due = Math.min(due, known)
      }
    }
    const tells = FAMILIES.filter((family) => why[family] === undefined)
    const groups = new Set<IpAddress>()
    for (const { members } of seen)
      for (const each of members)
        for (const group of each.groups)
          if (tells.includes(familyOf(group)) && isTold(group)) groups.add(group)
    return { tells, groups: [...groups], why, due }
  }

  /**
   * Why the groups of a family behind a bridge are not all known, and when they will be; Infinity when time
   * alone does not help.
   */
  #verdict(
    { name, index, snooping }: ObservedBridge,
    members: readonly BridgeMembers[],
    family: Family,
    now: number,
  ): { readonly known: number; readonly reason?: string } {
    const never = Number.POSITIVE_INFINITY
    if (snooping === undefined) return { known: never, reason: `${name} does not snoop` }
    const since = this.#since.get(`${index} ${family}`)
    if (since === undefined) return { known: never, reason: `${name} has no ${family} querier` }
    if (members.some(({ hasRouter }) => hasRouter))
      return { known: never, reason: `a multicast router is behind ${name}` }
    const known = since + snooping.answeredWithin
    return known <= now ? { known } : { known, reason: `members on ${name} are still being asked` }
  }
}
