/** All kinds of objects, as the kernel's messages have them: each loop over kinds goes through this table. */
import { KINDS, type Kind, type ObjectMemory, type ObservedObjects } from '../../model/kernel/objects'
import { fdb } from './fdb'
import type { KernelKind, Reading } from './kind'
import { neighbour } from './neighbours'
import { nexthop, readTakenNexthops } from './nexthops'
import { proxy } from './proxies'
import { route } from './routes'

export const KERNEL: { readonly [K in Kind]: KernelKind<K> } = { neighbour, fdb, nexthop, route, proxy }

/**
 * Reads all objects, one kind after the other: all listings together would need many times the memory of the
 * maps.
 */
export async function readObjects(reading: Reading): Promise<ObservedObjects> {
  const objects: Partial<Record<Kind, unknown>> = {}
  for (const kind of KINDS) objects[kind] = await KERNEL[kind].read(reading)
  return { ...(objects as ObjectMemory), takenNexthops: await readTakenNexthops(reading) }
}
