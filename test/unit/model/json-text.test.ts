import fc from 'fast-check'
import { describeFault, findJsonFault, membersOf, placeIn } from '../../../src/model/json-text'
import { runs } from '../support/runs'

const numRuns = runs(200)

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

const token = fc.constantFrom(
  ...[
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '"a"',
    '"b\\u00e9"',
    '"',
    '\\',
    '1',
    '-0',
    '01',
    '1.',
    '1e5',
    '.5',
    'true',
    'nul',
  ],
  ...['null', ' ', '\n', '\t', '\u{feff}', '“', "'", '//', '\u0000', '"\n"', '"\\x"'],
)
const nearly = fc.oneof(
  fc.json(),
  fc.array(token, { maxLength: 14 }).map((all) => all.join('')),
  fc.tuple(fc.json(), fc.nat(), fc.string({ maxLength: 2 })).map(([text, at, more]) => {
    const place = at % (text.length + 1)
    return text.slice(0, place) + more + text.slice(place + 1)
  }),
)

test('a text has a fault exactly if it is not JSON, and the position of the fault is in the text', () => {
  fc.assert(
    fc.property(nearly, (text) => {
      const fault = findJsonFault(text)
      expect([text, fault === undefined]).toEqual([text, isJson(text)])
      if (fault === undefined) return
      expect(fault.at).toBeLessThanOrEqual(text.length)
      // The text before the fault is valid, or it is incomplete: its fault is at its end.
      const before = findJsonFault(text.slice(0, fault.at))
      if (before !== undefined) expect(before.at).toBe(fault.at)
      expect(describeFault(text, fault)).toMatch(/^line \d+, column \d+: /)
    }),
    { numRuns: 5 * numRuns },
  )
})

test('the members of an object are found in order, with their exact texts', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string(), fc.jsonValue()), { maxLength: 6 }),
      fc.boolean(),
      (entries, wide) => {
        const blank = wide ? ' \n\t' : ''
        const members = entries.map(
          ([name, value]) => `${JSON.stringify(name)}${blank}:${blank}${JSON.stringify(value)}`,
        )
        const text = `${blank}{${blank}${members.join(`${blank},${blank}`)}${blank}}`
        const found = membersOf(text) ?? []
        expect(found.map(({ name, text: value }) => [name, value])).toEqual(
          entries.map(([name, value]) => [name, JSON.stringify(value)]),
        )
        for (const { text: value, at } of found) expect(text.startsWith(value, at)).toBe(true)
      },
    ),
    { numRuns },
  )
  expect(membersOf('[1]')).toBeUndefined()
})

test('deep nesting is read in time linear in the length', () => {
  const deep = 200_000
  expect(findJsonFault('['.repeat(deep) + ']'.repeat(deep))).toBeUndefined()
  expect(findJsonFault('{"a":'.repeat(deep))).toMatchObject({ at: 5 * deep })
  expect(membersOf(`{"x":${'['.repeat(deep)}${']'.repeat(deep)}}`)).toHaveLength(1)
})

test('a position is a line and a column, counted in characters', () => {
  expect(placeIn('a\n\u{1f600}b', 4)).toBe('line 2, column 2')
})
