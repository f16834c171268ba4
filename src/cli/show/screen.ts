/** The output for people: its width, its colours, and how text is fitted into it. */
import { styleText } from 'node:util'
import { mayColour, type Output, standardOutput } from '../../host/streams'
import { columnsOf, cut, padTo, take } from './columns'

export interface Screen {
  /** Columns; Infinity if nothing is to be cut or wrapped, as in a pipe. */
  readonly width: number
  readonly colour: boolean
  /** Whether longer cells are shown than fit at a glance. */
  readonly wide?: boolean
}

export type Style = 'green' | 'yellow' | 'red' | 'bold' | 'gray'
export type Paint = (style: Style, text: string) => string

/** A narrower screen could not hold a word. */
const LEAST_WIDTH = 40

/**
 * The screen of an output. Its width is COLUMNS, else that of the terminal.
 * @param env NO_COLOR (no-color.org) and TERM=dumb disable colour
 */
export function screenOf(output: Output = standardOutput(), env: NodeJS.ProcessEnv = process.env): Screen {
  const asked = Number(env['COLUMNS'])
  const width = asked > 0 ? asked : output.isTTY === true ? (output.columns ?? 80) : Number.POSITIVE_INFINITY
  return { width: Math.max(LEAST_WIDTH, width), colour: mayColour(output, env) }
}

export const painter =
  ({ colour }: Screen): Paint =>
  (style, text) =>
    colour ? styleText(style, text, { validateStream: false }) : text

/** Most columns of one text. Our own texts are shorter; text of others may have any length. */
const MOST_TEXT = 4096

/** Text beside a title, wrapped and indented. No line is wider than `width`, however long a word is. */
export function hang(title: string, text: string, width: number, indent: number): string[] {
  const room = Math.max(1, width - indent)
  const lines: string[] = []
  let line = padTo(title, indent)
  let taken = 0
  const append = (text: string): void => {
    line += text
    taken += columnsOf(text)
  }
  const breakLine = (): void => {
    lines.push(line)
    line = ' '.repeat(indent)
    taken = 0
  }
  for (const [place, word] of cut(text, MOST_TEXT).split(' ').entries()) {
    if (place > 0 && taken + 1 + columnsOf(word) > room) breakLine()
    else if (place > 0) append(' ')
    let rest = word
    while (columnsOf(rest) > room) {
      const piece = take(rest, room) || rest
      append(piece)
      rest = rest.slice(piece.length)
      if (rest !== '') breakLine()
    }
    append(rest)
  }
  return [...lines, line]
}

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  /** Whether the column is left out if the screen is too narrow; the first such column goes first. */
  readonly spare?: boolean
  readonly style?: (row: Row) => Style | undefined
}

/** Columns kept for the last cell, which is wrapped, before another column is left out. */
const LEAST_LAST = 24
const GAP = 2
/** Most columns of other cells. The longest regular one, the key of a lease of both families, has 62. */
const MOST_CELL = { usual: 64, wide: 256 }
/** Columns to which such a cell is cut at most if the screen is too narrow. */
const LEAST_CELL = 18

/**
 * A table. The last column gets the remaining width and is wrapped. No line is wider than the screen, and no
 * cell pushes the others off it.
 */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  screen: Screen,
): string[] {
  const paint = painter(screen)
  const mostCell = screen.wide === true ? MOST_CELL.wide : MOST_CELL.usual
  const measured = columns.map((column, place) => {
    const isLast = place === columns.length - 1
    const cells = rows.map((row) => (isLast ? column.cell(row) : cut(column.cell(row), mostCell)))
    const width = cells.reduce((most, cell) => Math.max(most, columnsOf(cell)), column.title.length)
    return { ...column, cells, width, isLast }
  })
  const needed = (): number =>
    measured.reduce((sum, { width, isLast }) => sum + (isLast ? Math.min(width, LEAST_LAST) : width + GAP), 0)
  while (needed() > screen.width) {
    const spare = measured.findIndex((column) => column.spare === true)
    if (spare === -1) break
    measured.splice(spare, 1)
  }
  for (let over = needed() - screen.width; over > 0; over = needed() - screen.width) {
    const [widest] = measured.filter(({ isLast }) => !isLast).sort((a, b) => b.width - a.width)
    if (widest === undefined || widest.width <= LEAST_CELL) break
    widest.width = Math.max(LEAST_CELL, widest.width - over)
  }
  const indent = measured.slice(0, -1).reduce((sum, { width }) => sum + width + GAP, 0)
  const titles = measured.map(({ title, width, isLast }) => (isLast ? title : title.padEnd(width + GAP)))
  return [
    paint('bold', titles.join('').trimEnd()),
    ...rows.flatMap((row, place) => {
      const [first = '', ...more] = hang('', measured.at(-1)?.cells[place] ?? '', screen.width, indent)
      const fixed = measured.slice(0, -1).map(({ cells, width, style }) => {
        const text = cut(cells[place] ?? '', width)
        const colour = style?.(row)
        return padTo(colour === undefined ? text : paint(colour, text), width + GAP)
      })
      return [`${fixed.join('')}${first.slice(indent)}`.trimEnd(), ...more]
    }),
  ]
}

/** `3 d 4 h`, `5 min 12 s`: the two largest units. */
export function duration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
    [1, 's'],
  ]
  const start = units.findIndex(([size]) => seconds >= size)
  if (start === -1) return '0 s'
  let rest = seconds
  const parts = units.slice(start, start + 2).flatMap(([size, unit]) => {
    const count = Math.floor(rest / size)
    rest -= count * size
    return count === 0 ? [] : [`${count} ${unit}`]
  })
  return parts.join(' ')
}
