/** One family's half of this host in the network: its device, its peers, and what keeps the kernel equal to them. */
import type { Family, Prefix } from '../model/address'
import type { LinkSpec } from '../model/kernel'
import type { PeerTable } from '../plan/peer-table'
import type { Reconciler } from './reconciler'

export interface Overlay {
  readonly family: Family
  readonly network: Prefix
  readonly subnet: Prefix
  readonly link: LinkSpec
  readonly peers: PeerTable
  readonly reconciler: Reconciler
}
