/**
 * The record of an enrolled host: a key of ours that hosts may not write.
 *
 *     <prefix>/overlay/hosts/10.5.42.0-24
 *     {"identity":"q83v...=","user":"overlayd-10.5.42.0-24"}
 */
import { z } from 'zod'
import { type HostEntry, type HostRecord, parseIdentityKey } from '../../model/host-record'
import type { LeaseSubnet } from '../../model/lease'
import { type Decoded, formatSubnetName, type Keys, parseSubnetName } from './keys'
import { parsedBy } from './lease-codec'
import { readOwnValue } from './own-value'
import type { KeyValue } from './wire'

/** Most bytes of a value; overlayctl writes fewer than 400. */
const LONGEST = 4096
/** Most characters of a user's name. */
export const LONGEST_USER = 200

/** Fields of later versions are ignored. */
const schema = z.object({
  identity: parsedBy(parseIdentityKey, 'an identity of a host (44 characters of base64)').optional(),
  user: z.string().min(1).max(LONGEST_USER).optional(),
})

export const hostKey = (keys: Keys, subnet: LeaseSubnet): string => keys.hosts + formatSubnetName(subnet)

export const encodeHost = ({ identity, user }: HostRecord): string => JSON.stringify({ identity, user })

/** Reads a value. Never throws. */
export function decodeHostValue(value: Buffer): Decoded<HostRecord> {
  if (value.length > LONGEST)
    return { reason: `the value has ${value.length} bytes; at most ${LONGEST} are read` }
  const read = readOwnValue(schema, value.toString())
  if (read.reason !== undefined) return read
  const { identity, user } = read.value
  return { value: { ...(identity !== undefined && { identity }), ...(user !== undefined && { user }) } }
}

/**
 * Reads a key under `overlay/hosts/` with its value. Never throws.
 * @param name the key's last part
 */
export function decodeHost(
  name: string,
  { value, modRevision }: Pick<KeyValue, 'value' | 'modRevision'>,
): HostEntry {
  const { value: subnet, reason } = parseSubnetName(name)
  if (subnet === undefined) return { name, modRevision, subnet, record: { reason } }
  const decoded = decodeHostValue(value)
  const record = decoded.reason === undefined ? decoded.value : { reason: decoded.reason }
  return { name, modRevision, subnet, record }
}
