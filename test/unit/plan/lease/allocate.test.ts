import fc from 'fast-check'
import {
  formatPrefix,
  type Ipv4Prefix,
  ipv4,
  networkOf,
  prefixesOverlap,
} from '../../../../src/model/address'
import { allocateSubnet, isLeasable } from '../../../../src/plan/lease/allocate'
import { ipv4Range, ipv6Range, net, net6 } from '../support'

const small = ipv4Range({ Network: '10.3.0.0/24' }) // 10.3.0.64, .128 and .192

const choose = (taken: string[], random: number, previous?: string): string | undefined => {
  const before = previous === undefined ? undefined : net(previous)
  const subnet = allocateSubnet(small, taken.map(net), before, () => random)
  return subnet && formatPrefix(subnet)
}

test('every free subnet can be allocated, and no other', () => {
  expect([0, 0.34, 0.67, 0.999].map((random) => choose([], random))).toEqual([
    '10.3.0.64/26',
    '10.3.0.128/26',
    '10.3.0.192/26',
    '10.3.0.192/26',
  ])
  expect(choose(['10.3.0.128/26'], 0.5)).toBe('10.3.0.192/26')
})

test('a subnet of another length blocks what it overlaps', () => {
  expect(choose(['10.3.0.128/25'], 0.99)).toBe('10.3.0.64/26')
  expect(choose(['10.3.0.70/32', '10.3.0.192/28'], 0.5)).toBe('10.3.0.128/26')
})

test('no subnet is left when all are taken', () => {
  expect(choose(['10.3.0.0/24'], 0.5)).toBeUndefined()
  expect(choose(['10.3.0.64/26', '10.3.0.128/26', '10.3.0.192/26'], 0)).toBeUndefined()
})

test('leases outside the range take no subnet', () => {
  expect(choose(['10.2.0.0/24', '10.4.0.0/24', '10.3.0.0/26'], 0)).toBe('10.3.0.64/26')
})

test('the previous subnet comes first, while it is free and fits', () => {
  expect(choose([], 0, '10.3.0.128/26')).toBe('10.3.0.128/26')
  expect(choose(['10.3.0.128/26'], 0, '10.3.0.128/26')).toBe('10.3.0.64/26')
  expect(choose(['10.3.0.128/25'], 0, '10.3.0.192/26')).toBe('10.3.0.64/26')
  expect(choose([], 0, '10.3.0.0/26')).toBe('10.3.0.64/26')
  expect(choose([], 0, '10.3.0.128/27')).toBe('10.3.0.64/26')
  expect(choose([], 0, '10.9.0.0/26')).toBe('10.3.0.64/26')
})

const anyTaken = fc.array(
  fc
    .tuple(fc.integer({ min: 0x0a050000, max: 0x0a05ffff }), fc.integer({ min: 12, max: 32 }))
    .map(([address, length]) => networkOf(ipv4(address), length)),
  { maxLength: 40 },
)

test('for any set of leases the choice overlaps none and lies between SubnetMin and SubnetMax', () => {
  const network = ipv4Range({ Network: '10.5.0.0/16', SubnetMin: '10.5.16.0', SubnetMax: '10.5.47.0' })
  fc.assert(
    fc.property(anyTaken, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (taken, random) => {
      const all = Array.from(
        { length: 32 },
        (_, i): Ipv4Prefix => ({ address: ipv4(0x0a051000 + i * 256), length: 24 }),
      )
      const free = all.filter((subnet) => !taken.some((other) => prefixesOverlap(other, subnet)))
      const choice = allocateSubnet(network, taken, undefined, () => random)
      if (free.length === 0) return choice === undefined
      return (
        choice !== undefined &&
        isLeasable(network, choice) &&
        choice.address === free[Math.floor(random * free.length)]?.address
      )
    }),
  )
})

describe('of IPv6', () => {
  const network = ipv6Range({ IPv6Network: 'fd00:5::/48' })

  test('the first subnet is skipped and the last one used', () => {
    expect(allocateSubnet(network, [], undefined, () => 0)).toEqual(net6('fd00:5:0:1::/64'))
    expect(allocateSubnet(network, [net6('fd00:5:0:1::/64')], undefined, () => 0)).toEqual(
      net6('fd00:5:0:2::/64'),
    )
    expect(allocateSubnet(network, [], undefined, () => 1 - 2 ** -53)).toEqual(net6('fd00:5:0:ffff::/64'))
  })

  test('a range of more than 2^53 subnets is used in its whole width', () => {
    const wide = ipv6Range({ IPv6Network: 'fd00::/16', IPv6SubnetLen: 120 })
    const top = allocateSubnet(wide, [], undefined, () => 1 - 2 ** -53)
    expect(top).toEqual(net6('fd00:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120'))
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    fc.assert(
      fc.property(random, (number) => {
        const choice = allocateSubnet(wide, [], undefined, () => number)
        return choice !== undefined && isLeasable(wide, choice)
      }),
    )
  })
})
