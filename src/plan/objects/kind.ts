/**
 * What planning needs to know of one kind of kernel object. Each kind has a file here; `index.ts` has the
 * table of all.
 */
import type { ObjectState } from '../../api/words'
import type { IpAddress, MacAddress, Prefix } from '../../model/address'
import type {
  EntryOf,
  KernelObjects,
  KeyOf,
  Kind,
  ObjectOperation,
  OperationOf,
  ValueOf,
} from '../../model/kernel/objects'
import type { RouteKey, RouteTarget } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import type { Way } from '../../model/way'

/** A peer that gets packets to a prefix, and its part of them beside the weights of others. */
export interface PrefixCarrier {
  readonly peer: Peer
  readonly weight: number
}

/** Where peers are found by what they own. */
export interface PeerLookup {
  peerAt(subnet: IpAddress): Peer | undefined
  peerWithMac(mac: MacAddress): Peer | undefined
  /**
   * The peer that a prefix other than a subnet is routed to: the first of those that share it. Without it,
   * there is none.
   */
  peerOfPrefix?(key: RouteKey): Peer | undefined
  /** The prefixes besides its subnet whose routes a peer owns. Without it, none. */
  prefixesOf?(peer: Peer): readonly Prefix[]
  /** The same, and those that it shares with their owners: what to compare when its way is another one. */
  sharedBy?(peer: Peer): readonly Prefix[]
  /** The peers that get the packets to a prefix, each with its weight. Without it, its owner. */
  carriersOf?(key: RouteKey): readonly PrefixCarrier[]
  /** Whether a prefix is routed to several peers. Without it, none is. */
  readonly isShared?: boolean
}

export type Keys<K extends Kind> = Set<KeyOf<K>>
export type Objects<K extends Kind> = ReadonlyMap<KeyOf<K>, ValueOf<K>>

/**
 * A peer, where the route to its subnet is to send packets, how they leave this host, and the largest of them
 * in bytes (0 for the MTU of the link).
 */
export interface WantedPeer {
  readonly peer: Peer
  readonly target: RouteTarget
  readonly way: Way
  readonly mtu: number
  /** Prefixes besides its subnet whose routes it owns. */
  readonly prefixes: readonly WantedPrefix[]
}

/** A prefix, where its route is to send packets, and the largest of them in bytes (0 for the link's MTU). */
interface WantedPrefix {
  readonly prefix: Prefix
  readonly target: RouteTarget
  readonly mtu: number
}

/** One object as people see it, compared with what it should be. */
export interface Comparison {
  /** `10.5.42.0/24 via 10.5.42.0 proto 79` */
  readonly object: string
  readonly state: ObjectState
  /** What is there instead. */
  readonly found?: string | undefined
}

/**
 * Loops over many objects are inside these functions, one kind each, so that they stay monomorphic: 10,000
 * peers are ordinary.
 */
export interface PlanKind<K extends Kind> {
  /** Adds the objects that peers need. */
  want(objects: Map<KeyOf<K>, ValueOf<K>>, peers: readonly WantedPeer[]): void
  /** Adds all keys that a peer may own, wherever its route sends packets. */
  own(keys: Keys<K>, peer: Peer, prefixes: readonly Prefix[]): void
  /** The peer that may own the key. */
  owner(key: KeyOf<K>, peers: PeerLookup): Peer | undefined
  /** Appends the operations that make wanted objects, and what must go before them. */
  make(desired: Objects<K>, observed: Objects<K>, operations: ObjectOperation[]): void
  /** Appends the operations that remove what is not wanted. */
  remove(desired: Objects<K>, observed: Objects<K>, operations: ObjectOperation[]): void
  /** Changes the memory as the kernel changes when the operation succeeds. */
  remember(memory: Map<KeyOf<K>, ValueOf<K>>, operation: OperationOf<K>): void
  /** Whether two entries of one key are one and the same to a packet. */
  same(a: EntryOf<K>, b: EntryOf<K>): boolean
  compare(desired: Objects<K>, observed: Objects<K>): Iterable<Comparison>
  /**
   * Whether an observed value gives way to the wanted one even while the peers are those of a state file,
   * which may be older than the kernel's objects. Without it no value does.
   */
  isOutdated?(observed: ValueOf<K>, wanted: ValueOf<K>): boolean
  /**
   * Adds to `keys`, by kind, what the kernel removes together with the objects of this kind that are to be
   * removed.
   */
  takesAlong?(keys: { readonly [Each in Kind]: Keys<Each> }, objects: KernelObjects, peers: PeerLookup): void
}
