/**
 * How packets to each peer leave this host now. The keeper of encryption changes it, the reconcilers read it.
 */
import { type Family, familyOf } from '../../model/address'
import type { Peer } from '../../model/lease'
import type { Way } from '../../model/way'

export type TunnelWays = ReadonlyMap<string, ReadonlyMap<Family, Way>>

const CLEAR: Way = { kind: 'clear' }
const NONE: Way = { kind: 'none' }

export class Ways {
  #others: Way = CLEAR
  #tunnels: TunnelWays = new Map()

  of({ key, publicIp }: Peer): Way {
    return this.#tunnels.get(key)?.get(familyOf(publicIp)) ?? this.#others
  }

  /** How many leases are reached through a tunnel. */
  get size(): number {
    return this.#tunnels.size
  }

  /**
   * Takes other ways.
   * @param tunnels key of a lease -> the way of each family
   * @param others how packets to all other peers leave
   * @param peers the peers of all families
   * @returns the peers whose way is another one
   */
  take(tunnels: TunnelWays, others: 'clear' | 'none', peers: Iterable<Peer>): Peer[] {
    const all = [...peers]
    const before = all.map((peer) => this.of(peer))
    this.#tunnels = tunnels
    this.#others = others === 'clear' ? CLEAR : NONE
    return all.filter((peer, i) => !isSame(this.of(peer), before[i]))
  }
}

const isSame = (a: Way, b: Way | undefined): boolean =>
  a === b ||
  (a.kind === 'tunnel' && b?.kind === 'tunnel'
    ? a.link === b.link && a.destination === b.destination
    : a.kind === b?.kind)
