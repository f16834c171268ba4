/** Which peers are shown, and in which order. */

import { type PeerSort, sortPeers, subnetOf } from '../daemon/peer-order'
import { PEER_STATES, type PeerState, type PeerStatus } from '../daemon/status'
import { UsageError } from '../daemon/usage-error'
import { familyOf, type IpAddress, parseIp, prefixContains } from '../model/address'

export interface PeerQuery {
  /** None: all. */
  readonly states: readonly PeerState[]
  /** A part of what is shown of a peer, or an address inside its subnet; empty for all. */
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

/** The peers that are asked for, sorted; equal ones by their subnet. */
export function queryPeers(
  peers: readonly PeerStatus[],
  { states, match, sort }: PeerQuery,
): readonly PeerStatus[] {
  const address = parseIp(match)
  const text = match.toLowerCase()
  const chosen = peers.filter(
    (peer) =>
      (states.length === 0 || states.includes(peer.state)) &&
      (text === '' || matchesText(peer, text) || (address !== undefined && holds(peer, address))),
  )
  return sortPeers(chosen, sort)
}

const matchesText = ({ subnet, publicIp, mac, state, reason }: PeerStatus, text: string): boolean =>
  [subnet, publicIp, mac, state, reason].some((part) => part?.toLowerCase().includes(text))

function holds(peer: PeerStatus, address: IpAddress): boolean {
  const subnet = subnetOf(peer)
  return (
    subnet !== undefined && familyOf(subnet.address) === familyOf(address) && prefixContains(subnet, address)
  )
}
