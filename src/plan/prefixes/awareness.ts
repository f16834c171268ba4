/**
 * Which hosts see announced prefixes. flannel does not, and the lease of a plain overlayd is flannel's, byte
 * for byte: etcd tells only of some hosts that they run overlayd.
 */
import type { LeaseValue, Peer, Vtep } from '../../model/lease'

/** What of a host's lease only overlayd writes. */
type Signs = Pick<Peer, 'multicast' | 'wireguard' | 'signed'>

/** Whether a lease is one that flannel does not write. */
export const isOverlayds = ({ multicast, wireguard, signed }: Signs): boolean =>
  multicast !== undefined || wireguard !== undefined || signed !== undefined

/** The same of the value of a lease. */
export const isOverlaydsValue = ({ vtep, vtep6, signature }: LeaseValue): boolean =>
  signature !== undefined || [vtep, vtep6].some((each: Vtep | undefined) => each && isOverlayds(each))

/** Hosts that are named; the others are counted. */
const MOST_NAMED = 3

/**
 * In words: hosts of which nobody knows whether they see announced prefixes.
 * @param unknown names of those hosts
 * @param total the number of all other hosts
 * @returns `undefined` where there is none
 */
export function describeUnaware(unknown: readonly string[], total: number): string | undefined {
  if (unknown.length === 0) return undefined
  const more = unknown.length - MOST_NAMED
  const names = [...unknown.slice(0, MOST_NAMED), ...(more > 0 ? [`${more} more`] : [])].join(', ')
  return (
    'hosts with flannel do not see announced prefixes; ' +
    `of ${unknown.length} of ${total} other hosts etcd does not tell ` +
    `whether they run flannel or overlayd: ${names}`
  )
}
