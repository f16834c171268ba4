/**
 * The host that an operator reserved a subnet for: a key of ours beside the reservation. flannel does not see
 * it, and hosts need no right to write it. The reservation itself does not suffice: its host can write it,
 * and could put any other host into it.
 *
 *     {"publicIp":"192.0.2.12","publicIpv6":"2001:db8::12"}
 */
import { z } from 'zod'
import { formatIp, ipv4, parseIpv4, parseIpv6 } from '../../model/address'
import type { LeaseSubnet, LeaseValue, ReservedFor } from '../../model/lease'
import type { Keys } from './keys'
import { formatSubnetName } from './keys'
import { readOwnValue } from './own-value'

/** Most characters of a value; overlayctl writes fewer. */
const LONGEST = 1024

const schema = z.object({ publicIp: z.string().optional(), publicIpv6: z.string().optional() })

/** The key of ours that belongs to a reservation. */
export const reservationKey = (keys: Keys, subnet: LeaseSubnet): string =>
  keys.reservations + formatSubnetName(subnet)

export const encodeReservedFor = ({ publicIp, publicIpv6 }: LeaseValue): string =>
  JSON.stringify({
    ...(publicIp !== ipv4(0) && { publicIp: formatIp(publicIp) }),
    ...(publicIpv6 !== undefined && { publicIpv6: formatIp(publicIpv6) }),
  })

/**
 * @returns the key of the lease, and the host it is reserved for; `undefined` if unreadable. Never throws.
 */
export function decodeReservedFor(
  keys: Keys,
  key: string,
  value: string,
): readonly [leaseKey: string, ReservedFor] | undefined {
  if (!key.startsWith(keys.reservations) || value.length > LONGEST) return undefined
  const read = readOwnValue(schema, value)
  if (read.reason !== undefined) return undefined
  const { publicIp = '', publicIpv6 = '' } = read.value
  return [
    keys.subnets + key.slice(keys.reservations.length),
    { publicIp: parseIpv4(publicIp), publicIpv6: parseIpv6(publicIpv6) },
  ]
}
