import fc from 'fast-check'
import { formatPrefix, ipv4, networkOf, type Prefix, prefixesOverlap } from '../../../../src/model/address'
import { parseNetworkConfig } from '../../../../src/model/config/network-config'
import { isLeasable } from '../../../../src/plan/lease/allocate'
import { chooseBlock } from '../../../../src/plan/prefixes/block'
import { isWithin } from '../../../../src/plan/prefixes/rules'
import { net, net6 } from '../support'

const config = parseNetworkConfig(
  JSON.stringify({
    Network: '10.5.0.0/16',
    SubnetMax: '10.5.99.0',
    EnableIPv6: true,
    IPv6Network: 'fd00:5::/48',
    IPv6SubnetMax: 'fd00:5:0:7fff::',
    Prefixes: { Allowed: ['198.51.100.0/24', '10.5.240.0/22', '10.5.200.0/21', 'fd00:5:0:8000::/49'] },
    Backend: { Type: 'vxlan' },
  }),
)
const { ipv4: range } = config
if (range === undefined) throw new Error('the config has no IPv4')
const basis = {
  network: range.network,
  allowed: (config.prefixes ?? []).filter(({ address }) => typeof address === 'number'),
}

const choose = (length: number, taken: readonly string[] = [], random = 0): string => {
  const { value, problem } = chooseBlock({ ...basis, taken: taken.map(net) }, length, () => random)
  return value === undefined ? `${problem?.text}; ${problem?.fix}` : formatPrefix(value)
}

test('the first range inside of the network that has room gives the block', () => {
  expect(choose(24)).toBe('10.5.240.0/24')
  expect(choose(24, [], 0.99)).toBe('10.5.243.0/24')
  expect(choose(24, ['10.5.240.0/23', '10.5.242.7/32'])).toBe('10.5.243.0/24')
  expect(choose(24, ['10.5.240.0/22'])).toBe('10.5.200.0/24')
  expect(choose(21)).toBe('10.5.200.0/21')
})

test('what has no room is refused with the reason', () => {
  expect(choose(20)).toMatch(/^a block of \/20 cannot be taken .*; use --length from 21 to 30$/)
  expect(choose(31)).toMatch(/^a block of \/31 /)
  expect(choose(30, ['10.5.240.0/22', '10.5.200.0/21'])).toMatch(/^no block of \/30 is free /)
  const outside = { network: range.network, allowed: [net('198.51.100.0/24')], taken: [] }
  expect(chooseBlock(outside, 26, () => 0).problem?.text).toBe(
    'the network config sets no IPv4 range inside of the network aside',
  )
})

test('a block of IPv6 is as any other', () => {
  const six = { network: net6('fd00:5::/48'), allowed: [net6('fd00:5:0:8000::/49')] }
  const taken = [net6('fd00:5:0:8000::/50')]
  expect(chooseBlock({ ...six, taken }, 64, () => 0).value).toEqual(net6('fd00:5:0:c000::/64'))
  expect(chooseBlock({ ...six, taken: [] }, 127, () => 0).problem?.fix).toBe('use --length from 49 to 126')
})

const anyTaken = fc.array(
  fc
    .tuple(
      fc.oneof(
        fc.integer({ min: 0x0a05c800, max: 0x0a05cfff }),
        fc.integer({ min: 0x0a05f000, max: 0x0a05f3ff }),
      ),
      fc.integer({ min: 22, max: 32 }),
    )
    .map(([address, length]): Prefix => networkOf(ipv4(address), length)),
  { maxLength: 60 },
)

test('a block overlaps nothing that is taken, and no subnet that could be leased; there is one where one fits', () => {
  const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
  fc.assert(
    fc.property(anyTaken, fc.integer({ min: 21, max: 30 }), random, (taken, length, number) => {
      const { value: block } = chooseBlock({ ...basis, taken }, length, () => number)
      const inside = basis.allowed.filter((each) => isWithin(each, range.network))
      if (block === undefined) {
        // Each block of that length in a range inside of the network is taken, at least in part.
        return inside
          .filter((each) => each.length <= length)
          .every((each) =>
            Array.from({ length: 2 ** (length - each.length) }, (_, place) =>
              networkOf(ipv4(Number(each.address) + place * 2 ** (32 - length)), length),
            ).every((candidate) => taken.some((other) => prefixesOverlap(other, candidate))),
          )
      }
      const leased = Array.from({ length: 256 }, (_, place) => net(`10.5.${place}.0/24`)).filter((subnet) =>
        isLeasable(range, subnet),
      )
      return (
        block.length === length &&
        networkOf(block.address, length).address === block.address &&
        inside.some((each) => isWithin(block, each)) &&
        [...taken, ...leased].every((other) => !prefixesOverlap(other, block))
      )
    }),
  )
})
