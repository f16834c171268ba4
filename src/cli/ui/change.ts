/** What differs between two documents of the page: so that open pages get little. */
import type { Head, PageDocument, Row } from './document'

export interface Change {
  readonly head: Head
  /** The rows that are new, or other than before. */
  readonly rows: readonly Row[]
  /** Ids of the rows that are gone. */
  readonly gone: readonly string[]
}

/**
 * Seconds by which the time of a last answer may differ although there was no new answer: the daemon tells
 * whole seconds since then, and the reading takes time.
 */
const CLOCK = 2

/**
 * The change from what a page shows to the next document.
 * @returns the change, and what the page shows with it: rows that it is not told of stay as they were
 */
export function changeBetween(
  shown: PageDocument,
  next: PageDocument,
): { readonly change: Change; readonly shown: PageDocument } {
  const known = new Map(shown.rows.map((row) => [row.id, row]))
  const told: Row[] = []
  const rows = next.rows.map((row) => {
    const old = known.get(row.id)
    known.delete(row.id)
    if (old !== undefined && isSame(old, row)) return old
    told.push(row)
    return row
  })
  return { change: { head: next.head, rows: told, gone: [...known.keys()] }, shown: { ...next, rows } }
}

/** Whether a page that shows the one needs not be told of the other. */
function isSame(a: Row, b: Row): boolean {
  const moved = Math.abs((a.answeredAt ?? 0) - (b.answeredAt ?? 0))
  return moved <= CLOCK ? withoutClock(a) === withoutClock(b) : false
}

/** The text of the row without the time of the last answer, which is a cell too. */
const withoutClock = ({ answeredAt, cells, ...row }: Row): string =>
  JSON.stringify([
    row,
    answeredAt === undefined,
    cells.filter((cell) => answeredAt === undefined || cell !== isoOf(answeredAt)),
  ])

const isoOf = (seconds: number): string => new Date(seconds * 1000).toISOString()
