/**
 * The objects of a table of nftables, as the kernel shows them, and as it would show a wanted table: in words
 * that can be compared. So a table that an earlier run wrote is recognised. Attributes that we do not know
 * stay in the words: an object with such an attribute never equals a wanted one.
 */
import type { RuleTable, TableId } from '../../model/kernel/tables'
import { MESSAGE_HEADER_SIZE, MessageWriter, viewOf } from '../netlink/bytes'
import type { Question } from '../netlink/client'
import { attributesIn } from '../netlink/codec'
import * as k from '../netlink/constants'
import { MalformedMessageError } from '../netlink/errors'
import { text } from '../netlink/layout'
import {
  NFGENMSG_SIZE,
  replaceTable,
  STEP_FORMAT,
  type TableStep,
  tableText,
  writeMessage,
} from './netfilter'

/** The kinds of a table's objects. */
type Kind = 'tables' | 'chains' | 'rules'

/** One object of a table. */
export interface TableObject {
  readonly kind: Kind
  /** Equal for equal objects, whichever program wrote them. */
  readonly words: string
  /** The name of a chain; `undefined` for a table or a rule. */
  readonly chain: string | undefined
  /** Packets that a rule has counted; `undefined` for a rule without a counter, a chain or a table. */
  readonly counted: bigint | undefined
}

/** How attributes are compared. */
interface Shape {
  /** Attributes that hold attributes themselves. */
  readonly nests?: Readonly<Record<number, Shape>>
  /** Attributes whose values the kernel sets, such as counters: they are not compared. */
  readonly kernelSet?: readonly number[]
  /** Attributes with a default: the kernel may leave them out when they have this value (hex). */
  readonly defaults?: Readonly<Record<number, string>>
  /** Whether the order of the attributes matters. */
  readonly ordered?: true
  /** In an expression: its name -> the shape of its data. */
  readonly expressions?: Readonly<Record<string, Shape>>
}

const NO_FLAGS = '00000000'
const DATA: Shape = {}

/** The data of other expressions are compared byte for byte. */
const EXPRESSIONS: Readonly<Record<string, Shape>> = {
  meta: {},
  payload: {},
  // The default is a header of IPv6, and its value, not whether it is there.
  exthdr: { defaults: { [k.NFTA_EXTHDR_FLAGS]: NO_FLAGS, [k.NFTA_EXTHDR_OP]: NO_FLAGS } },
  fib: {},
  cmp: { nests: { [k.NFTA_CMP_DATA]: DATA } },
  // The default is a mask (NFT_BITWISE_MASK_XOR), not a shift.
  bitwise: {
    nests: { [k.NFTA_BITWISE_MASK]: DATA, [k.NFTA_BITWISE_XOR]: DATA },
    defaults: { [k.NFTA_BITWISE_OP]: NO_FLAGS },
  },
  immediate: { nests: { [k.NFTA_IMMEDIATE_DATA]: { nests: { [k.NFTA_DATA_VERDICT]: {} } } } },
  limit: { kernelSet: [k.NFTA_LIMIT_PAD] },
  counter: { kernelSet: [k.NFTA_COUNTER_BYTES, k.NFTA_COUNTER_PACKETS, k.NFTA_COUNTER_PAD] },
  // The default is a match for members of the set, not for the others.
  lookup: { defaults: { [k.NFTA_LOOKUP_FLAGS]: NO_FLAGS } },
  dup: {},
  fwd: {},
}

const SHAPES: Readonly<Record<Kind, Shape>> = {
  tables: {
    kernelSet: [k.NFTA_TABLE_USE, k.NFTA_TABLE_HANDLE, k.NFTA_TABLE_PAD],
    // A dormant table has a flag.
    defaults: { [k.NFTA_TABLE_FLAGS]: NO_FLAGS },
  },
  chains: {
    // A hook on one device has its name and the list of devices; a hook on several has only the list.
    nests: { [k.NFTA_CHAIN_HOOK]: { kernelSet: [k.NFTA_HOOK_DEVS] } },
    kernelSet: [k.NFTA_CHAIN_HANDLE, k.NFTA_CHAIN_USE, k.NFTA_CHAIN_PAD],
    // NFT_CHAIN_BASE: it has a hook.
    defaults: { [k.NFTA_CHAIN_FLAGS]: '00000001' },
  },
  rules: {
    nests: {
      [k.NFTA_RULE_EXPRESSIONS]: {
        ordered: true,
        nests: { [k.NFTA_LIST_ELEM]: { expressions: EXPRESSIONS } },
      },
    },
    kernelSet: [k.NFTA_RULE_HANDLE, k.NFTA_RULE_POSITION, k.NFTA_RULE_PAD],
  },
}

const QUESTIONS: Readonly<Record<Kind, number>> = {
  tables: k.NFT_MSG_GETTABLE,
  chains: k.NFT_MSG_GETCHAIN,
  rules: k.NFT_MSG_GETRULE,
}

/** The kinds, in the order in which {@link wantedObjects} has them. */
export const TABLE_KINDS: readonly Kind[] = ['tables', 'chains', 'rules']

/**
 * The objects of a table of one kind, as a dump.
 * @param chain lists the rules of this chain only
 */
export const listTableObjects = (table: TableId, kind: Kind, chain?: string): Question<TableObject> => ({
  attempted: `list the ${kind} of nftables, for ${tableText(table)}`,
  encode: (writer) =>
    writeMessage(writer, table.family, QUESTIONS[kind], 0, [
      // The kernel lists tables and chains of all programs.
      ...(kind === 'rules' ? [[k.NFTA_RULE_TABLE, table.name] as const] : []),
      ...(chain === undefined ? [] : [[k.NFTA_RULE_CHAIN, chain] as const]),
    ]),
  decode: (view, start, end) => readObject(kind, table.name, view, start, end),
})

/** The objects that the kernel shows of a table that is as wanted. */
export function wantedObjects(table: RuleTable): readonly TableObject[] {
  // The first two steps remove a former table.
  const [, , ...steps] = replaceTable(table)
  return TABLE_KINDS.flatMap((kind) =>
    steps.filter((step) => KINDS[step.kind] === kind).map((step) => encoded(kind, step)),
  )
}

/**
 * Whether a rule among the objects uses that set: in the words a name is hex, with a null byte at its end.
 */
export function looksInto(objects: readonly TableObject[], set: string): boolean {
  const name = Buffer.from(`${set}\0`).toString('hex')
  return objects.some(({ words }) => words.includes(name))
}

/** The kind of object that each step makes. */
const KINDS: Readonly<Record<TableStep['kind'], Kind | undefined>> = {
  'make-table': 'tables',
  'delete-table': undefined,
  'add-chain': 'chains',
  'add-rule': 'rules',
  'flush-chain': undefined,
  // Sets are read apart: their addresses change without the rest of the table.
  'add-set': undefined,
  'add-addresses': undefined,
  'delete-addresses': undefined,
}

function encoded(kind: Kind, step: TableStep): TableObject {
  const writer = new MessageWriter()
  STEP_FORMAT.encode(writer, step)
  const view = viewOf(writer.take())
  const object = readObject(kind, step.table.name, view, MESSAGE_HEADER_SIZE, view.byteLength)
  if (object === undefined) throw new TypeError(`a step that is about no table: ${step.kind}`)
  return object
}

/**
 * @returns `undefined` for an object of another table
 * @throws {MalformedMessageError}
 */
function readObject(
  kind: Kind,
  table: string,
  view: DataView,
  start: number,
  end: number,
): TableObject | undefined {
  // Skips the header: it has the number of the last transaction of any program.
  const body = start + NFGENMSG_SIZE
  if (body > end) throw new MalformedMessageError(`an answer about ${kind} of ${end - start} bytes`)
  // In all three kinds the first attribute is the name of the table.
  if (readText(view, body, end, k.NFTA_TABLE_NAME) !== table) return undefined
  return {
    kind,
    words: `${kind} ${wordsOf(view, body, end, SHAPES[kind])}`,
    chain: kind === 'chains' ? readText(view, body, end, k.NFTA_CHAIN_NAME) : undefined,
    counted: kind === 'rules' ? readCounter(view, body, end) : undefined,
  }
}

/** The packets of a rule's counter. */
function readCounter(view: DataView, start: number, end: number): bigint | undefined {
  for (const [type, at, stop] of attributesIn(view, start, end)) {
    if (type !== k.NFTA_RULE_EXPRESSIONS) continue
    for (const [, first, last] of attributesIn(view, at, stop)) {
      if (readText(view, first, last, k.NFTA_EXPR_NAME) !== 'counter') continue
      for (const [each, data, behind] of attributesIn(view, first, last)) {
        if (each === k.NFTA_EXPR_DATA) return readPackets(view, data, behind)
      }
    }
  }
  return undefined
}

function readPackets(view: DataView, start: number, end: number): bigint | undefined {
  for (const [type, at, stop] of attributesIn(view, start, end)) {
    if (type === k.NFTA_COUNTER_PACKETS && stop - at === 8) return view.getBigUint64(at)
  }
  return undefined
}

function wordsOf(view: DataView, start: number, end: number, shape: Shape): string {
  const words: string[] = []
  for (const [type, at, stop] of attributesIn(view, start, end)) {
    if (shape.kernelSet?.includes(type)) continue
    const nest = shape.nests?.[type] ?? dataShape(view, start, end, shape, type)
    const value =
      nest === undefined
        ? Buffer.from(view.buffer, view.byteOffset + at, stop - at).toString('hex')
        : `{${wordsOf(view, at, stop, nest)}}`
    if (shape.defaults?.[type] !== value) words.push(`${type}=${value}`)
  }
  return (shape.ordered ? words : words.sort()).join(' ')
}

/** The shape of an expression's data, by the name of the expression. */
function dataShape(
  view: DataView,
  start: number,
  end: number,
  { expressions }: Shape,
  type: number,
): Shape | undefined {
  if (expressions === undefined || type !== k.NFTA_EXPR_DATA) return undefined
  const name = readText(view, start, end, k.NFTA_EXPR_NAME)
  return name !== undefined && Object.hasOwn(expressions, name) ? expressions[name] : undefined
}

/** @throws {MalformedMessageError} */
function readText(view: DataView, start: number, end: number, type: number): string | undefined {
  for (const [found, first, last] of attributesIn(view, start, end)) {
    if (found === type) return text.read(view, first, last - first, 'name')
  }
  return undefined
}
