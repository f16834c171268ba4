/**
 * One family of this host in the network: its device, its peers, and the reconciler that keeps the kernel
 * equal to them.
 */
import { isDeepStrictEqual } from 'node:util'
import { type Prefix, samePrefix } from '../../model/address'
import type { ObservedLink } from '../../model/kernel/link'
import type { OverlaySpec } from '../../plan/host-plan'
import type { PeerChange } from '../../plan/peers/claim'
import type { PeerTable } from '../../plan/peers/peer-table'
import type { LocalTable } from '../../plan/prefixes/local-table'
import type { AddressGuard } from './address-guard'
import type { PathMtus } from './path-mtus'
import type { Reconciler } from './reconciler'
import type { Convergence } from './target'

/** Ranges in which routes of ours are searched: those of four configs with as many as a config may have. */
const MOST_SEARCHED = 256

export class Overlay {
  #spec: OverlaySpec
  /** Ranges that are allowed for prefixes, or were: routes of ours may still be in them. */
  #searched: readonly Prefix[]

  constructor(
    spec: OverlaySpec,
    readonly peers: PeerTable,
    readonly addresses: AddressGuard,
    readonly reconciler: Reconciler,
    readonly mtus: PathMtus,
    readonly local: LocalTable,
  ) {
    this.#spec = spec
    this.#searched = spec.allowed
  }

  get spec(): OverlaySpec {
    return this.#spec
  }

  /**
   * Follows another plan: the device in the next pass, the peers at once.
   * @param stale devices that the device of the plan succeeds
   * @returns the peers that changed by it
   */
  adopt(spec: OverlaySpec, stale: readonly ObservedLink[]): readonly PeerChange[] {
    const before = this.#spec
    this.#spec = spec
    const { link, range, allowed, vni, directRouting, publicIp } = spec
    const former = this.#searched.filter((each) => !allowed.some((other) => samePrefix(each, other)))
    this.#searched = [...former, ...allowed].slice(-MOST_SEARCHED)
    const searched = this.#searched
    this.reconciler.retarget({ link, network: range.network, allowed: searched, directRouting, stale })
    const moved = publicIp === before.publicIp ? [] : this.peers.moveTo(publicIp)
    const isSame = vni === before.vni && isDeepStrictEqual(range, before.range)
    return isSame ? moved : [...moved, ...this.peers.moveInto({ range, vni })]
  }
}

/** The convergence of all families together: the worst of each field. */
export function convergenceOf(overlays: readonly Overlay[]): Convergence {
  const all = overlays.map(({ reconciler }) => reconciler.convergence)
  const earlier = <T extends bigint | number>(a: T | undefined, b: T | undefined): T | undefined => {
    if (a === undefined || b === undefined) return undefined
    return a < b ? a : b
  }
  return {
    converged: all.every(({ converged }) => converged),
    revision: all.map(({ revision }) => revision).reduce(earlier),
    failing: all.reduce((sum, { failing }) => sum + failing, 0),
    contests: all.flatMap(({ contests }) => contests),
    operations: all.reduce((sum, { operations }) => sum + operations, 0),
    lastSync: all.map(({ lastSync }) => lastSync).reduce(earlier),
    lastError: all.findLast(({ lastError }) => lastError !== undefined)?.lastError,
  }
}
