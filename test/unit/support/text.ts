/** Arbitrary text, as anybody with the right to write to etcd may choose it. */
import fc from 'fast-check'

/** Spelled independently of the program, so that each is checked against the other. */
export const UNSHOWABLE =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Variation_Selector}\p{Bidi_Control}\u2800]/u

/** Control, invisible and bidirectional characters, and halves of surrogate pairs. */
const nasty = fc.constantFrom(
  ...['\u001b[2J', '\u001b[31m', '\u001b]0;title\u0007', '\u009b31m', '\r', '\n', '\t', '\0', '\u007f'],
  ...['\u202e', '\u2066', '\u200b', '\ufeff', '\u{e0041}', '\ufe0f', '\u{e0100}', '\ud800', '\udc00'],
  ...['\u2028', '\u2029', '\ue000', '\u0378', '\uffff', '\u00ad', '\u3164', '\u0301', '\u3000'],
  ...['"', '\\', '$(id)', "'", '%s', ': ', '# ', '- ', 'no', 'x'.repeat(5000), '東京', '\u{1f600}'],
)

/** Any code point but halves of surrogate pairs. */
const codePoint = fc
  .oneof(fc.integer({ min: 0, max: 0xd7ff }), fc.integer({ min: 0xe000, max: 0x10ffff }))
  .map((number) => String.fromCodePoint(number))

/**
 * Text of any code points, and names such as `__proto__`. The same as `fc.string({ unit: 'binary' })`, which
 * makes a table of all code points first: 0.5 s in every test file.
 */
export const binaryText = ({ maxLength = 10 }: { readonly maxLength?: number } = {}): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 9, arbitrary: fc.array(codePoint, { maxLength }).map((parts) => parts.join('')) },
    { weight: 1, arbitrary: fc.string({ maxLength }) },
  )

export const anyUnicode = fc.oneof(
  binaryText({ maxLength: 60 }),
  fc.array(nasty, { maxLength: 8 }).map((parts) => parts.join('')),
  fc.array(fc.nat(0xffff), { maxLength: 30 }).map((units) => String.fromCharCode(...units)),
)
