import fc from 'fast-check'
import { escapeJson, printable, printableData, printableLines, toJson } from '../../../src/model/printable'
import { anyUnicode, UNSHOWABLE } from '../support/text'

test.each([
  ['plain text', '10.5.0.0/16 é 東京 \u{1f600}', '10.5.0.0/16 é 東京 \u{1f600}'],
  ['ESC', 'a\u001b[2J', 'a\\x1b[2J'],
  ['OSC and BEL', '\u001b]0;x\u0007', '\\x1b]0;x\\x07'],
  ['C1', '\u009b31m', '\\x9b31m'],
  ['carriage return, line feed, tab', 'a\rb\nc\td', 'a\\x0db\\x0ac\\x09d'],
  ['an override', 'a\u202eb', 'a\\u202eb'],
  ['an isolate', '\u2066', '\\u2066'],
  ['no width', 'a\u200bb\ufeffc\u200dd', 'a\\u200bb\\ufeffc\\u200dd'],
  ['tag characters', '\u{e0041}', '\\u{e0041}'],
  ['variation selectors', 'a\ufe0f\u{e0100}', 'a\\ufe0f\\u{e0100}'],
  ['half a surrogate pair', 'a\ud800b', 'a\\ud800b'],
  ['separators', '\u2028\u2029', '\\u2028\\u2029'],
  ['private use, unassigned, none at all', '\ue000\u0378\uffff', '\\ue000\\u0378\\uffff'],
  ['blanks other than the space', 'a\u00a0\u3000\u2800\u3164b', 'a\\xa0\\u3000\\u2800\\u3164b'],
  ['a soft hyphen', 'a\u00adb', 'a\\xadb'],
  ['a letter with its marks', 'e\u0301', 'e\u0301'],
  ['a mark without a letter', '"\u0301', '"\\u0301'],
  ['more than four marks on a letter', `e${'\u0301'.repeat(6)}`, `e${'\u0301'.repeat(4)}\\u0301\\u0301`],
])('%s', (_what, text, expected) => expect(printable(text)).toBe(expected))

test('the result is safe for a terminal, and printing it again does not change it', () => {
  fc.assert(
    fc.property(anyUnicode, (text) => {
      const shown = printable(text)
      expect(shown).not.toMatch(UNSHOWABLE)
      expect(printable(shown)).toBe(shown)
      expect(printableLines(text).replaceAll('\n', '')).not.toMatch(UNSHOWABLE)
    }),
  )
})

test('JSON keeps the exact text, with unsafe characters escaped', () => {
  fc.assert(
    fc.property(fc.dictionary(anyUnicode, anyUnicode), fc.constantFrom(undefined, 2), (data, indent) => {
      const json = toJson(data, indent)
      expect(json.replaceAll('\n', '')).not.toMatch(UNSHOWABLE)
      expect(JSON.parse(json)).toEqual(data)
    }),
  )
  expect(escapeJson('{"a":"\u{e0041}\u202e"}')).toBe('{"a":"\\udb40\\udc41\\u202e"}')
})

test('in data all texts are made printable, and nothing else is changed', () => {
  const at = new Date(0)
  const data = { a: ['\u001b', 7, { '\u202e': new Set(['\r']) }], at, big: 7n, none: undefined }
  expect(printableData(data)).toEqual({
    a: ['\\x1b', 7, { '\\u202e': new Set(['\\x0d']) }],
    at,
    big: 7n,
    none: undefined,
  })
})
