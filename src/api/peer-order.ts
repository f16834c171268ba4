/** The order in which peers are shown. */

import { type IpAddress, type Prefix, parseIp, parseIpPrefix } from '../model/address'
import type { PeerStatus } from './status'
import type { PeerState } from './words'

export const PEER_SORTS = ['state', 'subnet', 'public-ip', 'mac'] as const
export type PeerSort = (typeof PEER_SORTS)[number]

/** Peers that need attention come first. */
export const WORST_FIRST: readonly PeerState[] = ['failing', 'rejected', 'held', 'pending', 'ok']

/** Peers that need attention have the lowest number: by state, and of one state the unreachable first. */
export const urgencyOf = ({ state, probe }: PeerStatus): number =>
  2 * WORST_FIRST.indexOf(state) + Number(probe?.reach !== 'unreachable')

/** Sorts peers. Equal ones are in the order of their subnets. */
export function sortPeers(peers: readonly PeerStatus[], sort: PeerSort): PeerStatus[] {
  const keyed = peers.map((peer) => ({ peer, subnet: subnetOf(peer), publicIp: parseIp(peer.publicIp) }))
  type Keyed = (typeof keyed)[number]
  const bySubnet = (a: Keyed, b: Keyed): number =>
    compareAddresses(a.subnet?.address, b.subnet?.address) || compareTexts(a.peer.subnet, b.peer.subnet)
  const orders: Readonly<Record<PeerSort, (a: Keyed, b: Keyed) => number>> = {
    state: (a, b) => urgencyOf(a.peer) - urgencyOf(b.peer),
    subnet: bySubnet,
    'public-ip': (a, b) => compareAddresses(a.publicIp, b.publicIp),
    mac: (a, b) => compareTexts(a.peer.mac, b.peer.mac),
  }
  return keyed.sort((a, b) => orders[sort](a, b) || bySubnet(a, b)).map(({ peer }) => peer)
}

/** @returns undefined for a rejected lease whose key names no subnet */
export const subnetOf = ({ subnet }: PeerStatus): Prefix | undefined => parseIpPrefix(subnet)

const compareTexts = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** IPv4 before IPv6, and no address last. */
function compareAddresses(a: IpAddress | undefined, b: IpAddress | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  const order = Number(typeof a === 'bigint') - Number(typeof b === 'bigint')
  return order || (a < b ? -1 : a > b ? 1 : 0)
}
