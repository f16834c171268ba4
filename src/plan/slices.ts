/**
 * Everything in parts: what a pass compares at a time, so that the event loop stands still for a few milliseconds at the most whatever the number of
 * peers. Both listings are alive: peers that come or go while a pass is under way are seen as they are by then, and who tells them to the
 * reconciler has them looked at once more.
 */
import { type IpAddress, ipv4, type MacAddress } from '../model/address'
import {
  type KernelObjects,
  type NexthopId,
  type Route,
  type RouteKey,
  routeAddress,
  routeKey,
} from '../model/kernel'
import type { Peer } from '../model/lease'
import { addPeer, emptyScope, type PeerLookup, type Scope } from './scope'

/** A part: some objects, and the peers that may own them. */
export interface Slice {
  readonly peers: Iterable<Peer>
  readonly scope: Scope
  /** Whether the scope is all that those peers may own. */
  readonly isWhole?: true
}

/** All peers, so many at a time. */
export function* slicesOf(peers: Iterable<Peer>, size: number): Generator<Slice> {
  const next = () => ({ peers: [] as Peer[], scope: emptyScope(), isWhole: true }) as const
  let slice = next()
  for (const peer of peers) {
    slice.peers.push(peer)
    addPeer(slice.scope, peer)
    if (slice.peers.length < size) continue
    yield slice
    slice = next()
  }
  if (slice.peers.length > 0) yield slice
}

/**
 * The objects that no peer may own, in the order in which they are removed: routes first. An empty scope in between gives others their turn.
 * @param size keys looked at for each scope
 */
export function* orphansOf(objects: KernelObjects, peers: PeerLookup, size: number): Generator<Scope> {
  const isPeer = (subnet: IpAddress): boolean => peers.peerAt(subnet) !== undefined
  const owned = (mac: MacAddress): boolean => peers.peerWithMac(mac) !== undefined
  const none = emptyScope
  const { routes, nexthops, fdb, neighbours } = objects
  const isRoute = (key: RouteKey): boolean => {
    const peer = peers.peerAt(routeAddress(key))
    return peer !== undefined && routeKey(peer.subnet) === key
  }
  for (const keys of without(routes, isRoute, size)) yield { ...none(), routes: keys }
  const isNexthop = (id: NexthopId): boolean => isPeer(ipv4(id))
  for (const keys of without(nexthops, isNexthop, size)) {
    // A peer may have left since its route was looked at: the kernel would remove that with the nexthop, and say that it knows neither.
    yield { ...none(), nexthops: keys, routes: routesThrough(routes, keys, isRoute) }
  }
  for (const keys of without(fdb, owned, size)) yield { ...none(), fdb: keys }
  for (const keys of without(neighbours, isPeer, size)) yield { ...none(), neighbours: keys }
}

/** The routes through those nexthops that no peer may own. */
function routesThrough(
  routes: KernelObjects['routes'],
  ids: ReadonlySet<NexthopId>,
  isOwned: (key: RouteKey) => boolean,
): Set<RouteKey> {
  if (ids.size === 0) return new Set()
  const isThrough = ({ target }: Route): boolean => target.kind === 'nexthop' && ids.has(target.id)
  return new Set([...routes].flatMap(([key, all]) => (all.some(isThrough) && !isOwned(key) ? [key] : [])))
}

function* without<Key>(
  objects: ReadonlyMap<Key, unknown>,
  isOwned: (key: Key) => boolean,
  size: number,
): Generator<Set<Key>> {
  let keys = new Set<Key>()
  let looked = 0
  for (const key of objects.keys()) {
    if (!isOwned(key)) keys.add(key)
    looked += 1
    if (looked % size > 0) continue
    yield keys
    keys = new Set()
  }
  if (keys.size > 0) yield keys
}
