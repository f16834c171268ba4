import fc from 'fast-check'
import {
  addressBits,
  familyOf,
  formatPrefix,
  type Ipv6,
  ipv4,
  networkOf,
  type Prefix,
  parseIpv4Prefix,
  prefixContains,
  prefixesOverlap,
  prefixSize,
} from '../../../src/model/address'
import { hasNetworkDefaults, parseDockerVersion, poolFlags, shareOut } from '../../../src/model/docker'

test.each([
  ['Docker version 20.10.24+dfsg1, build 297e128\n', '20.10.24+dfsg1', 20],
  ['28.5.2+dfsg4', '28.5.2+dfsg4', 28],
  ['24.0.0-rc.2', '24.0.0-rc.2', 24],
])('%j is version %s', (text, version, major) => {
  expect(parseDockerVersion(text)).toEqual({ text: version, major })
})

test.each(['', 'podman version 4.3.1', 'v28.1', 'Docker version dev'])('%j is no version', (text) => {
  expect(parseDockerVersion(text)).toBeUndefined()
})

test.each([
  ['20.10.24', false],
  ['23.0.6', false],
  ['24.0.0', true],
  ['28.5.2', true],
])('Docker %s has defaults for networks: %s', (text, has) => {
  expect(hasNetworkDefaults({ text, major: Number(text.split('.')[0]) })).toBe(has)
})

const ofLengths = (subnet: string, length: number) =>
  shareOut(parseIpv4Prefix(subnet) ?? networkOf(ipv4(0), 0), length)

test('what is left beside docker0 is a block of each length', () => {
  const shared = ofLengths('10.5.31.1/24', 27)
  expect(formatPrefix(shared?.bridge ?? networkOf(ipv4(0), 0))).toBe('10.5.31.0/27')
  expect(poolFlags(shared?.pools ?? [], 27)).toEqual([
    '--default-address-pool=base=10.5.31.32/27,size=27',
    '--default-address-pool=base=10.5.31.64/26,size=27',
    '--default-address-pool=base=10.5.31.128/25,size=27',
  ])
})

test.each([
  ['10.5.31.0/24', 24],
  ['10.5.31.0/24', 20],
  ['10.5.31.0/24', 33],
])('%s has no room for parts of /%i', (subnet, length) => {
  expect(ofLengths(subnet, length)).toBeUndefined()
})

const subnets = fc.oneof(
  fc.tuple(fc.nat(0xffff_ffff), fc.integer({ min: 8, max: 29 })).map(([address, length]) => ({
    address: ipv4(address),
    length,
  })),
  fc.tuple(fc.bigInt(0n, (1n << 128n) - 1n), fc.integer({ min: 32, max: 125 })).map(([address, length]) => ({
    address: address as Ipv6,
    length,
  })),
)

test('for any subnet the parts are blocks inside of it, do not overlap, and leave nothing over', () => {
  fc.assert(
    fc.property(subnets, fc.integer({ min: 1, max: 20 }), (subnet: Prefix, more) => {
      const family = familyOf(subnet.address)
      const length = Math.min(subnet.length + more, addressBits(family))
      const shared = shareOut(subnet, length)
      if (shared === undefined) throw new Error('there is room')
      const parts = [shared.bridge, ...shared.pools]
      expect(shared.bridge).toEqual({ address: networkOf(subnet.address, subnet.length).address, length })
      for (const [index, part] of parts.entries()) {
        expect(networkOf(part.address, part.length)).toEqual(part)
        expect(prefixContains(subnet, part.address)).toBe(true)
        // Docker refuses a pool that is smaller than the networks in it.
        expect(part.length).toBeGreaterThan(subnet.length)
        expect(part.length).toBeLessThanOrEqual(length)
        expect(parts.slice(index + 1).filter((other) => prefixesOverlap(part, other))).toEqual([])
      }
      const size = (each: Prefix): bigint => prefixSize(family, each.length)
      expect(parts.map(size).reduce((sum, each) => sum + each)).toBe(size(subnet))
    }),
  )
})
