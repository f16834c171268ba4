/** Nexthop objects, IPv4 only: one for each peer, named by the peer's route. */
import { formatIp, type Ipv4, ipv4 } from '../../model/address'
import type { NexthopId, Route } from '../../model/kernel/route'
import type { PlanKind } from './kind'
import { route } from './route'
import { single } from './single'

/**
 * The id of a peer's nexthop object: the number of its subnet address. No two networks of one host can hold
 * the same subnet, and low ids are left to routing daemons, which count from 1.
 */
export const nexthopId = (subnet: Ipv4): NexthopId => subnet

export const nexthop: PlanKind<'nexthop'> = {
  ...single('nexthop', (id, gateway) => `${id} via ${formatIp(gateway)}`),
  want(objects, peers) {
    for (const { peer, target } of peers) {
      const { address } = peer.subnet
      if (target.kind === 'nexthop' && typeof address === 'number') objects.set(target.id, address)
    }
  },
  own(keys, { subnet: { address } }) {
    if (typeof address === 'number') keys.add(nexthopId(address))
  },
  owner: (id, peers) => peers.peerAt(ipv4(id)),
  // A peer may have left since its route was compared: the kernel would remove that route with the nexthop,
  // and report neither.
  takesAlong(keys, objects, peers) {
    if (keys.nexthop.size === 0) return
    const isThrough = ({ target }: Route): boolean => target.kind === 'nexthop' && keys.nexthop.has(target.id)
    for (const [key, routes] of objects.route)
      if (routes.some(isThrough) && route.owner(key, peers) === undefined) keys.route.add(key)
  },
}
