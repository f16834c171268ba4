/**
 * Rules as the expressions of nftables (linux/netfilter/nf_tables.h). An expression loads into the register,
 * compares it, or acts; a comparison that fails, or a load of bytes that a packet does not have, ends the
 * rule. Numbers are in network order, except for those that are compared with a register.
 */
import type { Family } from '../../model/address'
import type { BytesCondition, Condition, FactCondition, Rule } from '../../model/kernel/tables'
import { HOST_LITTLE_ENDIAN, type MessageWriter, viewOf } from '../netlink/bytes'
import * as k from '../netlink/constants'
import { ipv4Address, ipv6Address, text } from '../netlink/layout'

/** An attribute: its type, and a number of 32 bits in network order, bytes, text, or attributes. */
export type Attribute = readonly [type: number, value: number | Uint8Array | string | readonly Attribute[]]

export function writeAttribute(writer: MessageWriter, [type, value]: Attribute): void {
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

/** An expression's attributes. */
type Expression = readonly Attribute[]

const expression = (name: string, data: readonly Attribute[]): Expression => [
  [k.NFTA_EXPR_NAME, name],
  [k.NFTA_EXPR_DATA, data],
]

export const data = (bytes: readonly number[]): readonly Attribute[] => [
  [k.NFTA_DATA_VALUE, Uint8Array.from(bytes)],
]

const compare = (value: readonly number[], operator: number = k.NFT_CMP_EQ): Expression =>
  expression('cmp', [
    [k.NFTA_CMP_SREG, k.NFT_REG_1],
    [k.NFTA_CMP_OP, operator],
    [k.NFTA_CMP_DATA, data(value)],
  ])

const equals = (value: readonly number[], not: true | undefined): Expression =>
  compare(value, not === undefined ? k.NFT_CMP_EQ : k.NFT_CMP_NEQ)

const ETHER_TYPES: Readonly<Record<Family, number>> = { IPv4: k.ETH_P_IP, IPv6: k.ETH_P_IPV6 }

export function expressionsOf(rule: Rule): Expression[] {
  const { family, conditions, to, limit, counted, copyTo = [], moveTo, verdict } = rule
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
    ...(verdict === undefined ? [] : [verdictExpression(verdict)]),
  ]
}

const loadFact = (key: number): Expression =>
  expression('meta', [
    [k.NFTA_META_KEY, key],
    [k.NFTA_META_DREG, k.NFT_REG_1],
  ])

function familyExpressions(family: Family): Expression[] {
  const protocol = ETHER_TYPES[family]
  return [loadFact(k.NFT_META_PROTOCOL), compare([protocol >> 8, protocol & 0xff])]
}

/** A token bucket that holds the packets of one second. */
const limitExpression = (perSecond: number): Expression =>
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

const VERDICTS = { return: k.NFT_RETURN, accept: k.NF_ACCEPT, drop: k.NF_DROP } as const

const verdictExpression = (verdict: NonNullable<Rule['verdict']>): Expression =>
  expression('immediate', [
    [k.NFTA_IMMEDIATE_DREG, k.NFT_REG_VERDICT],
    [
      k.NFTA_IMMEDIATE_DATA,
      [
        [
          k.NFTA_DATA_VERDICT,
          typeof verdict === 'string'
            ? [[k.NFTA_VERDICT_CODE, VERDICTS[verdict]]]
            : [
                [k.NFTA_VERDICT_CODE, k.NFT_JUMP],
                [k.NFTA_VERDICT_CHAIN, verdict.jump],
              ],
        ],
      ],
    ],
  ])

const HEADERS: Readonly<Record<Exclude<BytesCondition['header'], 'fragment'>, number>> = {
  link: k.NFT_PAYLOAD_LL_HEADER,
  network: k.NFT_PAYLOAD_NETWORK_HEADER,
  transport: k.NFT_PAYLOAD_TRANSPORT_HEADER,
}

/** Loads bytes of a packet. */
const load = (header: BytesCondition['header'], at: number, length: number): Expression =>
  header === 'fragment'
    ? expression('exthdr', [
        [k.NFTA_EXTHDR_DREG, k.NFT_REG_1],
        [k.NFTA_EXTHDR_TYPE, Uint8Array.of(k.IPPROTO_FRAGMENT)],
        [k.NFTA_EXTHDR_OFFSET, at],
        [k.NFTA_EXTHDR_LEN, length],
      ])
    : expression('payload', [
        [k.NFTA_PAYLOAD_DREG, k.NFT_REG_1],
        [k.NFTA_PAYLOAD_BASE, HEADERS[header]],
        [k.NFTA_PAYLOAD_OFFSET, at],
        [k.NFTA_PAYLOAD_LEN, length],
      ])

const conditionExpressions = (condition: Condition): Expression[] =>
  'fact' in condition ? factExpressions(condition) : bytesExpressions(condition)

function bytesExpressions({ header, at, value, mask, not, orMore }: BytesCondition): Expression[] {
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
    orMore === undefined ? equals(value, not) : compare(value, k.NFT_CMP_GTE),
  ]
}

const FAMILIES: Readonly<Record<Family, number>> = { IPv4: k.NFPROTO_IPV4, IPv6: k.NFPROTO_IPV6 }

function factExpressions(condition: FactCondition): Expression[] {
  const { not } = condition
  switch (condition.fact) {
    case 'in-name':
      return [loadFact(k.NFT_META_IIFNAME), equals(nameBytes(condition.value), not)]
    case 'out-name':
      return [loadFact(k.NFT_META_OIFNAME), equals(nameBytes(condition.value), not)]
    case 'protocol':
      return [loadFact(k.NFT_META_L4PROTO), equals([condition.value], not)]
    case 'family':
      return [loadFact(k.NFT_META_NFPROTO), equals([FAMILIES[condition.value]], not)]
    case 'local-source':
      return [
        expression('fib', [
          [k.NFTA_FIB_DREG, k.NFT_REG_1],
          [k.NFTA_FIB_RESULT, k.NFT_FIB_RESULT_ADDRTYPE],
          [k.NFTA_FIB_FLAGS, k.NFTA_FIB_F_SADDR],
        ]),
        equals(hostOrder(k.RTN_LOCAL), not),
      ]
  }
}

/**
 * A link's name as the kernel compares it: all bytes, with null bytes at the end. A part of them would match
 * all names that begin so.
 * @throws {RangeError} for a name that no link can have
 */
function nameBytes(name: string): number[] {
  const bytes = Buffer.from(name)
  if (bytes.length === 0 || bytes.length >= k.IFNAMSIZ || bytes.includes(0))
    throw new RangeError(`no link can be named ${JSON.stringify(name)}`)
  return [...bytes, ...new Array<number>(k.IFNAMSIZ - bytes.length).fill(0)]
}

/** 32 bits in the host's order. */
function hostOrder(value: number): number[] {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value, HOST_LITTLE_ENDIAN)
  return [...bytes]
}

/** A link's index. */
const intoRegister = (link: number): Expression =>
  expression('immediate', [
    [k.NFTA_IMMEDIATE_DREG, k.NFT_REG_1],
    [k.NFTA_IMMEDIATE_DATA, data(hostOrder(link))],
  ])

/**
 * The type of a set's key, as `nft` numbers them (nftables: include/datatype.h), and the offset of the
 * destination in the IP header.
 */
export const SET_KEYS: Readonly<
  Record<Family, { type: number; payload: typeof ipv4Address | typeof ipv6Address; at: number }>
> = {
  IPv4: { type: 7, payload: ipv4Address, at: 16 },
  IPv6: { type: 8, payload: ipv6Address, at: 24 },
}

function isInSet(family: Family, set: string): Expression[] {
  const { payload, at } = SET_KEYS[family]
  return [
    load('network', at, payload.size),
    expression('lookup', [
      [k.NFTA_LOOKUP_SET, set],
      [k.NFTA_LOOKUP_SREG, k.NFT_REG_1],
    ]),
  ]
}
