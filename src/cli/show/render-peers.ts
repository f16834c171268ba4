/** Peers as a table. */

import type { PeerStatus, Status } from '../../api/status'
import { PEER_STATES, type PeerState } from '../../api/words'
import { printableData } from '../../model/printable'
import { ago, percent, roundTrip, whyUnreached } from './render-mesh'
import { type Column, renderTable, type Screen, type Style } from './screen'

const STYLES: Readonly<Record<PeerState, Style>> = {
  ok: 'green',
  held: 'yellow',
  pending: 'yellow',
  failing: 'red',
  rejected: 'red',
}

const ENCRYPTION_STYLES = { encrypted: 'green', clear: 'yellow', none: 'red' } as const

const ENCRYPTION: Column<PeerStatus> = {
  title: 'ENCRYPTION',
  cell: ({ encryption = '' }) => encryption,
  style: ({ encryption }) => encryption && ENCRYPTION_STYLES[encryption],
}

const REACH_STYLES = { unknown: 'gray', answering: 'green', suspect: 'yellow', unreachable: 'red' } as const

const PROBE: readonly Column<PeerStatus>[] = [
  {
    title: 'REACH',
    cell: ({ probe }) => probe?.reach ?? '',
    style: ({ probe }) => probe && REACH_STYLES[probe.reach],
  },
  { title: 'RTT', cell: ({ probe }) => roundTrip(probe?.rttMs) },
  { title: 'LOSS', cell: ({ probe }) => percent(probe?.loss) },
  { title: 'SEEN', cell: ({ probe }) => ago(probe?.answeredSecondsAgo), spare: true },
]

/** The columns that these peers have values for. */
export const peerColumns = (peers: readonly PeerStatus[]): Column<PeerStatus>[] => [
  { title: 'SUBNET', cell: ({ subnet }) => subnet },
  { title: 'PUBLIC IP', cell: ({ publicIp }) => publicIp },
  { title: 'MAC', cell: ({ mac }) => mac, spare: true },
  { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => STYLES[state] },
  ...(peers.some(({ encryption }) => encryption !== undefined) ? [ENCRYPTION] : []),
  ...(peers.some(({ probe }) => probe !== undefined) ? PROBE : []),
  {
    title: 'WHY',
    cell: ({ reason, encryptionReason, probe }) =>
      [reason, encryptionReason, whyUnreached(probe)].filter(Boolean).join('; '),
  },
]

/** @param wide nothing is left out, however narrow the screen is */
export function renderPeerTable(peers: readonly PeerStatus[], screen: Screen, wide = false): string[] {
  const shown = peers.map((peer) => printableData(peer))
  return renderTable(
    peerColumns(shown),
    shown,
    wide ? { ...screen, width: Number.POSITIVE_INFINITY, wide } : screen,
  )
}

/** `5 ok, 1 rejected` */
export function countPeers({ peers, peerCounts = countStates(peers) }: CountedPeers): string {
  const counts = PEER_STATES.flatMap((state) => (peerCounts[state] ? `${peerCounts[state]} ${state}` : []))
  return counts.length === 0 ? 'none' : counts.join(', ')
}

/** Number of peers, including those that are not listed. */
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
