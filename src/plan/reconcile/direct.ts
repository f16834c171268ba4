/** Which peers are reached without encapsulation (flannel: DirectRouting in pkg/backend/vxlan). */
import { type IpAddress, prefixContains } from '../../model/address'
import type { UnderlayRoute } from '../../model/kernel/route'

/**
 * Finds direct peers: the best route of the main table to their PublicIP (longest prefix, then lowest metric)
 * has no gateway.
 * @param routes all routes except those on our own devices
 * @returns the link of that route; `undefined` if the address is not reached directly
 */
export function directLinkFinder(
  routes: readonly UnderlayRoute[],
): (publicIp: IpAddress) => number | undefined {
  const best = [...routes].sort((a, b) => b.destination.length - a.destination.length || a.metric - b.metric)
  return (publicIp) => {
    const route = best.find(({ destination }) => prefixContains(destination, publicIp))
    return route === undefined || route.hasGateway ? undefined : route.linkIndex
  }
}
