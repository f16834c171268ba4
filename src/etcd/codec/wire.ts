/**
 * Reads etcd's answers from the bytes that gRPC delivers. The library would make objects of a whole answer at
 * once, even of unread parts; for 10,000 leases that blocks the event loop for 75 ms. Field numbers are those
 * of etcd's api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto, the encoding is protobuf's
 * (protobuf.dev/programming-guides/encoding). Every length is checked against the bytes that are left.
 */
import type { EtcdLeaseId, Revision } from '../../model/lease'

/**
 * The fields of etcd's KeyValue message that we read. Key and value share the memory of the answer: convert
 * them to text before keeping them.
 */
export interface KeyValue {
  readonly key: Buffer
  readonly value: Buffer
  readonly modRevision: Revision
  /** Of the write that created the key. */
  readonly createRevision: Revision
  readonly etcdLease: EtcdLeaseId
  /** Whether this write created the key. */
  readonly isNew: boolean
}

export interface AnswerHeader {
  /** Decimal text; `0` if a proxy omits it. */
  readonly clusterId: string
  /** 0 if a proxy omits it. */
  readonly revision: Revision
}

export interface WatchEvent {
  readonly type: 'Put' | 'Delete'
  readonly keyValue: KeyValue
}

/** A WatchResponse. */
export interface WatchAnswer {
  readonly header: AnswerHeader
  readonly created: boolean
  readonly canceled: boolean
  /** 0 unless the watch was cancelled because its revision is compacted. */
  readonly compactRevision: Revision
  readonly cancelReason: string
  readonly events: readonly WatchEvent[]
}

/** The bytes are not a valid message of the expected type. */
export class MalformedAnswerError extends Error {
  constructor(message: string, problem: string) {
    super(`its answer is not a valid ${message}: ${problem}`)
    this.name = 'MalformedAnswerError'
  }
}

const NO_HEADER: AnswerHeader = { clusterId: '0', revision: 0n as Revision }

/**
 * A RangeResponse, read once, as far as its keys are consumed. Reading 10,000 keys in one turn of the event
 * loop would take 12 ms.
 */
export class RangeAnswer {
  /** Set after all keys were read. */
  header = NO_HEADER
  /** Whether there are more keys than were requested; set after all keys were read. */
  more = false

  constructor(private readonly bytes: Buffer) {}

  /** @throws {MalformedAnswerError} at the first invalid byte */
  *keyValues(): Generator<KeyValue> {
    const reader = new FieldReader(this.bytes, 'RangeResponse')
    while (reader.next()) {
      if (reader.field === 2) yield readKeyValue(reader.message('KeyValue'))
      else if (reader.field === 1) this.header = readHeader(reader.message('ResponseHeader'))
      else if (reader.field === 3) this.more = reader.bool()
      else reader.skip()
    }
  }
}

/** @throws {MalformedAnswerError} */
export function readWatchAnswer(bytes: Buffer): WatchAnswer {
  let header = NO_HEADER
  let [created, canceled] = [false, false]
  let compactRevision = 0n as Revision
  let cancelReason = ''
  const events: WatchEvent[] = []
  const reader = new FieldReader(bytes, 'WatchResponse')
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        header = readHeader(reader.message('ResponseHeader'))
        break
      case 3:
        created = reader.bool()
        break
      case 4:
        canceled = reader.bool()
        break
      case 5:
        compactRevision = reader.int64() as Revision
        break
      case 6:
        cancelReason = reader.text()
        break
      case 11:
        events.push(readEvent(reader.message('Event')))
        break
      default:
        reader.skip()
    }
  }
  return { header, created, canceled, compactRevision, cancelReason, events }
}

function readHeader(reader: FieldReader): AnswerHeader {
  let { clusterId, revision } = NO_HEADER
  while (reader.next()) {
    if (reader.field === 1) clusterId = String(reader.uint64())
    else if (reader.field === 3) revision = reader.int64() as Revision
    else reader.skip()
  }
  return { clusterId, revision }
}

/** mvccpb.Event.EventType */
const DELETE = 1n

function readEvent(reader: FieldReader): WatchEvent {
  let type: WatchEvent['type'] = 'Put'
  let keyValue = NO_KEY_VALUE
  while (reader.next()) {
    if (reader.field === 1) type = reader.uint64() === DELETE ? 'Delete' : 'Put'
    else if (reader.field === 2) keyValue = readKeyValue(reader.message('KeyValue'))
    else reader.skip()
  }
  return { type, keyValue }
}

const NO_KEY_VALUE: KeyValue = {
  key: Buffer.alloc(0),
  value: Buffer.alloc(0),
  modRevision: 0n as Revision,
  createRevision: 0n as Revision,
  etcdLease: '0' as EtcdLeaseId,
  isNew: true,
}

function readKeyValue(reader: FieldReader): KeyValue {
  let { key, value, modRevision, createRevision, etcdLease } = NO_KEY_VALUE
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        key = reader.bytes()
        break
      case 2:
        createRevision = reader.int64() as Revision
        break
      case 3:
        modRevision = reader.int64() as Revision
        break
      case 5:
        value = reader.bytes()
        break
      case 6:
        etcdLease = String(reader.int64()) as EtcdLeaseId
        break
      default:
        reader.skip()
    }
  }
  return { key, value, modRevision, createRevision, etcdLease, isNew: createRevision === modRevision }
}

const VARINT = 0
const FIXED64 = 1
const DELIMITED = 2
const FIXED32 = 5

/**
 * Iterates over the fields of one message. After {@link next} returned true, call exactly one of the other
 * methods.
 */
class FieldReader {
  /** Number of the current field. */
  field = 0
  #type = VARINT

  constructor(
    private readonly answer: Buffer,
    /** Name of the message in the protocol, for errors. */
    private readonly name: string,
    private at = 0,
    private readonly end = answer.length,
  ) {}

  /** Goes to the next field. @returns false if there is none */
  next(): boolean {
    if (this.at === this.end) return false
    const tag = this.#number()
    this.field = Math.floor(tag / 8)
    this.#type = tag % 8
    if (this.field === 0) throw this.#malformed('a field has the number 0')
    return true
  }

  bool(): boolean {
    return this.uint64() !== 0n
  }

  uint64(): bigint {
    this.#expect(VARINT)
    return BigInt.asUintN(64, this.#varint())
  }

  int64(): bigint {
    this.#expect(VARINT)
    return BigInt.asIntN(64, this.#varint())
  }

  /** Text; not for keys and values, whose bytes need not be UTF-8. */
  text(): string {
    const start = this.#delimited()
    return this.answer.toString('utf8', start, this.at)
  }

  bytes(): Buffer {
    const start = this.#delimited()
    return this.answer.subarray(start, this.at)
  }

  message(name: string): FieldReader {
    const start = this.#delimited()
    return new FieldReader(this.answer, name, start, this.at)
  }

  skip(): void {
    switch (this.#type) {
      case VARINT:
        this.#varint()
        break
      case FIXED64:
        this.#pass(8)
        break
      case DELIMITED:
        this.#delimited()
        break
      case FIXED32:
        this.#pass(4)
        break
      default:
        throw this.#malformed(`field ${this.field} has the unknown type ${this.#type}`)
    }
  }

  /** @returns index of the field's content; the content ends at the reader's new position */
  #delimited(): number {
    this.#expect(DELIMITED)
    const length = this.#number()
    const start = this.at
    this.#pass(length)
    return start
  }

  #pass(length: number): void {
    const left = this.end - this.at
    if (length > left) throw this.#malformed(`field ${this.field} has ${length} bytes where ${left} are left`)
    this.at += length
  }

  #expect(type: number): void {
    if (this.#type === type) return
    throw this.#malformed(`field ${this.field} is of type ${this.#type} and should be of type ${type}`)
  }

  /** Reads a varint of at most 49 bits: tags and lengths have 32. */
  #number(): number {
    let value = 0
    for (let scale = 1; scale < 2 ** 49; scale *= 128) {
      const byte = this.#byte()
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
    throw this.#malformed('a tag or a length has more than 49 bits')
  }

  #varint(): bigint {
    let low = 0
    for (let scale = 1; scale < 2 ** 49; scale *= 128) {
      const byte = this.#byte()
      low += (byte & 127) * scale
      if (byte < 128) return BigInt(low)
    }
    // The rest does not fit into a double exactly.
    let high = 0
    for (let scale = 1; scale < 2 ** 21; scale *= 128) {
      const byte = this.#byte()
      high += (byte & 127) * scale
      if (byte < 128) return (BigInt(high) << 49n) + BigInt(low)
    }
    throw this.#malformed('a number has more than ten bytes')
  }

  #byte(): number {
    const byte = this.at < this.end ? this.answer[this.at] : undefined
    if (byte === undefined) throw this.#malformed('it ends within a number')
    this.at += 1
    return byte
  }

  #malformed(problem: string): MalformedAnswerError {
    return new MalformedAnswerError(this.name, problem)
  }
}
