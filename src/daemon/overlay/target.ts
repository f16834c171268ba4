/** What the device of one family should be and carry, and how the reconciler stands. */
import type { Prefix } from '../../model/address'
import type { LinkSpec, ObservedLink } from '../../model/kernel/link'
import type { KernelObjects } from '../../model/kernel/objects'
import type { Peer, Revision } from '../../model/lease'
import type { Way } from '../../model/way'
import type { PeerChange } from '../../plan/peers/claim'
import type { PeerView } from '../../plan/peers/peer-view'
import type { LocalView } from '../../plan/prefixes/local-table'
import type { Contest } from '../../plan/reconcile/contests'
import type { Meters } from '../tell/meters'

export interface Target {
  readonly link: LinkSpec
  readonly network: Prefix
  /** Ranges in which peers may announce prefixes, or might before; absent for none. */
  readonly allowed?: readonly Prefix[]
  readonly subnet: Prefix
  readonly peers: PeerView
  /** How packets to a peer leave this host now. Default: in clear. */
  readonly wayOf?: (peer: Peer) => Way
  /** MTUs of routes. Default: those of the links. */
  readonly mtus?: RouteMtus
  /** Whether peers that are reached without a gateway are routed past the device. */
  readonly directRouting: boolean
  /** Whether packets to containers of ours that do not exist are swallowed. */
  readonly blackhole: boolean
  /** Devices that ours succeeds: removed when ours carries what they carried. */
  readonly stale: readonly ObservedLink[]
  /** While the peers are those of a state file, the kernel may have newer ones: objects are only added. */
  readonly unconfirmed?: boolean
  /** Whether the host is kept forwarding. */
  readonly forward: boolean
  /** What this host has for what it announces and answers for. Default: nothing, ever. */
  readonly local?: LocalView
}

/** The MTUs of the routes to peers. */
export interface RouteMtus {
  /** Bytes; 0 for the MTU of the link. */
  readonly of: (peer: Peer) => number
  /** Takes the routes that a pass over everything has read. */
  readonly seed: (routes: KernelObjects['route']) => void
}

/**
 * Takes the addresses that a pass has read from the kernel, before the pass compares peers.
 * @param links prefixes of all addresses on this host's links, without those of our own devices
 * @returns the peers that are others by it; `Target.peers` has them already
 */
export type TakeAddresses = (links: readonly Prefix[]) => readonly PeerChange[]

/** The parts of a target that can change. */
export type TargetChange = Partial<Pick<Target, 'link' | 'network' | 'allowed' | 'directRouting' | 'stale'>>

/** `random` and `period` are for tests. */
export interface ReconcilerOptions {
  readonly random?: () => number
  /** Milliseconds between two passes over everything without a notification, in case one was lost. */
  readonly period?: number
  /** Counts operations and times; by default nobody reads them. */
  readonly meters?: Meters
}

/** How the reconciler stands, for status. */
export interface Convergence {
  readonly converged: boolean
  readonly revision: Revision | undefined
  /**
   * Changes that the kernel refuses, and objects that are left wrong for a while because another program
   * keeps changing them.
   */
  readonly failing: number
  /** Objects that another program keeps changing. */
  readonly contests: readonly Contest[]
  readonly operations: number
  /** Monotonic milliseconds. */
  readonly lastSync: number | undefined
  readonly lastError: { readonly text: string; readonly at: Date } | undefined
}
