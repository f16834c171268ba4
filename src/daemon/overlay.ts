/** One family's half of this host in the network: its device, its peers, and what keeps the kernel equal to them. */
import type { Family, Prefix } from '../model/address'
import type { PeerTable } from '../plan/peer-table'
import type { Convergence, Reconciler } from './reconciler'

export interface Overlay {
  readonly family: Family
  readonly network: Prefix
  readonly subnet: Prefix
  readonly peers: PeerTable
  readonly reconciler: Reconciler
}

/** How all families together stand: as the worst of them. */
export function convergenceOf(overlays: readonly Overlay[]): Convergence {
  const all = overlays.map(({ reconciler }) => reconciler.convergence)
  const earlier = <T extends bigint | number>(a: T | undefined, b: T | undefined): T | undefined => {
    if (a === undefined || b === undefined) return undefined
    return a < b ? a : b
  }
  return {
    converged: all.every(({ converged }) => converged),
    revision: all.map(({ revision }) => revision).reduce(earlier),
    failing: all.reduce((sum, { failing }) => sum + failing, 0),
    contests: all.flatMap(({ contests }) => contests),
    operations: all.reduce((sum, { operations }) => sum + operations, 0),
    lastSync: all.map(({ lastSync }) => lastSync).reduce(earlier),
    lastError: all.findLast(({ lastError }) => lastError !== undefined)?.lastError,
  }
}
