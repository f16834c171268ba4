import fc from 'fast-check'
import { parse } from 'yaml'
import { toYaml } from '../../../../src/cli/show/output'
import { runs } from '../../support/runs'

test('YAML of nested data has plain words without quotes, all other text in quotes', () => {
  const data = {
    state: 'healthy',
    subnet: '10.5.0.0/16',
    mac: '02:00:00:00:00:01',
    no: 'no',
    number: '7',
    count: 7,
    none: null,
    empty: [],
    nothing: {},
    text: 'a: b # c\n"d"',
    list: ['in-sync', [1, 2], { a: { b: true }, c: ['x'] }],
    gone: undefined,
  }
  expect(toYaml(data)).toBe(`state: healthy
subnet: "10.5.0.0/16"
mac: "02:00:00:00:00:01"
"no": "no"
number: "7"
count: 7
none: null
empty: []
nothing: {}
text: "a: b # c\\n\\"d\\""
list:
- in-sync
- - 1
  - 2
- a:
    b: true
  c:
  - x
`)
})

test('YAML keeps any text exactly, and is safe for a terminal', () => {
  expect(toYaml({ a: 'x\u001b\u202e\u{e0041}\u{1f600}\ue000é', b: 'half \ud800', '\u200b': '\\ud800' })).toBe(
    'a: "x\\u001b\\u202e\\U000e0041\u{1f600}\\ue000é"\nb: "half \\ufffd"\n"\\u200b": "\\\\ud800"\n',
  )
})

test('a YAML parser reads the same data back, for any JSON', () => {
  /** Half of a surrogate pair, which UTF-8 cannot encode. */
  const whole = (text: string): string => Buffer.from(text).toString()
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const data = JSON.parse(JSON.stringify(value), (_, each) =>
        typeof each === 'string' ? whole(each) : each,
      )
      expect(parse(toYaml({ data }))).toEqual({ data })
    }),
    { numRuns: runs(100, 50_000) },
  )
})
