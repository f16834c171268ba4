/** The slices of a pass, and the changes that the objects of one slice need. */
import type { Prefix } from '../../model/address'
import type { KernelObjects, ObjectOperation } from '../../model/kernel/objects'
import { routeKey } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import type { PeerLookup } from '../objects/kind'
import { hostObjects, type LocalObjects, NO_LOCAL_OBJECTS, type Routing } from './desired'
import { diffObjects } from './diff'
import { keepObserved } from './keep-observed'
import { emptyScope, isEmptyScope, peersIn, pick, restrict, type Scope } from './scope'
import { orphansOf, type Slice, slicesOf } from './slices'

/** Peers compared in one turn of the event loop, a millisecond or two, and programmed together. */
export const SLICE = 256
/** Objects of which one turn finds out whether a peer owns them. */
const ORPHAN_SLICE = 4096

/** What the host itself has in the kernel, and how objects of peers are made. */
export interface Wanted {
  readonly subnet: Prefix
  readonly blackhole: boolean
  /** What this host has for what it announces and answers for; without it, nothing. */
  readonly local?: LocalObjects | undefined
  /** While the peers are those of a state file, the kernel may have newer ones: objects are only added. */
  readonly unconfirmed?: boolean
  readonly routing: Routing
}

export interface PassParts extends Pick<Wanted, 'subnet' | 'local'> {
  readonly table: PeerLookup
  readonly failed: () => Scope
}

/**
 * The slices of a pass: the host's own objects, those of peers, those that failed before, and in the end
 * those that no peer owns. Such an object has to be compared in the turn in which it was found: in the next
 * one a peer may own it.
 * @param objects the part of the memory that the pass is about
 * @param failed the objects that failed, also those of this pass
 */
export function* passSlices(
  peers: Iterable<Peer>,
  objects: KernelObjects,
  { subnet, local = NO_LOCAL_OBJECTS, table, failed }: PassParts,
): Generator<Slice> {
  const own = emptyScope()
  own.route.add(routeKey(subnet))
  for (const key of local.route.keys()) own.route.add(key)
  for (const key of local.proxy.keys()) own.proxy.add(key)
  yield { peers: [], scope: own }
  yield* slicesOf(peers, SLICE, table)
  const scope = failed()
  if (!isEmptyScope(scope)) yield { peers: peersIn(scope, table), scope }
  for (const orphans of orphansOf(objects, table, ORPHAN_SLICE)) yield { peers: [], scope: orphans }
}

/** The changes that the objects of a slice need. */
export function compareSlice(
  { peers, scope, isWhole }: Slice,
  memory: KernelObjects,
  { subnet, blackhole, local = NO_LOCAL_OBJECTS, unconfirmed, routing }: Wanted,
): ObjectOperation[] {
  const own = {
    subnet,
    blackhole: blackhole && scope.route.has(routeKey(subnet)),
    local: { route: pick(local.route, scope.route), proxy: pick(local.proxy, scope.proxy) },
  }
  const wanted = hostObjects(peers, routing, own)
  const desired = isWhole ? wanted : restrict(wanted, scope)
  const observed = restrict(memory, scope)
  return diffObjects(unconfirmed === true ? keepObserved(desired, observed) : desired, observed)
}

/**
 * All objects that the kernel should have, in the order of the subnets.
 * @param observed objects in the kernel: they are kept as long as the peers are those of a state file
 */
export function wantedObjects(
  peers: Iterable<Peer>,
  observed: KernelObjects,
  { subnet, blackhole, local, unconfirmed, routing }: Wanted,
): KernelObjects {
  const inOrder = [...peers].sort((a, b) => (a.subnet.address < b.subnet.address ? -1 : 1))
  const desired = hostObjects(inOrder, routing, { subnet, blackhole, local })
  return unconfirmed === true ? keepObserved(desired, observed) : desired
}
