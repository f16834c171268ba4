/**
 * Network addresses. Each kind has one representation, branded so that a plain number, bigint or string is
 * never mistaken for an address. Parsers return `undefined` for text they do not accept; the caller words the
 * error, because only the caller knows where the text came from.
 */
import { isIPv4 } from 'node:net'
import ipaddr from 'ipaddr.js'

declare const brand: unique symbol
type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** An IPv4 address as an unsigned 32-bit number in host order: 10.5.1.0 is 0x0a050100. */
export type Ipv4 = Brand<number, 'Ipv4'>
/** An IPv6 address as an unsigned 128-bit bigint. */
export type Ipv6 = Brand<bigint, 'Ipv6'>
/**
 * An EUI-48 address as an unsigned 48-bit number (exact in a double): 02:00:00:00:00:01 is 0x020000000001.
 */
export type MacAddress = Brand<number, 'MacAddress'>

/** An address of either family: a number is IPv4, a bigint is IPv6. */
export type IpAddress = Ipv4 | Ipv6

/** The two families, spelled as in messages. */
export type Family = 'IPv4' | 'IPv6'

/**
 * A network. `address` may carry host bits only where a doc comment says so. `length` is 0 to 32, or to 128.
 */
export interface Prefix<Address extends IpAddress = IpAddress> {
  readonly address: Address
  readonly length: number
}
export type Ipv4Prefix = Prefix<Ipv4>
export type Ipv6Prefix = Prefix<Ipv6>

/** Brands a number as an address; for decoders that have read exactly 32 bits. */
export const ipv4 = (bits: number): Ipv4 => (bits >>> 0) as Ipv4

/** Brands a number as an address; for decoders that have read exactly 48 bits. */
export const mac = (bits: number): MacAddress => bits as MacAddress

/** Reads dotted decimal: four octets without padding (`010` is refused, as in Go). */
export function parseIpv4(text: string): Ipv4 | undefined {
  if (!isIPv4(text)) return undefined
  return ipv4(text.split('.').reduce((bits, octet) => bits * 256 + Number(octet), 0))
}

export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`
}

/** Reads any RFC 4291 text form without a zone. */
export function parseIpv6(text: string): Ipv6 | undefined {
  if (text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined
  return ipaddr.IPv6.parse(text)
    .toByteArray()
    .reduce((bits, byte) => (bits << 8n) | BigInt(byte), 0n) as Ipv6
}

/** Text in the form of RFC 5952. */
export function formatIpv6(address: Ipv6): string {
  const bytes = Array.from({ length: 16 }, (_, i) => Number((address >> BigInt(8 * (15 - i))) & 255n))
  return new ipaddr.IPv6(bytes).toRFC5952String()
}

/** Reads the 6-byte forms of Go's net.ParseMAC: `02:00:..`, `02-00-..`, `0200.0000.0001`, in any case. */
export function parseMac(text: string): MacAddress | undefined {
  const pairs = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$|^[0-9a-f]{2}(?:-[0-9a-f]{2}){5}$/i
  const quads = /^[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}$/i
  if (!pairs.test(text) && !quads.test(text)) return undefined
  return mac(Number.parseInt(text.replace(/[:.-]/g, ''), 16))
}

/** Six lower-case hex pairs with colons. */
export function formatMac(address: MacAddress): string {
  return address.toString(16).padStart(12, '0').match(/../g)?.join(':') ?? ''
}

/** Whether it is neither the null address nor a group address (IEEE 802: lowest bit of the first octet). */
export function isUnicastMac(address: MacAddress): boolean {
  return address !== 0 && Math.floor(address / 2 ** 40) % 2 === 0
}

/**
 * Makes a random unicast, locally administered address of six random bytes, as flannel does (pkg/mac/mac.go).
 * @param bytes six random octets
 */
export function randomMac(bytes: Uint8Array): MacAddress {
  const octets = Array.from(bytes.subarray(0, 6))
  octets[0] = ((octets[0] ?? 0) & 0xfe) | 0x02
  return mac(octets.reduce((bits, octet) => bits * 256 + octet, 0))
}

/** Reads an address of either family. */
export const parseIp = (text: string): IpAddress | undefined => parseIpv4(text) ?? parseIpv6(text)

export const formatIp = (address: IpAddress): string =>
  typeof address === 'number' ? formatIpv4(address) : formatIpv6(address)

export const familyOf = (address: IpAddress): Family => (typeof address === 'number' ? 'IPv4' : 'IPv6')

export const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']

/** The null address. */
export const anyAddress = (family: Family): IpAddress => (family === 'IPv4' ? ipv4(0) : (0n as Ipv6))

/** Bits of an address; also the prefix length of a single address. */
export const addressBits = (family: Family): 32 | 128 => (family === 'IPv4' ? 32 : 128)

/** Number of addresses in a prefix of that length. */
export const prefixSize = (family: Family, length: number): bigint =>
  1n << BigInt(addressBits(family) - length)

/** The address `steps` after another one. The result must exist in the same family. */
export function addressAfter<Address extends IpAddress>(address: Address, steps: bigint): Address {
  const from: IpAddress = address
  const next = typeof from === 'number' ? ipv4(from + Number(steps)) : from + steps
  return next as Address
}

/** The network of an address: its host bits are cleared. */
export function networkOf<Address extends IpAddress>(address: Address, length: number): Prefix<Address> {
  return { address: withoutHostBits(address, length) as Address, length }
}

function withoutHostBits(address: IpAddress, length: number): IpAddress {
  // In JavaScript, a shift by 32 shifts by 0.
  if (typeof address === 'number') return ipv4(length === 0 ? 0 : address & (-1 << (32 - length)))
  const hostBits = BigInt(128 - length)
  return ((address >> hostBits) << hostBits) as Ipv6
}

/** Whether all host bits are zero. */
export const isNetwork = ({ address, length }: Prefix): boolean =>
  withoutHostBits(address, length) === address

/** Reads `10.5.0.0/16`. Host bits are kept: use {@link networkOf} to clear them. */
export function parseIpv4Prefix(text: string): Ipv4Prefix | undefined {
  return parsePrefix(text, parseIpv4, 32)
}

/** Reads `fd00:5::/48`. Host bits are kept. */
export function parseIpv6Prefix(text: string): Ipv6Prefix | undefined {
  return parsePrefix(text, parseIpv6, 128)
}

/** Reads a prefix of either family. Host bits are kept. */
export const parseIpPrefix = (text: string): Prefix | undefined =>
  parseIpv4Prefix(text) ?? parseIpv6Prefix(text)

function parsePrefix<Address extends IpAddress>(
  text: string,
  parseAddress: (text: string) => Address | undefined,
  longest: number,
): Prefix<Address> | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text)
  const address = match?.[1] === undefined ? undefined : parseAddress(match[1])
  const length = Number(match?.[2])
  return address === undefined || length > longest ? undefined : { address, length }
}

export const formatPrefix = ({ address, length }: Prefix): string => `${formatIp(address)}/${length}`

/** Whether the prefix contains the address; false for an address of the other family. */
export function prefixContains({ address: network, length }: Prefix, address: IpAddress): boolean {
  return (
    typeof network === typeof address && withoutHostBits(network, length) === withoutHostBits(address, length)
  )
}

/** Whether two prefixes overlap; prefixes of different families do not. */
export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return a.length < b.length ? prefixContains(a, b.address) : prefixContains(b, a.address)
}

export function samePrefix(a: Prefix, b: Prefix): boolean {
  return a.address === b.address && a.length === b.length
}

/** Whether it is a multicast group: 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291). */
export const isGroup = (address: IpAddress): boolean =>
  typeof address === 'number' ? address >>> 28 === 0xe : address >> 120n === 0xffn

/**
 * Whether a host can own the address and be reached at it by others. IPv4: not 0.0.0.0/8 (RFC 1122),
 * 127.0.0.0/8, multicast, reserved or broadcast. IPv6: not unspecified, loopback, multicast (ff00::/8),
 * link-local (fe80::/10) or IPv4-mapped (::ffff:0:0/96, RFC 4291).
 */
export function isUnicast(address: IpAddress): boolean {
  if (typeof address === 'number') {
    const first = address >>> 24
    return first !== 0 && first !== 127 && first < 224
  }
  const top = Number(address >> 112n)
  return address > 1n && top < 0xff00 && (top & 0xffc0) !== 0xfe80 && address >> 32n !== 0xffffn
}
