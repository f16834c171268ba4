/**
 * The kernel objects of peers, as plain records. Desired and observed objects have the same types, so that
 * they can be compared.
 *
 * A new kind of object begins with a line in {@link Shapes}. The compiler then names each table that lacks
 * the kind.
 */
import { formatIp, type IpAddress, type Ipv4, ipv4, type MacAddress } from '../address'
import type { NexthopId, Route, RouteKey } from './route'

/**
 * All kinds of objects. `key`: the identity of an object on one device. `value`: everything that the kernel
 * has under the key. `entry`: what one operation sets or deletes; it differs from `value` if a key can have
 * several entries.
 */
export interface Shapes {
  /** Permanent neighbours: IP address -> link-layer address. */
  neighbour: { key: IpAddress; value: MacAddress; entry: MacAddress }
  /** Forwarding entries: link-layer address -> underlay destinations. Each wanted MAC has exactly one. */
  fdb: { key: MacAddress; value: readonly ForwardingTarget[]; entry: ForwardingTarget }
  /** Nexthop objects, IPv4 only: id -> gateway. All are onlink, on our device and of our protocol. */
  nexthop: { key: NexthopId; value: Ipv4; entry: Ipv4 }
  /** Routes by destination. Several routes of one destination differ in metric, tos or target. */
  route: { key: RouteKey; value: readonly Route[]; entry: Route }
  /**
   * Proxy neighbours: this host answers for the address on that link (ARP, RFC 4861), since a route of ours
   * leads there. Those of our protocol alone.
   */
  proxy: { key: ProxyKey; value: ProxyEntry; entry: ProxyEntry }
}

/** An address that this host answers for on a link. */
export interface ProxyEntry {
  readonly address: IpAddress
  /** Index of the link. */
  readonly link: number
}

declare const brand: unique symbol
/** `7 10.5.240.7`: link and address. */
export type ProxyKey = string & { readonly [brand]: 'ProxyKey' }

export const proxyKey = ({ address, link }: ProxyEntry): ProxyKey =>
  `${link} ${formatIp(address)}` as ProxyKey

/** A destination of a forwarding entry. */
export interface ForwardingTarget {
  readonly address: IpAddress
  /** Index of the link that packets must leave by, which may be gone by now; 0 leaves it to the routes. */
  readonly via: number
}

/** Whether two destinations are one and the same to a packet. */
export const sameTarget = (a: ForwardingTarget, b: ForwardingTarget): boolean =>
  a.address === b.address && a.via === b.via

export type Kind = keyof Shapes
export type KeyOf<K extends Kind> = Shapes[K]['key']
export type ValueOf<K extends Kind> = Shapes[K]['value']
export type EntryOf<K extends Kind> = Shapes[K]['entry']

const ORDER: { readonly [K in Kind]: true } = {
  neighbour: true,
  fdb: true,
  nexthop: true,
  route: true,
  proxy: true,
}

/**
 * All kinds in the order in which their objects are created: each after the objects that it needs. Objects
 * are removed in the opposite order.
 */
export const KINDS = Object.keys(ORDER) as readonly Kind[]
/** The opposite of {@link KINDS}. */
export const KINDS_REVERSED: readonly Kind[] = KINDS.toReversed()

/** Whether the word names a kind of object. */
export const isKind = (word: string): word is Kind => Object.hasOwn(ORDER, word)

/**
 * The objects of one family on our device. If observed: all permanent neighbours and FDB entries, all
 * nexthops, and all unicast routes except the kernel's own (RTPROT_KERNEL); on request also the routes of our
 * protocol on other links, and proxy neighbours.
 */
export type KernelObjects = { readonly [K in Kind]: ReadonlyMap<KeyOf<K>, ValueOf<K>> }

/** Objects that can be changed in place: a memory of the kernel. */
export type ObjectMemory = { readonly [K in Kind]: Map<KeyOf<K>, ValueOf<K>> }

/** Objects of all kinds, made kind by kind. */
export function objectsOf(make: <K extends Kind>(kind: K) => Map<KeyOf<K>, ValueOf<K>>): ObjectMemory {
  const objects: Partial<Record<Kind, unknown>> = {}
  for (const kind of KINDS) objects[kind] = make(kind)
  return objects as ObjectMemory
}

/** No objects. */
export const emptyObjects = (): ObjectMemory => objectsOf(() => new Map())

/** The result of one dump. The caller owns it and may change it. */
export interface ObservedObjects extends ObjectMemory {
  /** Ids in the range of our nexthops that somebody else's nexthops have, on other links or on none. */
  readonly takenNexthops: ReadonlySet<NexthopId>
}

/**
 * Stands for the destination of a forwarding entry that we never make: one with a UDP port or a VNI of its
 * own, one through a nexthop object, or one without a destination.
 */
export const UNKNOWN_TARGET: ForwardingTarget = { address: ipv4(0), via: 0 }

export const isUnknownTarget = ({ address }: ForwardingTarget): boolean => address === UNKNOWN_TARGET.address

/**
 * Whether the deletion of a destination deletes all destinations of its unicast MAC. An unknown one cannot be
 * named. One with a link is not named, because the kernel refuses to name a link that is gone
 * (EADDRNOTAVAIL: vxlan_fdb_parse in drivers/net/vxlan).
 */
export const deletesAll = (target: ForwardingTarget): boolean => target.via !== 0 || isUnknownTarget(target)

/** Stands for the gateway of a nexthop that we never make; it equals no gateway of a peer. */
export const UNKNOWN_GATEWAY: Ipv4 = ipv4(0)

/** The identity of an object on one device. */
export type ObjectId = { readonly [K in Kind]: IdOf<K> }[Kind]
export interface IdOf<K extends Kind> {
  readonly kind: K
  readonly key: KeyOf<K>
}

/** Creates an entry, or gives the object another value. */
export interface SetOf<K extends Kind> extends IdOf<K> {
  readonly do: 'set'
  readonly value: EntryOf<K>
  /**
   * Whether an object of ours exists and is replaced. If false, the kernel must refuse a route or a nexthop
   * (EEXIST) when a foreign object has the same identity, so that it is never overwritten.
   */
  readonly replace: boolean
}

export interface DeleteOf<K extends Kind> extends IdOf<K> {
  readonly do: 'delete'
  readonly value: EntryOf<K>
}

export type OperationOf<K extends Kind> = SetOf<K> | DeleteOf<K>

/**
 * One change of one object on our device. Each is idempotent: setting an existing object and deleting a
 * missing one both succeed.
 */
export type ObjectOperation = { readonly [K in Kind]: OperationOf<K> }[Kind]

/** Whether an operation sets an object of that kind. */
export const isSetOf =
  <K extends Kind>(kind: K) =>
  (operation: ObjectOperation): operation is Extract<ObjectOperation, SetOf<K>> =>
    operation.do === 'set' && operation.kind === kind

/** An operation in one word, for metrics: `set-route`. */
export const operationName = ({ do: verb, kind }: ObjectOperation): `${'set' | 'delete'}-${Kind}` =>
  `${verb}-${kind}`

/**
 * Why the kernel refused an operation. `taken`: somebody else has an object of that identity (EEXIST).
 * `gone`: the object, or what it depends on, is not there. `refused`: anything else.
 */
export type FailureCause = 'taken' | 'gone' | 'refused'

/** An operation that the kernel refused. */
export interface OperationFailure {
  readonly operation: ObjectOperation
  readonly error: Error
  readonly cause: FailureCause
  /** Name of the errno, such as `EEXIST`; `undefined` when the kernel was not asked. */
  readonly errno: string | undefined
}
