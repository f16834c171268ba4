/** All kinds of kernel objects, as planning needs them: each loop over kinds goes through this table. */
import type { EntryOf, IdOf, Kind, ObjectId, ObjectOperation } from '../../model/kernel/objects'
import type { Peer } from '../../model/lease'
import { fdb } from './fdb'
import type { PeerLookup, PlanKind } from './kind'
import { neighbour } from './neighbour'
import { nexthop } from './nexthop'
import { proxy } from './proxy'
import { route } from './route'

export const PLAN: { readonly [K in Kind]: PlanKind<K> } = { neighbour, fdb, nexthop, route, proxy }

/** The peer that may own the object. */
export const ownerOf = (id: ObjectId, peers: PeerLookup): Peer | undefined => owner(id, peers)
const owner = <K extends Kind>({ kind, key }: IdOf<K>, peers: PeerLookup): Peer | undefined =>
  PLAN[kind].owner(key, peers)

/** Whether two operations do the same to the same object. */
export const sameOperation = (a: ObjectOperation, b: ObjectOperation): boolean =>
  a.do === b.do &&
  a.kind === b.kind &&
  a.key === b.key &&
  (a.do === 'delete' || b.do === 'delete' || a.replace === b.replace) &&
  sameEntry(a.kind, a.value, b.value)

const sameEntry = <K extends Kind>(kind: K, a: EntryOf<K>, b: EntryOf<K>): boolean => PLAN[kind].same(a, b)
