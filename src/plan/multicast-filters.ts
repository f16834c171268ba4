/**
 * Which frames are multicast that other hosts get, as filters. What only concerns a link, or who asks for what on it (IGMP, MLD, neighbour
 * discovery), stays there: a query that crossed would have bridges elsewhere forward only what was asked for.
 *
 * A filter of u32 can tell what a byte is, and not what it is not; and one that ends the classification would keep frames from filters of
 * others. So all that passes is named, each frame by exactly one filter.
 */
import { addressBits, type Family, familyOf, type IpAddress, type Prefix } from '../model/address'
import {
  FILTER_PRIORITY,
  type FrameFilter,
  type Match,
  type MulticastOperation,
  type ObservedFilter,
} from '../model/multicast'

/** Protocol numbers (IANA, protocol-numbers). */
const HOP_BY_HOP = 0
const IGMP = 2
const ROUTING_HEADER = 43
const ICMPV6 = 58
const DESTINATION_OPTIONS = 60

/** Behind these headers nobody sees what a packet is. MLD has the first (RFC 3810). */
const NOT_IN_IPV6 = [HOP_BY_HOP, ROUTING_HEADER, ICMPV6, DESTINATION_OPTIONS]

/** The link-local addresses, which all hosts' containers share. */
const LINK_LOCAL: Prefix = { address: (0xfe80n << 112n) as IpAddress & bigint, length: 10 }

/** The group bit of the destination MAC, 14 bytes before the IP header; read where four bytes are aligned. */
const GROUP_BIT: Match = { at: -16, mask: 0x0000_0100, value: 0x0000_0100 }
const TO_GROUP: Readonly<Record<Family, Match>> = {
  IPv4: { at: 16, mask: 0xf000_0000, value: 0xe000_0000 },
  IPv6: { at: 24, mask: 0xff00_0000, value: 0xff00_0000 },
}
/** Offset of the source address. */
const SOURCE: Readonly<Record<Family, number>> = { IPv4: 12, IPv6: 8 }

/** A byte under a mask. */
interface MaskedByte {
  readonly mask: number
  readonly value: number
}

/** All bytes but some, as few disjoint masked values. */
export function allBut(excluded: readonly number[], value = 0, mask = 0): MaskedByte[] {
  const within = excluded.filter((each) => (each & mask) === value)
  if (within.length === 0) return [{ mask, value }]
  if (mask === 0xff) return []
  const bit = 0x80 >> bitsOf(mask)
  return [...allBut(within, value, mask | bit), ...allBut(within, value | bit, mask | bit)]
}

const bitsOf = (mask: number): number => Math.clz32(~(mask << 24) >>> 0)

/** The protocols that pass, each packet's by exactly one of them. */
const PROTOCOLS: Readonly<Record<Family, readonly (readonly Match[])[]>> = {
  IPv4: allBut([IGMP]).map(({ mask, value }) => [{ at: 8, mask: mask << 16, value: value << 16 }]),
  IPv6: [
    ...allBut(NOT_IN_IPV6).map(({ mask, value }) => [{ at: 4, mask: mask << 8, value: value << 8 }]),
    // Of ICMPv6 an echo and its answer, 128 and 129 (RFC 4443).
    [
      { at: 4, mask: 0xff00, value: ICMPV6 << 8 },
      { at: 40, mask: 0xfe00_0000, value: 0x8000_0000 },
    ],
  ],
}

/** The addresses of a prefix, in words of four bytes from an offset on. */
function inPrefix({ address, length }: Prefix, at: number): Match[] {
  const words = addressBits(familyOf(address)) / 32
  return Array.from({ length: words }, (_, index): Match => {
    const bits = Math.min(32, Math.max(0, length - 32 * index))
    const mask = bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0
    const word =
      typeof address === 'number' ? address : Number((address >> BigInt(32 * (3 - index))) & 0xffff_ffffn)
    return { at: at + 4 * index, mask, value: (word & mask) >>> 0 }
  }).filter(({ mask }) => mask !== 0)
}

/** The filters on a bridge, which hand the device copies of what containers send. They leave the frames to whoever else wants them. */
export const outFilters = (device: number, tag: number): FrameFilter[] =>
  (['IPv4', 'IPv6'] as const).flatMap((family) =>
    PROTOCOLS[family].map((protocol) => ({
      family,
      matches: [TO_GROUP[family], ...protocol, GROUP_BIT],
      tag,
      copyTo: [device],
      goesOn: true,
    })),
  )

/**
 * The filters on the device, which hand to bridges what comes from other hosts' containers, and only that.
 * @param networks what senders' addresses must be in
 */
export const inFilters = (
  networks: readonly Prefix[],
  bridges: readonly number[],
  tag: number,
): FrameFilter[] =>
  bridges.length === 0
    ? []
    : [...networks, LINK_LOCAL].flatMap((network) => {
        const family = familyOf(network.address)
        return PROTOCOLS[family].map((protocol) => ({
          family,
          matches: [TO_GROUP[family], ...inPrefix(network, SOURCE[family]), ...protocol, GROUP_BIT],
          tag,
          copyTo: bridges,
          goesOn: false,
        }))
      })

/** The low bits of a tag are the VNI; those above it say what mcast_router of the bridge was before us. */
const VNI_BITS = 24
export const filterTag = (vni: number, routerBefore = 0): number => ((routerBefore << VNI_BITS) | vni) >>> 0
export const routerBefore = (tag: number): number => tag >>> VNI_BITS

/** Whether a filter is one of that VNI's daemon. */
export const isOwnFilter = ({ priority, tag }: ObservedFilter, vni: number): boolean =>
  Object.values(FILTER_PRIORITY).includes(priority) && (tag & 0xff_ffff) === vni

/**
 * The changes that make the filters on a link what they should be. One that takes another's place comes right after that is gone, so
 * that no frame passes both and next to none neither.
 * @param observed our own
 */
export function diffFilters(
  link: number,
  desired: readonly FrameFilter[],
  observed: readonly ObservedFilter[],
): MulticastOperation[] {
  const spare = new Map<string, ObservedFilter[]>()
  for (const each of observed) {
    const place = each.filter === undefined ? '' : selection(each.filter)
    spare.set(place, [...(spare.get(place) ?? []), each])
  }
  const kept = new Set<ObservedFilter>()
  const missing: FrameFilter[] = []
  for (const filter of desired) {
    const same = spare
      .get(selection(filter))
      ?.find((each) => each.filter !== undefined && sameFilter(each.filter, filter))
    if (same === undefined) missing.push(filter)
    else kept.add(same)
  }
  const operations: MulticastOperation[] = []
  const dropped = new Set(kept)
  const drop = (each: ObservedFilter): void => {
    if (dropped.has(each)) return
    dropped.add(each)
    operations.push({ kind: 'delete-filter', link, filter: each })
  }
  for (const filter of missing) {
    for (const each of spare.get(selection(filter)) ?? []) drop(each)
    operations.push({ kind: 'add-filter', link, filter })
  }
  for (const each of observed) drop(each)
  return operations
}

/** Which frames a filter is about. */
const selection = ({ family, matches }: FrameFilter): string =>
  `${family} ${matches.map(({ at, mask, value }) => `${at}:${mask}:${value}`).join()}`

const sameFilter = (a: FrameFilter, b: FrameFilter): boolean =>
  selection(a) === selection(b) &&
  a.tag === b.tag &&
  a.goesOn === b.goesOn &&
  a.copyTo.join() === b.copyTo.join()
