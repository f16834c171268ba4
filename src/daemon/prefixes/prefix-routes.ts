/** Routes prefixes to the peers of their winners, as far as probing has found these reachable. */
import { type Family, familyOf } from '../../model/address'
import { type RouteKey, routeAddress, routeKey, routePrefix } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import type { PrefixClaim } from '../../model/prefixes'
import type { PeerTable } from '../../plan/peers/peer-table'
import { type Carrier, reachedOf } from '../../plan/prefixes/carriers'
import type { StandingTable } from '../../plan/prefixes/standing-table'
import { type AnnouncedView, hostNameOf, leaseKeyOf, overlayOf } from './announced-view'
import type { PrefixNews } from './prefix-news'

export class PrefixRoutes {
  #isUnreachable = (_peer: Peer): boolean => false

  constructor(
    private readonly view: AnnouncedView,
    private readonly standings: StandingTable,
    private readonly news: PrefixNews,
  ) {}

  /** Routes a prefix as it was judged. @returns whether its packets go to other peers than before */
  route(key: RouteKey): boolean {
    const peers = this.#peersOf(key)
    if (peers === undefined) return false
    // What this host has itself goes to no other one.
    const winners = this.standings.isOwn(key) ? [] : this.standings.winnersOf(key)
    const carriers = winners.map(({ host, announcement }): Carrier => {
      return { peer: leaseKeyOf(this.view, host), weight: announcement.share ?? 1 }
    })
    const isLost = (lease: string): boolean => {
      const peer = peers.peer(lease)
      return peer !== undefined && this.#isUnreachable(peer)
    }
    return peers.routed.route(routePrefix(key), reachedOf(carriers, isLost))
  }

  /**
   * Has the reconcilers compare prefixes whose packets go to other peers than before.
   * @param heardAt when etcd's message arrived, in monotonic milliseconds
   */
  program(changed: readonly RouteKey[], heardAt?: number): void {
    const ofFamily: Readonly<Record<Family, RouteKey[]>> = { IPv4: [], IPv6: [] }
    for (const key of changed) ofFamily[familyOf(routeAddress(key))].push(key)
    for (const { spec, reconciler } of this.view.overlays) reconciler.rerouted(ofFamily[spec.family], heardAt)
  }

  /**
   * Takes what probing has found: a host that shares a prefix gets no packets to it while it is unreachable
   * and another one of those hosts is not.
   */
  probed(isUnreachable: (peer: Peer) => boolean): void {
    this.#isUnreachable = isUnreachable
    const changed = [...this.standings.shared].filter((key) => this.route(key))
    this.program(changed)
    for (const key of changed) {
      const carriers = this.#peersOf(key)?.routed.carriersOf(key) ?? []
      this.news.rerouted(
        key,
        carriers.map(({ peer }) => hostNameOf(peer)),
      )
    }
  }

  /** Whether a host shares a prefix, and gets no packets of this host, for this host does not reach it. */
  isLeftOut({ host, announcement: { prefix } }: PrefixClaim): boolean {
    const key = routeKey(prefix)
    if (!this.standings.shared.has(key) || this.standings.isOwn(key)) return false
    const carriers = this.#peersOf(key)?.routed.carriersOf(key) ?? []
    return carriers.every(({ peer }) => peer !== leaseKeyOf(this.view, host))
  }

  #peersOf(key: RouteKey): PeerTable | undefined {
    return overlayOf(this.view, familyOf(routeAddress(key)))?.peers
  }
}
