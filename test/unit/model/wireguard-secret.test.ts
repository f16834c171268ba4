import { format, inspect } from 'node:util'
import { parseWireguardKey } from '../../../src/model/kernel/wireguard'
import { PrivateKey } from '../../../src/model/wireguard-secret'

/** The first key pair of RFC 7748, 6.1. The kernel clamps the private key as RFC 7748, 5 says. */
const PRIVATE = Buffer.from('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a', 'hex')
const HIDDEN = '[private key]'

function key(bytes: Buffer): PrivateKey {
  const read = PrivateKey.fromText(bytes.toString('base64'))
  if (read === undefined) throw new Error('no key')
  return read
}

test('the public key follows from the private key', () => {
  expect(key(PRIVATE).publicKey()).toBe(
    Buffer.from('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a', 'hex').toString('base64'),
  )
})

test('a generated key is clamped, is another one each time, and is read back from its text', () => {
  const [one, two] = [PrivateKey.generate(), PrivateKey.generate()]
  for (const each of [one, two]) {
    const bytes = each.bytes()
    expect([(bytes[0] ?? 0) & 7, (bytes[31] ?? 0) & 0xc0]).toEqual([0, 0x40])
    expect(parseWireguardKey(each.publicKey())).toBe(each.publicKey())
    expect(PrivateKey.fromText(each.text())?.publicKey()).toBe(each.publicKey())
  }
  expect(one.text()).not.toBe(two.text())
})

test('a key that is not clamped is read as the kernel reads it', () => {
  const clamped = key(PRIVATE)
  expect(clamped.text()).not.toBe(PRIVATE.toString('base64'))
  expect(key(Buffer.from(clamped.text(), 'base64')).text()).toBe(clamped.text())
})

test.each(['', 'x', Buffer.alloc(32).toString('base64'), `${PRIVATE.toString('base64')}\n`])(
  '%j is no private key',
  (text) => {
    expect(PrivateKey.fromText(text)).toBeUndefined()
  },
)

test('its bytes are a copy', () => {
  const one = key(PRIVATE)
  const text = one.text()
  one.bytes().fill(0)
  expect(one.text()).toBe(text)
})

test('nothing that is logged shows it', () => {
  const one = PrivateKey.generate()
  const shown = [
    `${one}`,
    JSON.stringify({ one }),
    inspect({ one }, { showHidden: true, depth: 9 }),
    format('%s %o %j', one, one, one),
    Object.entries(one).join(),
  ]
  const hex = Buffer.from(one.bytes()).toString('hex')
  for (const text of shown) {
    expect(text).not.toContain(one.text())
    expect(text).not.toContain(hex.slice(0, 16))
  }
  expect(shown.slice(0, 3)).toEqual([HIDDEN, `{"one":"${HIDDEN}"}`, `{ one: ${HIDDEN} }`])
})
