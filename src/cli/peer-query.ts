/** Which peers are shown, and in which order. */

import { PEER_STATES, type PeerState, type PeerStatus } from '../daemon/status'
import { UsageError } from '../daemon/usage-error'
import {
  familyOf,
  type IpAddress,
  type Prefix,
  parseIp,
  parseIpv4Prefix,
  parseIpv6Prefix,
  prefixContains,
} from '../model/address'

export const PEER_SORTS = ['state', 'subnet', 'public-ip', 'mac'] as const
export type PeerSort = (typeof PEER_SORTS)[number]

export interface PeerQuery {
  /** None: all. */
  readonly states: readonly PeerState[]
  /** A part of what is shown of a peer, or an address inside its subnet; empty for all. */
  readonly match: string
  readonly sort: PeerSort
}

export const ALL_PEERS: PeerQuery = { states: [], match: '', sort: 'state' }

/** What needs someone's eyes first. */
const WORST_FIRST: readonly PeerState[] = ['failing', 'rejected', 'held', 'pending', 'ok']

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
  const keyed = chosen.map((peer) => ({ peer, subnet: subnetOf(peer), publicIp: parseIp(peer.publicIp) }))
  type Keyed = (typeof keyed)[number]
  const bySubnet = (a: Keyed, b: Keyed): number =>
    compareAddresses(a.subnet?.address, b.subnet?.address) || compareTexts(a.peer.subnet, b.peer.subnet)
  const orders: Readonly<Record<PeerSort, (a: Keyed, b: Keyed) => number>> = {
    state: (a, b) => WORST_FIRST.indexOf(a.peer.state) - WORST_FIRST.indexOf(b.peer.state),
    subnet: bySubnet,
    'public-ip': (a, b) => compareAddresses(a.publicIp, b.publicIp),
    mac: (a, b) => compareTexts(a.peer.mac, b.peer.mac),
  }
  return keyed.sort((a, b) => orders[sort](a, b) || bySubnet(a, b)).map(({ peer }) => peer)
}

const matchesText = ({ subnet, publicIp, mac, state, reason }: PeerStatus, text: string): boolean =>
  [subnet, publicIp, mac, state, reason].some((part) => part?.toLowerCase().includes(text))

function holds(peer: PeerStatus, address: IpAddress): boolean {
  const subnet = subnetOf(peer)
  return (
    subnet !== undefined && familyOf(subnet.address) === familyOf(address) && prefixContains(subnet, address)
  )
}

/** A rejected lease may name none. */
const subnetOf = ({ subnet }: PeerStatus): Prefix | undefined =>
  parseIpv4Prefix(subnet) ?? parseIpv6Prefix(subnet)

const compareTexts = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** IPv4 before IPv6, and what is none last. */
function compareAddresses(a: IpAddress | undefined, b: IpAddress | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  const order = Number(typeof a === 'bigint') - Number(typeof b === 'bigint')
  return order || (a < b ? -1 : a > b ? 1 : 0)
}
