/** Routes of the main table (linux/rtnetlink.h). */
import { anyAddress, type Family, type IpAddress, type Prefix, prefixContains } from '../../model/address'
import {
  ROUTE_PROTOCOL,
  type Route,
  type RouteKey,
  type RouteTarget,
  routeKey,
  type SharedMember,
  type UnderlayRoute,
} from '../../model/kernel/route'
import { readAddress } from '../events/notification'
import type { MessageWriter } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import { findU32, type MessageOf } from '../netlink/codec'
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE_LINK,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RTA_DST,
  RTA_OIF,
  RTM_DELROUTE,
  RTM_F_CLONED,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTN_BLACKHOLE,
  RTN_UNICAST,
  RTNH_F_ONLINK,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
  RTPROT_KERNEL,
} from '../netlink/constants'
import { familyNumber, familyNumberOf } from '../netlink/families'
import type { Hop } from '../netlink/hops'
import { routeMessage } from '../netlink/messages'
import type { KernelKind } from './kind'

/** sizeof(struct rtmsg) */
const RTMSG_SIZE = 12

type RouteMessage = MessageOf<typeof routeMessage>

/** Dump of the routes of one family on one link, except the kernel's own. ENODEV if there is no such link. */
export const listRoutes = (family: Family, linkIndex: number): Question<Route> => ({
  attempted: 'list routes',
  encode: (writer) => encodeListing(writer, family, { type: RTN_UNICAST, link: linkIndex }),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family) || message.type !== RTN_UNICAST) return undefined
    if (message.protocol === RTPROT_KERNEL) return undefined
    // A route to several gateways has no RTA_OIF. It passed the kernel's filter because our link is one of
    // their links.
    if (message.link !== undefined && message.link !== linkIndex) return undefined
    return routeOf(message, family, targetOf(message, linkIndex))
  },
})

/**
 * Dump of the routes of our protocol on other links than these: those of direct peers, those to what this
 * host announces, and blackholes.
 */
export const listOwnRoutesElsewhere = (family: Family, links: readonly number[]): Question<Route> => ({
  attempted: 'list routes of our protocol',
  encode: (writer) => encodeListing(writer, family, { protocol: ROUTE_PROTOCOL }),
  decode(view, start, end) {
    // Nearly all routes are on those links: these are not decoded.
    const out = findU32(view, start + RTMSG_SIZE, end, RTA_OIF)
    if (out !== undefined && links.includes(out)) return undefined
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family) || message.protocol !== ROUTE_PROTOCOL) return undefined
    const { link, gateway, type, nexthop, multipath } = message
    if (type === RTN_BLACKHOLE) return routeOf(message, family, { kind: 'blackhole' })
    if (type !== RTN_UNICAST) return undefined
    if (link === undefined) {
      const isThere = multipath === undefined || multipath.some((hop) => links.includes(hop.link))
      return isThere ? undefined : routeOf(message, family, sharedTarget(multipath, undefined))
    }
    // Another program moved the nexthop object of our route to another link.
    if (nexthop !== undefined) return routeOf(message, family, { kind: 'nexthop', id: nexthop })
    if (gateway !== undefined) return routeOf(message, family, { kind: 'direct', gateway, link })
    return message.encapsulation === undefined ? routeOf(message, family, { kind: 'link', link }) : undefined
  },
})

/**
 * Dump of the unicast routes that are not ours, in the kernel's order.
 * @param within only routes into this network: a host may have a million others
 */
export const listUnderlayRoutes = (family: Family, within?: Prefix): Question<UnderlayRoute> => ({
  attempted: 'list routes',
  encode: (writer) => encodeListing(writer, family, { type: RTN_UNICAST }),
  decode(view, start, end) {
    const message = routeMessage.decode(view, start, end)
    if (!isMain(message, family) || message.type !== RTN_UNICAST) return undefined
    if (message.protocol === ROUTE_PROTOCOL) return undefined
    const { destination, metric } = routeOf(message, family, { kind: 'other' })
    if (within !== undefined && !prefixContains(within, destination.address)) return undefined
    const { link, gateway, multipath } = message
    return {
      destination,
      metric,
      linkIndex: link,
      ...(multipath && { linkIndexes: multipath.map((hop) => hop.link) }),
      hasGateway: gateway !== undefined,
    }
  },
})

/** A route with the fields that `ip route` shows. */
export interface SeenRoute {
  readonly destination: Prefix
  readonly metric: number
  readonly tos: number
  readonly protocol: number
  readonly gateway: IpAddress | undefined
  readonly linkIndex: number | undefined
}

/** Dump of all routes of the main table, of all types. */
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

/**
 * The kernel refuses a route whose destination, metric and tos are taken (EEXIST), unless the message
 * replaces. It refuses to delete a route that is not there (ESRCH). In a deletion, metric 0 means any metric,
 * and the kernel takes the route with the lowest; the target in the message keeps that to our link.
 */
export const route: KernelKind<'route'> = {
  async read({ dump, family, link, elsewhere: { network, allowed = [], routes: isElsewhere, links } }) {
    const routes = new Map<RouteKey, readonly Route[]>()
    addRoutes(routes, await dump(listRoutes(family, link)))
    for (const other of links) {
      const there = await dump(listRoutes(family, other))
      addRoutes(
        routes,
        there.map((each) => overOtherLink(each, other)).filter((each) => !leadsOver(each, link)),
      )
    }
    if (network === undefined || !isElsewhere) return routes
    const own = await dump(listOwnRoutesElsewhere(family, [link, ...links]))
    addRoutes(
      routes,
      own.filter(({ destination: { address } }) =>
        [network, ...allowed].some((range) => prefixContains(range, address)),
      ),
    )
    return routes
  },
  encode(writer, link, operation) {
    if (operation.do === 'delete') {
      encodeRoute(writer, RTM_DELROUTE, NLM_F_REQUEST, link, operation.value, RT_SCOPE_NOWHERE)
      return
    }
    const flags = NLM_F_REQUEST | NLM_F_CREATE | (operation.replace ? NLM_F_REPLACE : NLM_F_EXCL)
    // As ip-route(8) does: the scope of a route without a gateway.
    const scope = operation.value.target.kind === 'link' ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE
    encodeRoute(writer, RTM_NEWROUTE, flags, link, operation.value, scope)
  },
  notification: {
    made: RTM_NEWROUTE,
    deleted: RTM_DELROUTE,
    groups: [RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE],
    index: { attribute: RTA_OIF, after: RTMSG_SIZE },
    place: { attribute: RTA_DST, after: RTMSG_SIZE, read: readAddress },
    namesSender: true,
  },
}

/** A route through a nexthop object follows the object to its new link. */
function overOtherLink(route: Route, link: number): Route {
  const { target } = route
  if (target.kind === 'gateway') return { ...route, target: overLink(target, link) }
  if (target.kind !== 'shared') return route
  const members = target.members.map((member) => ({ ...member, target: overLink(member.target, link) }))
  return { ...route, target: { kind: 'shared', members } }
}

const overLink = (target: SharedMember['target'], link: number): SharedMember['target'] =>
  target.kind === 'gateway' ? { kind: 'direct', gateway: target.gateway, link } : target

/** Whether one of several gateways is on that link: then the dump of that link has the route already. */
const leadsOver = ({ target }: Route, link: number): boolean =>
  target.kind === 'shared' &&
  target.members.some((member) => member.target.kind === 'direct' && member.target.link === link)

function addRoutes(grouped: Map<RouteKey, readonly Route[]>, routes: readonly Route[]): void {
  for (const each of routes) {
    const key = routeKey(each.destination)
    grouped.set(key, [...(grouped.get(key) ?? []), each])
  }
}

function encodeRoute(
  writer: MessageWriter,
  type: number,
  flags: number,
  index: number,
  { destination, metric, tos, protocol, target, mtu }: Route,
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
    multipath: target.kind === 'shared' ? target.members.map((member) => hopTo(member, index)) : undefined,
    metric: metric === 0 ? undefined : metric,
    nexthop: target.kind === 'nexthop' ? target.id : undefined,
    metrics: mtu !== 0 || needsMetrics(target, flags) ? { mtu } : undefined,
  })
}

/**
 * A route without metrics would get those of a former route through the same nexthop object: the kernel does
 * not compare them (fib_create_info and fib_find_info_nh, net/ipv4/fib_semantics.c). An MTU of 0 is none.
 */
const needsMetrics = ({ kind }: RouteTarget, flags: number): boolean =>
  kind === 'nexthop' && (flags & NLM_F_REPLACE) !== 0

/** With a nexthop object, the link is that of the object: the kernel refuses a message with both. */
function linkOf(target: RouteTarget, index: number): number | undefined {
  if (target.kind === 'direct' || target.kind === 'link') return target.link
  return target.kind === 'nexthop' || target.kind === 'blackhole' || target.kind === 'shared'
    ? undefined
    : index
}

const hopTo = ({ target, weight }: SharedMember, index: number): Hop => ({
  link: target.kind === 'direct' ? target.link : index,
  gateway: target.gateway,
  weight,
  flags: target.kind === 'gateway' && target.onlink ? RTNH_F_ONLINK : 0,
})

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
  const { destination, destinationLength, metric = 0, tos, protocol, metrics } = message
  const address = destination ?? anyAddress(family)
  const mtu = metrics?.mtu ?? 0
  return { destination: { address, length: destinationLength }, metric, tos, protocol, target, mtu }
}

function targetOf(message: RouteMessage, ours: number): RouteTarget {
  const { nexthop, gateway, multipath, encapsulation, flags } = message
  if (nexthop !== undefined) return { kind: 'nexthop', id: nexthop }
  if (multipath !== undefined) return sharedTarget(multipath, ours)
  if (gateway === undefined || encapsulation !== undefined) return { kind: 'other' }
  return { kind: 'gateway', gateway, onlink: (flags & RTNH_F_ONLINK) !== 0 }
}

/** @param ours index of our device */
function sharedTarget(multipath: readonly Hop[], ours: number | undefined): RouteTarget {
  const members: SharedMember[] = []
  for (const { link, gateway, weight, flags, encapsulated } of multipath) {
    if (gateway === undefined || encapsulated === true) return { kind: 'other' }
    const onlink = (flags & RTNH_F_ONLINK) !== 0
    const target: SharedMember['target'] =
      link === ours ? { kind: 'gateway', gateway, onlink } : { kind: 'direct', gateway, link }
    members.push({ target, weight })
  }
  return { kind: 'shared', members }
}
