/** Peers as a table. */
import { PEER_STATES, type PeerState, type PeerStatus, type Status } from '../daemon/status'
import { type Column, renderTable, type Screen, type Style } from './screen'

const STYLES: Readonly<Record<PeerState, Style>> = {
  ok: 'green',
  held: 'yellow',
  pending: 'yellow',
  failing: 'red',
  rejected: 'red',
}

const COLUMNS: readonly Column<PeerStatus>[] = [
  { title: 'SUBNET', cell: ({ subnet }) => subnet },
  { title: 'PUBLIC IP', cell: ({ publicIp }) => publicIp },
  { title: 'MAC', cell: ({ mac }) => mac, spare: true },
  { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => STYLES[state] },
  { title: 'WHY', cell: ({ reason = '' }) => reason },
]

/** @param wide leaves nothing out, however narrow the screen is */
export function renderPeerTable(peers: readonly PeerStatus[], screen: Screen, wide = false): string[] {
  return renderTable(COLUMNS, peers, wide ? { ...screen, width: Number.POSITIVE_INFINITY } : screen)
}

/** `5 ok, 1 rejected` */
export function countPeers({ peers, peerCounts = countStates(peers) }: CountedPeers): string {
  const counts = PEER_STATES.flatMap((state) => (peerCounts[state] ? `${peerCounts[state]} ${state}` : []))
  return counts.length === 0 ? 'none' : counts.join(', ')
}

/** How many there are, shown or not. */
export const totalOf = ({ peers, peerCounts }: CountedPeers): number =>
  peerCounts === undefined
    ? peers.length
    : Object.values(peerCounts).reduce((total, count) => total + count, 0)

type CountedPeers = Pick<Status, 'peers' | 'peerCounts'>

function countStates(peers: readonly PeerStatus[]): Partial<Record<PeerState, number>> {
  const counts: Partial<Record<PeerState, number>> = {}
  for (const { state } of peers) counts[state] = (counts[state] ?? 0) + 1
  return counts
}
