import fc from 'fast-check'
import { keysUnder } from '../../../../src/etcd/codec/keys'
import {
  decodeAnnouncementValue,
  decodePrefix,
  encodeAnnouncement,
  prefixKey,
  prefixRangeOf,
} from '../../../../src/etcd/codec/prefix-codec'
import { ipv4, networkOf } from '../../../../src/model/address'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import { parseVia } from '../../../../src/model/prefixes'
import { net } from '../../plan/support'

const keys = keysUnder('/p')
const read = (name: string, value = '{"priority":100}') =>
  decodePrefix(name, {
    value: Buffer.from(value),
    modRevision: 9n as Revision,
    createRevision: 7n as Revision,
    etcdLease: '1' as EtcdLeaseId,
  })

test('a key and its value are read', () => {
  expect(
    read(
      '10.5.1.0-24/10.5.240.7-32',
      '{"priority":7,"until":"2026-11-30T14:00:00.000Z","via":"br-moving","more":1}',
    ),
  ).toEqual({
    name: '10.5.1.0-24/10.5.240.7-32',
    modRevision: 9n,
    host: '10.5.1.0-24',
    announcement: {
      prefix: net('10.5.240.7/32'),
      priority: 7,
      until: Date.UTC(2026, 10, 30, 14),
      via: { kind: 'link', name: 'br-moving' },
    },
    claimedAt: 7n,
    etcdLease: '1',
  })
})

test.each([
  ['10.5.240.7-32', /subnet|prefix/],
  ['10.5.1.0-24/', /does not end in a prefix/],
  ['10.5.1.0-24/10.5.240.7', /does not end in a prefix/],
  ['10.5.1.0-24/10.5.240.7-33', /does not end in a prefix/],
  ['10.5.1.0-24/10.5.240.7-24', /has host bits/],
  ['10.5.1.0-24/10.5.240.0-024', /is written 10\.5\.240\.0-24/],
  ['10.5.1.0-24/FD00::-64', /is written fd00::-64/],
  ['10.5.1.0-24/fd00:0::-64', /is written fd00::-64/],
  ['10.5.1.0-24/10.5.240.7-32/x', /further part/],
  ['10.5.1.7-24/10.5.240.7-32', /first address/],
  ['x/10.5.240.7-32', /not a subnet/],
])('the key %s is refused', (name, reason) => expect(read(name).reason).toMatch(reason))

test.each([
  ['', /not JSON/],
  ['[]', /expected object/],
  ['{}', /priority/],
  ['{"priority":-1}', /priority/],
  ['{"priority":65536}', /priority/],
  ['{"priority":1.5}', /priority/],
  ['{"priority":"1"}', /priority/],
  ['{"priority":1,"until":"tomorrow"}', /until/],
  ['{"priority":1,"until":7}', /until/],
  ['{"priority":1,"share":0}', /share/],
  ['{"priority":1,"share":256}', /share/],
  ['{"priority":1,"share":1.5}', /share/],
  ['{"priority":1,"share":true}', /share/],
  ['{"priority":1,"further":false}', /further/],
  ['{"priority":1,"further":1}', /further/],
  ['{"priority":1,"via":7}', /via/],
  ['{"priority":1,"via":""}', /name of a link, or an address/],
  ['{"priority":1,"via":"."}', /name of a link/],
  ['{"priority":1,"via":"a/b"}', /name of a link/],
  ['{"priority":1,"via":"a:b"}', /name of a link/],
  ['{"priority":1,"via":"a b"}', /name of a link/],
  ['{"priority":1,"via":"sixteen-letters-"}', /name of a link/],
  ['{"priority":1,"via":"10.5.1.0/24"}', /name of a link/],
  [`{"priority":1,"x":"${'x'.repeat(1024)}"}`, /1024 characters/],
])('the value %.40s is refused', (text, reason) => {
  expect(decodeAnnouncementValue(text).reason).toMatch(reason)
  expect(read('10.5.1.0-24/10.5.240.7-32', text).reason).toBeDefined()
})

test('what a host writes is read again, and lies in its range of keys', () => {
  const subnet = { ipv4: net('10.5.1.0/24'), ipv6: undefined }
  const { start, end } = prefixRangeOf(keys, subnet)
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.integer({ min: 0, max: 32 }),
      fc.integer({ min: 0, max: 65_535 }),
      fc.option(fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }), {
        nil: undefined,
      }),
      fc.constantFrom(undefined, 'br-moving', 'a', '10.5.1.9', 'fd00::9'),
      fc.option(fc.integer({ min: 1, max: 255 }), { nil: undefined }),
      fc.constantFrom(undefined, true),
      (bits, length, priority, end_, way, share, further) => {
        const prefix = networkOf(ipv4(bits), length)
        const via = way === undefined ? undefined : parseVia(way)
        const announcement = {
          prefix,
          priority,
          until: end_?.getTime(),
          via,
          ...(share !== undefined && { share }),
          ...(further !== undefined && { further }),
        }
        const key = prefixKey(keys, subnet, announcement.prefix)
        expect(key >= start && key < end).toBe(true)
        expect(read(key.slice(keys.prefixes.length), encodeAnnouncement(announcement))).toMatchObject({
          host: '10.5.1.0-24',
          announcement,
        })
      },
    ),
  )
})
