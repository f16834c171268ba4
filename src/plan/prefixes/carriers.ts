/** Which peers carry the packets to a prefix: one alone, or several that share it. */
import type { RouteTarget, SharedMember } from '../../model/kernel/route'

/** A peer that gets packets to a prefix. */
export interface Carrier {
  /** The key of its lease. */
  readonly peer: string
  /** Its part of the packets, beside the weights of the others; 1 of one that has them alone. */
  readonly weight: number
}

/**
 * The carriers without those that are not reached. They all stay where none is reached: the fault may be this
 * host's, and there is no better way.
 */
export function reachedOf(
  carriers: readonly Carrier[],
  isUnreachable: (peer: string) => boolean,
): readonly Carrier[] {
  if (carriers.length < 2) return carriers
  const reached = carriers.filter(({ peer }) => !isUnreachable(peer))
  return reached.length === 0 ? carriers : reached
}

/** Whether both are the same carriers in the same order. */
export const sameCarriers = (a: readonly Carrier[], b: readonly Carrier[]): boolean =>
  a.length === b.length && a.every(({ peer, weight }, at) => peer === b[at]?.peer && weight === b[at]?.weight)

/** Where a route sends packets to one of several peers. */
interface Way {
  readonly target: RouteTarget
  readonly mtu: number
  readonly weight: number
}

/**
 * The target and the MTU of the route to a prefix that peers share: the smallest MTU of their routes, for the
 * kernel has one for all of them. 0 stands for the MTU of the link, which is the largest.
 * @param ways by gateways, not by nexthop objects: a route to several names no object of one peer
 */
export function shareOf(ways: readonly Way[]): { readonly target: RouteTarget; readonly mtu: number } {
  const members = ways.flatMap(({ target, weight }): SharedMember[] =>
    target.kind === 'gateway' || target.kind === 'direct' ? [{ target, weight }] : [],
  )
  const smaller = ways.map(({ mtu }) => mtu).filter((mtu) => mtu > 0)
  return {
    target: { kind: 'shared', members },
    mtu: smaller.length === 0 ? 0 : Math.min(...smaller),
  }
}
