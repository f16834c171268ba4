/** Routes to the world outside: default routes, and the route to one address (linux/rtnetlink.h). */
import { constants } from 'node:os'
import { addressBits, type Family, familyOf, formatIp, type IpAddress } from '../../model/address'
import type { DefaultRoute, RouteLookup } from '../../model/kernel/route'
import type { NetlinkClient, Question } from '../netlink/client'
import {
  NLM_F_REQUEST,
  RT_TABLE_MAIN,
  RTM_F_CLONED,
  RTM_GETROUTE,
  RTN_LOCAL,
  RTN_UNICAST,
} from '../netlink/constants'
import { NetlinkError } from '../netlink/errors'
import { familyNumber } from '../netlink/families'
import { routeMessage } from '../netlink/messages'

/** Dump: the default routes of all links, in the kernel's order. */
export const listDefaultRoutes = (family: Family): Question<DefaultRoute> => ({
  attempted: 'list default routes',
  encode: (writer) =>
    routeMessage.encode(writer, RTM_GETROUTE, NLM_F_REQUEST, {
      family: familyNumber(family),
      table: RT_TABLE_MAIN,
      type: RTN_UNICAST,
    }),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    const isWanted =
      message.family === familyNumber(family) &&
      (message.tableId ?? message.table) === RT_TABLE_MAIN &&
      message.type === RTN_UNICAST &&
      message.destinationLength === 0 &&
      (message.flags & RTM_F_CLONED) === 0
    if (!isWanted) return undefined
    const { link, gateway, multipath } = message
    return {
      family,
      linkIndex: link,
      ...(multipath && { linkIndexes: multipath.map((hop) => hop.link) }),
      gateway,
    }
  },
})

/** Errors of the kernel if a route refuses, or there is none (net/ipv4/route.c, net/ipv6/route.c). */
const NO_ROUTE: ReadonlySet<number> = new Set([
  constants.errno.ENETUNREACH,
  constants.errno.EHOSTUNREACH,
  constants.errno.EACCES, // prohibit
  constants.errno.EINVAL, // blackhole
  constants.errno.EAFNOSUPPORT, // no IPv6 in this kernel
  constants.errno.EOPNOTSUPP,
])

/**
 * The route that the kernel would use for a packet to that address.
 * @returns undefined if there is none
 */
export async function lookUpRoute(
  requests: NetlinkClient,
  destination: IpAddress,
  signal?: AbortSignal,
): Promise<RouteLookup | undefined> {
  try {
    return await requests.get(routeTo(destination), signal)
  } catch (error) {
    if (error instanceof NetlinkError && NO_ROUTE.has(error.errno)) return undefined
    throw error
  }
}

const routeTo = (destination: IpAddress): Question<RouteLookup> => ({
  attempted: `look up the route to ${formatIp(destination)}`,
  encode: (writer) =>
    routeMessage.encode(writer, RTM_GETROUTE, NLM_F_REQUEST, {
      family: familyNumber(familyOf(destination)),
      destinationLength: addressBits(familyOf(destination)),
      destination,
    }),
  decode(view, start, end) {
    const { type, link, preferredSource } = routeMessage.decode(view, start, end)
    // IPv6 answers with the refusing route instead of an error.
    if (link === undefined || (type !== RTN_UNICAST && type !== RTN_LOCAL)) return undefined
    return { linkIndex: link, source: preferredSource }
  },
})
