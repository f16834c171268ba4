import fc from 'fast-check'
import { decodeGroups, decodeGroupsValue, encodeGroups } from '../../../../src/etcd/codec/groups-codec'
import { keysUnder } from '../../../../src/etcd/codec/keys'
import { ipv4 } from '../../../../src/model/address'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import type { HostGroups } from '../../../../src/model/multicast'
import { ip, ip6 } from '../../plan/support'

const TEXT = '{"vni":8388609,"families":["IPv4","IPv6"],"groups":["239.1.2.3","ff05::77"]}'
const VALUE: HostGroups = {
  vni: 8388609,
  tells: ['IPv4', 'IPv6'],
  groups: [ip('239.1.2.3'), ip6('ff05::77')],
}

test('a value is the same after writing and reading', () => {
  expect(encodeGroups(VALUE)).toBe(TEXT)
  expect(decodeGroupsValue(TEXT)).toEqual({ value: VALUE })
  // Fields of later versions are ignored.
  expect(decodeGroupsValue(TEXT.replace('{', '{"more":1,'))).toEqual({ value: VALUE })
})

test.each([
  ['', /not JSON/],
  ['[]', /expected object/],
  ['{"vni":0,"families":[],"groups":[]}', /vni/],
  ['{"vni":16777216,"families":[],"groups":[]}', /vni/],
  ['{"vni":7,"families":["IPX"],"groups":[]}', /families\.0/],
  ['{"vni":7,"families":["IPv4"],"groups":["10.0.0.1"]}', /groups\.0: "10\.0\.0\.1" is not the address of a/],
  ['{"vni":7,"families":["IPv6"],"groups":["fe80::1"]}', /groups\.0/],
  ['{"vni":7,"families":["IPv4"],"groups":["ff05::1"]}', /ff05::1 of a family that it does not list/],
  [`{"vni":7,"families":["IPv4"],"groups":[${Array(1025).fill('"239.1.2.3"').join()}]}`, /groups/],
  [`{"vni":7,"families":["IPv4"],"groups":[],"x":"${'x'.repeat(16_384)}"}`, /16384 characters/],
])('%.60s is refused', (text, reason) => {
  expect(decodeGroupsValue(text).reason).toMatch(reason)
})

test('a key or value that is not valid has a reason', () => {
  const keys = keysUnder('/coreos.com/network')
  const read = (name: string, value = TEXT) =>
    decodeGroups(name, {
      key: Buffer.from(keys.groups + name),
      value: Buffer.from(value),
      modRevision: 7n as Revision,
      etcdLease: '1' as EtcdLeaseId,
      createRevision: 1n as Revision,
      isNew: false,
    })
  expect(read('10.5.1.0-24&fd00:5:0:1::-64')).toEqual({
    name: '10.5.1.0-24&fd00:5:0:1::-64',
    modRevision: 7n,
    value: VALUE,
  })
  expect(read('a/b').reason).toBeDefined()
  expect(read('10.5.1.0-24', 'x'.repeat(16_385)).reason).toMatch(/16385 bytes/)
  expect(read('10.5.1.0-24', '{').reason).toMatch(/^the value is not JSON/)
})

test('any set of groups that a host writes is read again', () => {
  const groups = fc.uniqueArray(fc.integer({ min: 0xe0000000, max: 0xefffffff }).map(ipv4), {
    maxLength: 256,
  })
  fc.assert(
    fc.property(groups, (some) => {
      const value: HostGroups = { vni: 7, tells: ['IPv4'], groups: some }
      expect(decodeGroupsValue(encodeGroups(value))).toEqual({ value })
    }),
  )
})
