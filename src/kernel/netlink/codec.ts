/**
 * Makes an encoder and a decoder from a table of header fields and attributes. The table is the only
 * description of a message, and the types of encoded and decoded messages are inferred from it. It is
 * compiled to arrays once, so a message costs one loop and no objects besides itself.
 */
import { ATTRIBUTE_HEADER_SIZE, align, HOST_LITTLE_ENDIAN, type MessageWriter } from './bytes'
import { NLA_F_NESTED, NLA_TYPE_MASK } from './constants'
import { MalformedMessageError } from './errors'
import type { Payload, Scalar } from './layout'

/** The fixed part of a message: name -> byte offset and kind. Bytes without a field are padding. */
export interface HeaderLayout {
  /** sizeof the kernel's struct */
  readonly size: number
  readonly fields: Readonly<Record<string, readonly [offset: number, kind: Scalar<number>]>>
}

/**
 * name -> type number, kind, and optionally the condition under which the payload has that kind. The number
 * is written with its flags (NLA_F_NESTED), where the kernel wants them, and read without them.
 */
export type AttributeTable = Readonly<
  Record<string, readonly [type: number, kind: Payload<unknown>, only?: OnlyWhen]>
>

/** The attribute is read only if the sibling with that name has that value. */
export interface OnlyWhen {
  readonly sibling: string
  readonly is: string
}

type ValueOf<Entry> = Entry extends readonly [number, Payload<infer T>, ...unknown[]] ? T : never
/** The values of a table of attributes; each may be absent. */
export type AttributeValues<A extends AttributeTable> = {
  readonly [Name in keyof A]?: ValueOf<A[Name]> | undefined
}
type HeaderValues<H extends HeaderLayout> = { readonly [Name in keyof H['fields']]: number }
/** A message to encode. Omitted header fields are 0. */
export type Encodable<H extends HeaderLayout, A extends AttributeTable> = Partial<HeaderValues<H>> &
  AttributeValues<A>
/** A decoded message: all header fields are set. */
export type Decoded<H extends HeaderLayout, A extends AttributeTable> = HeaderValues<H> & AttributeValues<A>

/** Encoder and decoder of the messages of one table. */
export interface MessageCodec<H extends HeaderLayout, A extends AttributeTable> {
  /** Appends one message. */
  encode(writer: MessageWriter, type: number, flags: number, message: Encodable<H, A>): void
  /**
   * Reads the body between two offsets of a view. Unknown attributes are skipped.
   * @throws {MalformedMessageError} naming the attribute
   */
  decode(view: DataView, start: number, end: number): Decoded<H, A>
  /** A decoded message for people: header fields that are not 0, and all known attributes, by name. */
  text(message: Decoded<H, A>): string
}

/** The type that a codec decodes. */
export type MessageOf<Codec> = Codec extends MessageCodec<infer H, infer A> ? Decoded<H, A> : never

/** Makes the codec of a message. `H` and `A` are inferred, so write the tables as literals. */
export function messageCodec<H extends HeaderLayout, const A extends AttributeTable>(
  header: H,
  attributes: A,
): MessageCodec<H, A> {
  const fields = Object.entries(header.fields).map(([name, [offset, kind]]) => ({ name, offset, kind }))
  const body = compile(attributes)
  const blank: Values = { ...Object.fromEntries(fields.map(({ name }) => [name, 0])), ...body.blank }
  return {
    encode(writer, type, flags, message) {
      const values: Readonly<Values> = message
      writer.begin(type, flags)
      const at = writer.reserve(header.size)
      for (const { name, offset, kind } of fields) {
        const value = values[name]
        if (typeof value === 'number') kind.set(writer.view, at + offset, value)
      }
      body.encode(writer, values)
      writer.finish()
    },
    decode(view, start, end) {
      if (end - start < header.size) {
        throw new MalformedMessageError(
          `a body of ${end - start} bytes where its header alone has ${header.size}`,
        )
      }
      const values = { ...blank }
      for (const { name, offset, kind } of fields) values[name] = kind.get(view, start + offset)
      body.decode(view, start + align(header.size), end, values)
      return values as Decoded<H, A>
    },
    text(message) {
      const values: Readonly<Values> = message
      const head = fields.filter(({ name }) => values[name] !== 0)
      return [...head.map(({ name }) => `${name}=${values[name]}`), ...body.words(values)].join(' ')
    },
  }
}

/** An attribute that contains attributes. */
export function nested<const A extends AttributeTable>(attributes: A): Payload<AttributeValues<A>> {
  const body = compile(attributes)
  return {
    write(writer, type, values) {
      const payload = writer.attribute(type, 0)
      body.encode(writer, values)
      writer.closeNest(payload)
    },
    read(view, at, length) {
      const values = { ...body.blank }
      body.decode(view, at, at + length, values)
      return values as AttributeValues<A>
    },
    text: (values) => `{${body.words(values).join(' ')}}`,
  }
}

/** An attribute that contains a list: attributes of the type 0, nested ones with their flag. */
export const list = <T>(element: Payload<T>): Payload<readonly T[]> => ({
  write(writer, type, values) {
    const payload = writer.attribute(type, 0)
    for (const value of values) element.write(writer, NLA_F_NESTED, value)
    writer.closeNest(payload)
  },
  read(view, at, length, name) {
    const values: T[] = []
    for (const [start, end] of eachPayload(view, at, at + length, 0)) {
      const value = element.read(view, start, end - start, name)
      if (value !== undefined) values.push(value)
    }
    return values
  },
  text: (values) => `[${values.map((value) => element.text?.(value) ?? String(value)).join(' ')}]`,
})

type Values = Record<string, unknown>

interface CompiledAttributes {
  /** All names with `undefined`. Copies of it share one hidden class, whatever attributes a message has. */
  readonly blank: Readonly<Values>
  encode(writer: MessageWriter, values: Readonly<Values>): void
  decode(view: DataView, start: number, end: number, values: Values): void
  /** `name=value` of each attribute that is there. */
  words(values: Readonly<Values>): string[]
}

interface Entry {
  readonly name: string
  readonly type: number
  readonly kind: Payload<unknown>
  readonly only: OnlyWhen | undefined
}

function compile(table: AttributeTable): CompiledAttributes {
  const entries = Object.entries(table).map(
    ([name, [type, kind, only]]): Entry => ({ name, type, kind, only }),
  )
  const byType: (Entry | undefined)[] = []
  for (const entry of entries) byType[entry.type & NLA_TYPE_MASK] = entry
  const conditional = entries.filter((entry) => entry.only !== undefined)
  return {
    blank: Object.fromEntries(entries.map(({ name }) => [name, undefined])),
    encode(writer, values) {
      for (const { name, type, kind } of entries) {
        const value = values[name]
        if (value !== undefined) kind.write(writer, type, value)
      }
    },
    decode(view, start, end, values) {
      for (let at = start; at < end; ) {
        const length = attributeLength(view, at, end)
        const entry = byType[view.getUint16(at + 2, HOST_LITTLE_ENDIAN) & NLA_TYPE_MASK]
        if (entry !== undefined && entry.only === undefined) {
          values[entry.name] = readPayload(entry, view, at, length)
        }
        at += align(length)
      }
      // The sibling may come after the attribute that depends on it, so these are read last.
      for (const entry of conditional) {
        if (entry.only === undefined || values[entry.only.sibling] !== entry.only.is) continue
        const at = findAttribute(view, start, end, entry.type & NLA_TYPE_MASK)
        if (at !== -1) values[entry.name] = readPayload(entry, view, at, attributeLength(view, at, end))
      }
    },
    words: (values) =>
      entries.flatMap(({ name, kind }) => {
        const value = values[name]
        return value === undefined ? [] : [`${name}=${kind.text?.(value) ?? String(value)}`]
      }),
  }
}

function readPayload(entry: Entry, view: DataView, at: number, length: number): unknown {
  return entry.kind.read(view, at + ATTRIBUTE_HEADER_SIZE, length - ATTRIBUTE_HEADER_SIZE, entry.name)
}

/**
 * The offset of the first attribute of a type between two offsets of a view, or -1.
 * @throws {MalformedMessageError} if it, or one before it, exceeds the range
 */
export function findAttribute(view: DataView, start: number, end: number, type: number): number {
  for (let at = start; at < end; ) {
    const length = attributeLength(view, at, end)
    if ((view.getUint16(at + 2, HOST_LITTLE_ENDIAN) & NLA_TYPE_MASK) === type) return at
    at += align(length)
  }
  return -1
}

/**
 * The attributes between two offsets of a view, in order: type, start and end of the payload.
 * @throws {MalformedMessageError} as {@link findAttribute}
 */
export function* attributesIn(
  view: DataView,
  start: number,
  end: number,
): Generator<readonly [type: number, start: number, end: number]> {
  for (let at = start; at < end; ) {
    const length = attributeLength(view, at, end)
    const type = view.getUint16(at + 2, HOST_LITTLE_ENDIAN) & NLA_TYPE_MASK
    yield [type, at + ATTRIBUTE_HEADER_SIZE, at + length]
    at += align(length)
  }
}

/** Start and end of each payload of one type: for lists, whose entries all have the same type. */
export function* eachPayload(
  view: DataView,
  start: number,
  end: number,
  type: number,
): Generator<readonly [start: number, end: number]> {
  for (const [found, first, last] of attributesIn(view, start, end)) if (found === type) yield [first, last]
}

/**
 * Reads a single 32-bit attribute, for a decision that saves decoding thousands of messages.
 * @returns undefined if it is absent
 * @throws {MalformedMessageError} as {@link findAttribute}
 */
export function findU32(view: DataView, start: number, end: number, type: number): number | undefined {
  const at = findAttribute(view, start, end, type)
  const value = at + ATTRIBUTE_HEADER_SIZE
  return at === -1 || value + 4 > end ? undefined : view.getUint32(value, HOST_LITTLE_ENDIAN)
}

/** The length stated by an attribute, including its header, after checking it against the range. */
function attributeLength(view: DataView, at: number, end: number): number {
  const rest = end - at
  const length = rest < ATTRIBUTE_HEADER_SIZE ? 0 : view.getUint16(at, HOST_LITTLE_ENDIAN)
  if (length < ATTRIBUTE_HEADER_SIZE || length > rest) {
    throw new MalformedMessageError(
      `an attribute does not end inside its message (${length} of ${rest} bytes)`,
    )
  }
  return length
}
