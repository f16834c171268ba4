/** Routes: to the subnet of each peer and to what it announces, over our device or past it. */
import { familyOf, type Prefix, prefixContains, samePrefix } from '../../model/address'
import {
  BLACKHOLE_METRIC,
  ROUTE_METRIC,
  ROUTE_PROTOCOL,
  type Route,
  type RouteTarget,
  routeAddress,
  routeKey,
  type SharedMember,
} from '../../model/kernel/route'
import { describeRoute } from '../../model/kernel/words'
import type { PlanKind } from './kind'

const NONE: readonly Route[] = []

export const route: PlanKind<'route'> = {
  want(objects, peers) {
    for (const { peer, target, mtu, prefixes } of peers) {
      objects.set(routeKey(peer.subnet), [routeTo(peer.subnet, target, mtu)])
      for (const each of prefixes)
        objects.set(routeKey(each.prefix), [routeTo(each.prefix, each.target, each.mtu)])
    }
  },
  own(keys, { subnet }, prefixes) {
    keys.add(routeKey(subnet))
    for (const prefix of prefixes) keys.add(routeKey(prefix))
  },
  owner(key, peers) {
    const peer = peers.peerAt(routeAddress(key))
    return peer !== undefined && routeKey(peer.subnet) === key ? peer : peers.peerOfPrefix?.(key)
  },
  make(desired, observed, operations) {
    for (const [key, routes] of desired) {
      const current = observed.get(key) ?? NONE
      for (const value of routes) {
        if (current.some((other) => sameRoute(other, value))) continue
        const former = current.find((other) => sameSlot(other, value))
        const hides = former !== undefined && hidesGateway(former, value)
        if (hides) operations.push({ do: 'delete', kind: 'route', key, value: former })
        operations.push({ do: 'set', kind: 'route', key, value, replace: former !== undefined && !hides })
      }
    }
  },
  remove(desired, observed, operations) {
    for (const [key, routes] of observed) {
      const wanted = desired.get(key) ?? NONE
      const missing = wanted.filter((value) => !routes.some((other) => sameRoute(other, value)))
      const replaced = missing.map((value) => routes.find((other) => sameSlot(other, value)))
      for (const value of routes) {
        if (wanted.some((other) => sameRoute(other, value)) || replaced.includes(value)) continue
        operations.push({ do: 'delete', kind: 'route', key, value })
      }
    }
  },
  remember(memory, { do: verb, key, value }) {
    const routes = memory.get(key)
    if (verb === 'delete') {
      const left = (routes ?? NONE).filter((other) => !sameRoute(other, value))
      if (left.length === 0) memory.delete(key)
      else memory.set(key, left)
      return
    }
    if (routes === undefined) {
      memory.set(key, [value])
      return
    }
    const slot = routes.findIndex((other) => sameSlot(other, value))
    memory.set(key, slot < 0 ? [...routes, value] : routes.with(slot, value))
  },
  same: sameRoute,
  *compare(desired, observed) {
    for (const [key, routes] of desired) {
      const there = observed.get(key) ?? NONE
      for (const wanted of routes) {
        const object = describeRoute(wanted)
        const other = there.find((each) => sameSlot(each, wanted))
        if (there.some((each) => sameRoute(each, wanted))) yield { object, state: 'in-sync' }
        else if (other === undefined) yield { object, state: 'missing' }
        else yield { object, state: 'wrong', found: describeRoute(other) }
      }
    }
    for (const [key, routes] of observed) {
      const wanted = desired.get(key) ?? NONE
      for (const each of routes)
        if (!wanted.some((other) => sameSlot(other, each)))
          yield { object: describeRoute(each), state: 'extra' }
    }
  },
}

/** The route to a destination with which we reach it. */
const routeTo = (destination: Prefix, target: RouteTarget, mtu: number): Route => ({
  destination,
  metric: ROUTE_METRIC[familyOf(destination.address)],
  tos: 0,
  protocol: ROUTE_PROTOCOL,
  target,
  mtu,
})

/** The route to what this host announces: to a link of its own, or to a gateway on one. */
export const localRoute = (
  prefix: Prefix,
  target: Extract<RouteTarget, { readonly kind: 'direct' | 'link' }>,
): Route => routeTo(prefix, target, 0)

/**
 * The route that swallows packets to containers of ours that do not exist. The bridge's route wins over it.
 */
export const blackholeRoute = (subnet: Prefix): Route => ({
  ...routeTo(subnet, { kind: 'blackhole' }, 0),
  metric: BLACKHOLE_METRIC,
})

/**
 * Whether the kernel refuses to replace a route, because of the route itself: it looks an IPv6 gateway up in
 * the routes that it has, also an on-link one (ip6_route_check_nh_onlink in net/ipv6/route.c), and finds the
 * peer's subnet address behind another device than ours.
 */
const hidesGateway = (former: Route, { destination, target }: Route): boolean =>
  former.target.kind === 'direct' &&
  target.kind === 'gateway' &&
  familyOf(destination.address) === 'IPv6' &&
  prefixContains(destination, target.gateway)

/** What the kernel takes for one place in its table: a replace hits the first route in it. */
function sameSlot(a: Route, b: Route): boolean {
  return samePrefix(a.destination, b.destination) && a.metric === b.metric && a.tos === b.tos
}

/** Whether two routes are one and the same to a packet. */
function sameRoute(a: Route, b: Route): boolean {
  return sameSlot(a, b) && a.protocol === b.protocol && a.mtu === b.mtu && sameTarget(a.target, b.target)
}

/** Their order means nothing to a packet: the kernel has another one for IPv6. */
const sameMembers = (a: readonly SharedMember[], b: readonly SharedMember[]): boolean =>
  a.length === b.length &&
  a.every(({ target, weight }) =>
    b.some((other) => weight === other.weight && sameTarget(target, other.target)),
  )

function sameTarget(a: RouteTarget, b: RouteTarget): boolean {
  if (a.kind === 'nexthop' && b.kind === 'nexthop') return a.id === b.id
  if (a.kind === 'gateway' && b.kind === 'gateway') return a.gateway === b.gateway && a.onlink === b.onlink
  if (a.kind === 'direct' && b.kind === 'direct') return a.gateway === b.gateway && a.link === b.link
  if (a.kind === 'link' && b.kind === 'link') return a.link === b.link
  if (a.kind === 'shared' && b.kind === 'shared') return sameMembers(a.members, b.members)
  return a.kind === b.kind && (a.kind === 'other' || a.kind === 'blackhole')
}
