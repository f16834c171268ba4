import { renderTable, screenOf } from '../../../../src/cli/show/screen'
import { nearest } from '../../../../src/model/nearest'

describe('the screen', () => {
  const terminal = { isTTY: true, columns: 132 }

  test.each([
    ['a terminal with its width', terminal, {}, { width: 132, colour: true }],
    ['COLUMNS overrides the width', terminal, { COLUMNS: '100' }, { width: 100, colour: true }],
    ['a terminal without a known width', { isTTY: true }, {}, { width: 80, colour: true }],
    ['a pipe has no width', {}, {}, { width: Number.POSITIVE_INFINITY, colour: false }],
    ['a pipe with COLUMNS', {}, { COLUMNS: '80' }, { width: 80, colour: false }],
    ['NO_COLOR', terminal, { NO_COLOR: '1' }, { width: 132, colour: false }],
    ['an empty NO_COLOR is ignored', terminal, { NO_COLOR: '' }, { width: 132, colour: true }],
    ['a dumb terminal', terminal, { TERM: 'dumb' }, { width: 132, colour: false }],
    ['nonsense in COLUMNS', terminal, { COLUMNS: 'x' }, { width: 132, colour: true }],
    ['too narrow for a word', terminal, { COLUMNS: '3' }, { width: 40, colour: true }],
  ])('%s', (_what, output, env, expected) => {
    expect(screenOf(output, env)).toEqual(expected)
  })
})

test('a table that is too wide omits its optional columns, and breaks its last column', () => {
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
])('the suggestion for %j is %j', (word, expected) => {
  expect(nearest(word, ['status', 'teardown', 'config', 'release', 'reserve'])).toBe(expected)
})
