/** Numbers of announced prefixes, for status and metrics. */
import type { Status } from '../../api/status'
import { type RouteKey, routeKey } from '../../model/kernel/route'
import type { NodeView } from '../node/parts'

export interface PrefixCounts {
  /** Claims of this host. */
  readonly own: number
  /** Prefixes that a host gets the packets of, or several that share. */
  readonly routed: number
  /** Claims of hosts that share. */
  readonly sharing: number
  readonly waiting: number
  readonly refused: number
}

export function countPrefixes({ prefixes }: Pick<NodeView, 'prefixes'>): PrefixCounts {
  const counts = { own: 0, routed: 0, sharing: 0, waiting: 0, refused: prefixes.unreadable.length }
  const shared = new Set<RouteKey>()
  for (const { claim, standing } of prefixes.standings()) {
    if (claim.host === prefixes.ownName) counts.own += 1
    if (standing.kind === 'wins') counts.routed += 1
    else if (standing.kind === 'shares') {
      counts.sharing += 1
      shared.add(routeKey(claim.announcement.prefix))
    } else if (standing.kind === 'waits') counts.waiting += 1
    else counts.refused += 1
  }
  return { ...counts, routed: counts.routed + shared.size }
}

export function reportPrefixCounts(node: NodeView | undefined): Pick<Status, 'prefixes'> {
  if (node === undefined) return {}
  const { sharing, ...counts } = countPrefixes(node)
  const { problem } = node.announcer
  const isUsed = node.plan.inputs.config.prefixes !== undefined || Object.values(counts).some((n) => n > 0)
  return isUsed
    ? { prefixes: { ...counts, ...(sharing > 0 && { sharing }), ...(problem !== undefined && { problem }) } }
    : {}
}
