/**
 * A part of the objects on our device, as keys: the objects that a change of a few peers can concern. So a
 * join costs the same with any number of peers. A scope has keys and not peers, so that a failed pass can be
 * repeated with the peers as they are then.
 */
import type { Prefix } from '../../model/address'
import {
  type KernelObjects,
  KINDS,
  type Kind,
  type ObjectId,
  type ObjectMemory,
  objectsOf,
} from '../../model/kernel/objects'
import type { Peer } from '../../model/lease'
import { PLAN } from '../objects'
import type { Keys, PeerLookup } from '../objects/kind'

export type Scope = { readonly [K in Kind]: Keys<K> }

export function emptyScope(): Scope {
  const scope: Partial<Record<Kind, unknown>> = {}
  for (const kind of KINDS) scope[kind] = new Set()
  return scope as Scope
}

export const isEmptyScope = (scope: Scope): boolean => KINDS.every((kind) => scope[kind].size === 0)

/**
 * Adds all that a peer may own.
 * @param prefixes besides its subnet that are routed to the peer
 */
export function addPeer(scope: Scope, peer: Peer, prefixes: readonly Prefix[] = []): void {
  for (const kind of KINDS) own(scope, kind, peer, prefixes)
}

const own = <K extends Kind>(scope: Scope, kind: K, peer: Peer, prefixes: readonly Prefix[]): void =>
  PLAN[kind].own(scope[kind], peer, prefixes)

/** Adds all objects of another scope. */
export function addScope(scope: Scope, other: Scope): void {
  for (const kind of KINDS) {
    const keys = keysOf(scope, kind)
    for (const key of other[kind]) keys.add(key)
  }
}

/** Adds one object. */
export const addObject = (scope: Scope, { kind, key }: ObjectId): void => void keysOf(scope, kind).add(key)

/** Whether the object lies in the scope. */
export const inScope = (scope: Scope, { kind, key }: ObjectId): boolean => keysOf(scope, kind).has(key)

/** An {@link ObjectId} pairs a kind with a key of that kind, which a union of sets cannot express. */
const keysOf = (scope: Scope, kind: Kind): Set<ObjectId['key']> => scope[kind] as Set<ObjectId['key']>

/** The peers that may own objects in the scope. */
export function peersIn(scope: Scope, peers: PeerLookup): Set<Peer> {
  const found = new Set<Peer>()
  for (const kind of KINDS) addOwners(found, scope, kind, peers)
  return found
}

function addOwners<K extends Kind>(found: Set<Peer>, scope: Scope, kind: K, peers: PeerLookup): void {
  const { owner } = PLAN[kind]
  for (const key of scope[kind]) {
    const peer = owner(key, peers)
    if (peer !== undefined) found.add(peer)
  }
}

/** The objects that lie in the scope. */
export const restrict = (objects: KernelObjects, scope: Scope): ObjectMemory =>
  objectsOf((kind) => pick(objects[kind], scope[kind]))

/** The entries that have these keys. */
export function pick<Key, Value>(map: ReadonlyMap<Key, Value>, keys: ReadonlySet<Key>): Map<Key, Value> {
  const picked = new Map<Key, Value>()
  if (map.size === 0) return picked
  for (const key of keys) {
    const value = map.get(key)
    if (value !== undefined) picked.set(key, value)
  }
  return picked
}
