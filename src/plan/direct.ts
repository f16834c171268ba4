/** Which peers are reached without encapsulation (flannel: DirectRouting in pkg/backend/vxlan). */
import { type IpAddress, prefixContains } from '../model/address'
import type { UnderlayRoute } from '../model/kernel'

/**
 * How to tell direct peers: those whose PublicIP's best route of the main table (longest prefix, then lowest metric) has no gateway.
 * @param routes all but those on our own devices
 * @returns the link such an address is reached over, `undefined` for any other address
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
