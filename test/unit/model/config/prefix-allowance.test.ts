import fc from 'fast-check'
import { addressAfter, formatPrefix, ipv4, networkOf, prefixesOverlap } from '../../../../src/model/address'
import { parseNetworkConfig } from '../../../../src/model/config/network-config'
import { objectionTo } from '../../../../src/model/config/prefix-allowance'
import { describeConfigChanges } from '../../../../src/plan/config/config-change'
import { isLeasable } from '../../../../src/plan/lease/allocate'
import { ipv4Range, net } from '../../plan/support'

const read = (allowed: unknown, more: object = {}) =>
  parseNetworkConfig(
    JSON.stringify({
      Network: '10.5.0.0/16',
      SubnetMax: '10.5.99.0',
      Prefixes: allowed,
      Backend: { Type: 'vxlan' },
      ...more,
    }),
  )

test('ranges beside the subnets, and outside of the network, are allowed', () => {
  const config = read({ Allowed: ['10.5.240.0/20', '192.0.2.0/24', '10.5.0.0/24'] })
  expect(config.prefixes?.map(formatPrefix)).toEqual(['10.5.240.0/20', '192.0.2.0/24', '10.5.0.0/24'])
  expect(describeConfigChanges(read(undefined), config)).toEqual([
    'allowed prefixes 10.5.240.0/20,192.0.2.0/24,10.5.0.0/24 instead of none',
  ])
})

test.each([undefined, null, { Allowed: [] }])('%j allows nothing', (allowed) => {
  expect(read(allowed)).not.toHaveProperty('prefixes')
})

test.each([
  [
    { Allowed: ['10.5.99.128/25'] },
    /10\.5\.99\.128\/25 overlaps the subnets .* 10\.5\.1\.0 to 10\.5\.99\.255/,
  ],
  [{ Allowed: ['10.5.64.0/18'] }, /overlaps the subnets that hosts lease/],
  [{ Allowed: ['10.5.0.0/16'] }, /overlaps the subnets/],
  [{ Allowed: ['10.0.0.0/8'] }, /10\.0\.0\.0\/8 contains the network 10\.5\.0\.0\/16/],
  [{ Allowed: ['0.0.0.0/0'] }, /addresses of no host/],
  [{ Allowed: ['127.0.0.0/8'] }, /loopback/],
  [{ Allowed: ['224.0.0.0/8'] }, /multicast/],
  [{ Allowed: ['fe80::/64'] }, /link-local/],
  [{ Allowed: ['fd00:9::/64'] }, /of IPv6, which the network does not have/],
  [
    { Allowed: ['10.5.240.7/20'] },
    /Prefixes\.Allowed\.0: "10\.5\.240\.7\/20" is not a prefix without host bits/,
  ],
  [{ Allowed: ['10.5.240.0'] }, /is not a prefix/],
  [{ Allowed: '10.5.240.0/20' }, /Prefixes\.Allowed/],
  [{}, /Prefixes\.Allowed/],
  [{ Allowed: [], Denied: [] }, /Denied/],
  [[], /Prefixes/],
  [{ Allowed: Array(65).fill('192.0.2.0/24') }, /Allowed/],
])('%j is refused', (allowed, reason) => expect(() => read(allowed)).toThrow(reason))

test('a range of IPv6 is allowed in a network with IPv6', () => {
  const six = { EnableIPv6: true, IPv6Network: 'fd00:5::/48', IPv6SubnetMax: 'fd00:5:0:ff::' }
  expect(read({ Allowed: ['fd00:5:0:f000::/52'] }, six).prefixes?.map(formatPrefix)).toEqual([
    'fd00:5:0:f000::/52',
  ])
  expect(() => read({ Allowed: ['fd00:5:0:80::/57'] }, six)).toThrow(
    expect.objectContaining({ fix: expect.stringContaining('IPv6SubnetMin and IPv6SubnetMax') }),
  )
})

test('no subnet that can be leased is allowed', () => {
  const range = ipv4Range({ Network: '10.5.0.0/16', SubnetMin: '10.5.32.0', SubnetMax: '10.5.99.0' })
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0x1ffff }), fc.integer({ min: 14, max: 32 }), (low, length) => {
      const allowed = networkOf(ipv4(0x0a040000 + low), length)
      const leased = Array.from({ length: 256 }, (_, i) => ({
        address: addressAfter(net('10.5.0.0/16').address, BigInt(i) * 256n),
        length: 24,
      })).filter((subnet) => isLeasable(range, subnet))
      const hurts = leased.some((subnet) => prefixesOverlap(subnet, allowed))
      const contains = allowed.length < 16 && prefixesOverlap(allowed, range.network)
      expect([formatPrefix(allowed), objectionTo(allowed, range) !== undefined]).toEqual([
        formatPrefix(allowed),
        hurts || contains,
      ])
    }),
  )
})
