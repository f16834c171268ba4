/**
 * The parts that a pass compares one at a time, so that the event loop is blocked for a few milliseconds at
 * most, whatever the number of peers. The iterators read the live tables: a peer that changes during a pass
 * may be seen old or new, and its change is also in the scope of the next pass.
 */
import { type KernelObjects, KINDS_REVERSED, type Kind } from '../../model/kernel/objects'
import type { Peer } from '../../model/lease'
import { PLAN } from '../objects'
import type { Keys, PeerLookup } from '../objects/kind'
import { addPeer, emptyScope, type Scope } from './scope'

/** Some objects, and the peers that may own them. */
export interface Slice {
  readonly peers: Iterable<Peer>
  readonly scope: Scope
  /** The scope is all that those peers may own. */
  readonly isWhole?: true
}

/**
 * All peers, in slices of that size.
 * @param table knows the prefixes of the peers; without it they have none
 */
export function* slicesOf(
  peers: Iterable<Peer>,
  size: number,
  table?: Pick<PeerLookup, 'prefixesOf'>,
): Generator<Slice> {
  const next = () => ({ peers: [] as Peer[], scope: emptyScope(), isWhole: true }) as const
  let slice = next()
  for (const peer of peers) {
    slice.peers.push(peer)
    addPeer(slice.scope, peer, table?.prefixesOf?.(peer))
    if (slice.peers.length < size) continue
    yield slice
    slice = next()
  }
  if (slice.peers.length > 0) yield slice
}

/**
 * The objects that no peer may own, in the order in which they are removed: routes first. Empty scopes in
 * between give others their turn.
 * @param size keys looked at for each scope
 */
export function* orphansOf(objects: KernelObjects, peers: PeerLookup, size: number): Generator<Scope> {
  for (const kind of KINDS_REVERSED) yield* orphansOfKind(kind, objects, peers, size)
}

function* orphansOfKind<K extends Kind>(
  kind: K,
  objects: KernelObjects,
  peers: PeerLookup,
  size: number,
): Generator<Scope> {
  const plan = PLAN[kind]
  const next = (): { readonly scope: Scope; readonly keys: Keys<K> } => {
    const scope = emptyScope()
    return { scope, keys: scope[kind] }
  }
  let { scope, keys } = next()
  let looked = 0
  for (const key of objects[kind].keys()) {
    if (plan.owner(key, peers) === undefined) keys.add(key)
    looked += 1
    if (looked % size > 0) continue
    plan.takesAlong?.(scope, objects, peers)
    yield scope
    ;({ scope, keys } = next())
  }
  plan.takesAlong?.(scope, objects, peers)
  if (keys.size > 0) yield scope
}
