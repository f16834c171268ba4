/**
 * Groups of bridges, from messages that Linux 6.18 on x86-64 sent: a bridge `br0` (index 2) with a port `v0`
 * (index 4).
 */
import { decodeMembers, listMembers, readMemberChanges } from '../../../../src/kernel/bridges/mdb'
import { MessageWriter, viewOf } from '../../../../src/kernel/netlink/bytes'
import { MalformedMessageError } from '../../../../src/kernel/netlink/errors'
import { ip, ip6 } from '../../plan/support'

/**
 * A dump. Learnt: 239.9.9.9 and ff02::1:ffef:5bf6. Joined by the host: ff02::6a, ff02::1:ffb4:57be and
 * 239.7.7.7. Permanent entries: 01:02:03:04:05:06 and 239.1.2.3. The port v0 is a router's.
 */
const DUMP = Buffer.from(
  [
    '9c01000056000200010000004b47d0df00000000020000005801010034000100300001000400000000000000ef09090900000000',
    '000000000000000008000000080001002c650000050005000200000034000100300001000400000000000000ff02000000000000',
    '00000001ffef5bf686dd0000080001006965000005000500020000002c000100280001000200000000000000ff02000000000000',
    '000000000000006a86dd000008000100146500002c000100280001000200000000000000ff0200000000000000000001ffb457be',
    '86dd0000080001001465000034000100300001000400000001000000010203040506000000000000000000000000000008000100',
    '0000000005000500040000002c000100280001000200000000000000ef0707070000000000000000000000000800000008000100',
    '6264000034000100300001000400000001000000ef01020300000000000000000000000008000000080001000000000005000500',
    '040000002c00020028000100040000000800010000000000050002000200000008000300000000000800040000000000',
  ].join(''),
  'hex',
)
const JOINED = Buffer.from(
  '5000000054000000000000000000000007000000020000003800010034000100300001000400000000000000ff050000000000000000000000'.concat(
    '00007786dd000008000100906500000500050004000000',
  ),
  'hex',
)
const LEFT = Buffer.from(JOINED)
LEFT.writeUInt16LE(85, 4)
const ROUTER = Buffer.from('2400000054000000000000000000000007000000020000000c0002000800010004000000', 'hex')

const HEADER = 16
const decode = (message: Buffer) => decodeMembers(viewOf(message), HEADER, message.readUInt32LE(0))

test('learnt and permanent groups of ports are read, not those of the host or with only a MAC', () => {
  expect(decode(DUMP)).toEqual({
    bridge: 2,
    groups: [ip('239.9.9.9'), ip6('ff02::1:ffef:5bf6'), ip('239.1.2.3')],
    hasRouter: true,
  })
})

test('groups of a VLAN do not count', () => {
  const message = Buffer.from(JOINED)
  expect(decode(message).groups).toEqual([ip6('ff05::77')])
  // br_mdb_entry.vid, after the headers of the message, the bridge and three nests.
  message.writeUInt16LE(7, HEADER + 8 + 12 + 6)
  expect(decode(message).groups).toEqual([])
})

test('a notification names its bridge', () => {
  expect(readMemberChanges(JOINED)).toEqual([2])
  expect(readMemberChanges(Buffer.concat([LEFT, ROUTER]))).toEqual([2, 2])
  const other = Buffer.from(JOINED)
  other.writeUInt16LE(16, 4)
  expect(readMemberChanges(other)).toEqual([])
})

test('a truncated entry, and a wrong length, are refused', () => {
  for (let length = HEADER + 8; length < JOINED.length; length += 4) {
    const cut = Buffer.from(JOINED.subarray(0, length))
    cut.writeUInt32LE(length)
    if (length === HEADER + 8) expect(decode(cut).groups).toEqual([])
    else expect(() => decode(cut)).toThrow(MalformedMessageError)
  }
  const short = Buffer.from(JOINED)
  short.writeUInt16LE(4 + 27, HEADER + 8 + 8)
  expect(() => decode(short)).toThrow('a group has 27 bytes where 28 are wanted')
})

test('the request is for all bridges', () => {
  const writer = new MessageWriter()
  listMembers.encode(writer)
  expect(writer.take().toString('hex')).toBe('18000000560001000000000000000000'.concat('0700000000000000'))
})
