/**
 * The MTU that the route to each peer has now: prober and kernel are asked for it, the reconcilers read it.
 * An MTU of an earlier run is in the kernel, and stays until the prober has tried the path.
 */
import type { KernelObjects } from '../../model/kernel/objects'
import { ROUTE_PROTOCOL, type RouteKey, routeKey } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'

export class PathMtus {
  /** Subnet of a peer -> bytes. */
  readonly #mtus = new Map<RouteKey, number>()
  #isSeeded: boolean

  /** @param isOn whether routes get an MTU; without it, none has one */
  constructor(private readonly isOn: boolean) {
    this.#isSeeded = !isOn
  }

  /** The MTU of the route to a peer in bytes; 0 for that of the link. */
  readonly of = (peer: Peer): number => this.#mtus.get(routeKey(peer.subnet)) ?? 0

  /** Takes over the MTUs of an earlier run, from the first routes that a pass reads. */
  readonly seed = (routes: KernelObjects['route']): void => {
    if (this.#isSeeded) return
    this.#isSeeded = true
    for (const [key, values] of routes)
      for (const { protocol, mtu } of values)
        if (protocol === ROUTE_PROTOCOL && mtu !== 0) this.#mtus.set(key, mtu)
  }

  /**
   * Gives the route to a peer another MTU.
   * @param mtu bytes; 0 for that of the link
   * @returns whether it is another one
   */
  set(peer: Peer, mtu: number): boolean {
    if (!this.isOn || this.of(peer) === mtu) return false
    if (mtu === 0) this.#mtus.delete(routeKey(peer.subnet))
    else this.#mtus.set(routeKey(peer.subnet), mtu)
    return true
  }
}
