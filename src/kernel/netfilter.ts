/**
 * Tables of nftables in the netdev family, as far as rules for frames need them (linux/netfilter/nf_tables.h). Where traffic control would need
 * a qdisc, whose coming and going stops the link for some milliseconds, these hooks come and go without a lost frame. Numbers are in network
 * order here, but for what is compared with a register.
 */
import type { Family } from '../model/address'
import type { Condition, FrameChain, FrameRule, FrameTable } from '../model/multicast'
import { HOST_LITTLE_ENDIAN, type MessageWriter, viewOf } from './netlink/bytes'
import type { RequestFormat } from './netlink/client'
import * as k from './netlink/constants'
import { text } from './netlink/layout'

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

/** The steps that put a table in place of what is there under its name: at no moment is there a part of it, or both. */
export function replaceTable({ name: table, chains }: FrameTable): TableStep[] {
  return [
    { kind: 'make-table', table },
    { kind: 'delete-table', table },
    { kind: 'make-table', table },
    ...chains.flatMap((chain): TableStep[] => [
      { kind: 'add-chain', table, chain },
      ...chain.rules.map((rule) => ({ kind: 'add-rule', table, chain: chain.name, rule }) as const),
    ]),
  ]
}

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
  const { family, conditions, limit, counted, copyTo, moveTo, goTo } = rule
  return [
    ...(family === undefined ? [] : familyExpressions(family)),
    ...conditions.flatMap(conditionExpressions),
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

function conditionExpressions({ header, at, value, mask, not }: Condition): (readonly Attribute[])[] {
  return [
    expression('payload', [
      [k.NFTA_PAYLOAD_DREG, k.NFT_REG_1],
      [k.NFTA_PAYLOAD_BASE, HEADERS[header]],
      [k.NFTA_PAYLOAD_OFFSET, at],
      [k.NFTA_PAYLOAD_LEN, value.length],
    ]),
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
