/**
 * Which frames are multicast that other hosts get. Protocols of one link (IGMP, MLD, neighbour discovery)
 * stay on it: a query that reached another host would make its bridges forward only the groups that were
 * asked for.
 */
import {
  addressBits,
  FAMILIES,
  type Family,
  familyOf,
  type IpAddress,
  type Prefix,
} from '../../model/address'
import type { AddressSet, BytesCondition, Rule, RuleChain, RuleTable } from '../../model/kernel/tables'
import { type MulticastOperation, type ObservedBridge, ROUTER_PORT_ALWAYS } from '../../model/multicast'
import type { FamilyPlan } from './groups'

/** Protocol numbers (IANA, protocol-numbers). */
const HOP_BY_HOP = 0
const IGMP = 2
const ROUTING_HEADER = 43
const ICMPV6 = 58
const DESTINATION_OPTIONS = 60

const notIn = (at: number, protocols: readonly number[]): BytesCondition[] =>
  protocols.map((protocol) => ({ header: 'network', at, value: [protocol], not: true }))

/** Offset of the protocol in the IPv4 header, and of the next header in that of IPv6. */
const PROTOCOL = 9
const NEXT_HEADER = 6

/**
 * The kinds of frames that pass, apart from their addresses. A frame meets at most one kind of its family.
 */
const KINDS: Readonly<Record<Family, readonly (readonly BytesCondition[])[]>> = {
  IPv4: [notIn(PROTOCOL, [IGMP])],
  IPv6: [
    // The protocol behind the other headers is not visible; MLD has a hop-by-hop header (RFC 3810).
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
const inScope = (scope: number): BytesCondition => ({
  header: 'network',
  at: SCOPE,
  value: [scope],
  mask: [15],
})

/** The interface-local scope, `ff01::/16`, never leaves its host. */
const NOT_ON_INTERFACE: Readonly<Record<Family, readonly BytesCondition[]>> = {
  IPv4: [],
  IPv6: [{ ...inScope(1), not: true }],
}

/** The destination is a link-local group, which always leaves. */
const TO_LINK_LOCAL: Readonly<Record<Family, BytesCondition>> = {
  IPv4: { header: 'network', at: 16, value: [224, 0, 0] },
  IPv6: inScope(2),
}

/** Names of the sets of groups that other hosts want. */
const SETS: Readonly<Record<Family, string>> = { IPv4: 'wanted4', IPv6: 'wanted6' }

/** Which groups may leave: all, or link-local and wanted ones. A frame meets at most one of these. */
const passes = (family: Family, { wanted }: Pick<FamilyPlan, 'wanted'>): Pick<Rule, 'conditions' | 'to'>[] =>
  wanted === 'all'
    ? [{ conditions: NOT_ON_INTERFACE[family] }]
    : [{ conditions: [TO_LINK_LOCAL[family]] }, { conditions: [], to: SETS[family] }]

/** The group bit of the destination MAC. */
const GROUP_BIT: BytesCondition = { header: 'link', at: 0, value: [1], mask: [1] }

const TO_GROUP: Readonly<Record<Family, BytesCondition>> = {
  IPv4: { header: 'network', at: 16, value: [0xe0, 0, 0, 0], mask: [0xf0, 0, 0, 0] },
  IPv6: { header: 'network', at: 24, value: [0xff] },
}

/** Offset of the source address. */
const SOURCE: Readonly<Record<Family, number>> = { IPv4: 12, IPv6: 8 }

/** The link-local addresses, which all hosts' containers share (RFC 4291). */
const LINK_LOCAL: Prefix = { address: (0xfe80n << 112n) as IpAddress & bigint, length: 10 }

/**
 * The source is in the network. Whole bytes are compared, or the address under a mask: `nft` shows both as a
 * prefix.
 */
function isFrom({ address, length }: Prefix): BytesCondition[] {
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

/** The chain that all bridges share if there is a limit; it holds the limit. */
export const LIMIT_CHAIN = 'limit'

/** Copies frames within the limit to the device, and counts the others, which stay on this host. */
const limitChain = (limit: number, device: number): RuleChain => ({
  name: LIMIT_CHAIN,
  policy: 'return',
  rules: [
    { conditions: [], limit, copyTo: [device], verdict: 'return' },
    { conditions: [], counted: true, copyTo: [] },
  ],
})

/**
 * A chain on a bridge: copies frames of containers to the device, and leaves the frames alone.
 * @param what the action for each frame
 * @param plans which groups may leave
 */
const outChain = (
  { name, routerBefore }: OutBridge,
  what: Pick<Rule, 'copyTo' | 'verdict'>,
  plans: Plans,
): RuleChain => ({
  name: outChainName(name, routerBefore),
  link: name,
  policy: 'accept',
  rules: FAMILIES.flatMap((family) =>
    KINDS[family].flatMap((kind) =>
      passes(family, plans[family]).map(({ conditions, ...to }): Rule => {
        return { family, conditions: [TO_GROUP[family], ...conditions, ...kind, GROUP_BIT], ...to, ...what }
      }),
    ),
  ),
})

/**
 * The chain on the device: copies frames of other hosts' containers to the bridges, and drops everything
 * else.
 */
const inChain = (link: string, networks: readonly Prefix[], bridges: readonly number[]): RuleChain => {
  const [moveTo, ...copyTo] = bridges
  const sources = moveTo === undefined ? [] : [...networks, LINK_LOCAL]
  return {
    name: 'in',
    link,
    policy: 'drop',
    rules: sources.flatMap((network) => {
      const family = familyOf(network.address)
      return KINDS[family].map((kind): Rule => {
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
  /** The value of its mcast_router before us. */
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
 * @param networks the networks of senders' addresses, besides link-local ones
 * @param limit packets that containers of this host may send to others per second; any number without it
 * @param plans which groups may leave
 */
export function frameTable(
  device: { readonly name: string; readonly index: number },
  networks: readonly Prefix[],
  bridges: readonly OutBridge[],
  limit?: number,
  plans: Plans = ANY_GROUP,
): RuleTable {
  const { name, index } = device
  const what = limit === undefined ? { copyTo: [index] } : { copyTo: [], verdict: { jump: LIMIT_CHAIN } }
  return {
    family: 'netdev',
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

/**
 * The name of a chain stores the former mcast_router of its bridge, to be restored when multicast is switched
 * off.
 */
const outChainName = (bridge: string, routerBefore: number | undefined): string =>
  `out-${routerBefore ?? 'x'}-${bridge}`

/** Reads the name of a chain on a bridge; `undefined` for another chain. */
export function readOutChainName(
  name: string,
): { readonly bridge: string; readonly routerBefore: number | undefined } | undefined {
  const [, before, bridge] = /^out-([012x])-(.+)$/s.exec(name) ?? []
  if (before === undefined || bridge === undefined) return undefined
  return { bridge, routerBefore: before === 'x' ? undefined : Number(before) }
}

/** The index of a bridge of which only the name is known. */
const UNKNOWN = 0

/** Whether both are the same bridge. Of a bridge from an earlier run only the name is known. */
export const isSameBridge = (
  a: Pick<OutBridge, 'name' | 'index'>,
  b: Pick<OutBridge, 'name' | 'index'>,
): boolean => (a.index === UNKNOWN ? a.name === b.name : a.index === b.index)

/** The bridges that the chains of a table are on. */
export const bridgesInChains = (chains: readonly string[]): OutBridge[] =>
  chains.flatMap((chain) => {
    const read = readOutChainName(chain)
    return read === undefined ? [] : [{ name: read.bridge, index: UNKNOWN, routerBefore: read.routerBefore }]
  })

/** The operations that restore mcast_router of bridges. A value that another program has set since stays. */
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
