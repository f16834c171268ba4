/** `overlayctl ping`: which packets reach another host, and which layer fails. */

import type { PingDocument } from '../../api/documents'
import { subnetOf } from '../../api/peer-order'
import type { PeerStatus, Status } from '../../api/status'
import { DOCUMENT_SCHEMA, type PingPart } from '../../api/words'
import { ping } from '../../host/ping'
import { type Family, familyOf, formatIp, type IpAddress, parseIp, parseIpPrefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import {
  describeWhereabouts,
  findBehind,
  hasAddress,
  subnetsBehind,
  type Whereabouts,
} from '../ask/whereabouts'
import { EXIT } from '../exit'
import { type Output, printDocument } from '../show/output'
import { renderPing } from '../show/render-ping'
import { screenOf } from '../show/screen'
import { whyPeersUnknown } from '../show/unknown'
import { readStatus } from './status'

/** Bytes of a small packet, IP header included: as ping(8) sends them by itself. */
const SMALL: Readonly<Record<Family, number>> = { IPv4: 84, IPv6: 104 }
/** The MTU that is assumed where there is no device. */
const USUAL_MTU = 1450
const MOST_PACKETS = 100

export interface PingFlags {
  readonly output: Output
  /** Packets of each kind. */
  readonly count: number
}

/** What is sent where. */
export interface PingTask {
  readonly part: PingPart
  readonly address: IpAddress
  readonly size: number
}

/**
 * Pings, and prints what came back.
 * @returns the exit code: 1 when a packet was lost
 */
export async function runPing(
  options: Options,
  target: string,
  { output, count }: PingFlags,
): Promise<number> {
  if (!Number.isInteger(count) || count < 1 || count > MOST_PACKETS)
    throw new UsageError(`--count is ${count}`, `give a whole number from 1 to ${MOST_PACKETS}`)
  demandTarget(target)
  const status = await readStatus(options)
  const { peer, behind } = await findPeer(status, target, () => findBehind(options['run-dir'], target))
  const probes = await Promise.all(
    tasksFor(status, peer, target).map(async ({ part, address, size }) => {
      const answer = await ping({ address, size, count })
      return { part, address: formatIp(address), size, ...answer }
    }),
  )
  const fails = failingPart(probes)
  const document: PingDocument = {
    schema: DOCUMENT_SCHEMA,
    target,
    host: { subnet: peer.subnet, publicIp: peer.publicIp },
    ...(behind !== undefined && { behind }),
    ...(peer.encryption !== undefined && { encryption: peer.encryption }),
    probes,
    ...(fails !== undefined && { fails }),
  }
  printDocument(document, output, () => renderPing(document, screenOf()))
  return fails === undefined ? EXIT.healthy : EXIT.degraded
}

/**
 * Refuses a text that can name no host, before anybody is asked.
 * @throws {UsageError}
 */
export function demandTarget(target: string): void {
  if (parseIp(target) !== undefined || parseIpPrefix(target) !== undefined) return
  throw new UsageError(
    `${JSON.stringify(target.slice(0, 64))} is no address and no subnet`,
    "name a host's PublicIP or subnet, or the address of a container: overlayctl ping 10.5.42.7",
  )
}

/** A peer that is pinged, and the announced prefix that the target is in. */
export interface Found extends Pick<Whereabouts, 'behind'> {
  readonly peer: PeerStatus
}

/**
 * The peer with that PublicIP or subnet, or with that address in its subnet, else the first one that
 * announces the address.
 * @param findAnnounced which hosts announce the target; called only for one in no subnet
 * @throws {OverlayError} `no-such-peer`, or `daemon-down` where the peers are not known
 */
export async function findPeer(
  status: Status,
  target: string,
  findAnnounced: () => Promise<Whereabouts>,
): Promise<Found> {
  const unknown = whyPeersUnknown(status)
  if (unknown !== undefined)
    throw new OverlayError('daemon-down', `the other hosts are not known: ${unknown}`)
  const peers = status.peers.filter(({ state }) => state !== 'rejected')
  const address = parseIp(target)
  const found = peers.find(
    (peer) => peer.publicIp === target || peer.subnet === target || hasAddress(peer, address),
  )
  if (found !== undefined) return { peer: found }
  const where = await findAnnounced()
  const { behind } = where
  if (behind?.hosts.some(({ own }) => own) === true)
    throw new OverlayError(
      'no-such-peer',
      `${target} is in ${behind.prefix}, which this host itself announces`,
      'ping it from another host, or with ping(8)',
    )
  const subnets = behind === undefined ? [] : subnetsBehind(behind)
  const announcer = subnets.flatMap((subnet) => peers.find((peer) => peer.subnet === subnet) ?? [])[0]
  if (announcer !== undefined && behind !== undefined) return { peer: announcer, behind }
  const note = describeWhereabouts(target, where)
  throw new OverlayError(
    'no-such-peer',
    `no other host has the PublicIP, the subnet or the container ${target}${note ? `; ${note}` : ''}`,
    'see the hosts: overlayctl peers; and what they announce besides: overlayctl prefixes',
  )
}

/** The packets for a target, from the lowest layer up. */
export function tasksFor(status: Status, peer: PeerStatus, target: string): PingTask[] {
  const [subnet, publicIp, address] = [subnetOf(peer)?.address, parseIp(peer.publicIp), parseIp(target)]
  if (subnet === undefined || publicIp === undefined) return []
  const family = familyOf(subnet)
  const device = family === 'IPv4' ? status.device : status.ipv6Device
  const isContainer = address !== undefined && address !== subnet && address !== publicIp
  return [
    { part: 'underlay', address: publicIp, size: SMALL[family] },
    { part: 'overlay', address: subnet, size: SMALL[family] },
    { part: 'full-size', address: subnet, size: device?.mtu ?? USUAL_MTU },
    ...(isContainer ? [{ part: 'container', address, size: SMALL[family] } as const] : []),
  ]
}

/**
 * The first part that does not work. A silent PublicIP is no failure where the overlay answers: some networks
 * let no ICMP in.
 */
export function failingPart(probes: PingDocument['probes']): PingPart | undefined {
  const isLost = (part: PingPart): boolean =>
    probes.some((probe) => probe.part === part && probe.received < probe.sent)
  const isSilent = (part: PingPart): boolean =>
    probes.some((probe) => probe.part === part && probe.received === 0)
  if (isLost('overlay')) return isSilent('overlay') && isSilent('underlay') ? 'underlay' : 'overlay'
  if (isLost('full-size')) return 'full-size'
  return isLost('container') ? 'container' : undefined
}
