/**
 * Which frames are multicast that other hosts get. What only concerns a link, or who asks for what on it (IGMP, MLD, neighbour discovery),
 * stays there: a query that crossed would have bridges elsewhere forward only what was asked for.
 */
import { addressBits, FAMILIES, type Family, familyOf, type IpAddress, type Prefix } from '../model/address'
import {
  type AddressSet,
  type Condition,
  type FrameChain,
  type FrameRule,
  type FrameTable,
  type MulticastOperation,
  type ObservedBridge,
  ROUTER_PORT_ALWAYS,
} from '../model/multicast'
import type { FamilyPlan } from './multicast-groups'

/** Protocol numbers (IANA, protocol-numbers). */
const HOP_BY_HOP = 0
const IGMP = 2
const ROUTING_HEADER = 43
const ICMPV6 = 58
const DESTINATION_OPTIONS = 60

const notIn = (at: number, protocols: readonly number[]): Condition[] =>
  protocols.map((protocol) => ({ header: 'network', at, value: [protocol], not: true }))

/** Offset of the protocol in the IPv4 header, and of the next header in that of IPv6. */
const PROTOCOL = 9
const NEXT_HEADER = 6

/** What passes, apart from its addresses: a frame meets one of a family's at the most. */
const KINDS: Readonly<Record<Family, readonly (readonly Condition[])[]>> = {
  IPv4: [notIn(PROTOCOL, [IGMP])],
  IPv6: [
    // Behind the others nobody sees what a packet is; MLD has the first (RFC 3810).
    notIn(NEXT_HEADER, [HOP_BY_HOP, ROUTING_HEADER, ICMPV6, DESTINATION_OPTIONS]),
    [
      { header: 'network', at: NEXT_HEADER, value: [ICMPV6] },
      // An echo or its answer, 128 and 129 (RFC 4443).
      { header: 'network', at: 40, value: [128], mask: [0xfe] },
    ],
  ],
}

/** Offset of the byte that has an IPv6 group's scope in its lower half (RFC 4291). */
const SCOPE = 25
const inScope = (scope: number): Condition => ({ header: 'network', at: SCOPE, value: [scope], mask: [15] })

/** What never leaves its host, for a host has nothing to do with another's interfaces: the scope `ff01::/16` is in. */
const NOT_ON_INTERFACE: Readonly<Record<Family, readonly Condition[]>> = {
  IPv4: [],
  IPv6: [{ ...inScope(1), not: true }],
}

/** To a group of the link, which hosts are not asked about. */
const TO_LINK_LOCAL: Readonly<Record<Family, Condition>> = {
  IPv4: { header: 'network', at: 16, value: [224, 0, 0] },
  IPv6: inScope(2),
}

/** Names of the sets of groups that other hosts want. */
const SETS: Readonly<Record<Family, string>> = { IPv4: 'wanted4', IPv6: 'wanted6' }

/** Which groups may leave: any, or those of the link and those that are wanted. A frame meets one of these at the most. */
const passes = (
  family: Family,
  { wanted }: Pick<FamilyPlan, 'wanted'>,
): Pick<FrameRule, 'conditions' | 'to'>[] =>
  wanted === 'all'
    ? [{ conditions: NOT_ON_INTERFACE[family] }]
    : [{ conditions: [TO_LINK_LOCAL[family]] }, { conditions: [], to: SETS[family] }]

/** The group bit of the destination MAC. */
const GROUP_BIT: Condition = { header: 'link', at: 0, value: [1], mask: [1] }

const TO_GROUP: Readonly<Record<Family, Condition>> = {
  IPv4: { header: 'network', at: 16, value: [0xe0, 0, 0, 0], mask: [0xf0, 0, 0, 0] },
  IPv6: { header: 'network', at: 24, value: [0xff] },
}

/** Offset of the source address. */
const SOURCE: Readonly<Record<Family, number>> = { IPv4: 12, IPv6: 8 }

/** The link-local addresses, which all hosts' containers share (RFC 4291). */
const LINK_LOCAL: Prefix = { address: (0xfe80n << 112n) as IpAddress & bigint, length: 10 }

/** The source is in that network: told by whole bytes, or else by the address under a mask, for `nft` shows both as a prefix. */
function isFrom({ address, length }: Prefix): Condition[] {
  if (length === 0) return []
  const family = familyOf(address)
  const bits = addressBits(family)
  const number = BigInt(address)
  const isWhole = length % 8 === 0
  const bytes = (isWhole ? length : bits) / 8
  const value = Array.from({ length: bytes }, (_, i) => Number((number >> BigInt(bits - 8 * (i + 1))) & 255n))
  const at = SOURCE[family]
  if (isWhole) return [{ header: 'network', at, value }]
  const mask = value.map((_, i) => (0xff << Math.min(8, Math.max(0, 8 * (i + 1) - length))) & 0xff)
  return [{ header: 'network', at, value: value.map((byte, i) => byte & (mask[i] ?? 0)), mask }]
}

/** The chain that all bridges share where there is a limit, and with it the limit. */
export const LIMIT_CHAIN = 'limit'

/** Hands the device copies of what is within the limit, and counts the rest, which stays on this host. */
const limitChain = (limit: number, device: number): FrameChain => ({
  name: LIMIT_CHAIN,
  otherwise: 'return',
  rules: [
    { conditions: [], limit, copyTo: [device], goTo: 'back' },
    { conditions: [], counted: true, copyTo: [] },
  ],
})

/**
 * A chain on a bridge: hands the device copies of what containers send, and leaves the frames alone.
 * @param what what is done with each
 * @param plans which groups may leave
 */
const outChain = (
  { name, routerBefore }: OutBridge,
  what: Pick<FrameRule, 'copyTo' | 'goTo'>,
  plans: Plans,
): FrameChain => ({
  name: outChainName(name, routerBefore),
  link: name,
  otherwise: 'accept',
  rules: FAMILIES.flatMap((family) =>
    KINDS[family].flatMap((kind) =>
      passes(family, plans[family]).map(({ conditions, ...to }): FrameRule => {
        return { family, conditions: [TO_GROUP[family], ...conditions, ...kind, GROUP_BIT], ...to, ...what }
      }),
    ),
  ),
})

/** The chain on the device: hands bridges what other hosts' containers send, and nothing else gets anywhere. */
const inChain = (link: string, networks: readonly Prefix[], bridges: readonly number[]): FrameChain => {
  const [moveTo, ...copyTo] = bridges
  const sources = moveTo === undefined ? [] : [...networks, LINK_LOCAL]
  return {
    name: 'in',
    link,
    otherwise: 'drop',
    rules: sources.flatMap((network) => {
      const family = familyOf(network.address)
      return KINDS[family].map((kind): FrameRule => {
        const conditions = [
          TO_GROUP[family],
          ...NOT_ON_INTERFACE[family],
          ...isFrom(network),
          ...kind,
          GROUP_BIT,
        ]
        return { family, conditions, copyTo, ...(moveTo !== undefined && { moveTo }) }
      })
    }),
  }
}

/** A bridge that takes part. */
export interface OutBridge extends Pick<ObservedBridge, 'name' | 'index'> {
  /** What its mcast_router was before us. */
  readonly routerBefore: number | undefined
}

/** The sets of groups that other hosts want; empty for a family of which any may leave. */
export const wantedSets = (plans: Plans = ANY_GROUP): AddressSet[] =>
  FAMILIES.map((family) => {
    const { wanted } = plans[family]
    return { name: SETS[family], family, addresses: wanted === 'all' ? [] : wanted }
  })

type Plans = Readonly<Record<Family, Pick<FamilyPlan, 'wanted'>>>

/** Every group of both families may leave. */
export const ANY_GROUP: Plans = { IPv4: { wanted: 'all' }, IPv6: { wanted: 'all' } }

/**
 * All rules.
 * @param networks what senders' addresses must be in, besides link-local ones
 * @param limit packets that containers of this host may send to others in a second; without it any number
 * @param plans which groups may leave
 */
export function frameTable(
  device: { readonly name: string; readonly index: number },
  networks: readonly Prefix[],
  bridges: readonly OutBridge[],
  limit?: number,
  plans: Plans = ANY_GROUP,
): FrameTable {
  const { name, index } = device
  const what = limit === undefined ? { copyTo: [index] } : { copyTo: [], goTo: { chain: LIMIT_CHAIN } }
  return {
    name,
    sets: wantedSets(plans),
    chains: [
      ...(limit === undefined ? [] : [limitChain(limit, index)]),
      ...bridges.map((bridge) => outChain(bridge, what, plans)),
      inChain(
        name,
        networks,
        bridges.map((bridge) => bridge.index),
      ),
    ],
  }
}

/** A chain's name remembers what mcast_router of its bridge was, for the time when there is no multicast any more. */
const outChainName = (bridge: string, routerBefore: number | undefined): string =>
  `out-${routerBefore ?? 'x'}-${bridge}`

/** Reads the name of a chain on a bridge; `undefined` for another. */
export function readOutChainName(
  name: string,
): { readonly bridge: string; readonly routerBefore: number | undefined } | undefined {
  const [, before, bridge] = /^out-([012x])-(.+)$/s.exec(name) ?? []
  if (before === undefined || bridge === undefined) return undefined
  return { bridge, routerBefore: before === 'x' ? undefined : Number(before) }
}

/** Stands for the index of a bridge of which only the name is known. */
const UNKNOWN = 0

/** Whether both are the same bridge; of one that an earlier run left only the name is known. */
export const isSameBridge = (
  a: Pick<OutBridge, 'name' | 'index'>,
  b: Pick<OutBridge, 'name' | 'index'>,
): boolean => (a.index === UNKNOWN ? a.name === b.name : a.index === b.index)

/** The bridges that a table's chains are on. */
export const bridgesInChains = (chains: readonly string[]): OutBridge[] =>
  chains.flatMap((chain) => {
    const read = readOutChainName(chain)
    return read === undefined ? [] : [{ name: read.bridge, index: UNKNOWN, routerBefore: read.routerBefore }]
  })

/** What gives bridges back the mcast_router that they had; one that someone has set since is theirs. */
export const restoreRouters = (
  left: readonly OutBridge[],
  bridges: readonly ObservedBridge[],
): MulticastOperation[] =>
  left.flatMap((each) => {
    const bridge = bridges.find((other) => isSameBridge(each, other))
    const { routerBefore } = each
    const isToRestore =
      bridge?.multicastRouter === ROUTER_PORT_ALWAYS &&
      routerBefore !== undefined &&
      routerBefore !== ROUTER_PORT_ALWAYS
    return isToRestore ? [{ kind: 'set-multicast-router', link: bridge.index, value: routerBefore }] : []
  })

/** What brings sets from what is there to what is wanted; nothing where they are the same. Both are in the same order. */
export function diffSets(
  wanted: readonly AddressSet[],
  there: readonly AddressSet[],
): { readonly added: AddressSet; readonly removed: AddressSet }[] {
  return wanted.flatMap((set, i) => {
    const found = there[i]?.addresses ?? []
    const [want, have] = [new Set(set.addresses), new Set(found)]
    const added = { ...set, addresses: set.addresses.filter((address) => !have.has(address)) }
    const removed = { ...set, addresses: found.filter((address) => !want.has(address)) }
    return added.addresses.length + removed.addresses.length === 0 ? [] : [{ added, removed }]
  })
}
