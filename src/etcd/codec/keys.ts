/**
 * Names of the keys under the prefix (flannel: pkg/subnet/subnet.go, pkg/subnet/etcd/registry.go):
 *
 *     <prefix>/config
 *     <prefix>/subnets/10.5.12.0-24
 *     <prefix>/subnets/10.5.62.0-24&fd00:5:0:3e::-64
 *     <prefix>/subnets/0.0.0.0-0&fd00:5:0:3e::-64       in a network without IPv4
 *
 * and five that flannel does not know:
 *
 *     <prefix>/overlay/audit/000000000042               a write of an operator
 *     <prefix>/overlay/groups/10.5.12.0-24              the multicast groups that this host wants to receive
 *     <prefix>/overlay/hosts/10.5.12.0-24               the identity of the host enrolled for that subnet
 *     <prefix>/overlay/prefixes/10.5.12.0-24/10.5.240.7-32
 *                                                       a prefix that this host announces
 *     <prefix>/overlay/reservations/10.5.12.0-24        the host an operator reserved that subnet for
 *
 * Hosts need no right to write any of these but their own groups and prefixes.
 */
import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { posix } from 'node:path'
import {
  formatIpv4,
  formatIpv6,
  type Ipv4Prefix,
  type Ipv6Prefix,
  ipv4,
  isNetwork,
  networkOf,
  parseIpv4,
  parseIpv6,
  samePrefix,
} from '../../model/address'
import type { LeaseSubnet } from '../../model/lease'
import { EtcdError } from '../client/errors'

/** The result of a decoder: the value, or why there is none, worded for people. */
export type Decoded<T> =
  | { readonly value: T; readonly reason?: never }
  | { readonly value?: never; readonly reason: string }

export interface KeyRange {
  readonly start: string
  /** Excluded. */
  readonly end: string
}

/** The keys of one network. */
export interface Keys {
  /** Everything we read: all keys that begin with `<prefix>/`. */
  readonly range: KeyRange
  readonly config: string
  /**
   * `<prefix>/subnets/`, with the slash. flannel omits the slash and so takes `subnets2/...` for leases too.
   */
  readonly subnets: string
  /** `<prefix>/overlay/groups/`. */
  readonly groups: string
  /** `<prefix>/overlay/prefixes/`. */
  readonly prefixes: string
  /** `<prefix>/overlay/reservations/`. */
  readonly reservations: string
  /** `<prefix>/overlay/audit/`. */
  readonly audit: string
  /** `<prefix>/overlay/hosts/`. */
  readonly hosts: string
  /** The keys that are read as etcd's bytes. */
  readonly bytes: Readonly<Record<'config' | 'subnets' | 'groups' | 'hosts' | 'prefixes', Buffer>>
}

/** The kind of a key. `key` and `name` (its last part) are texts as made by {@link keyText}. */
export type Place =
  | { readonly kind: 'config' }
  | { readonly kind: 'lease'; readonly key: string; readonly name: string }
  | { readonly kind: 'groups'; readonly name: string }
  | { readonly kind: 'host'; readonly name: string }
  | { readonly kind: 'prefix'; readonly name: string }

/**
 * Classifies a key; `undefined` if it is none of the keys we read. Compares bytes, because one text may stand
 * for several keys.
 */
export function placeOf(keys: Keys, key: Buffer): Place | undefined {
  const { config, subnets, groups, hosts, prefixes } = keys.bytes
  if (startsWith(key, subnets)) {
    const name = keyText(key.subarray(subnets.length))
    return { kind: 'lease', key: keys.subnets + name, name }
  }
  if (key.equals(config)) return { kind: 'config' }
  if (startsWith(key, groups)) return { kind: 'groups', name: keyText(key.subarray(groups.length)) }
  if (startsWith(key, hosts)) return { kind: 'host', name: keyText(key.subarray(hosts.length)) }
  if (startsWith(key, prefixes)) return { kind: 'prefix', name: keyText(key.subarray(prefixes.length)) }
  return undefined
}

const startsWith = (key: Buffer, start: Buffer): boolean =>
  key.length >= start.length && key.compare(start, 0, start.length, 0, start.length) === 0

/** Bytes of a key up to which it is shown in full; the longest name of a subnet has 62. */
const LONGEST_SHOWN = 512
const SHOWN_OF_LONGER = 64

/**
 * The text of a key, which identifies the key from here on: different keys have different texts. A backslash
 * marks anything that is not plain text: `\xff` is a byte of a key that is not UTF-8, `\u{1b}` a control or
 * format character, `\\` the backslash itself, and `\...` the rest of a key that is too long to keep, with
 * its length and SHA-256.
 */
export function keyText(key: Buffer): string {
  if (key.length <= LONGEST_SHOWN) return escaped(key)
  const digest = createHash('sha256').update(key).digest('hex')
  return `${escaped(key.subarray(0, SHOWN_OF_LONGER))}\\...(${key.length} bytes, SHA-256 ${digest})`
}

function escaped(key: Buffer): string {
  if (!isUtf8(key)) {
    return key
      .toString('latin1')
      .replace(/[^\x20-\x7e]|\\/g, (char) =>
        char === '\\' ? '\\\\' : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
      )
  }
  return key
    .toString()
    .replace(/[\\\p{C}\p{Zl}\p{Zp}]/gu, (char) =>
      char === '\\' ? '\\\\' : `\\u{${char.codePointAt(0)?.toString(16)}}`,
    )
}

/**
 * The prefix joined as flannel does: as a clean path, so `/a//b/` is `/a/b` and `..` is resolved. A prefix
 * without a leading slash stays without one. The root is the empty text.
 * @throws {EtcdError} `etcd-options` if no directory is left: all of etcd would be ours then
 */
export function etcdPrefix(text: string): string {
  const path = posix.normalize(text)
  if (text === '' || path === '.' || path === './') {
    throw new EtcdError('etcd-options', `the etcd prefix ${JSON.stringify(text)} names no directory`, {
      fix: 'use a path such as /coreos.com/network for --etcd-prefix',
    })
  }
  return path.endsWith('/') ? path.slice(0, -1) : path
}

/** @param prefix a clean prefix, see {@link etcdPrefix} */
export function keysUnder(prefix: string): Keys {
  const config = `${prefix}/config`
  const subnets = `${prefix}/subnets/`
  const groups = `${prefix}/overlay/groups/`
  const hosts = `${prefix}/overlay/hosts/`
  const prefixes = `${prefix}/overlay/prefixes/`
  return {
    // '0' is the character after '/'.
    range: { start: `${prefix}/`, end: `${prefix}0` },
    config,
    subnets,
    groups,
    hosts,
    prefixes,
    bytes: {
      config: Buffer.from(config),
      subnets: Buffer.from(subnets),
      groups: Buffer.from(groups),
      hosts: Buffer.from(hosts),
      prefixes: Buffer.from(prefixes),
    },
    reservations: `${prefix}/overlay/reservations/`,
    audit: `${prefix}/overlay/audit/`,
  }
}

/** The two ranges that together contain everything except the groups of hosts. */
export const withoutGroups = ({ range, groups }: Keys): readonly [KeyRange, KeyRange] => [
  { start: range.start, end: groups },
  { start: `${groups.slice(0, -1)}0`, end: range.end },
]

/** Go's zero value, which stands for a missing IPv4 part. */
const NO_IPV4: Ipv4Prefix = { address: ipv4(0), length: 0 }

/** The last part of a lease's key. */
export function formatSubnetName({ ipv4 = NO_IPV4, ipv6 }: LeaseSubnet): string {
  const name = `${formatIpv4(ipv4.address)}-${ipv4.length}`
  return ipv6 === undefined ? name : `${name}&${formatIpv6(ipv6.address)}-${ipv6.length}`
}

/** flannel's own pattern, anchored at both ends: text before it would make a second key for one subnet. */
const SUBNET_NAME = /^(\d+\.\d+\.\d+\.\d+)-(\d{1,2})(?:&([a-f0-9:]+)-(\d{1,3}))?$/
/** flannel reads the lengths as 5-bit and 7-bit numbers, so /32 and /128 are not possible. */
const LONGEST_IPV4 = 31
const LONGEST_IPV6 = 127

/**
 * Reads the last part of a lease's key. Host bits are refused, because flannel would route to that address.
 */
export function parseSubnetName(name: string): Decoded<LeaseSubnet> {
  const match = SUBNET_NAME.exec(name)
  if (match === null) return { reason: misnamed(name) }
  const [, address4 = '', length4, address6, length6] = match
  const half4 = readIpv4(address4, Number(length4))
  if (half4.reason !== undefined) return half4
  if (address6 === undefined) return { value: { ipv4: half4.value, ipv6: undefined } }
  const half6 = readIpv6(address6, Number(length6))
  if (half6.reason !== undefined) return half6
  return { value: { ipv4: samePrefix(half4.value, NO_IPV4) ? undefined : half4.value, ipv6: half6.value } }
}

function misnamed(name: string): string {
  if (name.includes('/')) return 'the key is not directly under subnets/'
  if (SUBNET_NAME.test(name.toLowerCase())) return 'the IPv6 half of the key is not in lower case'
  return 'the key is not a subnet written as in 10.5.12.0-24'
}

function readIpv4(text: string, length: number): Decoded<Ipv4Prefix> {
  const address = parseIpv4(text)
  if (address === undefined) return { reason: `${text} in the key is not an IPv4 address` }
  if (length > LONGEST_IPV4)
    return { reason: `the prefix length ${length} in the key is above ${LONGEST_IPV4}` }
  const network = networkOf(address, length)
  if (network.address !== address) {
    const first = formatIpv4(network.address)
    return { reason: `${text} in the key is not the first address of a /${length}, ${first} is` }
  }
  return { value: network }
}

function readIpv6(text: string, length: number): Decoded<Ipv6Prefix> {
  const address = parseIpv6(text)
  if (address === undefined) return { reason: `${text} in the key is not an IPv6 address` }
  if (length > LONGEST_IPV6)
    return { reason: `the prefix length ${length} in the key is above ${LONGEST_IPV6}` }
  if (!isNetwork({ address, length })) {
    return { reason: `${text} in the key is not the first address of a /${length}` }
  }
  return { value: { address, length } }
}
