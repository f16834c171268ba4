import fc from 'fast-check'
import { decodeEcho, encodeEcho, leastEcho } from '../../../src/host/echo'
import type { Family } from '../../../src/model/address'

const REPLY: Readonly<Record<Family, number>> = { IPv4: 0, IPv6: 129 }
const family = fc.constantFrom<Family>('IPv4', 'IPv6')
const word = fc.nat(0xffff_ffff)

test('the answer to a request names it, at every size', () => {
  fc.assert(
    fc.property(family, word, word, fc.integer({ min: 0, max: 9000 }), (of, token, id, size) => {
      const message = encodeEcho(of, { token, id }, size)
      expect(message.length).toBe(Math.max(size, leastEcho(of)) - (of === 'IPv4' ? 20 : 40))
      // A request is no answer.
      expect(decodeEcho(of, message)).toBeUndefined()
      message[0] = REPLY[of]
      // The kernel writes checksum and identifier.
      message.writeUInt32BE(0xffff_ffff, 2)
      expect(decodeEcho(of, message)).toEqual({ token, id })
      expect(decodeEcho(of, message.subarray(0, 16))).toEqual({ token, id })
    }),
  )
})

test('whatever arrives is read or refused', () => {
  fc.assert(
    fc.property(family, fc.uint8Array({ maxLength: 40 }), (of, bytes) => {
      const echo = decodeEcho(of, bytes)
      if (echo !== undefined) expect(bytes.length).toBeGreaterThanOrEqual(16)
    }),
  )
})

test('a sequence number that contradicts the payload is refused', () => {
  const message = encodeEcho('IPv4', { token: 1, id: 0x1_0002 }, 84)
  message[0] = 0
  expect(decodeEcho('IPv4', message)).toEqual({ token: 1, id: 0x1_0002 })
  message.writeUInt16BE(3, 6)
  expect(decodeEcho('IPv4', message)).toBeUndefined()
})
