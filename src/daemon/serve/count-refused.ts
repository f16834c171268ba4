/** Counts the leases that are refused by a pin. */
import { isUnproven } from '../../plan/trust/pins'
import type { NodeParts } from '../node/parts'

/** A lease that is refused in both families counts once. */
export function countRefused({ overlays }: Pick<NodeParts, 'overlays'>): number {
  const refused = new Set<string>()
  for (const { peers } of overlays)
    for (const { key, reason } of peers.rejected()) if (isUnproven(reason)) refused.add(key)
  return refused.size
}
