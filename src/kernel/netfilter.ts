/**
 * Tables of nftables in the netdev family, as far as rules for frames need them (linux/netfilter/nf_tables.h). Where traffic control would need
 * a qdisc, whose coming and going stops the link for some milliseconds, these hooks come and go without a lost frame. Numbers are in network
 * order here, but for what is compared with a register.
 */
import type { Family, IpAddress } from '../model/address'
import type { AddressSet, Condition, FrameChain, FrameRule, FrameTable } from '../model/multicast'
import { HOST_LITTLE_ENDIAN, type MessageWriter, viewOf } from './netlink/bytes'
import type { Question, RequestFormat } from './netlink/client'
import { eachPayload } from './netlink/codec'
import * as k from './netlink/constants'
import { ipAddress, ipv4Address, ipv6Address, text } from './netlink/layout'

/** An attribute: its type, and a number of 32 bits in network order, bytes, text, or attributes. */
type Attribute = readonly [type: number, value: number | Uint8Array | string | readonly Attribute[]]

function writeAttribute(writer: MessageWriter, [type, value]: Attribute): void {
  if (typeof value === 'number') {
    const at = writer.attribute(type, 4)
    writer.view.setUint32(at, value)
  } else if (typeof value === 'string') {
    text.write(writer, type, value)
  } else if (value instanceof Uint8Array) {
    const at = writer.attribute(type, value.length)
    for (const [index, byte] of value.entries()) writer.view.setUint8(at + index, byte)
  } else {
    const payload = writer.attribute(type | k.NLA_F_NESTED, 0)
    for (const attribute of value) writeAttribute(writer, attribute)
    writer.closeNest(payload)
  }
}

/** sizeof(struct nfgenmsg): family, version, and 16 bits in network order */
export const NFGENMSG_SIZE = 4

/** Appends a message about a table of ours. */
export function writeMessage(
  writer: MessageWriter,
  type: number,
  flags: number,
  attributes: readonly Attribute[],
): void {
  writer.begin((k.NFNL_SUBSYS_NFTABLES << 8) | type, k.NLM_F_REQUEST | flags)
  const at = writer.reserve(NFGENMSG_SIZE)
  writer.view.setUint8(at, k.NFPROTO_NETDEV)
  for (const attribute of attributes) writeAttribute(writer, attribute)
  writer.finish()
}

function writeFrame(writer: MessageWriter, type: number): void {
  writer.begin(type, k.NLM_F_REQUEST)
  const at = writer.reserve(NFGENMSG_SIZE)
  writer.view.setUint16(at + 2, k.NFNL_SUBSYS_NFTABLES)
  writer.finish()
}

/** What makes changes one transaction, for {@link NetlinkClient.transaction}. */
export const TABLE_TRANSACTION = {
  begin: (writer: MessageWriter): void => writeFrame(writer, k.NFNL_MSG_BATCH_BEGIN),
  end: (writer: MessageWriter): void => writeFrame(writer, k.NFNL_MSG_BATCH_END),
  what: 'change the rules for multicast',
}

/** One step of a transaction. */
export type TableStep =
  | { readonly kind: 'make-table'; readonly table: string }
  /** With all that is in it; ENOENT when there is none. */
  | { readonly kind: 'delete-table'; readonly table: string }
  | { readonly kind: 'add-chain'; readonly table: string; readonly chain: FrameChain }
  | { readonly kind: 'add-rule'; readonly table: string; readonly chain: string; readonly rule: FrameRule }
  /** All rules of a chain, which stays. */
  | { readonly kind: 'flush-chain'; readonly table: string; readonly chain: string }
  | SetStep

/** The steps that put a table in place of what is there under its name: at no moment is there a part of it, or both. */
export function replaceTable({ name: table, sets = [], chains }: FrameTable): TableStep[] {
  return [
    { kind: 'make-table', table },
    { kind: 'delete-table', table },
    { kind: 'make-table', table },
    ...makeSets(table, sets),
    ...chains.flatMap((chain): TableStep[] => [
      { kind: 'add-chain', table, chain },
      ...chain.rules.map((rule) => ({ kind: 'add-rule', table, chain: chain.name, rule }) as const),
    ]),
  ]
}

/**
 * The steps that give chains that are there other rules. A frame meets those of before or those of after, and not both as while one chain takes
 * another's place.
 */
export const replaceRules = (table: string, chains: readonly FrameChain[]): TableStep[] =>
  chains.flatMap(({ name: chain, rules }): TableStep[] => [
    { kind: 'flush-chain', table, chain },
    ...rules.map((rule) => ({ kind: 'add-rule', table, chain, rule }) as const),
  ])

export const STEP_FORMAT: RequestFormat<TableStep> = { encode: encodeStep, describe: describeStep }

/** After those of others, which may drop what they do not like. */
const HOOK_PRIORITY = 100

function encodeStep(writer: MessageWriter, step: TableStep): void {
  switch (step.kind) {
    case 'make-table':
      writeMessage(writer, k.NFT_MSG_NEWTABLE, k.NLM_F_CREATE, [[k.NFTA_TABLE_NAME, step.table]])
      break
    case 'delete-table':
      writeMessage(writer, k.NFT_MSG_DELTABLE, 0, [[k.NFTA_TABLE_NAME, step.table]])
      break
    case 'add-chain': {
      const { name, link, otherwise } = step.chain
      writeMessage(writer, k.NFT_MSG_NEWCHAIN, k.NLM_F_CREATE, [
        [k.NFTA_CHAIN_TABLE, step.table],
        [k.NFTA_CHAIN_NAME, name],
        ...(link === undefined ? [] : hookAttributes(link, otherwise)),
      ])
      break
    }
    case 'add-rule':
      writeMessage(writer, k.NFT_MSG_NEWRULE, k.NLM_F_CREATE | k.NLM_F_APPEND, [
        [k.NFTA_RULE_TABLE, step.table],
        [k.NFTA_RULE_CHAIN, step.chain],
        [
          k.NFTA_RULE_EXPRESSIONS,
          expressionsOf(step.rule).map((each): Attribute => [k.NFTA_LIST_ELEM, each]),
        ],
      ])
      break
    case 'flush-chain':
      writeMessage(writer, k.NFT_MSG_DELRULE, 0, [
        [k.NFTA_RULE_TABLE, step.table],
        [k.NFTA_RULE_CHAIN, step.chain],
      ])
      break
    default:
      encodeSetStep(writer, step)
  }
}

const hookAttributes = (link: string, otherwise: FrameChain['otherwise']): readonly Attribute[] => [
  [k.NFTA_CHAIN_TYPE, 'filter'],
  [k.NFTA_CHAIN_POLICY, otherwise === 'drop' ? k.NF_DROP : k.NF_ACCEPT],
  [
    k.NFTA_CHAIN_HOOK,
    [
      [k.NFTA_HOOK_HOOKNUM, k.NF_NETDEV_INGRESS],
      [k.NFTA_HOOK_PRIORITY, HOOK_PRIORITY],
      [k.NFTA_HOOK_DEV, link],
    ],
  ],
]

function describeStep(step: TableStep): string {
  const table = `the nftables table netdev ${step.table}`
  switch (step.kind) {
    case 'make-table':
      return `make ${table}`
    case 'delete-table':
      return `delete ${table}`
    case 'add-chain':
      return step.chain.link === undefined
        ? `add the chain ${step.chain.name} to ${table}`
        : `add a chain on ${step.chain.link} to ${table}`
    case 'add-rule':
      return `add a rule to the chain ${step.chain} of ${table}`
    case 'flush-chain':
      return `remove the rules of the chain ${step.chain} of ${table}`
    default:
      return `change the set ${step.set.name} of ${table}`
  }
}

const expression = (name: string, data: readonly Attribute[]): readonly Attribute[] => [
  [k.NFTA_EXPR_NAME, name],
  [k.NFTA_EXPR_DATA, data],
]

const data = (bytes: readonly number[]): readonly Attribute[] => [[k.NFTA_DATA_VALUE, Uint8Array.from(bytes)]]

const compare = (value: readonly number[], not = false): readonly Attribute[] =>
  expression('cmp', [
    [k.NFTA_CMP_SREG, k.NFT_REG_1],
    [k.NFTA_CMP_OP, not ? k.NFT_CMP_NEQ : k.NFT_CMP_EQ],
    [k.NFTA_CMP_DATA, data(value)],
  ])

const ETHER_TYPES: Readonly<Record<Family, number>> = { IPv4: k.ETH_P_IP, IPv6: k.ETH_P_IPV6 }
const HEADERS: Readonly<Record<Condition['header'], number>> = {
  link: k.NFT_PAYLOAD_LL_HEADER,
  network: k.NFT_PAYLOAD_NETWORK_HEADER,
}

function expressionsOf(rule: FrameRule): (readonly Attribute[])[] {
  const { family, conditions, to, limit, counted, copyTo, moveTo, goTo } = rule
  return [
    ...(family === undefined ? [] : familyExpressions(family)),
    ...conditions.flatMap(conditionExpressions),
    ...(to === undefined || family === undefined ? [] : isInSet(family, to)),
    ...(limit === undefined ? [] : [limitExpression(limit)]),
    ...(counted === undefined ? [] : [expression('counter', [])]),
    ...copyTo.flatMap((link) => [
      intoRegister(link),
      expression('dup', [[k.NFTA_DUP_SREG_DEV, k.NFT_REG_1]]),
    ]),
    ...(moveTo === undefined
      ? []
      : [intoRegister(moveTo), expression('fwd', [[k.NFTA_FWD_SREG_DEV, k.NFT_REG_1]])]),
    ...(goTo === undefined ? [] : [verdict(goTo)]),
  ]
}

function familyExpressions(family: Family): (readonly Attribute[])[] {
  const protocol = ETHER_TYPES[family]
  return [
    expression('meta', [
      [k.NFTA_META_KEY, k.NFT_META_PROTOCOL],
      [k.NFTA_META_DREG, k.NFT_REG_1],
    ]),
    compare([protocol >> 8, protocol & 0xff]),
  ]
}

/** A bucket that holds a second's worth. */
const limitExpression = (perSecond: number): readonly Attribute[] =>
  expression('limit', [
    [k.NFTA_LIMIT_RATE, wide(perSecond)],
    [k.NFTA_LIMIT_UNIT, wide(1)],
    [k.NFTA_LIMIT_BURST, perSecond],
    [k.NFTA_LIMIT_TYPE, k.NFT_LIMIT_PKTS],
    [k.NFTA_LIMIT_FLAGS, 0],
  ])

/** 64 bits in network order. */
function wide(value: number): Uint8Array {
  const bytes = new Uint8Array(8)
  viewOf(bytes).setBigUint64(0, BigInt(value))
  return bytes
}

const verdict = (goTo: NonNullable<FrameRule['goTo']>): readonly Attribute[] =>
  expression('immediate', [
    [k.NFTA_IMMEDIATE_DREG, k.NFT_REG_VERDICT],
    [
      k.NFTA_IMMEDIATE_DATA,
      [
        [
          k.NFTA_DATA_VERDICT,
          goTo === 'back'
            ? [[k.NFTA_VERDICT_CODE, k.NFT_RETURN]]
            : [
                [k.NFTA_VERDICT_CODE, k.NFT_JUMP],
                [k.NFTA_VERDICT_CHAIN, goTo.chain],
              ],
        ],
      ],
    ],
  ])

/** Loads bytes of a frame. */
const load = (header: Condition['header'], at: number, length: number): readonly Attribute[] =>
  expression('payload', [
    [k.NFTA_PAYLOAD_DREG, k.NFT_REG_1],
    [k.NFTA_PAYLOAD_BASE, HEADERS[header]],
    [k.NFTA_PAYLOAD_OFFSET, at],
    [k.NFTA_PAYLOAD_LEN, length],
  ])

function conditionExpressions({ header, at, value, mask, not }: Condition): (readonly Attribute[])[] {
  return [
    load(header, at, value.length),
    ...(mask === undefined
      ? []
      : [
          expression('bitwise', [
            [k.NFTA_BITWISE_SREG, k.NFT_REG_1],
            [k.NFTA_BITWISE_DREG, k.NFT_REG_1],
            [k.NFTA_BITWISE_LEN, mask.length],
            [k.NFTA_BITWISE_MASK, data(mask)],
            [k.NFTA_BITWISE_XOR, data(mask.map(() => 0))],
          ]),
        ]),
    compare(value, not),
  ]
}

/** A link's index, in the host's order. */
function intoRegister(link: number): readonly Attribute[] {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, link, HOST_LITTLE_ENDIAN)
  return expression('immediate', [
    [k.NFTA_IMMEDIATE_DREG, k.NFT_REG_1],
    [k.NFTA_IMMEDIATE_DATA, data([...bytes])],
  ])
}

/** A change of a set of addresses. */
export type SetStep = {
  readonly kind: 'add-set' | 'add-addresses' | 'delete-addresses'
  readonly table: string
  readonly set: AddressSet
}

/** A set's type of key, as `nft` numbers them (nftables: include/datatype.h), and where in the IP header the destination is. */
const KEYS: Readonly<
  Record<Family, { type: number; payload: typeof ipv4Address | typeof ipv6Address; at: number }>
> = {
  IPv4: { type: 7, payload: ipv4Address, at: 16 },
  IPv6: { type: 8, payload: ipv6Address, at: 24 },
}

/** Elements to a message: an attribute has at most 64 KiB, and one of these at most 28 bytes. */
const ELEMENTS = 1024

/** The steps that add addresses to sets that are there, or take them away. */
export const changeSets = (
  kind: 'add-addresses' | 'delete-addresses',
  table: string,
  sets: readonly AddressSet[],
): TableStep[] => sets.flatMap((set) => elementSteps(kind, table, set))

const makeSets = (table: string, sets: readonly AddressSet[]): TableStep[] =>
  sets.flatMap((set) => [{ kind: 'add-set', table, set }, ...elementSteps('add-addresses', table, set)])

const elementSteps = (
  kind: 'add-addresses' | 'delete-addresses',
  table: string,
  { addresses, ...set }: AddressSet,
): SetStep[] =>
  Array.from({ length: Math.ceil(addresses.length / ELEMENTS) }, (_, i) => ({
    kind,
    table,
    set: { ...set, addresses: addresses.slice(i * ELEMENTS, (i + 1) * ELEMENTS) },
  }))

function encodeSetStep(writer: MessageWriter, { kind, table, set }: SetStep): void {
  if (kind === 'add-set') {
    const { type, payload } = KEYS[set.family]
    writeMessage(writer, k.NFT_MSG_NEWSET, k.NLM_F_CREATE, [
      [k.NFTA_SET_TABLE, table],
      [k.NFTA_SET_NAME, set.name],
      [k.NFTA_SET_KEY_TYPE, type],
      [k.NFTA_SET_KEY_LEN, payload.size],
      // By which others of the transaction could speak of it; they use its name.
      [k.NFTA_SET_ID, type],
    ])
    return
  }
  const [message, flags] =
    kind === 'add-addresses' ? [k.NFT_MSG_NEWSETELEM, k.NLM_F_CREATE] : [k.NFT_MSG_DELSETELEM, 0]
  writeMessage(writer, message, flags, [
    [k.NFTA_SET_ELEM_LIST_TABLE, table],
    [k.NFTA_SET_ELEM_LIST_SET, set.name],
    [
      k.NFTA_SET_ELEM_LIST_ELEMENTS,
      set.addresses.map((address): Attribute => {
        return [k.NFTA_LIST_ELEM, [[k.NFTA_SET_ELEM_KEY, data(bytesOf(set.family, address))]]]
      }),
    ],
  ])
}

function bytesOf(family: Family, address: IpAddress): number[] {
  const { size } = KEYS[family].payload
  const number = BigInt(address)
  return Array.from({ length: size }, (_, i) => Number((number >> BigInt(8 * (size - 1 - i))) & 255n))
}

function isInSet(family: Family, set: string): (readonly Attribute[])[] {
  const { payload, at } = KEYS[family]
  return [
    load('network', at, payload.size),
    expression('lookup', [
      [k.NFTA_LOOKUP_SET, set],
      [k.NFTA_LOOKUP_SREG, k.NFT_REG_1],
    ]),
  ]
}

/** The addresses in a set; as a dump, in which they come some at a time. ENOENT when there is no such set. */
export const listAddresses = (table: string, set: string): Question<readonly IpAddress[]> => ({
  attempted: `list the set ${set} of the nftables table netdev ${table}`,
  encode: (writer) =>
    writeMessage(writer, k.NFT_MSG_GETSETELEM, 0, [
      [k.NFTA_SET_ELEM_LIST_TABLE, table],
      [k.NFTA_SET_ELEM_LIST_SET, set],
    ]),
  decode(view, start, end) {
    const addresses: IpAddress[] = []
    const body = start + NFGENMSG_SIZE
    for (const [from, to] of eachPayload(view, body, end, k.NFTA_SET_ELEM_LIST_ELEMENTS))
      for (const element of eachPayload(view, from, to, k.NFTA_LIST_ELEM))
        for (const key of eachPayload(view, ...element, k.NFTA_SET_ELEM_KEY))
          for (const [at, after] of eachPayload(view, ...key, k.NFTA_DATA_VALUE)) {
            const address = ipAddress.read(view, at, after - at, 'element')
            if (address !== undefined) addresses.push(address)
          }
    return addresses
  },
})
