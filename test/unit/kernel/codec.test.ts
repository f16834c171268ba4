import fc from 'fast-check'
import { MessageCursor, MessageWriter } from '../../../src/kernel/netlink/bytes'
import { messageCodec, nested } from '../../../src/kernel/netlink/codec'
import { MalformedMessageError } from '../../../src/kernel/netlink/errors'
import {
  be16,
  bool,
  flag,
  ifSized,
  ipv4Address,
  macAddress,
  present,
  s32,
  text,
  u8,
  u16,
  u32,
} from '../../../src/kernel/netlink/layout'
import {
  addressMessage,
  linkMessage,
  neighbourMessage,
  nexthopMessage,
  routeMessage,
} from '../../../src/kernel/netlink/messages'
import { formatIpv4, formatMac, ipv4, mac } from '../../../src/model/address'
import { runs } from '../support/runs'
import { FORWARDING, LINK, NEIGHBOUR, NEXTHOP, NEXTHOP_ROUTE, PLAIN_ROUTE, SHARED_ROUTE } from './captured'

const codec = messageCodec(
  { size: 12, fields: { small: [0, u8], middle: [2, u16], signed: [4, s32], large: [8, u32] } },
  {
    byte: [1, u8],
    short: [2, u16],
    word: [3, u32],
    port: [4, be16],
    yes: [5, bool],
    address: [6, ipv4Address],
    mac: [7, macAddress],
    name: [8, text],
    mark: [9, flag],
    inner: [
      10,
      nested({ kind: [1, text], data: [2, nested({ id: [1, u32] }), { sibling: 'kind', is: 'known' }] }),
    ],
    lenient: [11, ifSized(macAddress)],
  },
)

const word = fc.integer({ min: 0, max: 0xffffffff })
const short = fc.integer({ min: 0, max: 0xffff })
const byte = fc.integer({ min: 0, max: 0xff })
const macs = fc.integer({ min: 0, max: 2 ** 48 - 1 }).map(mac)
const names = fc.string({ maxLength: 40 }).filter((name) => !name.includes('\0'))
const optional = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined })

const messages = fc.record({
  small: byte,
  middle: short,
  signed: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  large: word,
  byte: optional(byte),
  short: optional(short),
  word: optional(word),
  port: optional(short),
  yes: optional(fc.boolean()),
  address: optional(word.map(ipv4)),
  mac: optional(macs),
  name: optional(names),
  mark: optional(fc.constant(true)),
  inner: optional(
    fc.oneof(
      fc.record({ kind: fc.constant('known'), data: optional(fc.record({ id: optional(word) })) }),
      fc.record({ kind: fc.constantFrom(undefined, 'strange'), data: fc.constant(undefined) }),
    ),
  ),
  lenient: optional(macs),
})

/** Decodes the body of the first message. */
function decodeWith<T>(
  { decode }: { decode(view: DataView, start: number, end: number): T },
  datagram: Uint8Array,
): T {
  const cursor = new MessageCursor(datagram)
  cursor.next()
  return decode(cursor.view, cursor.start, cursor.end)
}

function encoded(write: (writer: MessageWriter) => void): Buffer {
  const writer = new MessageWriter(16)
  write(writer)
  return writer.take()
}

describe('an encoded message', () => {
  test('is decoded to the same values, also beside other messages in one buffer', () => {
    fc.assert(
      fc.property(fc.array(messages, { maxLength: 5 }), (sent) => {
        const datagram = encoded((writer) => {
          for (const [index, message] of sent.entries()) {
            codec.encode(writer, 40 + index, 1, message)
            writer.stamp(1000 + index, 4)
          }
        })
        const cursor = new MessageCursor(datagram)
        for (const [index, message] of sent.entries()) {
          expect(cursor.next()).toBe(true)
          expect([cursor.type, cursor.flags, cursor.sequence, cursor.portId]).toEqual([
            40 + index,
            5,
            1000 + index,
            0,
          ])
          expect(codec.decode(cursor.view, cursor.start, cursor.end)).toEqual(message)
        }
        expect(cursor.next()).toBe(false)
      }),
    )
  })

  test('does not depend on the former content of a reused buffer', () => {
    const writer = new MessageWriter(64)
    const write = () => codec.encode(writer, 1, 1, { name: 'a', inner: { kind: 'known', data: { id: 7 } } })
    write()
    const clean = writer.take()
    writer.reset()
    codec.encode(writer, 0xffff, 0xffff, {
      large: 0xffffffff,
      signed: -1,
      name: '\xff'.repeat(40),
      word: 0xffffffff,
    })
    writer.reset()
    write()
    expect(writer.take().equals(clean)).toBe(true)
  })

  test('has no attribute for undefined values and unset flags, and zeroes in absent header fields', () => {
    const datagram = encoded((writer) => codec.encode(writer, 1, 1, { byte: undefined, mark: false }))
    expect(datagram.length).toBe(16 + 12)
    expect(decodeWith(codec, datagram)).toMatchObject({ small: 0, middle: 0, signed: 0, large: 0 })
  })

  test('cannot contain an attribute that is only read', () => {
    expect(() => present.write(new MessageWriter(), 1, true)).toThrow(TypeError)
  })
})

describe('decodes messages of a real kernel:', () => {
  test('a VXLAN link', () => {
    const message = decodeWith(linkMessage, LINK)
    expect(message).toMatchObject({ index: 4, name: 'flannel.1', mtu: 1450 })
    expect(formatMac(message.address ?? mac(0))).toBe('02:00:00:00:00:01')
    expect(message.info?.kind).toBe('vxlan')
    expect(message.info?.vxlan).toMatchObject({ id: 1, link: 3, port: 8472, learning: false, l2miss: false })
    expect(message.info?.vxlan?.gbp).toBeUndefined()
    expect(formatIpv4(message.info?.vxlan?.local ?? ipv4(0))).toBe('192.0.2.1')
  })

  test('a neighbour and a forwarding entry', () => {
    expect(decodeWith(neighbourMessage, NEIGHBOUR)).toMatchObject({
      family: 2,
      index: 4,
      state: 0x80,
      destination: 0x0a050200,
      linkAddress: 0x020000000002,
    })
    expect(decodeWith(neighbourMessage, FORWARDING)).toMatchObject({
      family: 7,
      index: 4,
      state: 0xc0,
      flags: 2,
      destination: 0xc0000202,
      linkAddress: 0x020000000002,
    })
  })

  test('a nexthop', () => {
    expect(decodeWith(nexthopMessage, NEXTHOP)).toMatchObject({
      protocol: 79,
      flags: 4,
      id: 1002,
      link: 4,
      gateway: 0x0a050200,
    })
  })

  test('routes', () => {
    expect(decodeWith(routeMessage, NEXTHOP_ROUTE)).toMatchObject({
      destinationLength: 24,
      tableId: 254,
      protocol: 79,
      destination: 0x0a050200,
      nexthop: 1002,
      link: 4,
      metric: undefined,
    })
    expect(decodeWith(routeMessage, PLAIN_ROUTE)).toMatchObject({
      protocol: 3,
      flags: 4,
      metric: 7,
      gateway: 0x0a050300,
      nexthop: undefined,
    })
  })
})

describe('routes to several gateways', () => {
  const hop = (gateway: number, weight: number) => ({ link: 2, gateway, weight, flags: 4 })
  const multipath = [hop(0x0a050200, 1), hop(0x0a050300, 5)].map((each) => ({
    ...each,
    gateway: ipv4(each.gateway),
  }))

  test('their dump is read', () => {
    expect(decodeWith(routeMessage, SHARED_ROUTE)).toMatchObject({ protocol: 79, link: undefined, multipath })
  })

  test('what is written is read again', () => {
    const writer = new MessageWriter(16)
    routeMessage.encode(writer, 24, 0, { multipath })
    expect(decodeWith(routeMessage, writer.take())).toMatchObject({ multipath })
  })

  test.each([
    ['shorter than its header', 7],
    ['longer than the list', 0xffff],
  ])('a gateway that is %s is refused', (_, length) => {
    const broken = Buffer.from(SHARED_ROUTE)
    // struct rtnexthop of the first gateway begins behind three attributes.
    broken.writeUInt16LE(length, 16 + 12 + 8 + 8 + 4)
    expect(() => decodeWith(routeMessage, broken)).toThrow(/a gateway in multipath does not end inside it/)
  })
})

describe('bad bytes', () => {
  const decoders = [linkMessage, addressMessage, neighbourMessage, nexthopMessage, routeMessage, codec]
  const samples = [LINK, NEIGHBOUR, FORWARDING, NEXTHOP, NEXTHOP_ROUTE, PLAIN_ROUTE, SHARED_ROUTE]

  /** Decodes all messages of a datagram. Any error but a MalformedMessageError is a failure. */
  function readAll(datagram: Uint8Array): void {
    for (const decoder of decoders) {
      try {
        const cursor = new MessageCursor(datagram)
        while (cursor.next()) decoder.decode(cursor.view, cursor.start, cursor.end)
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error
      }
    }
  }

  test('garbage is decoded or refused with a MalformedMessageError, in finite time', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), readAll), { numRuns: runs(1000) })
  })

  test('so are damaged messages', () => {
    const damage = fc.array(fc.tuple(fc.nat(1000), byte), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(fc.constantFrom(...samples), damage, (sample, changes) => {
        const datagram = Buffer.from(sample)
        for (const [at, value] of changes) datagram[at % datagram.length] = value
        readAll(datagram)
      }),
      { numRuns: runs(1000) },
    )
  })

  test('a message that is truncated anywhere is refused', () => {
    for (const sample of samples) {
      for (let length = 1; length < sample.length; length++) {
        expect(() => new MessageCursor(sample.subarray(0, length)).next()).toThrow(MalformedMessageError)
      }
    }
  })

  test('a truncated message with a matching length is refused, unless it ends between two attributes', () => {
    for (let length = 16; length < NEXTHOP.length; length++) {
      const cut = Buffer.from(NEXTHOP.subarray(0, length))
      cut.writeUInt32LE(length, 0)
      const whole = length >= 24 && (length - 24) % 8 === 0
      const decode = () => decodeWith(nexthopMessage, cut)
      if (whole) expect(decode).not.toThrow()
      else expect(decode).toThrow(MalformedMessageError)
    }
  })

  test('bytes outside a view are never read', () => {
    const around = Buffer.concat([Buffer.alloc(8, 0xff), NEXTHOP, NEXTHOP])
    const datagram = around.subarray(8, 8 + NEXTHOP.length)
    datagram.writeUInt16LE(12, NEXTHOP.length - 8) // the length of the last attribute is four bytes too large
    expect(() => decodeWith(nexthopMessage, datagram)).toThrow('does not end inside')
  })

  test('an attribute of a wrong size is refused by name', () => {
    const datagram = Buffer.from(NEXTHOP)
    datagram.writeUInt16LE(6, 24) // NHA_ID
    expect(() => decodeWith(nexthopMessage, datagram)).toThrow('attribute id has 2 bytes where 4 are wanted')
  })

  test('an attribute whose size depends on the link is absent if its size does not fit', () => {
    const datagram = encoded((writer) => {
      writer.begin(28, 0)
      writer.reserve(12)
      writer.attribute(1, 20) // the destination of another kind of link
      writer.attribute(2, 20) // an InfiniBand address
      writer.finish()
    })
    expect(decodeWith(neighbourMessage, datagram)).toMatchObject({
      destination: undefined,
      linkAddress: undefined,
    })
  })

  test("data of another kind of device are not read as VXLAN's, and unknown attributes are skipped", () => {
    const datagram = encoded((writer) => {
      writer.begin(16, 0)
      writer.reserve(16)
      writer.attribute(0x3ffe, 5)
      const info = writer.attribute(18, 0)
      const data = writer.attribute(2, 0)
      writer.attribute(1, 1) // IFLA_VXLAN_ID would have four bytes
      writer.closeNest(data)
      text.write(writer, 1, 'bridge')
      writer.closeNest(info)
      writer.finish()
    })
    expect(decodeWith(linkMessage, datagram).info).toEqual({ kind: 'bridge', vxlan: undefined })
  })
})
