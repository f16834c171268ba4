import { toYaml } from '../../../src/cli/output'

test('YAML of nested data: plain words as they are, all other text in quotes', () => {
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
