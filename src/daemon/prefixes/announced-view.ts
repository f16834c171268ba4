/** What the parts of the announced prefixes read of this host. */
import type { Family } from '../../model/address'
import type { Lease } from '../../model/lease'
import type { ProtectedAddress } from '../../plan/peers/claim'
import type { Overlay } from '../overlay/overlay'

export interface AnnouncedView {
  readonly overlays: readonly Overlay[]
  readonly own: Lease
  /** Addresses that this host needs: etcd, gateways. */
  readonly surroundings: readonly ProtectedAddress[]
}

export const overlayOf = ({ overlays }: AnnouncedView, family: Family): Overlay | undefined =>
  overlays.find(({ spec }) => spec.family === family)

/** The key of the lease of a host. @param host its name below `subnets/` */
export const leaseKeyOf = ({ own: { key } }: AnnouncedView, host: string): string =>
  key.slice(0, key.lastIndexOf('/') + 1) + host

/** The name below `subnets/` of a lease. */
export const hostNameOf = (leaseKey: string): string => leaseKey.slice(leaseKey.lastIndexOf('/') + 1)
