/** What multicast needs of this host as it is now. */
import type { GroupTable } from '../plan/group-table'
import { multicastLink } from '../plan/multicast'
import { hostsOf } from '../plan/multicast-groups'
import type { MemberParts } from './member'
import type { MulticastTarget } from './multicast-keeper'

/** @returns undefined for a host that takes no part */
export function multicastTarget(
  { config, overlays }: MemberParts,
  groups: GroupTable,
): MulticastTarget | undefined {
  const vni = config.backend.multicast
  // The half that comes first in the lease carries the multicast of both.
  const [carrier] = overlays
  if (vni === undefined || carrier === undefined) return undefined
  return {
    link: multicastLink(carrier.reconciler.desiredLink, vni),
    networks: overlays.map(({ network }) => network),
    subnets: overlays.map(({ subnet }) => subnet),
    hosts: hostsOf(carrier.peers.peers(), vni, (key) => groups.toldBy(key)),
    limit: config.backend.multicastLimit,
  }
}
