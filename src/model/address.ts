/**
 * Network addresses, each in one representation, branded so that a bare number, bigint or string is never
 * taken for one. Parsers answer `undefined` for text they do not accept; callers word the error, for only they know
 * where the text came from.
 */
import { isIPv4 } from 'node:net'
import ipaddr from 'ipaddr.js'

declare const brand: unique symbol
type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** An IPv4 address as an unsigned 32-bit number in host order: 10.5.1.0 is 0x0a050100. */
export type Ipv4 = Brand<number, 'Ipv4'>
/** An IPv6 address as an unsigned 128-bit bigint. */
export type Ipv6 = Brand<bigint, 'Ipv6'>
/** An EUI-48 address as an unsigned 48-bit number (exact in a double): 02:00:00:00:00:01 is 0x020000000001. */
export type MacAddress = Brand<number, 'MacAddress'>

/** An IPv4 network. `address` may carry host bits only where a doc comment says so. `length` is 0 to 32. */
export interface Ipv4Prefix {
  readonly address: Ipv4
  readonly length: number
}

/** An IPv6 network. `length` is 0 to 128. */
export interface Ipv6Prefix {
  readonly address: Ipv6
  readonly length: number
}

/** The number as an address; for decoders that have already read exactly 32 bits. */
export const ipv4 = (bits: number): Ipv4 => (bits >>> 0) as Ipv4

/** The number as an address; for decoders that have already read exactly 48 bits. */
export const mac = (bits: number): MacAddress => bits as MacAddress

/** Reads dotted decimal, four octets, no padding (`010` is refused, as Go does). */
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

/** RFC 5952 text. */
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

/** Neither the null address nor a group address (IEEE 802: lowest bit of the first octet). */
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

/** The mask of a prefix length (0 to 32) as a number. */
export const ipv4Mask = (length: number): number => (length === 0 ? 0 : (-1 << (32 - length)) >>> 0)

/** The number of addresses in a network of that length. */
export const ipv4Size = (length: number): number => 2 ** (32 - length)

/** The network an address lies in: host bits cleared. */
export function ipv4Network(address: Ipv4, length: number): Ipv4Prefix {
  return { address: ipv4(address & ipv4Mask(length)), length }
}

/** Reads `10.5.0.0/16`; host bits are kept, so mask with {@link ipv4Network} where a network is meant. */
export function parseIpv4Prefix(text: string): Ipv4Prefix | undefined {
  const match = /^([^/]+)\/(\d{1,2})$/.exec(text)
  const address = match?.[1] === undefined ? undefined : parseIpv4(match[1])
  const length = Number(match?.[2])
  return address === undefined || length > 32 ? undefined : { address, length }
}

export function formatIpv4Prefix(prefix: Ipv4Prefix): string {
  return `${formatIpv4(prefix.address)}/${prefix.length}`
}

export function prefixContains(prefix: Ipv4Prefix, address: Ipv4): boolean {
  return ipv4Network(address, prefix.length).address === ipv4Network(prefix.address, prefix.length).address
}

export function prefixesOverlap(a: Ipv4Prefix, b: Ipv4Prefix): boolean {
  const length = Math.min(a.length, b.length)
  return ipv4Network(a.address, length).address === ipv4Network(b.address, length).address
}

export function samePrefix(a: Ipv4Prefix, b: Ipv4Prefix): boolean {
  return a.address === b.address && a.length === b.length
}

/** An address a host can own: not 0.0.0.0/8 (RFC 1122), 127.0.0.0/8, multicast, reserved or broadcast. */
export function isUnicastIpv4(address: Ipv4): boolean {
  const first = address >>> 24
  return first !== 0 && first !== 127 && first < 224
}
