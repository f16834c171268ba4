/**
 * Permanent neighbours: the link-layer address of each peer's gateway, so that the kernel never has to ask
 * for it.
 */
import { formatIp, formatMac } from '../../model/address'
import type { PlanKind } from './kind'
import { single } from './single'

export const neighbour: PlanKind<'neighbour'> = {
  ...single('neighbour', (address, mac) => `${formatIp(address)} lladdr ${formatMac(mac)}`),
  want(objects, peers) {
    for (const { peer, target } of peers)
      if (target.kind !== 'direct') objects.set(peer.subnet.address, peer.mac)
  },
  own(keys, { subnet }) {
    keys.add(subnet.address)
  },
  owner: (address, peers) => peers.peerAt(address),
}
