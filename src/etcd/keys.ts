/**
 * Names of the keys under the prefix (flannel: pkg/subnet/subnet.go, pkg/subnet/etcd/registry.go):
 *
 *     <prefix>/config
 *     <prefix>/subnets/10.5.12.0-24
 *     <prefix>/subnets/10.5.62.0-24&fd00:5:0:3e::-64
 *     <prefix>/subnets/0.0.0.0-0&fd00:5:0:3e::-64       in a network without IPv4
 *
 * and one that flannel does not know:
 *
 *     <prefix>/overlay/groups/10.5.12.0-24              the multicast groups that this host wants of others
 */
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
} from '../model/address'
import type { LeaseSubnet } from '../model/lease'
import { EtcdError } from './errors'

/** What a decoder answers: the value, or why there is none, worded for people. */
export type Decoded<T> =
  | { readonly value: T; readonly reason?: never }
  | { readonly value?: never; readonly reason: string }

/** The keys of one network. */
export interface Keys {
  /** Everything we read: all keys that begin with `<prefix>/`, from `start` up to `end`, which is excluded. */
  readonly range: { readonly start: string; readonly end: string }
  readonly config: string
  /** `<prefix>/subnets/`, with the slash: flannel goes without and so takes `subnets2/...` for leases too. */
  readonly subnets: string
  /** `<prefix>/overlay/groups/`. */
  readonly groups: string
}

/**
 * The prefix as flannel joins it: a clean path, so `/a//b/` is `/a/b`, `..` is resolved, and a prefix without a leading
 * slash stays without one. The root is the empty text.
 * @throws {EtcdError} `etcd-options` when no directory is left, for then all of etcd would be ours
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
  return {
    // '0' is the character after '/'.
    range: { start: `${prefix}/`, end: `${prefix}0` },
    config: `${prefix}/config`,
    subnets: `${prefix}/subnets/`,
    groups: `${prefix}/overlay/groups/`,
  }
}

/** What stands for the IPv4 half where there is none: Go's zero value. */
const NO_IPV4: Ipv4Prefix = { address: ipv4(0), length: 0 }

/** The last part of a lease's key. */
export function formatSubnetName({ ipv4 = NO_IPV4, ipv6 }: LeaseSubnet): string {
  const name = `${formatIpv4(ipv4.address)}-${ipv4.length}`
  return ipv6 === undefined ? name : `${name}&${formatIpv6(ipv6.address)}-${ipv6.length}`
}

/** flannel's own pattern, anchored at both ends: anything before it would make a second key for one subnet. */
const SUBNET_NAME = /^(\d+\.\d+\.\d+\.\d+)-(\d{1,2})(?:&([a-f0-9:]+)-(\d{1,3}))?$/
/** flannel reads the lengths as 5-bit and 7-bit numbers: a /32 and a /128 are none. */
const LONGEST_IPV4 = 31
const LONGEST_IPV6 = 127

/** Reads the last part of a lease's key; host bits are refused, as flannel would route to them. */
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
    return {
      reason: `${text} in the key is not the first address of a /${length}, ${formatIpv4(network.address)} is`,
    }
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
