import { nearest } from '../../../src/cli/nearest'
import { renderTable, screenOf } from '../../../src/cli/screen'

describe('the screen', () => {
  const terminal = { isTTY: true, columns: 132 }

  test.each([
    ['a terminal, as wide as it is', terminal, {}, { width: 132, colour: true }],
    ['COLUMNS counts more', terminal, { COLUMNS: '100' }, { width: 100, colour: true }],
    ['a terminal that does not tell', { isTTY: true }, {}, { width: 80, colour: true }],
    ['a pipe cuts nothing', {}, {}, { width: Number.POSITIVE_INFINITY, colour: false }],
    ['a pipe with COLUMNS', {}, { COLUMNS: '80' }, { width: 80, colour: false }],
    ['NO_COLOR', terminal, { NO_COLOR: '1' }, { width: 132, colour: false }],
    ['an empty NO_COLOR is none', terminal, { NO_COLOR: '' }, { width: 132, colour: true }],
    ['a dumb terminal', terminal, { TERM: 'dumb' }, { width: 132, colour: false }],
    ['nonsense in COLUMNS', terminal, { COLUMNS: 'x' }, { width: 132, colour: true }],
    ['too narrow for a word', terminal, { COLUMNS: '3' }, { width: 40, colour: true }],
  ])('%s', (_what, output, env, expected) => {
    expect(screenOf(output, env)).toEqual(expected)
  })
})

test('a table leaves out what is spare where it is too wide, and breaks its last column', () => {
  const columns = [
    { title: 'A', cell: () => 'a'.repeat(10) },
    { title: 'SPARE', cell: () => 's'.repeat(10), spare: true },
    { title: 'WHY', cell: () => 'one two three four five six seven' },
  ]
  const screen = (width: number) => ({ width, colour: false })
  expect(renderTable(columns, [0], screen(80))).toEqual([
    'A           SPARE       WHY',
    'aaaaaaaaaa  ssssssssss  one two three four five six seven',
  ])
  expect(renderTable(columns, [0], screen(40))).toEqual([
    'A           WHY',
    'aaaaaaaaaa  one two three four five six',
    '            seven',
  ])
})

test.each([
  ['stauts', 'status'],
  ['statu', 'status'],
  ['teardwon', 'teardown'],
  ['con', 'config'],
  ['release', 'release'],
  ['xyzzy', undefined],
  ['', undefined],
])('%j is most likely meant to be %j', (word, expected) => {
  expect(nearest(word, ['status', 'teardown', 'config', 'release', 'reserve'])).toBe(expected)
})
