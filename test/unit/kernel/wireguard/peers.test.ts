import fc from 'fast-check'
import { MessageCursor, MessageWriter } from '../../../../src/kernel/netlink/bytes'
import { MalformedMessageError } from '../../../../src/kernel/netlink/errors'
import { deviceMessage, familyMessage } from '../../../../src/kernel/wireguard/messages'
import { inMessages, joinParts, peerFormat, readParts } from '../../../../src/kernel/wireguard/peers'
import { ipv4, type Prefix } from '../../../../src/model/address'
import {
  type Endpoint,
  type ObservedWireguardPeer,
  type WireguardKey,
  type WireguardOperation,
  wireguardKey,
} from '../../../../src/model/kernel/wireguard'
import { ip, ip6, net, net6 } from '../../plan/support'
import { CONFIGURE, DEVICE, FAMILY, FAMILY_ANSWER, KEYS, PEERS, PRIVATE_KEY } from './captured'

const key = (text: string) => text as WireguardKey
const numbered = (n: number): WireguardKey => {
  const bytes = Buffer.alloc(32)
  bytes.writeUInt32BE(n + 1)
  return wireguardKey(bytes)
}

function read<T>(datagram: Buffer, decode: (view: DataView, start: number, end: number) => T): T[] {
  const cursor = new MessageCursor(Buffer.from(datagram))
  const messages: T[] = []
  while (cursor.next()) messages.push(decode(cursor.view, cursor.start, cursor.end))
  return messages
}

/** One message, with the sequence number of the captured ones. */
function written(encode: (writer: MessageWriter) => void): Buffer {
  const writer = new MessageWriter()
  encode(writer)
  writer.stamp(7, 4)
  return writer.take()
}
const changing = (operations: readonly WireguardOperation[], index = 3): Buffer =>
  written((writer) => peerFormat(FAMILY).encode(writer, { index, operations }))

const { decode: decodeDevice } = readParts(FAMILY, 3)

const BOTH: WireguardOperation[] = [
  {
    kind: 'set-peer',
    publicKey: key(KEYS.first),
    endpoint: { address: ip('192.168.77.2'), port: 51820 },
    allowedIps: [net('192.168.77.2/32')],
    keepalive: 25,
  },
  {
    kind: 'set-peer',
    publicKey: key(KEYS.second),
    endpoint: { address: ip6('fd77::3'), port: 51821 },
    allowedIps: [net('192.168.77.3/32'), net6('fd77::3/128')],
  },
]

test('the family is found by its name', () => {
  const [family] = read(FAMILY_ANSWER, familyMessage.decode)
  expect(family).toMatchObject({ command: 1, id: FAMILY, name: 'wireguard' })
})

test('peers are written as the kernel took them', () => {
  expect(changing(BOTH).toString('hex')).toBe(PEERS.toString('hex'))
})

test('key and port are written as the kernel took them', () => {
  const privateKey = CONFIGURE.subarray(PRIVATE_KEY.at, PRIVATE_KEY.at + 32)
  const message = { command: 1, version: 1, index: 3, privateKey, port: 51820 }
  const encoded = written((writer) => deviceMessage.encode(writer, FAMILY, 1, message))
  expect(encoded.toString('hex')).toBe(CONFIGURE.toString('hex'))
})

test('a device is read as the kernel told it', () => {
  const first: ObservedWireguardPeer = {
    publicKey: key(KEYS.first),
    endpoint: { address: ip('192.168.77.2'), port: 51820 },
    allowedIps: [net('192.168.77.2/32')],
    keepalive: 25,
    lastHandshake: 1795993976784,
    received: 92n,
    sent: 180n,
  }
  const second: ObservedWireguardPeer = {
    publicKey: key(KEYS.second),
    endpoint: { address: ip6('fd77::3'), port: 51821 },
    allowedIps: [net('192.168.77.3/32'), net6('fd77::3/128')],
    keepalive: 0,
    lastHandshake: undefined,
    received: 0n,
    sent: 0n,
  }
  expect(joinParts(read(DEVICE, deviceMessage.decode))).toEqual({
    index: 3,
    name: 'fl-wg.1',
    publicKey: KEYS.own,
    port: 51820,
    peers: new Map([first, second].map((peer) => [peer.publicKey, peer])),
  })
})

test('secrets that the kernel sends are overwritten, and nothing else', () => {
  const cursor = new MessageCursor(Buffer.from(DEVICE))
  cursor.next()
  decodeDevice(cursor.view, cursor.start, cursor.end)
  const after = Buffer.from(cursor.view.buffer, cursor.view.byteOffset, cursor.view.byteLength)
  const secret = Buffer.from(CONFIGURE.subarray(PRIVATE_KEY.at + 1, PRIVATE_KEY.at + 31))
  const at = DEVICE.indexOf(secret) - 1
  const expected = Buffer.from(DEVICE)
  expected.fill(0, at, at + 32)
  expect(after.toString('hex')).toBe(expected.toString('hex'))
})

test('a decoded message in words has no secret', () => {
  const message = { privateKey: Buffer.alloc(32, 0x41), peers: [{ presharedKey: Buffer.alloc(32, 0x42) }] }
  const words = deviceMessage.text({ command: 1, version: 1, ...message })
  expect(words).toBe('command=1 version=1 privateKey=(secret) peers=[{presharedKey=(secret)}]')
})

test.each<[string, WireguardOperation, flags: number | undefined, number]>([
  [
    'a peer is left with its addresses',
    { kind: 'set-peer', publicKey: numbered(1), keepalive: 3 },
    undefined,
    0,
  ],
  [
    'all addresses are replaced',
    { kind: 'set-peer', publicKey: numbered(1), allowedIps: [net('10.0.0.1/32')] },
    2,
    1,
  ],
  ['all addresses are taken away', { kind: 'set-peer', publicKey: numbered(1), allowedIps: [] }, 2, 0],
  ['no peer is made', { kind: 'set-peer', publicKey: numbered(1), keepalive: 0, updateOnly: true }, 4, 0],
  ['a peer is removed', { kind: 'remove-peer', publicKey: numbered(1) }, 1, 0],
])('%s', (_what, operation, flags, addresses) => {
  const [message] = read(changing([operation]), deviceMessage.decode)
  expect(message?.peers).toHaveLength(1)
  expect(message?.peers?.[0]?.flags).toBe(flags)
  expect(message?.peers?.[0]?.allowedIps ?? []).toHaveLength(addresses)
})

describe('many operations', () => {
  const some = fc.array(
    fc.record({
      kind: fc.constant('set-peer' as const),
      publicKey: fc.nat(5).map(numbered),
      allowedIps: fc
        .integer({ min: 0, max: 900 })
        .map((count) => Array.from({ length: count }, (_, n): Prefix => ({ address: ipv4(n), length: 32 }))),
    }),
    { maxLength: 200 },
  )

  test('are all sent, in order, in messages of at most 32 operations and about 30 kB', () => {
    fc.assert(
      fc.property(some, (operations) => {
        const messages = [...inMessages(3, operations)]
        expect(messages.flatMap((message) => message.operations)).toEqual(operations)
        for (const { operations: part } of messages) {
          expect(part.length).toBeGreaterThan(0)
          expect(part.length).toBeLessThanOrEqual(32)
          if (part.length > 1) expect(changing(part).length).toBeLessThan(30_100)
        }
      }),
      { numRuns: 30 },
    )
  })

  test('of ordinary peers fill their messages', () => {
    const peers = Array.from({ length: 1000 }, (_, n): WireguardOperation => {
      return { kind: 'set-peer', publicKey: numbered(n), allowedIps: [net('10.0.0.1/32')] }
    })
    expect([...inMessages(3, peers)].map(({ operations }) => operations.length)).toEqual([
      ...Array(31).fill(32),
      8,
    ])
    expect([...inMessages(3, [])]).toEqual([])
  })

  test('never write a length that does not fit its 16 bits', () => {
    const allowedIps = Array.from({ length: 3000 }, (_, n): Prefix => ({ address: ipv4(n), length: 32 }))
    expect(() => changing([{ kind: 'set-peer', publicKey: numbered(1), allowedIps }])).toThrow(RangeError)
  })
})

const someAddress = fc.oneof(
  fc.nat(0xffffffff).map(ipv4),
  fc.bigInt(0n, 2n ** 128n - 1n).map((bits) => bits as ReturnType<typeof ip6>),
)
const somePrefix: fc.Arbitrary<Prefix> = someAddress.chain((address) =>
  fc.integer({ min: 0, max: typeof address === 'number' ? 32 : 128 }).map((length) => ({ address, length })),
)
const someEndpoint: fc.Arbitrary<Endpoint> = fc.record({ address: someAddress, port: fc.nat(65535) })
const someKey = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(wireguardKey)
const somePeer = fc.record(
  {
    publicKey: someKey,
    endpoint: someEndpoint,
    keepalive: fc.nat(65535),
    lastHandshake: fc.nat(2 ** 50),
    received: fc.bigInt(0n, 2n ** 64n - 1n),
    sent: fc.bigInt(0n, 2n ** 64n - 1n),
    allowedIps: fc.array(somePrefix, { maxLength: 5 }),
  },
  { requiredKeys: [] },
)
const someDevice = fc.record(
  {
    index: fc.nat(0xffffffff),
    name: fc.constantFrom('fl-wg.1', 'fl-wgb.16777215'),
    publicKey: someKey,
    port: fc.nat(65535),
    peers: fc.array(somePeer, { maxLength: 5 }),
  },
  { requiredKeys: [] },
)

test('any device is read as it was written', () => {
  fc.assert(
    fc.property(someDevice, (device) => {
      const datagram = written((writer) => deviceMessage.encode(writer, FAMILY, 1, { command: 1, ...device }))
      const [read1] = read(datagram, deviceMessage.decode)
      expect(JSON.parse(json(read1))).toEqual(JSON.parse(json({ command: 1, version: 0, ...device })))
    }),
  )
})

/** Without what is `undefined`, and with numbers of any size. */
const json = (value: unknown): string =>
  JSON.stringify(value, (_name, each) => (typeof each === 'bigint' ? `${each}n` : each))

describe('a dump in several parts', () => {
  const addresses = [1, 2, 3, 4, 5].map((n): Prefix => ({ address: ipv4(n), length: 32 }))
  const whole = { publicKey: numbered(1), keepalive: 7, received: 5n, sent: 6n, lastHandshake: 1000 }
  const part = (fields: Parameters<typeof deviceMessage.encode>[3]) => ({ command: 0, version: 1, ...fields })

  test('joins a peer whose addresses continue in the next parts', () => {
    const joined = joinParts([
      part({
        index: 3,
        name: 'a',
        peers: [{ publicKey: numbered(0) }, { ...whole, allowedIps: addresses.slice(0, 2) }],
      }),
      part({ peers: [{ publicKey: numbered(1), allowedIps: addresses.slice(2, 4) }] }),
      part({
        peers: [{ publicKey: numbered(1), allowedIps: addresses.slice(4) }, { publicKey: numbered(2) }],
      }),
    ])
    expect([...(joined?.peers.keys() ?? [])]).toEqual([0, 1, 2].map(numbered))
    expect(joined?.peers.get(numbered(1))).toEqual({ ...whole, endpoint: undefined, allowedIps: addresses })
  })

  test('is no device without the part that names it', () => {
    expect(joinParts([])).toBeUndefined()
    expect(joinParts([part({ peers: [{ publicKey: numbered(1) }] })])).toBeUndefined()
  })
})

describe('bytes that are no device', () => {
  const attempt = (datagram: Buffer): void => {
    try {
      joinParts(read(datagram, deviceMessage.decode))
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error
    }
  }

  test.each([...DEVICE.keys()].filter((n) => n % 4 === 0))('cut at byte %d are refused or read', (length) => {
    attempt(Buffer.from(DEVICE.subarray(0, length)))
    const shorter = Buffer.from(DEVICE.subarray(0, Math.max(length, 20)))
    shorter.writeUInt32LE(shorter.length, 0)
    attempt(shorter)
  })

  test('of any kind are refused as malformed, or read', () => {
    const noise = fc.array(fc.tuple(fc.nat(DEVICE.length - 17), fc.nat(255)), { maxLength: 8 })
    fc.assert(
      fc.property(noise, (changes) => {
        const datagram = Buffer.from(DEVICE)
        for (const [at, byte] of changes) datagram.writeUInt8(byte, at + 16)
        attempt(datagram)
      }),
      { numRuns: 500 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const datagram = Buffer.concat([DEVICE.subarray(0, 20), bytes])
        datagram.writeUInt32LE(datagram.length, 0)
        attempt(datagram)
      }),
      { numRuns: 500 },
    )
  })

  test('such as an address with more bits than it has are refused', () => {
    const odd = { publicKey: numbered(1), allowedIps: [{ address: ipv4(1), length: 33 }] }
    const datagram = written((writer) => deviceMessage.encode(writer, FAMILY, 1, { peers: [odd] }))
    expect(() => read(datagram, deviceMessage.decode)).toThrow('an allowed address with 33 bits')
  })
})
