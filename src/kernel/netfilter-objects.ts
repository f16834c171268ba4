/**
 * What there is in a table of nftables, as the kernel tells it and as it would be told if it were as wanted: in words that can be compared, so
 * that a table that an earlier run wrote is known again. Whatever in an answer is not understood stays in its words: such an object is
 * another than was wanted, never the same.
 */
import type { FrameTable } from '../model/multicast'
import { NFGENMSG_SIZE, replaceTable, STEP_FORMAT, type TableStep, writeMessage } from './netfilter'
import { MESSAGE_HEADER_SIZE, MessageWriter, viewOf } from './netlink/bytes'
import type { Question } from './netlink/client'
import { attributesIn } from './netlink/codec'
import * as k from './netlink/constants'
import { MalformedMessageError } from './netlink/errors'
import { text } from './netlink/layout'

/** One object of a table. */
export interface TableObject {
  /** What it is: the same words for the same, whoever wrote it. */
  readonly words: string
  /** The name of a chain; `undefined` for all else. */
  readonly chain: string | undefined
  /** Packets that a rule has counted; `undefined` for one that does not, and all else. */
  readonly counted: number | undefined
}

/** How attributes are compared. */
interface Shape {
  /** Those that hold attributes themselves. */
  readonly nests?: Readonly<Record<number, Shape>>
  /** Those that the kernel gives, and counts by itself. */
  readonly passed?: readonly number[]
  /** Those that say what is so without them, too: their bytes. */
  readonly usual?: Readonly<Record<number, string>>
  /** Whether their order says something. */
  readonly ordered?: true
  /** An expression: by its name, what its data hold. */
  readonly expressions?: Readonly<Record<string, Shape>>
}

const NO_FLAGS = '00000000'
const DATA: Shape = {}

/** Of expressions that are not here the data are compared byte for byte. */
const EXPRESSIONS: Readonly<Record<string, Shape>> = {
  meta: {},
  payload: {},
  cmp: { nests: { [k.NFTA_CMP_DATA]: DATA } },
  // A mask, and not a shift, is meant without saying (NFT_BITWISE_MASK_XOR).
  bitwise: {
    nests: { [k.NFTA_BITWISE_MASK]: DATA, [k.NFTA_BITWISE_XOR]: DATA },
    usual: { [k.NFTA_BITWISE_OP]: NO_FLAGS },
  },
  immediate: { nests: { [k.NFTA_IMMEDIATE_DATA]: { nests: { [k.NFTA_DATA_VERDICT]: {} } } } },
  limit: { passed: [k.NFTA_LIMIT_PAD] },
  counter: { passed: [k.NFTA_COUNTER_BYTES, k.NFTA_COUNTER_PACKETS, k.NFTA_COUNTER_PAD] },
  // That it is in the set, and not that it is not, is meant without saying.
  lookup: { usual: { [k.NFTA_LOOKUP_FLAGS]: NO_FLAGS } },
  dup: {},
  fwd: {},
}

/** What a table consists of. */
type Kind = 'tables' | 'chains' | 'rules'

const SHAPES: Readonly<Record<Kind, Shape>> = {
  tables: {
    passed: [k.NFTA_TABLE_USE, k.NFTA_TABLE_HANDLE, k.NFTA_TABLE_PAD],
    // One that sleeps has a flag.
    usual: { [k.NFTA_TABLE_FLAGS]: NO_FLAGS },
  },
  chains: {
    // More devices than one are told by the list alone.
    nests: { [k.NFTA_CHAIN_HOOK]: { passed: [k.NFTA_HOOK_DEVS] } },
    passed: [k.NFTA_CHAIN_HANDLE, k.NFTA_CHAIN_USE, k.NFTA_CHAIN_PAD],
    // NFT_CHAIN_BASE: it has a hook.
    usual: { [k.NFTA_CHAIN_FLAGS]: '00000001' },
  },
  rules: {
    nests: {
      [k.NFTA_RULE_EXPRESSIONS]: {
        ordered: true,
        nests: { [k.NFTA_LIST_ELEM]: { expressions: EXPRESSIONS } },
      },
    },
    passed: [k.NFTA_RULE_HANDLE, k.NFTA_RULE_POSITION, k.NFTA_RULE_PAD],
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
 * What of that kind a table has; as a dump.
 * @param chain the only one whose rules are told
 */
export const listTableObjects = (table: string, kind: Kind, chain?: string): Question<TableObject> => ({
  attempted: `list the ${kind} of nftables, for netdev ${table}`,
  encode: (writer) =>
    writeMessage(writer, QUESTIONS[kind], 0, [
      // Of tables and chains all are told.
      ...(kind === 'rules' ? [[k.NFTA_RULE_TABLE, table] as const] : []),
      ...(chain === undefined ? [] : [[k.NFTA_RULE_CHAIN, chain] as const]),
    ]),
  decode: (view, start, end) => readObject(kind, table, view, start, end),
})

/** What the kernel tells of a table that is as wanted. */
export function wantedObjects(table: FrameTable): readonly TableObject[] {
  // The first two clear the place.
  const [, , ...steps] = replaceTable(table)
  return TABLE_KINDS.flatMap((kind) =>
    steps.filter((step) => KINDS[step.kind] === kind).map((step) => encoded(kind, step)),
  )
}

/** Whether a rule among them names that set: in its words a name is bytes, with the null byte at their end. */
export function looksInto(objects: readonly TableObject[], set: string): boolean {
  const name = Buffer.from(`${set}\0`).toString('hex')
  return objects.some(({ words }) => words.includes(name))
}

/** What each step makes. */
const KINDS: Readonly<Record<TableStep['kind'], Kind | undefined>> = {
  'make-table': 'tables',
  'delete-table': undefined,
  'add-chain': 'chains',
  'add-rule': 'rules',
  'flush-chain': undefined,
  // Sets are read by themselves: what is in them changes without the rest.
  'add-set': undefined,
  'add-addresses': undefined,
  'delete-addresses': undefined,
}

function encoded(kind: Kind, step: TableStep): TableObject {
  const writer = new MessageWriter()
  STEP_FORMAT.encode(writer, step)
  const view = viewOf(writer.take())
  const object = readObject(kind, step.table, view, MESSAGE_HEADER_SIZE, view.byteLength)
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
  // The header has the number of the last transaction of anyone.
  const body = start + NFGENMSG_SIZE
  if (body > end) throw new MalformedMessageError(`an answer about ${kind} of ${end - start} bytes`)
  // In all three kinds it is the first attribute that names the table.
  if (readText(view, body, end, k.NFTA_TABLE_NAME) !== table) return undefined
  return {
    words: `${kind} ${wordsOf(view, body, end, SHAPES[kind])}`,
    chain: kind === 'chains' ? readText(view, body, end, k.NFTA_CHAIN_NAME) : undefined,
    counted: kind === 'rules' ? readCounter(view, body, end) : undefined,
  }
}

/** The packets of a rule's counter. */
function readCounter(view: DataView, start: number, end: number): number | undefined {
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

function readPackets(view: DataView, start: number, end: number): number | undefined {
  for (const [type, at, stop] of attributesIn(view, start, end)) {
    if (type === k.NFTA_COUNTER_PACKETS && stop - at === 8) return Number(view.getBigUint64(at))
  }
  return undefined
}

function wordsOf(view: DataView, start: number, end: number, shape: Shape): string {
  const words: string[] = []
  for (const [type, at, stop] of attributesIn(view, start, end)) {
    if (shape.passed?.includes(type)) continue
    const nest = shape.nests?.[type] ?? dataShape(view, start, end, shape, type)
    const value =
      nest === undefined
        ? Buffer.from(view.buffer, view.byteOffset + at, stop - at).toString('hex')
        : `{${wordsOf(view, at, stop, nest)}}`
    if (shape.usual?.[type] !== value) words.push(`${type}=${value}`)
  }
  return (shape.ordered ? words : words.sort()).join(' ')
}

/** What the data of an expression hold, by the name beside them. */
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
