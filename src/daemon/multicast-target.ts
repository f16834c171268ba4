/** What multicast needs of this host as it is now. */
import { multicastLink, participants } from '../plan/multicast'
import type { MemberParts } from './member'
import type { MulticastTarget } from './multicast-keeper'

/** @returns undefined for a host that takes no part */
export function multicastTarget({ config, overlays }: MemberParts): MulticastTarget | undefined {
  const vni = config.backend.multicast
  // The half that comes first in the lease carries the multicast of both.
  const [carrier] = overlays
  if (vni === undefined || carrier === undefined) return undefined
  return {
    link: multicastLink(carrier.reconciler.desiredLink, vni),
    networks: overlays.map(({ network }) => network),
    subnets: overlays.map(({ subnet }) => subnet),
    hosts: participants(carrier.peers.peers(), vni),
    limit: config.backend.multicastLimit,
  }
}
