import fc from 'fast-check'
import { columnsOf, cut, padTo, take } from '../../../../src/cli/show/columns'
import { hang, renderTable } from '../../../../src/cli/show/screen'
import { printable } from '../../../../src/model/printable'
import { anyUnicode } from '../../support/text'

test.each([
  ['abc', 3],
  ['東京', 4],
  ['e\u0301', 1],
  ['\u{1f600}', 2],
  ['ｶﾅ', 2],
  ['한글', 4],
  ['\u001b[31mred\u001b[39m', 3],
  ['', 0],
])('%j takes %i columns', (text, columns) => expect(columnsOf(text)).toBe(columns))

test('a shortened text fits, and ends with a mark', () => {
  expect(cut('abcdef', 6)).toBe('abcdef')
  expect(cut('abcdefg', 6)).toBe('abc...')
  expect(cut('東京東京', 6)).toBe('東...')
  expect(take('東京', 3)).toBe('東')
  expect(padTo('東', 4)).toBe('東  ')
  fc.assert(
    fc.property(anyUnicode.map(printable), fc.integer({ min: 3, max: 50 }), (text, columns) => {
      expect(columnsOf(cut(text, columns))).toBeLessThanOrEqual(columns)
    }),
  )
})

const screen = (width: number) => ({ width, colour: false })

test('a cell of 5,000 characters is shortened, and the other columns stay visible', () => {
  const columns = [
    { title: 'SUBNET', cell: (row: string) => row },
    { title: 'STATE', cell: () => 'ok' },
    { title: 'WHY', cell: () => '' },
  ]
  const rows = ['10.5.1.0/24', 'k'.repeat(5000)]
  for (const width of [40, 60, 80, 120]) {
    for (const line of renderTable(columns, rows, screen(width)))
      expect(line.length).toBeLessThanOrEqual(width)
  }
  for (const line of renderTable(columns, rows, screen(Number.POSITIVE_INFINITY)))
    expect(line.length).toBeLessThanOrEqual(120)
  expect(renderTable(columns, rows, screen(60))[2]).toMatch(/^k+\.\.\. +ok$/)
})

test('columns are aligned for any content of the cells', () => {
  const columns = [
    { title: 'A', cell: (row: string) => row },
    { title: 'B', cell: () => '|' },
  ]
  const [, ...lines] = renderTable(columns, ['x', '東京', 'e\u0301e'], screen(80))
  expect(lines.map((line) => columnsOf(line))).toEqual([7, 7, 7])
})

test('a word longer than the line is broken, without loss', () => {
  const lines = hang('why', `a ${'k'.repeat(95)} b`, 40, 5)
  expect(lines.map((line) => line.length)).toEqual([6, 40, 40, 32])
  expect(lines.join('').replaceAll(' ', '')).toBe(`whya${'k'.repeat(95)}b`)
})
