import fc from 'fast-check'
import {
  auditKey,
  auditNumber,
  auditRange,
  decodeAudit,
  encodeAudit,
  LAST_NUMBER,
} from '../../../../src/etcd/codec/audit-codec'
import { keysUnder } from '../../../../src/etcd/codec/keys'
import { type AuditRecord, LONGEST_RECORD_TEXT } from '../../../../src/model/audit'
import { binaryText } from '../../support/text'

const KEYS = keysUnder('/coreos.com/network')
const TEXT =
  '{"time":"2026-01-31T12:00:00.000Z","verb":"reserve","what":"10.5.42.0/24","etcdUser":"root",' +
  '"user":"alice","host":"admin1","id":"0123456789abcdef"}'
const RECORD: AuditRecord = {
  time: new Date('2026-01-31T12:00:00Z'),
  verb: 'reserve',
  what: '10.5.42.0/24',
  who: { etcdUser: 'root', user: 'alice', host: 'admin1' },
  id: '0123456789abcdef',
}
const read = (text: string) => decodeAudit(Buffer.from(text))

test('a record is the same after writing and reading', () => {
  expect(encodeAudit(RECORD)).toBe(TEXT)
  expect(read(TEXT)).toEqual({ value: RECORD })
})

test('any record that is written is read again, with each text cut to its bound', () => {
  const words = binaryText({ maxLength: LONGEST_RECORD_TEXT + 5 })
  const records = fc.record({
    time: fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-01-01') }),
    verb: words,
    what: words,
    who: fc.record({ user: words, host: words, etcdUser: words }),
    id: fc.constant(RECORD.id),
  })
  const cut = (text: string) => text.slice(0, LONGEST_RECORD_TEXT)
  fc.assert(
    fc.property(records, (record) => {
      const { verb, what, who } = record
      const { value } = read(encodeAudit(record))
      expect(value).toMatchObject({ time: record.time, id: record.id })
      // A pair of surrogates that the bound cuts in half is one U+FFFD.
      const whole = (text: string) => Buffer.from(text).toString()
      expect(whole(value?.verb ?? '')).toBe(whole(cut(verb)))
      expect(whole(value?.what ?? '')).toBe(whole(cut(what)))
      expect(whole(value?.who.user ?? '')).toBe(whole(cut(who.user)))
    }),
  )
})

test.each([
  ['', /not JSON/],
  ['[]', /expected object/],
  [TEXT.replace('{', '{"more":1,'), /more/],
  [TEXT.replace('2026-01-31T12:00:00.000Z', 'yesterday'), /time/],
  [TEXT.replace('0123456789abcdef', '0123'), /id/],
  [TEXT.replace('alice', 'a'.repeat(LONGEST_RECORD_TEXT + 1)), /user/],
  [' '.repeat(16_385), /16385 bytes/],
])('%.50s is refused', (text, reason) => {
  expect(read(text).reason).toMatch(reason)
})

test('numbers have an order, and the keys have the same', () => {
  expect(auditKey(KEYS, 42)).toBe('/coreos.com/network/overlay/audit/000000000042')
  for (const number of [0, 42, LAST_NUMBER]) expect(auditNumber(KEYS, auditKey(KEYS, number))).toBe(number)
  expect(auditKey(KEYS, 9) < auditKey(KEYS, 10)).toBe(true)
  for (const stray of ['', '42', '00000000004x', '0000000000042'])
    expect(auditNumber(KEYS, KEYS.audit + stray)).toBeUndefined()
  expect(auditNumber(KEYS, '/coreos.com/other/overlay/audit/000000000042')).toBeUndefined()
  const { start, end } = auditRange(KEYS, 0, LAST_NUMBER + 1)
  expect(start <= auditKey(KEYS, 0) && auditKey(KEYS, LAST_NUMBER) < end).toBe(true)
})
