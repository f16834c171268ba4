/** The peers that are shown, and their order. */

import { type PeerSort, sortPeers } from '../../api/peer-order'
import type { PeerStatus } from '../../api/status'
import { PEER_STATES, type PeerState } from '../../api/words'
import { parseIp } from '../../model/address'
import { UsageError } from '../../options/usage-error'
import { hasAddress, subnetsBehind, type Whereabouts } from './whereabouts'

export interface PeerQuery {
  /** Empty for all. */
  readonly states: readonly PeerState[]
  /** A part of a peer's line, or an address in its subnet or behind what it announces; empty for all. */
  readonly match: string
  readonly sort: PeerSort
}

export const ALL_PEERS: PeerQuery = { states: [], match: '', sort: 'state' }

/**
 * Reads the flags.
 * @param states comma list
 * @throws {UsageError} naming the states there are
 */
export function readPeerQuery(flags: {
  readonly state?: string | undefined
  readonly match?: string | undefined
  readonly sort?: PeerSort | undefined
}): PeerQuery {
  const states = (flags.state ?? '').split(',').flatMap((name) => name.trim() || [])
  const isState = (name: string): name is PeerState => (PEER_STATES as readonly string[]).includes(name)
  const unknown = states.find((name) => !isState(name))
  if (unknown !== undefined) {
    throw new UsageError(
      `--state is ${JSON.stringify(unknown)}, and no peer is ever in that state`,
      `the states are ${PEER_STATES.join(', ')}`,
    )
  }
  return { states: states.filter(isState), match: flags.match ?? '', sort: flags.sort ?? 'state' }
}

/**
 * The peers that match, sorted. Equal ones are in the order of their subnets.
 * @param where of the text that is looked for
 */
export function queryPeers(
  peers: readonly PeerStatus[],
  { states, match, sort }: PeerQuery,
  { behind }: Whereabouts = {},
): readonly PeerStatus[] {
  const address = parseIp(match)
  const announcers = behind === undefined ? [] : subnetsBehind(behind)
  const text = match.toLowerCase()
  const chosen = peers.filter(
    (peer) =>
      (states.length === 0 || states.includes(peer.state)) &&
      (text === '' ||
        matchesText(peer, text) ||
        hasAddress(peer, address) ||
        announcers.includes(peer.subnet)),
  )
  return sortPeers(chosen, sort)
}

function matchesText(peer: PeerStatus, text: string): boolean {
  const { subnet, publicIp, mac, state, reason, encryption, encryptionReason, probe } = peer
  const parts = [subnet, publicIp, mac, state, reason, encryption, encryptionReason, probe?.reach]
  return parts.some((part) => part?.toLowerCase().includes(text))
}
