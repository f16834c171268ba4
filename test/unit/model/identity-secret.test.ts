import { inspect } from 'node:util'
import fc from 'fast-check'
import { parseIdentityKey } from '../../../src/model/host-record'
import { IdentitySecret, IdentityVerifier } from '../../../src/model/identity-secret'

const SECRET = IdentitySecret.generate()

test('an identity is the same after writing and reading, and shows itself to nobody', () => {
  const again = IdentitySecret.fromText(SECRET.text())
  expect(again?.publicKey()).toBe(SECRET.publicKey())
  expect(parseIdentityKey(SECRET.publicKey())).toBe(SECRET.publicKey())
  const body = SECRET.text().split('\n')[1] ?? ''
  for (const shown of [inspect(SECRET, { depth: 9, showHidden: true }), JSON.stringify(SECRET), `${SECRET}`])
    expect(shown).not.toContain(body)
})

test.each(['', 'x', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'])(
  '%j is no identity',
  (text) => {
    expect(IdentitySecret.fromText(text)).toBeUndefined()
  },
)

test('a signature holds for its text and its identity alone', () => {
  const verifier = new IdentityVerifier(SECRET.publicKey())
  const other = new IdentityVerifier(IdentitySecret.generate().publicKey())
  fc.assert(
    fc.property(fc.string(), fc.string(), (text, else_) => {
      const signature = SECRET.sign(text)
      expect(verifier.isSigned({ text, signature })).toBe(true)
      expect(other.isSigned({ text, signature })).toBe(false)
      if (else_ !== text) expect(verifier.isSigned({ text: else_, signature })).toBe(false)
    }),
    { numRuns: 50 },
  )
})

test('any 32 bytes may be pinned: a key that is none verifies nothing', () => {
  const keys = fc.uint8Array({ minLength: 32, maxLength: 32 })
  fc.assert(
    fc.property(keys, (bytes) => {
      const identity = parseIdentityKey(Buffer.from(bytes).toString('base64'))
      if (identity === undefined) return
      expect(new IdentityVerifier(identity).isSigned({ text: 'x', signature: SECRET.sign('x') })).toBe(false)
    }),
    { numRuns: 50 },
  )
})
