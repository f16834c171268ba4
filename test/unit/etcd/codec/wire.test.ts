import { createRequire } from 'node:module'
import { join } from 'node:path'
import fc from 'fast-check'
import { MalformedAnswerError, RangeAnswer, readWatchAnswer } from '../../../../src/etcd/codec/wire'
import { runs } from '../../support/runs'
import { binaryText } from '../../support/text'

/** The parser and the protocol files of the etcd3 library. */
const etcd3 = require.resolve('etcd3')
const { Root } = createRequire(createRequire(etcd3).resolve('@grpc/proto-loader'))(
  'protobufjs',
) as typeof import('protobufjs')
const protocol = new Root().loadSync(join(etcd3, '../../proto/rpc.proto'), { keepCase: true })
const RANGE = protocol.lookupType('etcdserverpb.RangeResponse')
const WATCH = protocol.lookupType('etcdserverpb.WatchResponse')
const AS_OBJECT = { longs: String, enums: String, defaults: true, keepCase: true }

const numRuns = runs(200)

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)
/** Text, or any bytes. */
const text = fc.oneof(
  binaryText({ maxLength: 300 }).map((value) => Buffer.from(value)),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
)
const keyValue = fc.record({
  key: text,
  create_revision: int64,
  mod_revision: int64,
  version: int64,
  value: text,
  lease: int64,
})
const header = fc.record({
  cluster_id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
  member_id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
  revision: int64,
  raft_term: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
})
const rangeBytes = fc
  .record(
    { header, kvs: fc.array(keyValue, { maxLength: 8 }), more: fc.boolean(), count: int64 },
    { requiredKeys: [] },
  )
  .map((answer) => encode(RANGE, answer))
const watchBytes = fc
  .record(
    {
      header,
      watch_id: int64,
      created: fc.boolean(),
      canceled: fc.boolean(),
      compact_revision: int64,
      cancel_reason: fc.string(),
      fragment: fc.boolean(),
      events: fc.array(
        fc.record(
          { type: fc.constantFrom('Put', 'Delete'), kv: keyValue, prev_kv: keyValue },
          { requiredKeys: ['kv'] },
        ),
        { maxLength: 5 },
      ),
    },
    { requiredKeys: [] },
  )
  .map((answer) => encode(WATCH, answer))

const encode = (type: typeof RANGE, answer: object): Buffer =>
  Buffer.from(type.encode(type.fromObject(answer)).finish())

/** A KeyValue as the library reads it with {@link AS_OBJECT}: absent fields have their defaults. */
interface PlainKeyValue {
  readonly key: Buffer
  readonly value: Buffer
  readonly create_revision: string
  readonly mod_revision: string
  readonly lease: string
}
interface PlainAnswer {
  readonly header?: { readonly cluster_id: string; readonly revision: string }
  readonly more: boolean
  readonly kvs?: readonly PlainKeyValue[]
  readonly created: boolean
  readonly canceled: boolean
  readonly compact_revision: string
  readonly cancel_reason: string
  readonly events?: readonly { readonly type: string; readonly kv: PlainKeyValue }[]
}

const decode = (type: typeof RANGE, bytes: Buffer) =>
  type.toObject(type.decode(bytes), AS_OBJECT) as PlainAnswer

const expectedHeader = (answer: PlainAnswer) => ({
  clusterId: answer.header?.cluster_id ?? '0',
  revision: BigInt(answer.header?.revision ?? 0),
})

const expectedKeyValue = (kv: PlainKeyValue) => ({
  key: kv.key,
  value: kv.value,
  modRevision: BigInt(kv.mod_revision),
  etcdLease: kv.lease,
  createRevision: BigInt(kv.create_revision),
  isNew: kv.create_revision === kv.mod_revision,
})

function readRange(bytes: Buffer) {
  const answer = new RangeAnswer(bytes)
  const keyValues = [...answer.keyValues()]
  const { header, more } = answer
  return { header, more, keyValues }
}

function expectedRange(bytes: Buffer) {
  const answer = decode(RANGE, bytes)
  return {
    header: expectedHeader(answer),
    more: answer.more,
    keyValues: (answer.kvs ?? []).map(expectedKeyValue),
  }
}

function expectedWatch(bytes: Buffer) {
  const answer = decode(WATCH, bytes)
  return {
    header: expectedHeader(answer),
    created: answer.created,
    canceled: answer.canceled,
    compactRevision: BigInt(answer.compact_revision),
    cancelReason: answer.cancel_reason,
    events: (answer.events ?? []).map(({ type, kv }) => ({
      type,
      keyValue: expectedKeyValue(kv),
    })),
  }
}

/** The result of reading; `malformed` if the bytes are refused. */
function outcome<T>(read: () => T): T | 'malformed' {
  try {
    return read()
  } catch {
    return 'malformed'
  }
}

test('the answer to a Range is read as the library reads it', () => {
  fc.assert(
    fc.property(rangeBytes, (bytes) => expect(readRange(bytes)).toEqual(expectedRange(bytes))),
    { numRuns },
  )
})

test('the answers of a watch are read as the library reads them', () => {
  fc.assert(
    fc.property(watchBytes, (bytes) => expect(readWatchAnswer(bytes)).toEqual(expectedWatch(bytes))),
    { numRuns },
  )
})

test('a truncated answer is refused if the library refuses it', () => {
  fc.assert(
    fc.property(rangeBytes, watchBytes, fc.nat(), (range, watch, at) => {
      const [rangeStart, watchStart] = [range, watch].map((bytes) =>
        bytes.subarray(0, at % (bytes.length + 1)),
      )
      if (rangeStart === undefined || watchStart === undefined) throw new Error('two answers make two')
      // The library reads some numbers past the end of their message.
      const [ofRange, ofWatch] = [
        outcome(() => readRange(rangeStart)),
        outcome(() => readWatchAnswer(watchStart)),
      ]
      if (ofRange !== 'malformed') expect(ofRange).toEqual(expectedRange(rangeStart))
      if (ofWatch !== 'malformed') expect(ofWatch).toEqual(expectedWatch(watchStart))
    }),
    { numRuns },
  )
})

test('any bytes are read, or refused by a MalformedAnswerError', () => {
  const damaged = fc
    .tuple(fc.oneof(rangeBytes, watchBytes), fc.nat(), fc.uint8Array({ maxLength: 4 }))
    .map(([bytes, at, more]) => {
      const copy = Buffer.from(bytes)
      copy.set(more.subarray(0, copy.length - (at % (copy.length + 1))), at % (copy.length + 1))
      return copy
    })
  const any = fc.oneof(
    damaged,
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  )
  fc.assert(
    fc.property(any, (bytes) => {
      for (const read of [readRange, readWatchAnswer]) {
        try {
          read(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedAnswerError)
        }
      }
    }),
    { numRuns: 2 * numRuns },
  )
})

test.each([
  [
    'a key that is longer than the answer',
    [0x12, 0x05, 0x0a, 0x7f],
    'RangeResponse: field 2 has 5 bytes where 2 are left',
  ],
  [
    'a key that is longer than its message',
    [0x12, 0x02, 0x0a, 0x7f, 0x18, 0x00],
    'KeyValue: field 1 has 127 bytes where 0 are left',
  ],
  ['a number without an end', [0x18, 0x80], 'RangeResponse: it ends within a number'],
  ['a number of eleven bytes', [0x18, ...Array(10).fill(0x80), 0x01], 'a number has more than ten bytes'],
  [
    'a length that is too large',
    [0x12, ...Array(8).fill(0xff), 0x01],
    'a tag or a length has more than 49 bits',
  ],
  ['a field of another type', [0x10, 0x01], 'field 2 is of type 0 and should be of type 2'],
  ['a group', [0x0b], 'field 1 is of type 3'],
  ['field 0', [0x00], 'a field has the number 0'],
])('%s is refused', (_, bytes, problem) => {
  expect(() => readRange(Buffer.from(bytes))).toThrow(problem)
})
