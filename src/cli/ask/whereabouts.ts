/**
 * Which host gets the packets of an address: one whose subnet has it, or those that announce a prefix with
 * it. All commands that take an address find its host by this.
 */
import type { Behind, PrefixesDocument } from '../../api/documents'
import { subnetOf } from '../../api/peer-order'
import type { PeerStatus } from '../../api/status'
import { daemonIsDown, readDaemon } from '../../client/daemon-socket'
import { type IpAddress, type Prefix, parseIp, parseIpPrefix, prefixContains } from '../../model/address'
import { describeError, isOverlayError } from '../../model/errors'
import { subnetsOfKey } from '../../model/lease'

/** What the daemon says that hosts announce. */
export type Announced = PrefixesDocument['prefixes']

/**
 * What is known of an address that is in no subnet. Without a field: nobody announces it, or it was not
 * looked for.
 */
export interface Whereabouts {
  readonly behind?: Behind
  /** Why it is not known what hosts announce. */
  readonly unknown?: string
}

/** Whether a prefix has an address; one of the other family is in none. */
export function holds(prefix: Prefix | undefined, address: IpAddress | undefined): boolean {
  return prefix !== undefined && address !== undefined && prefixContains(prefix, address)
}

/** Whether an address is in the subnet of the peer. */
export const hasAddress = (peer: PeerStatus, address: IpAddress | undefined): boolean =>
  holds(subnetOf(peer), address)

/** The longest announced prefix with that address, and the hosts that get its packets, the best first. */
export function behindOf(announced: Announced, address: IpAddress): Behind | undefined {
  let found: { readonly length: number; readonly prefix: string; readonly rows: Announced } | undefined
  for (const row of announced) {
    const { prefix: text, state, host } = row
    const prefix = parseIpPrefix(text)
    const isFollowed = host !== undefined && (state === 'wins' || state === 'shares')
    if (!isFollowed || prefix === undefined || !prefixContains(prefix, address)) continue
    const { length } = prefix
    if (found === undefined || length > found.length) found = { length, prefix: text, rows: [row] }
    else if (found.prefix === text) found = { ...found, rows: [...found.rows, row] }
  }
  return (
    found && {
      prefix: found.prefix,
      hosts: found.rows.map(({ host = '', own, via }) => ({ host, own, ...(via !== undefined && { via }) })),
    }
  )
}

/** The subnets of the hosts that announce the prefix, of its family; those of the best host first. */
export const subnetsBehind = ({ prefix, hosts }: Behind): readonly string[] =>
  hosts.flatMap(({ host }) => subnetsLike(prefix, host))

/** A host with both families has two subnets in its name. */
function subnetsLike(prefix: string, host: string): readonly string[] {
  const isIpv6 = prefix.includes(':')
  return subnetsOfKey(host).filter((subnet) => subnet.includes(':') === isIpv6)
}

/**
 * Asks the daemon which host announces an address.
 * @param text an address; nobody is asked about any other text
 */
export async function findBehind(runDirectory: string, text: string): Promise<Whereabouts> {
  const address = parseIp(text)
  if (address === undefined) return {}
  try {
    const document = await readDaemon(runDirectory, 'prefixes')
    if (document === undefined) return { unknown: daemonIsDown(runDirectory).message }
    const behind = behindOf(document.prefixes, address)
    return behind === undefined ? {} : { behind }
  } catch (error) {
    if (!isOverlayError(error)) throw error
    return { unknown: describeError(error) }
  }
}

/** The same for an address that is in no subnet of the peers. */
export async function findBehindBeside(
  runDirectory: string,
  text: string | undefined,
  peers: readonly PeerStatus[],
): Promise<Whereabouts> {
  const address = text === undefined ? undefined : parseIp(text)
  const isInSubnet = peers.some((peer) => peer.state !== 'rejected' && hasAddress(peer, address))
  const isPublicIp = peers.some(({ publicIp }) => publicIp === text)
  return text === undefined || isInSubnet || isPublicIp ? {} : findBehind(runDirectory, text)
}

/** `10.5.240.7 is in the announced prefix 10.5.240.0/28 of 10.5.1.0/24 (via br-moving)` */
export function describeBehind(text: string, { prefix, hosts }: Behind): string {
  const names = hosts.map(({ host, own, via }) => {
    const name = own ? 'this host' : subnetsLike(prefix, host).join(' and ') || host
    return via === undefined ? name : `${name} (via ${via})`
  })
  return `${text} is in the announced prefix ${prefix} of ${names.join(' and ')}`
}

/** What is to be said of the whereabouts of an address; `undefined` for nothing. */
export function describeWhereabouts(text: string, { behind, unknown }: Whereabouts): string | undefined {
  if (behind !== undefined) return describeBehind(text, behind)
  return unknown === undefined
    ? undefined
    : `whether a host announces ${text} besides its subnet is not known: ${unknown}`
}
