/** Unicast IPv4 routes of the main table (linux/rtnetlink.h). */
import { type IpAddress, type Ipv4, ipv4 } from '../model/address'
import type { Route, RouteTarget } from '../model/kernel'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import type { MessageOf } from './netlink/codec'
import {
  AF_INET,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RTM_DELROUTE,
  RTM_F_CLONED,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTN_UNICAST,
  RTNH_F_ONLINK,
  RTPROT_KERNEL,
} from './netlink/constants'
import { routeMessage } from './netlink/messages'

type RouteMessage = MessageOf<typeof routeMessage>

/** The routes on one link that are not the kernel's own; as a dump. ENODEV when there is no such link. */
export const listRoutes = (linkIndex: number): Question<Route> => ({
  attempted: 'list routes',
  encode: (writer) =>
    routeMessage.encode(writer, RTM_GETROUTE, NLM_F_REQUEST, {
      family: AF_INET,
      table: RT_TABLE_MAIN,
      type: RTN_UNICAST,
      link: linkIndex,
    }),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    if (!isMainUnicast(message) || message.protocol === RTPROT_KERNEL) return undefined
    // A route over several links has no RTA_OIF; the kernel's filter let it through because our link is one of them.
    if (message.link !== undefined && message.link !== linkIndex) return undefined
    return {
      destination: { address: onlyIpv4(message.destination) ?? ipv4(0), length: message.destinationLength },
      metric: message.metric ?? 0,
      tos: message.tos,
      protocol: message.protocol,
      target: targetOf(message),
    }
  },
})

/** Appends the message that adds a route (EEXIST when its destination, metric and tos are taken), or replaces the one that has them. */
export function encodeSetRoute(
  writer: MessageWriter,
  index: number,
  { route, replace }: { readonly route: Route; readonly replace: boolean },
): void {
  const mode = replace ? NLM_F_REPLACE : NLM_F_EXCL
  encodeRoute(writer, RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | mode, index, route, RT_SCOPE_UNIVERSE)
}

/**
 * Appends the message that removes a route; ESRCH when there is none. Metric 0 in it means any to the kernel, which takes the one with the
 * lowest; the target keeps that on our link.
 */
export function encodeDeleteRoute(writer: MessageWriter, index: number, route: Route): void {
  encodeRoute(writer, RTM_DELROUTE, NLM_F_REQUEST, index, route, RT_SCOPE_NOWHERE)
}

function encodeRoute(
  writer: MessageWriter,
  type: number,
  flags: number,
  index: number,
  { destination, metric, tos, protocol, target }: Route,
  scope: number,
): void {
  const gateway = target.kind === 'gateway' ? target : undefined
  const nexthop = target.kind === 'nexthop' ? target.id : undefined
  routeMessage.encode(writer, type, flags, {
    family: AF_INET,
    destinationLength: destination.length,
    tos,
    table: RT_TABLE_MAIN,
    protocol,
    scope,
    type: RTN_UNICAST,
    flags: gateway?.onlink === true ? RTNH_F_ONLINK : 0,
    destination: destination.address,
    gateway: gateway?.gateway,
    // With a nexthop object the link is the object's; the kernel refuses to hear it twice.
    link: nexthop === undefined ? index : undefined,
    metric: metric === 0 ? undefined : metric,
    nexthop,
  })
}

function isMainUnicast(message: RouteMessage): boolean {
  return (
    message.family === AF_INET &&
    (message.tableId ?? message.table) === RT_TABLE_MAIN &&
    message.type === RTN_UNICAST &&
    (message.flags & RTM_F_CLONED) === 0
  )
}

function targetOf({ nexthop, gateway, multipath, encapsulation, flags }: RouteMessage): RouteTarget {
  if (nexthop !== undefined) return { kind: 'nexthop', id: nexthop }
  if (gateway === undefined || multipath !== undefined || encapsulation !== undefined)
    return { kind: 'other' }
  if (typeof gateway !== 'number') return { kind: 'other' }
  return { kind: 'gateway', gateway, onlink: (flags & RTNH_F_ONLINK) !== 0 }
}

const onlyIpv4 = (address: IpAddress | undefined): Ipv4 | undefined =>
  typeof address === 'number' ? address : undefined
