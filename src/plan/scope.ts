/** A part of the objects on our device: what a change of a few peers can concern, so that a join costs the same at any size. */
import { type IpAddress, ipv4, type MacAddress } from '../model/address'
import type { KernelObjects, NexthopId, ObjectOperation, RouteKey } from '../model/kernel'
import { routeAddress, routeKey } from '../model/kernel'
import type { Peer } from '../model/lease'
import { nexthopId } from './desired'

export interface Scope {
  readonly neighbours: Set<IpAddress>
  readonly fdb: Set<MacAddress>
  readonly nexthops: Set<NexthopId>
  readonly routes: Set<RouteKey>
}

export function emptyScope(): Scope {
  return { neighbours: new Set(), fdb: new Set(), nexthops: new Set(), routes: new Set() }
}

export function isEmptyScope(scope: Scope): boolean {
  return Object.values(scope).every((keys) => keys.size === 0)
}

/** Adds all that a peer may own. */
export function addPeer(scope: Scope, { subnet, mac }: Peer): void {
  scope.neighbours.add(subnet.address)
  scope.fdb.add(mac)
  if (typeof subnet.address === 'number') scope.nexthops.add(nexthopId(subnet.address))
  scope.routes.add(routeKey(subnet))
}

/** Adds the object an operation changes. */
export function addOperation(scope: Scope, operation: ObjectOperation): void {
  switch (operation.kind) {
    case 'set-neighbour':
    case 'delete-neighbour':
      scope.neighbours.add(operation.address)
      break
    case 'set-fdb':
    case 'delete-fdb':
      scope.fdb.add(operation.mac)
      break
    case 'set-nexthop':
    case 'delete-nexthop':
      scope.nexthops.add(operation.id)
      break
    case 'set-route':
    case 'delete-route':
      scope.routes.add(routeKey(operation.route.destination))
  }
}

/** Where peers are found by what they own. */
export interface PeerLookup {
  peerAt(subnet: IpAddress): Peer | undefined
  peerWithMac(mac: MacAddress): Peer | undefined
}

/** The peers that may own objects in the scope. */
export function peersIn(scope: Scope, peers: PeerLookup): Set<Peer> {
  const subnets = [
    ...scope.neighbours,
    ...[...scope.nexthops].map(ipv4),
    ...[...scope.routes].map(routeAddress),
  ]
  const found = [
    ...subnets.map((subnet) => peers.peerAt(subnet)),
    ...[...scope.fdb].map((mac) => peers.peerWithMac(mac)),
  ]
  return new Set(found.filter((peer) => peer !== undefined))
}

/** The objects that lie in the scope. */
export function restrict(objects: KernelObjects, scope: Scope): KernelObjects {
  return {
    neighbours: pick(objects.neighbours, scope.neighbours),
    fdb: pick(objects.fdb, scope.fdb),
    nexthops: pick(objects.nexthops, scope.nexthops),
    routes: pick(objects.routes, scope.routes),
  }
}

function pick<Key, Value>(map: ReadonlyMap<Key, Value>, keys: ReadonlySet<Key>): Map<Key, Value> {
  const picked = new Map<Key, Value>()
  for (const key of keys) {
    const value = map.get(key)
    if (value !== undefined) picked.set(key, value)
  }
  return picked
}

/** Whether the operation changes an object in the scope. */
export function inScope(scope: Scope, operation: ObjectOperation): boolean {
  switch (operation.kind) {
    case 'set-neighbour':
    case 'delete-neighbour':
      return scope.neighbours.has(operation.address)
    case 'set-fdb':
    case 'delete-fdb':
      return scope.fdb.has(operation.mac)
    case 'set-nexthop':
    case 'delete-nexthop':
      return scope.nexthops.has(operation.id)
    case 'set-route':
    case 'delete-route':
      return scope.routes.has(routeKey(operation.route.destination))
  }
}
