import fc from 'fast-check'
import { decodeHost, decodeHostValue, encodeHost } from '../../../../src/etcd/codec/host-codec'
import { keysUnder, placeOf } from '../../../../src/etcd/codec/keys'
import type { IdentityKey } from '../../../../src/model/host-record'
import type { Revision } from '../../../../src/model/lease'

const KEYS = keysUnder('/coreos.com/network')
const IDENTITY = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' as IdentityKey
const TEXT = `{"identity":"${IDENTITY}","user":"overlayd-10.5.42.0-24"}`
const read = (text: string) => decodeHostValue(Buffer.from(text))

test('a record is the same after writing and reading', () => {
  const record = { identity: IDENTITY, user: 'overlayd-10.5.42.0-24' }
  expect(encodeHost(record)).toBe(TEXT)
  expect(read(TEXT)).toEqual({ value: record })
  expect(read(encodeHost({}))).toEqual({ value: {} })
  // Fields of later versions are ignored.
  expect(read(TEXT.replace('{', '{"more":1,'))).toEqual({ value: record })
})

test('any identity and any name of a user are read again', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.stringMatching(/^[\w.-]{1,200}$/),
      (key, user) => {
        const identity = Buffer.from(key).toString('base64') as IdentityKey
        const { value, reason } = read(encodeHost({ identity, user }))
        if (key.some((byte) => byte !== 0)) expect(value).toEqual({ identity, user })
        else expect(reason).toMatch(/identity/)
      },
    ),
  )
})

test.each([
  ['', /not JSON/],
  ['[]', /expected object/],
  [TEXT.replace('AQE=', 'AQF='), /is not an identity of a host/],
  [TEXT.replace('AQE=', 'AQ=='), /is not an identity of a host/],
  [TEXT.replace('overlayd-10.5.42.0-24', ''), /user/],
  [TEXT.replace('overlayd-10.5.42.0-24', 'u'.repeat(201)), /user/],
  ['{"identity":7}', /identity/],
  [`{}${' '.repeat(4095)}`, /4097 bytes/],
])('%.60s is refused', (text, reason) => {
  expect(read(text).reason).toMatch(reason)
})

test('a key names the subnet, or is unreadable with a reason', () => {
  const entry = (name: string, value = TEXT) => {
    const key = Buffer.from(KEYS.hosts + name)
    const place = placeOf(KEYS, key)
    if (place?.kind !== 'host') throw new Error('it is under hosts/')
    return decodeHost(place.name, { value: Buffer.from(value), modRevision: 7n as Revision })
  }
  expect(entry('10.5.42.0-24&fd00:5:0:2a::-64')).toMatchObject({
    modRevision: 7n,
    subnet: { ipv4: { length: 24 }, ipv6: { length: 64 } },
    record: { identity: IDENTITY },
  })
  expect(entry('10.5.42.7-24')).toMatchObject({
    subnet: undefined,
    record: { reason: expect.stringContaining('not the first address') },
  })
  expect(entry('10.5.42.0-24', '{')).toMatchObject({
    subnet: { ipv4: { length: 24 } },
    record: { reason: expect.stringContaining('not JSON') },
  })
})
