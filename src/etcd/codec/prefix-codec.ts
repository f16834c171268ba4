/**
 * A prefix that a host announces: a key of ours beside flannel's keys, outside of the range flannel watches.
 *
 *     <prefix>/overlay/prefixes/10.5.12.0-24/10.5.240.7-32
 *     {"priority":100,"until":"2026-11-30T14:00:00.000Z","via":"br-moving","share":1}
 *     <prefix>/overlay/prefixes/10.5.12.0-24/10.5.243.0-24
 *     {"priority":100,"further":true}
 */
import { z } from 'zod'
import { isNetwork, type Prefix, parseIpPrefix } from '../../model/address'
import type { LeaseSubnet } from '../../model/lease'
import {
  type Announcement,
  formatVia,
  MOST_PRIORITY,
  MOST_VIA_TEXT,
  MOST_WEIGHT,
  type PrefixEntry,
  parseVia,
  prefixName,
} from '../../model/prefixes'
import { type Decoded, formatSubnetName, type KeyRange, type Keys, parseSubnetName } from './keys'
import { readOwnValue } from './own-value'
import type { KeyValue } from './wire'

/** Most bytes of a value; a host of ours writes fewer than 150. */
const LONGEST = 1024

/** Fields of later versions are ignored. */
const schema = z.object({
  priority: z.int().min(0).max(MOST_PRIORITY),
  until: z.iso.datetime().optional(),
  via: z
    .string()
    .max(MOST_VIA_TEXT)
    .refine((text) => parseVia(text) !== undefined, 'expected the name of a link, or an address')
    .optional(),
  share: z.int().min(1).max(MOST_WEIGHT).optional(),
  further: z.literal(true).optional(),
})

/** The keys of all hosts. */
export const allPrefixesOf = ({ prefixes }: Keys): KeyRange => ({
  start: prefixes,
  // '0' is the character after '/'.
  end: `${prefixes.slice(0, -1)}0`,
})

/** All keys that the host of that subnet may announce prefixes by. */
export function prefixRangeOf(keys: Keys, subnet: LeaseSubnet): KeyRange {
  const start = `${keys.prefixes}${formatSubnetName(subnet)}`
  return { start: `${start}/`, end: `${start}0` }
}

export const prefixKey = (keys: Keys, subnet: LeaseSubnet, prefix: Prefix): string =>
  `${prefixRangeOf(keys, subnet).start}${prefixName(prefix)}`

export const encodeAnnouncement = ({ priority, until, via, share, further }: Announcement): string =>
  JSON.stringify({
    priority,
    until: until === undefined ? undefined : new Date(until).toISOString(),
    via: via && formatVia(via),
    share,
    further,
  })

/** Reads a value. Never throws. */
export function decodeAnnouncementValue(text: string): Decoded<Omit<Announcement, 'prefix'>> {
  if (text.length > LONGEST) return { reason: `the value has more than ${LONGEST} characters` }
  const read = readOwnValue(schema, text)
  if (read.reason !== undefined) return read
  const { priority, until, via, share, further } = read.value
  return {
    value: {
      priority,
      until: until === undefined ? undefined : Date.parse(until),
      via: via === undefined ? undefined : parseVia(via),
      ...(share !== undefined && { share }),
      ...(further !== undefined && { further }),
    },
  }
}

/** Reads the part of a key that names the prefix. Only one text names a prefix. */
function parsePrefixName(text: string): Decoded<Prefix> {
  const slashed = text.replace('-', '/')
  const prefix = parseIpPrefix(slashed)
  if (prefix === undefined) return { reason: 'the key does not end in a prefix written as in 10.5.240.7-32' }
  if (!isNetwork(prefix)) return { reason: `${text} in the key has host bits` }
  if (prefixName(prefix) !== text) return { reason: `${text} in the key is written ${prefixName(prefix)}` }
  return { value: prefix }
}

/**
 * Reads a key under `overlay/prefixes/` with its value. Never throws: an unreadable entry does not affect
 * others.
 * @param name the rest of the key
 */
export function decodePrefix(name: string, keyValue: Omit<KeyValue, 'key' | 'isNew'>): PrefixEntry {
  const { value, modRevision, createRevision: claimedAt, etcdLease } = keyValue
  const refuse = (reason: string): PrefixEntry => ({ name, modRevision, reason })
  const [host = '', last = '', ...more] = name.split('/')
  const subnet = parseSubnetName(host)
  if (subnet.reason !== undefined) return refuse(subnet.reason)
  if (more.length > 0) return refuse('the key has a further part after the prefix')
  const prefix = parsePrefixName(last)
  if (prefix.reason !== undefined) return refuse(prefix.reason)
  if (value.length > LONGEST)
    return refuse(`the value has ${value.length} bytes; at most ${LONGEST} are read`)
  const read = decodeAnnouncementValue(value.toString())
  if (read.reason !== undefined) return refuse(read.reason)
  return {
    name,
    modRevision,
    host,
    announcement: { prefix: prefix.value, ...read.value },
    claimedAt,
    etcdLease,
  }
}
