/** What this host has in the kernel for announced prefixes besides the routes to peers. */
import { type Family, familyOf, type Prefix } from '../../model/address'
import { type ProxyEntry, type ProxyKey, proxyKey } from '../../model/kernel/objects'
import { type Route, type RouteKey, routeKey } from '../../model/kernel/route'
import type { Announcement } from '../../model/prefixes'
import { localRoute } from '../objects/route'
import type { LocalObjects } from '../reconcile/desired'
import { deliveryOf, type LocalNetwork } from './delivery'
import { proxiesFor } from './proxies'

/**
 * The objects of one family.
 * @param own what this host announces, and gets the packets of
 * @param routed prefixes that are routed to other hosts
 */
export function localObjects(
  family: Family,
  own: readonly Announcement[],
  routed: Iterable<Prefix>,
  network: LocalNetwork,
): LocalObjects {
  const route = new Map<RouteKey, Route>()
  for (const { prefix, via } of own) {
    if (via === undefined || familyOf(prefix.address) !== family) continue
    const delivery = deliveryOf(via, prefix, network)
    if (delivery.kind === 'ready' && delivery.target !== undefined)
      route.set(routeKey(prefix), localRoute(prefix, delivery.target))
  }
  const isOwn = new Set(own.map(({ prefix }) => routeKey(prefix)))
  const others = Array.from(routed).filter((prefix) => !isOwn.has(routeKey(prefix)))
  const proxy = new Map<ProxyKey, ProxyEntry>()
  for (const entry of proxiesFor(others, network)) proxy.set(proxyKey(entry), entry)
  return { route, proxy }
}
