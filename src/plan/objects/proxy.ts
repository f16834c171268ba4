/**
 * Proxy neighbours: the host itself wants them, for what peers announce inside of the subnet of a bridge of
 * the host (plan/prefixes/proxies.ts). No peer owns one.
 */
import { describeProxy } from '../../model/kernel/words'
import type { PlanKind } from './kind'
import { compareWhole } from './single'

export const proxy: PlanKind<'proxy'> = {
  want: () => undefined,
  own: () => undefined,
  owner: () => undefined,
  make(desired, observed, operations) {
    for (const [key, value] of desired)
      if (!observed.has(key)) operations.push({ do: 'set', kind: 'proxy', key, value, replace: false })
  },
  remove(desired, observed, operations) {
    for (const [key, value] of observed)
      if (!desired.has(key)) operations.push({ do: 'delete', kind: 'proxy', key, value })
  },
  remember(memory, { do: verb, key, value }) {
    if (verb === 'set') memory.set(key, value)
    else memory.delete(key)
  },
  // The key says it all.
  same: () => true,
  compare: (desired, observed) => compareWhole<'proxy'>(desired, observed, describeProxy, () => true),
}
