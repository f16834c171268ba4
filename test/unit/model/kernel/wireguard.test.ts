import fc from 'fast-check'
import {
  describeWireguardOperation,
  parseWireguardKey,
  wireguardKey,
} from '../../../../src/model/kernel/wireguard'

const KEY = 'hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo='

test('a public key is 32 bytes in canonical base64', () => {
  expect(parseWireguardKey(KEY)).toBe(KEY)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      const text = Buffer.from(bytes).toString('base64')
      expect(wireguardKey(bytes)).toBe(text)
      expect(parseWireguardKey(text)).toBe(bytes.some((byte) => byte !== 0) ? text : undefined)
    }),
  )
})

test.each([
  ['nothing', ''],
  ['no padding', KEY.slice(0, -1)],
  ['31 bytes', Buffer.alloc(31, 1).toString('base64')],
  ['33 bytes', Buffer.alloc(33, 1).toString('base64')],
  ['bits after the last byte', `${KEY.slice(0, -2)}p=`],
  ['another alphabet', `_${KEY.slice(1)}`],
  ['a line end', `${KEY}\n`],
  ['a space', ` ${KEY}`],
  ['the null key', Buffer.alloc(32).toString('base64')],
])('%s is no public key', (_what, text) => {
  expect(parseWireguardKey(text)).toBeUndefined()
})

test('an operation is named by the key', () => {
  const publicKey = wireguardKey(Buffer.from(KEY, 'base64'))
  expect(describeWireguardOperation({ kind: 'set-peer', publicKey })).toBe(`set the WireGuard peer ${KEY}`)
  expect(describeWireguardOperation({ kind: 'remove-peer', publicKey })).toBe(
    `remove the WireGuard peer ${KEY}`,
  )
})
