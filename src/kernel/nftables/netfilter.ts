/**
 * Messages about tables of nftables that are ours (linux/netfilter/nf_tables.h). For rules on a link, traffic
 * control would need a qdisc, and adding or removing one stops the link for some milliseconds; the hooks of
 * family netdev are added and removed without a lost frame.
 */
import type { Family, IpAddress } from '../../model/address'
import type {
  AddressSet,
  Hook,
  Rule,
  RuleChain,
  RuleTable,
  TableFamily,
  TableId,
} from '../../model/kernel/tables'
import type { MessageWriter } from '../netlink/bytes'
import type { Question, RequestFormat } from '../netlink/client'
import { eachPayload } from '../netlink/codec'
import * as k from '../netlink/constants'
import { ipAddress } from '../netlink/layout'
import { type Attribute, data, expressionsOf, SET_KEYS, writeAttribute } from './expressions'

/** sizeof(struct nfgenmsg): family, version, and 16 bits in network order */
export const NFGENMSG_SIZE = 4

const FAMILY_NUMBERS: Readonly<Record<TableFamily, number>> = {
  netdev: k.NFPROTO_NETDEV,
  inet: k.NFPROTO_INET,
}

/** The names of families in `nft` (linux/netfilter.h). */
const FAMILY_WORDS: ReadonlyMap<number, string> = new Map([
  [k.NFPROTO_INET, 'inet'],
  [k.NFPROTO_IPV4, 'ip'],
  [k.NFPROTO_ARP, 'arp'],
  [k.NFPROTO_NETDEV, 'netdev'],
  [k.NFPROTO_BRIDGE, 'bridge'],
  [k.NFPROTO_IPV6, 'ip6'],
])

/** The family of a message, as `nft` names it; a number for one that we do not know. */
export const familyWord = (family: number): string => FAMILY_WORDS.get(family) ?? `${family}`

/** Appends a message about a table of ours. */
export function writeMessage(
  writer: MessageWriter,
  family: TableFamily,
  type: number,
  flags: number,
  attributes: readonly Attribute[],
): void {
  writer.begin((k.NFNL_SUBSYS_NFTABLES << 8) | type, k.NLM_F_REQUEST | flags)
  const at = writer.reserve(NFGENMSG_SIZE)
  writer.view.setUint8(at, FAMILY_NUMBERS[family])
  for (const attribute of attributes) writeAttribute(writer, attribute)
  writer.finish()
}

function writeFrame(writer: MessageWriter, type: number): void {
  writer.begin(type, k.NLM_F_REQUEST)
  const at = writer.reserve(NFGENMSG_SIZE)
  writer.view.setUint16(at + 2, k.NFNL_SUBSYS_NFTABLES)
  writer.finish()
}

/** The messages around the steps of one transaction, for {@link NetlinkClient.transaction}. */
export const TABLE_TRANSACTION = {
  begin: (writer: MessageWriter): void => writeFrame(writer, k.NFNL_MSG_BATCH_BEGIN),
  end: (writer: MessageWriter): void => writeFrame(writer, k.NFNL_MSG_BATCH_END),
  what: 'change the tables of nftables',
}

/** One step of a transaction. */
export type TableStep =
  | { readonly kind: 'make-table'; readonly table: TableId }
  /** With its chains, rules and sets; ENOENT when there is no such table. */
  | { readonly kind: 'delete-table'; readonly table: TableId }
  | { readonly kind: 'add-chain'; readonly table: TableId; readonly chain: RuleChain }
  | { readonly kind: 'add-rule'; readonly table: TableId; readonly chain: string; readonly rule: Rule }
  /** Removes all rules of a chain. The chain stays. */
  | { readonly kind: 'flush-chain'; readonly table: TableId; readonly chain: string }
  | SetStep

/**
 * The steps that replace a table under its name. A packet never meets a part of the table, or both tables. A
 * packet that is between the two when the kernel changes them can meet neither: {@link replaceRules} has no
 * such moment.
 */
export function replaceTable({ family, name, sets = [], chains }: RuleTable): TableStep[] {
  const table: TableId = { family, name }
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
 * The steps that replace the rules of existing chains. A packet meets the former or the new rules of a chain,
 * and never both or neither, as it could while one chain replaces another.
 */
export const replaceRules = (table: TableId, chains: readonly RuleChain[]): TableStep[] =>
  chains.flatMap(({ name: chain, rules }): TableStep[] => [
    { kind: 'flush-chain', table, chain },
    ...rules.map((rule) => ({ kind: 'add-rule', table, chain, rule }) as const),
  ])

export const STEP_FORMAT: RequestFormat<TableStep> = { encode: encodeStep, describe: describeStep }

/** On a link: after the hooks of other programs, so that these can drop frames. */
const LINK_PRIORITY = 100

function encodeStep(writer: MessageWriter, step: TableStep): void {
  const { family, name: table } = step.table
  switch (step.kind) {
    case 'make-table':
      writeMessage(writer, family, k.NFT_MSG_NEWTABLE, k.NLM_F_CREATE, [[k.NFTA_TABLE_NAME, table]])
      break
    case 'delete-table':
      writeMessage(writer, family, k.NFT_MSG_DELTABLE, 0, [[k.NFTA_TABLE_NAME, table]])
      break
    case 'add-chain': {
      const { name, policy } = step.chain
      const hook = hookOf(step.chain)
      writeMessage(writer, family, k.NFT_MSG_NEWCHAIN, k.NLM_F_CREATE, [
        [k.NFTA_CHAIN_TABLE, table],
        [k.NFTA_CHAIN_NAME, name],
        ...(hook === undefined ? [] : hookAttributes(hook, policy)),
      ])
      break
    }
    case 'add-rule':
      writeMessage(writer, family, k.NFT_MSG_NEWRULE, k.NLM_F_CREATE | k.NLM_F_APPEND, [
        [k.NFTA_RULE_TABLE, table],
        [k.NFTA_RULE_CHAIN, step.chain],
        [
          k.NFTA_RULE_EXPRESSIONS,
          expressionsOf(step.rule).map((each): Attribute => [k.NFTA_LIST_ELEM, each]),
        ],
      ])
      break
    case 'flush-chain':
      writeMessage(writer, family, k.NFT_MSG_DELRULE, 0, [
        [k.NFTA_RULE_TABLE, table],
        [k.NFTA_RULE_CHAIN, step.chain],
      ])
      break
    default:
      encodeSetStep(writer, step)
  }
}

const hookAttributes = (hook: readonly Attribute[], policy: RuleChain['policy']): readonly Attribute[] => [
  [k.NFTA_CHAIN_TYPE, 'filter'],
  [k.NFTA_CHAIN_POLICY, policy === 'drop' ? k.NF_DROP : k.NF_ACCEPT],
  [k.NFTA_CHAIN_HOOK, hook],
]

const HOOK_NUMBERS: Readonly<Record<Hook['at'], number>> = {
  input: k.NF_INET_LOCAL_IN,
  output: k.NF_INET_LOCAL_OUT,
  postrouting: k.NF_INET_POST_ROUTING,
}

/** @returns undefined for a chain that others jump to */
function hookOf({ link, hook }: RuleChain): readonly Attribute[] | undefined {
  if (link !== undefined)
    return [
      [k.NFTA_HOOK_HOOKNUM, k.NF_NETDEV_INGRESS],
      [k.NFTA_HOOK_PRIORITY, LINK_PRIORITY],
      [k.NFTA_HOOK_DEV, link],
    ]
  return (
    hook && [
      [k.NFTA_HOOK_HOOKNUM, HOOK_NUMBERS[hook.at]],
      // A signed number.
      [k.NFTA_HOOK_PRIORITY, hook.priority >>> 0],
    ]
  )
}

/** A table, as `nft` names it. */
export const tableText = ({ family, name }: TableId): string => `${family} ${name}`

function describeStep(step: TableStep): string {
  const table = `the nftables table ${tableText(step.table)}`
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

/** A change of a set of addresses. */
export type SetStep = {
  readonly kind: 'add-set' | 'add-addresses' | 'delete-addresses'
  readonly table: TableId
  readonly set: AddressSet
}

/** Elements to a message: an attribute has at most 64 KiB, and one of these at most 28 bytes. */
const ELEMENTS = 1024

/** The steps that add addresses to existing sets, or remove them. */
export const changeSets = (
  kind: 'add-addresses' | 'delete-addresses',
  table: TableId,
  sets: readonly AddressSet[],
): TableStep[] => sets.flatMap((set) => elementSteps(kind, table, set))

const makeSets = (table: TableId, sets: readonly AddressSet[]): TableStep[] =>
  sets.flatMap((set) => [{ kind: 'add-set', table, set }, ...elementSteps('add-addresses', table, set)])

const elementSteps = (
  kind: 'add-addresses' | 'delete-addresses',
  table: TableId,
  { addresses, ...set }: AddressSet,
): SetStep[] =>
  Array.from({ length: Math.ceil(addresses.length / ELEMENTS) }, (_, i) => ({
    kind,
    table,
    set: { ...set, addresses: addresses.slice(i * ELEMENTS, (i + 1) * ELEMENTS) },
  }))

function encodeSetStep(writer: MessageWriter, { kind, table, set }: SetStep): void {
  if (kind === 'add-set') {
    const { type, payload } = SET_KEYS[set.family]
    writeMessage(writer, table.family, k.NFT_MSG_NEWSET, k.NLM_F_CREATE, [
      [k.NFTA_SET_TABLE, table.name],
      [k.NFTA_SET_NAME, set.name],
      [k.NFTA_SET_KEY_TYPE, type],
      [k.NFTA_SET_KEY_LEN, payload.size],
      // Other messages of the transaction could name the set by this id; ours use its name.
      [k.NFTA_SET_ID, type],
    ])
    return
  }
  const [message, flags] =
    kind === 'add-addresses' ? [k.NFT_MSG_NEWSETELEM, k.NLM_F_CREATE] : [k.NFT_MSG_DELSETELEM, 0]
  writeMessage(writer, table.family, message, flags, [
    [k.NFTA_SET_ELEM_LIST_TABLE, table.name],
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
  const { size } = SET_KEYS[family].payload
  const number = BigInt(address)
  return Array.from({ length: size }, (_, i) => Number((number >> BigInt(8 * (size - 1 - i))) & 255n))
}

/** The addresses in a set, as a dump of several messages. ENOENT when there is no such set. */
export const listAddresses = (table: TableId, set: string): Question<readonly IpAddress[]> => ({
  attempted: `list the set ${set} of the nftables table ${tableText(table)}`,
  encode: (writer) =>
    writeMessage(writer, table.family, k.NFT_MSG_GETSETELEM, 0, [
      [k.NFTA_SET_ELEM_LIST_TABLE, table.name],
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
