import fc from 'fast-check'
import {
  formatIpv4,
  formatIpv6,
  formatMac,
  formatPrefix,
  type Ipv4Prefix,
  type Ipv6,
  ipv4,
  isUnicast,
  isUnicastMac,
  mac,
  networkOf,
  parseIpv4,
  parseIpv4Prefix,
  parseIpv6,
  parseMac,
  prefixContains,
  prefixesOverlap,
  prefixSize,
  randomMac,
} from '../../../src/model/address'

const anyIpv4 = fc.integer({ min: 0, max: 0xffffffff }).map(ipv4)
const anyMac = fc.integer({ min: 0, max: 2 ** 48 - 1 }).map(mac)
const anyPrefix = fc
  .tuple(anyIpv4, fc.integer({ min: 0, max: 32 }))
  .map(([address, length]) => networkOf(address, length))

const prefix = (text: string): Ipv4Prefix => {
  const parsed = parseIpv4Prefix(text)
  if (parsed === undefined) throw new Error(text)
  return parsed
}

test('an IPv4 address is the same after writing and reading', () => {
  fc.assert(fc.property(anyIpv4, (address) => parseIpv4(formatIpv4(address)) === address))
})

test.each(['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', '1.2.3.4 ', '0x1.2.3.4', '::1', '1.2.3.-4'])(
  'not an IPv4 address: %j',
  (text) => expect(parseIpv4(text)).toBeUndefined(),
)

test('an IPv6 address is the same after writing and reading', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), (bits) => {
      return parseIpv6(formatIpv6(bits as Ipv6)) === bits
    }),
  )
})

test.each([
  ['fd00:5:0:37::', 'fd00:5:0:37::'],
  ['FD00:0005:0000:0037:0:0:0:0', 'fd00:5:0:37::'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
])('%s is written as in RFC 5952', (text, canonical) => {
  const address = parseIpv6(text)
  expect(address === undefined ? undefined : formatIpv6(address)).toBe(canonical)
})

test.each(['', ':::', 'fe80::1%eth0', '10.0.0.1', '12345::'])('not an IPv6 address: %j', (text) =>
  expect(parseIpv6(text)).toBeUndefined(),
)

test('a MAC is the same after writing and reading', () => {
  fc.assert(fc.property(anyMac, (address) => parseMac(formatMac(address)) === address))
})

test.each(['12:f0:94:ff:1f:ad', '12-F0-94-FF-1F-AD', '12f0.94ff.1fad'])('%s is a MAC', (text) => {
  expect(parseMac(text)).toBe(0x12f094ff1fad)
})

test.each([
  '',
  '12:f0:94:ff:1f',
  '12:f0:94:ff:1f:ad:00:01',
  '12:f0-94:ff:1f:ad',
  '12f094ff1fad',
  'zz:f0:94:ff:1f:ad',
])('not a MAC of six bytes: %j', (text) => expect(parseMac(text)).toBeUndefined())

test('a random MAC is unicast and locally administered', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
      const address = randomMac(bytes)
      return isUnicastMac(address) && Math.floor(address / 2 ** 41) % 2 === 1
    }),
  )
})

test('the null MAC and group MACs are not unicast', () => {
  expect([0, 0xffffffffffff, 0x01005e000001].map((bits) => isUnicastMac(mac(bits)))).toEqual([
    false,
    false,
    false,
  ])
})

test('a prefix is the same after writing and reading', () => {
  fc.assert(
    fc.property(anyPrefix, (network) => {
      expect(parseIpv4Prefix(formatPrefix(network))).toEqual(network)
    }),
  )
})

test.each(['10.0.0.0', '10.0.0.0/', '10.0.0.0/33', '10.0.0/8', '/8', '10.0.0.0/-1', '10.0.0.0/8/8'])(
  'not a prefix: %j',
  (text) => expect(parseIpv4Prefix(text)).toBeUndefined(),
)

test('a network contains exactly its addresses', () => {
  fc.assert(
    fc.property(anyPrefix, anyIpv4, (network, address) => {
      const inside =
        address >= network.address && address < network.address + Number(prefixSize('IPv4', network.length))
      return prefixContains(network, address) === inside
    }),
  )
})

test('two networks overlap when one has the first address of the other', () => {
  fc.assert(
    fc.property(anyPrefix, anyPrefix, (a, b) => {
      const nested = prefixContains(a, b.address) || prefixContains(b, a.address)
      return prefixesOverlap(a, b) === nested && prefixesOverlap(b, a) === nested
    }),
  )
  expect(prefixesOverlap(prefix('0.0.0.0/0'), prefix('10.1.0.0/16'))).toBe(true)
})

test.each([
  ['10.0.0.1', true],
  ['223.255.255.255', true],
  ['0.0.0.0', false],
  ['127.0.0.1', false],
  ['224.0.0.1', false],
  ['255.255.255.255', false],
])('unicast: %s %s', (text, expected) => {
  const address = parseIpv4(text)
  expect(address !== undefined && isUnicast(address)).toBe(expected)
})
