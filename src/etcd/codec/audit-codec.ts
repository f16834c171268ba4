/**
 * Records of operators' writes: keys of ours that hosts neither need nor may write.
 *
 *     <prefix>/overlay/audit/000000000042
 *     {"time":"2026-01-31T12:00:00.000Z","verb":"reserve","what":"10.5.42.0/24 for 192.0.2.12",
 *      "etcdUser":"root","user":"alice","host":"admin1","id":"5f3a..."}
 */
import { z } from 'zod'
import { type AuditRecord, LONGEST_RECORD_TEXT } from '../../model/audit'
import type { Decoded, KeyRange, Keys } from './keys'
import { readOwnValue } from './own-value'

/** Digits of a record's number: the order of the keys is that of the numbers. */
const DIGITS = 12
/** The highest number, which no network reaches: a record a second fills 31,000 years. */
export const LAST_NUMBER = 10 ** DIGITS - 1

/** Most bytes of a value. A record has at most four texts of 512 characters, each of at most 6 bytes. */
const LONGEST = 16_384

const text = z.string().max(LONGEST_RECORD_TEXT)

const schema = z.strictObject({
  time: z.iso.datetime(),
  verb: text,
  what: text,
  etcdUser: text.optional(),
  user: text,
  host: text,
  id: z.string().regex(/^[0-9a-f]{16}$/),
})

export const auditKey = (keys: Keys, number: number): string =>
  keys.audit + String(number).padStart(DIGITS, '0')

/** The keys of the records from one number on, up to another one. */
export const auditRange = (keys: Keys, from: number, end: number): KeyRange => ({
  start: auditKey(keys, from),
  end: end > LAST_NUMBER ? `${keys.audit.slice(0, -1)}0` : auditKey(keys, end),
})

/** The number in a key; `undefined` for a key that is none of a record. */
export function auditNumber(keys: Keys, key: string): number | undefined {
  const name = key.startsWith(keys.audit) ? key.slice(keys.audit.length) : ''
  return /^\d{12}$/.test(name) ? Number(name) : undefined
}

const cut = (word: string): string => word.slice(0, LONGEST_RECORD_TEXT)

export const encodeAudit = ({ time, verb, what, who: { etcdUser, user, host }, id }: AuditRecord): string =>
  JSON.stringify({
    time: time.toISOString(),
    verb: cut(verb),
    what: cut(what),
    ...(etcdUser !== undefined && { etcdUser: cut(etcdUser) }),
    user: cut(user),
    host: cut(host),
    id,
  })

/** Reads a value. Never throws. */
export function decodeAudit(value: Buffer): Decoded<AuditRecord> {
  if (value.length > LONGEST)
    return { reason: `the value has ${value.length} bytes; at most ${LONGEST} are read` }
  const read = readOwnValue(schema, value.toString())
  if (read.reason !== undefined) return read
  const { time, etcdUser, user, host, ...rest } = read.value
  const who = { user, host, ...(etcdUser !== undefined && { etcdUser }) }
  return { value: { ...rest, time: new Date(time), who } }
}
