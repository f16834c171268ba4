/** Routes of the main table (linux/rtnetlink.h). */
import { anyAddress, type Family, type IpAddress, type Prefix } from '../model/address'
import { ROUTE_PROTOCOL, type Route, type RouteTarget, type UnderlayRoute } from '../model/kernel'
import { familyNumber, familyNumberOf } from './families'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import { findU32, type MessageOf } from './netlink/codec'
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RTA_OIF,
  RTM_DELROUTE,
  RTM_F_CLONED,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTN_BLACKHOLE,
  RTN_UNICAST,
  RTNH_F_ONLINK,
  RTPROT_KERNEL,
} from './netlink/constants'
import { routeMessage } from './netlink/messages'

/** sizeof(struct rtmsg) */
const RTMSG_SIZE = 12

type RouteMessage = MessageOf<typeof routeMessage>

/** The routes of one family on one link that are not the kernel's own; as a dump. ENODEV when there is no such link. */
export const listRoutes = (family: Family, linkIndex: number): Question<Route> => ({
  attempted: 'list routes',
  encode: (writer) => encodeListing(writer, family, { type: RTN_UNICAST, link: linkIndex }),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family) || message.type !== RTN_UNICAST) return undefined
    if (message.protocol === RTPROT_KERNEL) return undefined
    // A route over several links has no RTA_OIF; the kernel's filter let it through because our link is one of them.
    if (message.link !== undefined && message.link !== linkIndex) return undefined
    return routeOf(message, family, targetOf(message))
  },
})

/** The routes of our protocol that lead over other links than these: to direct peers, or nowhere; as a dump. */
export const listOwnRoutesElsewhere = (family: Family, links: readonly number[]): Question<Route> => ({
  attempted: 'list routes of our protocol',
  encode: (writer) => encodeListing(writer, family, { protocol: ROUTE_PROTOCOL }),
  decode(view, start, end) {
    // Nearly all are on those.
    const out = findU32(view, start + RTMSG_SIZE, end, RTA_OIF)
    if (out !== undefined && links.includes(out)) return undefined
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family) || message.protocol !== ROUTE_PROTOCOL) return undefined
    const { link, gateway, type, nexthop } = message
    if (type === RTN_BLACKHOLE) return routeOf(message, family, { kind: 'blackhole' })
    if (type !== RTN_UNICAST || link === undefined) return undefined
    // Someone gave the nexthop object of a route of ours another link.
    if (nexthop !== undefined) return routeOf(message, family, { kind: 'nexthop', id: nexthop })
    if (gateway === undefined) return undefined
    return routeOf(message, family, { kind: 'direct', gateway, link })
  },
})

/** The unicast routes that are not ours, in the kernel's order; as a dump. */
export const listUnderlayRoutes = (family: Family): Question<UnderlayRoute> => ({
  attempted: 'list routes',
  encode: (writer) => encodeListing(writer, family, { type: RTN_UNICAST }),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family) || message.type !== RTN_UNICAST) return undefined
    if (message.protocol === ROUTE_PROTOCOL) return undefined
    const { destination, metric } = routeOf(message, family, { kind: 'other' })
    return { destination, metric, linkIndex: message.link, hasGateway: message.gateway !== undefined }
  },
})

/** A route as an operator would call it. */
export interface SeenRoute {
  readonly destination: Prefix
  readonly metric: number
  readonly tos: number
  readonly protocol: number
  readonly gateway: IpAddress | undefined
  readonly linkIndex: number | undefined
}

/** All routes of the main table, of whatever type; as a dump. */
export const listAllRoutes = (family: Family): Question<SeenRoute> => ({
  attempted: 'list routes',
  encode: (writer) => encodeListing(writer, family, {}),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family)) return undefined
    const { destination, metric, tos, protocol } = routeOf(message, family, { kind: 'other' })
    return { destination, metric, tos, protocol, gateway: message.gateway, linkIndex: message.link }
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
  routeMessage.encode(writer, type, flags, {
    family: familyNumberOf(destination.address),
    destinationLength: destination.length,
    tos,
    table: RT_TABLE_MAIN,
    protocol,
    scope,
    type: target.kind === 'blackhole' ? RTN_BLACKHOLE : RTN_UNICAST,
    flags: target.kind === 'gateway' && target.onlink ? RTNH_F_ONLINK : 0,
    destination: destination.address,
    gateway: target.kind === 'gateway' || target.kind === 'direct' ? target.gateway : undefined,
    link: linkOf(target, index),
    metric: metric === 0 ? undefined : metric,
    nexthop: target.kind === 'nexthop' ? target.id : undefined,
  })
}

/** With a nexthop object the link is the object's; the kernel refuses to hear it twice. */
function linkOf(target: RouteTarget, index: number): number | undefined {
  if (target.kind === 'direct') return target.link
  return target.kind === 'nexthop' || target.kind === 'blackhole' ? undefined : index
}

function encodeListing(
  writer: MessageWriter,
  family: Family,
  filter: { readonly type?: number; readonly protocol?: number; readonly link?: number },
): void {
  routeMessage.encode(writer, RTM_GETROUTE, NLM_F_REQUEST, {
    family: familyNumber(family),
    table: RT_TABLE_MAIN,
    ...filter,
  })
}

function isMain(message: RouteMessage, family: Family): boolean {
  return (
    message.family === familyNumber(family) &&
    (message.tableId ?? message.table) === RT_TABLE_MAIN &&
    (message.flags & RTM_F_CLONED) === 0
  )
}

/** A default route has no RTA_DST. */
function routeOf(message: RouteMessage, family: Family, target: RouteTarget): Route {
  const { destination, destinationLength, metric = 0, tos, protocol } = message
  const address = destination ?? anyAddress(family)
  return { destination: { address, length: destinationLength }, metric, tos, protocol, target }
}

function targetOf({ nexthop, gateway, multipath, encapsulation, flags }: RouteMessage): RouteTarget {
  if (nexthop !== undefined) return { kind: 'nexthop', id: nexthop }
  if (gateway === undefined || multipath !== undefined || encapsulation !== undefined)
    return { kind: 'other' }
  return { kind: 'gateway', gateway, onlink: (flags & RTNH_F_ONLINK) !== 0 }
}
