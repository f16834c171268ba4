import fc from 'fast-check'
import { formatPrefix, ipv4, networkOf, prefixesOverlap } from '../../../../src/model/address'
import { isWithin, objectionAgainst } from '../../../../src/plan/prefixes/rules'
import { net, net6 } from '../support'

const anyNet = (text: string) => (text.includes(':') ? net6(text) : net(text))

const RULES = {
  allowed: [net('10.5.240.0/20'), net('192.0.2.0/24'), net6('fd00:9::/48')],
  occupied: [
    { prefix: net('192.0.2.1/32'), what: 'the gateway of the default route' },
    { prefix: net('10.5.241.0/24'), what: 'the subnet of a host' },
  ],
}

test.each([
  ['10.5.240.7/32', undefined],
  ['10.5.240.0/20', /overlaps 10\.5\.241\.0\/24, the subnet of a host/],
  ['10.5.241.9/32', /the subnet of a host/],
  ['192.0.2.128/25', undefined],
  ['192.0.2.0/24', /overlaps 192\.0\.2\.1\/32, the gateway of the default route/],
  ['192.0.2.0/23', /inside of no range .*10\.5\.240\.0\/20,192\.0\.2\.0\/24/],
  ['10.5.1.7/32', /inside of no range/],
  ['0.0.0.0/0', /inside of no range/],
  ['127.0.0.1/32', /inside of no range/],
  ['224.0.0.0/4', /inside of no range/],
  ['fd00:9::7/128', undefined],
  ['fd00::/16', /inside of no range/],
])('%s: %s', (prefix, reason) => {
  const objection = objectionAgainst(anyNet(prefix), RULES)
  if (reason === undefined) expect(objection).toBeUndefined()
  else expect(objection).toMatch(reason)
})

test('where nothing is allowed, nothing may be announced', () => {
  expect(objectionAgainst(net('10.5.240.7/32'), { allowed: [], occupied: [] })).toMatch(
    /allows no IPv4 prefix/,
  )
  expect(objectionAgainst(net6('fd00::/64'), { ...RULES, allowed: [net('10.0.0.0/8')] })).toMatch(
    /no IPv6 prefix/,
  )
})

test('what may be announced is allowed, and covers and touches nothing that is occupied', () => {
  const bits = fc.oneof(
    fc.integer({ min: 0, max: 0xffffffff }),
    fc.integer({ min: 0, max: 0xfff }).map((low) => 0x0a05f000 + low),
  )
  fc.assert(
    fc.property(bits, fc.integer({ min: 0, max: 32 }), (address, length) => {
      const prefix = networkOf(ipv4(address), length)
      const mayBe = objectionAgainst(prefix, RULES) === undefined
      const isAllowed = RULES.allowed.some((range) => isWithin(prefix, range))
      const isFree = !RULES.occupied.some((other) => prefixesOverlap(prefix, other.prefix))
      expect([formatPrefix(prefix), mayBe]).toEqual([formatPrefix(prefix), isAllowed && isFree])
    }),
  )
})
