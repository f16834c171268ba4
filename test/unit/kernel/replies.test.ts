import { MessageCursor } from '../../../src/kernel/netlink/bytes'
import { MalformedMessageError, NetlinkError } from '../../../src/kernel/netlink/errors'
import { readDone, readError } from '../../../src/kernel/netlink/replies'
import { ACKNOWLEDGEMENT, DONE, ERROR, ERROR_WITH_TEXT } from './captured'

function first(datagram: Uint8Array): MessageCursor {
  const cursor = new MessageCursor(datagram)
  cursor.next()
  return cursor
}

const TEXT = 'Invalid flags for nexthop - PERVASIVE and ONLINK can not be set'

test('an acknowledgement is errno 0', () => {
  expect(readError(first(ACKNOWLEDGEMENT))).toEqual({ errno: 0, detail: undefined })
})

test('an error with and without a text', () => {
  expect(readError(first(ERROR))).toEqual({ errno: 2, detail: undefined })
  expect(readError(first(ERROR_WITH_TEXT))).toEqual({ errno: 22, detail: TEXT })
})

test('the text of an error that echoes the whole request comes after the echo', () => {
  const echo = Buffer.alloc(0x30 - 16, 0xee)
  const datagram = Buffer.concat([ERROR_WITH_TEXT.subarray(0, 36), echo, ERROR_WITH_TEXT.subarray(36)])
  datagram.writeUInt32LE(datagram.length, 0)
  datagram.writeUInt16LE(0x200, 6) // NLM_F_ACK_TLVS without NLM_F_CAPPED
  expect(readError(first(datagram))).toEqual({ errno: 22, detail: TEXT })
})

test('an echo longer than the message is refused', () => {
  const datagram = Buffer.from(ERROR_WITH_TEXT)
  datagram.writeUInt16LE(0x200, 6)
  datagram.writeUInt32LE(0xffffffff, 20)
  expect(() => readError(first(datagram))).toThrow(MalformedMessageError)
})

test('the end of a dump has its errno', () => {
  expect(readDone(first(DONE))).toEqual({ errno: 0, detail: undefined })
  const failed = Buffer.from(DONE)
  failed.writeInt32LE(-105, 16)
  expect(readDone(first(failed))).toEqual({ errno: 105, detail: undefined })
})

test('truncated replies are refused', () => {
  const cut = (datagram: Buffer, length: number) => {
    const short = Buffer.from(datagram.subarray(0, length))
    short.writeUInt32LE(length, 0)
    return first(short)
  }
  expect(() => readError(cut(ERROR, 30))).toThrow(MalformedMessageError)
  expect(() => readDone(cut(DONE, 18))).toThrow(MalformedMessageError)
})

test('the message of an error has the attempt and the reason', () => {
  const known = new NetlinkError(17, 'add nexthop 5')
  expect(known).toMatchObject({ code: 'netlink-refused', errno: 17, errnoName: 'EEXIST' })
  expect(known.message).toBe('cannot add nexthop 5: file already exists (EEXIST)')
  expect(new NetlinkError(22, 'add nexthop 5', TEXT).message).toBe(`cannot add nexthop 5: ${TEXT} (EINVAL)`)
  expect(new NetlinkError(524, 'x').message).toBe('cannot x: errno 524')
})
