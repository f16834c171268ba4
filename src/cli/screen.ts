/** Where text for people goes: how wide it is, whether it has colour, and what fits. */
import { styleText } from 'node:util'

export interface Screen {
  /** Columns; Infinity where nothing is cut or broken, as in a pipe. */
  readonly width: number
  readonly colour: boolean
}

export type Style = 'green' | 'yellow' | 'red' | 'bold' | 'gray'
export type Paint = (style: Style, text: string) => string

/** Narrower ones could not hold a word. */
const LEAST_WIDTH = 40

interface Output {
  readonly isTTY?: boolean
  readonly columns?: number
}

/**
 * What is written to: as wide as COLUMNS says, else as the terminal is.
 * @param env NO_COLOR (no-color.org) and TERM=dumb switch colour off
 */
export function screenOf(output: Output = process.stdout, env: NodeJS.ProcessEnv = process.env): Screen {
  const asked = Number(env['COLUMNS'])
  const width = asked > 0 ? asked : output.isTTY === true ? (output.columns ?? 80) : Number.POSITIVE_INFINITY
  return { width: Math.max(LEAST_WIDTH, width), colour: mayColour(output, env) }
}

export const mayColour = ({ isTTY }: Output, env: NodeJS.ProcessEnv = process.env): boolean =>
  isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'

export const painter =
  ({ colour }: Screen): Paint =>
  (style, text) =>
    colour ? styleText(style, text, { validateStream: false }) : text

/** Text beside a title; what does not fit goes on below, indented. */
export function hang(title: string, text: string, width: number, indent: number): string[] {
  const lines: string[] = []
  let line = title.padEnd(indent)
  let empty = true
  for (const word of text.split(' ')) {
    if (!empty && line.length + 1 + word.length > width) {
      lines.push(line)
      line = ' '.repeat(indent)
      empty = true
    }
    line += empty ? word : ` ${word}`
    empty = false
  }
  return [...lines, line]
}

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  /** Left out where the screen is too narrow for all, the first of them first. */
  readonly spare?: boolean
  readonly style?: (row: Row) => Style | undefined
}

/** Columns that are kept for the last cell, which is broken into lines, before another column is left out. */
const LEAST_LAST = 24
const GAP = 2

/** A table: the last column takes what room is left, and goes on below. No line is longer than the screen is wide. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  screen: Screen,
): string[] {
  const paint = painter(screen)
  const measured = columns.map((column, place) => {
    const cells = rows.map(column.cell)
    const width = cells.reduce((most, cell) => Math.max(most, cell.length), column.title.length)
    return { ...column, cells, width, isLast: place === columns.length - 1 }
  })
  const needed = (): number =>
    measured.reduce((sum, { width, isLast }) => sum + (isLast ? Math.min(width, LEAST_LAST) : width + GAP), 0)
  while (needed() > screen.width) {
    const spare = measured.findIndex((column) => column.spare === true)
    if (spare === -1) break
    measured.splice(spare, 1)
  }
  const indent = measured.slice(0, -1).reduce((sum, { width }) => sum + width + GAP, 0)
  const titles = measured.map(({ title, width, isLast }) => (isLast ? title : title.padEnd(width + GAP)))
  return [
    paint('bold', titles.join('').trimEnd()),
    ...rows.flatMap((row, place) => {
      const [first = '', ...more] = hang('', measured.at(-1)?.cells[place] ?? '', screen.width, indent)
      const fixed = measured.slice(0, -1).map(({ cells, width, style }) => {
        const text = cells[place] ?? ''
        const colour = style?.(row)
        return `${colour === undefined ? text : paint(colour, text)}${' '.repeat(width + GAP - text.length)}`
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
  const parts = units.slice(start, start + 2).map(([size, unit]) => {
    const count = Math.floor(rest / size)
    rest -= count * size
    return `${count} ${unit}`
  })
  return parts.filter((part) => !part.startsWith('0 ')).join(' ')
}
