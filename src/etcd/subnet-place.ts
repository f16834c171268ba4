/** The keys of a subnet, and the lease that a transaction found under one. */
import type { Lease, LeaseSubnet, UnreadableLease } from '../model/lease'
import { formatSubnetName, type Keys, keyText } from './codec/keys'
import { decodeLease } from './codec/lease-codec'
import type { KeyValue } from './codec/wire'

interface PlaceRange {
  readonly key: Buffer
  readonly range_end?: Buffer
}

/** The character after `&`. */
const AFTER_AND = "'"

/**
 * The key of a subnet, and all keys with the same IPv4 subnet: `&` and an IPv6 subnet may follow it in a
 * key's name.
 */
export function subnetPlace(
  keys: Keys,
  subnet: LeaseSubnet,
): { readonly key: Buffer; readonly range: PlaceRange } {
  const key = Buffer.from(keys.subnets + formatSubnetName(subnet))
  if (subnet.ipv4 === undefined) return { key, range: { key } }
  const alone = keys.subnets + formatSubnetName({ ipv4: subnet.ipv4, ipv6: undefined })
  return { key, range: { key: Buffer.from(alone), range_end: Buffer.from(`${alone}${AFTER_AND}`) } }
}

/** The lease under a key that a transaction read. */
export function leaseOf(keys: Keys, found: KeyValue): Lease | UnreadableLease {
  const name = keyText(found.key.subarray(keys.bytes.subnets.length))
  return decodeLease({ kind: 'lease', key: keys.subnets + name, name }, found)
}
