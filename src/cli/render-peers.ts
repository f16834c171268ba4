/** Peers as a table. */
import type { PeerState, PeerStatus } from '../daemon/status'
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
export function countPeers(peers: readonly PeerStatus[]): string {
  if (peers.length === 0) return 'none'
  const counts = new Map<string, number>()
  for (const { state } of peers) counts.set(state, (counts.get(state) ?? 0) + 1)
  return [...counts].map(([state, count]) => `${count} ${state}`).join(', ')
}
