/** What a host may do to its device on the word of a state file, which may be older than what the kernel has. */
import type { KernelObjects } from '../model/kernel'

/** The wanted objects where the kernel has none of that identity, else what it has: comparing with this only ever adds. */
export const keepObserved = (desired: KernelObjects, observed: KernelObjects): KernelObjects => ({
  neighbours: new Map([...desired.neighbours, ...observed.neighbours]),
  fdb: new Map([...desired.fdb, ...observed.fdb]),
  nexthops: new Map([...desired.nexthops, ...observed.nexthops]),
  routes: new Map([...desired.routes, ...observed.routes]),
})
