// @ts-check
/** The hosts as a table: sorted, and a part of it at a time. */
import { byId, grouped, make, makeTime, setAttribute, setText, showList } from './dom.mjs'
import { known, sorted, view } from './store.mjs'

/** @typedef {import('./store.mjs').Row} Row */

/** Rows that are shown at a time. */
const MOST_ROWS = 50

/**
 * @param {readonly Row[]} rows those that the filter lets through
 * @param {(row: Row) => void} open
 * @param {() => void} redraw
 */
export function drawTable(rows, open, redraw) {
  const { head } = known
  if (head === undefined) return
  view.first = Math.max(0, Math.min(view.first, (Math.ceil(rows.length / MOST_ROWS) - 1) * MOST_ROWS))
  drawTitles(head.columns, redraw)
  const shown = sorted([...rows]).slice(view.first, view.first + MOST_ROWS)
  showList(
    byId('body'),
    shown,
    ({ id }) => `${head.columns.length} ${id}`,
    (row) => createRow(row, open),
    (element, row) => drawRow(element, row, head.columns),
  )
  setAttribute(byId('table'), 'aria-rowcount', String(rows.length + 1))
  byId('scroll').hidden = rows.length === 0
  drawRange(rows.length)
  const empty = byId('empty')
  empty.hidden = rows.length > 0
  setText(empty, head.unknown ?? (known.rows.size === 0 ? 'no other host' : 'no host matches'))
}

/** @param {number} all */
function drawRange(all) {
  const last = Math.min(all, view.first + MOST_ROWS)
  const of = all === known.rows.size ? '' : ` of ${grouped(known.rows.size)}`
  const part = all > MOST_ROWS ? `${grouped(view.first + 1)} to ${grouped(last)} of ` : ''
  setText(byId('range'), all === 0 ? '' : `${part}${grouped(all)}${part === '' ? of : ''}`)
  const isLong = all > MOST_ROWS
  for (const [id, isEnd] of /** @type {const} */ ([
    ['previous', view.first === 0],
    ['next', last >= all],
  ])) {
    const button = byId(id)
    button.hidden = !isLong
    // Not disabled: that would take the focus away.
    setAttribute(button, 'aria-disabled', isEnd ? 'true' : undefined)
  }
}

/** Goes to another part of the table. @param {1 | -1} step @param {number} all rows */
export function turn(step, all) {
  const first = view.first + step * MOST_ROWS
  if (first >= 0 && first < all) view.first = first
}

/** @param {readonly string[]} columns @param {() => void} redraw */
function drawTitles(columns, redraw) {
  showList(
    byId('titles'),
    columns.map((title) => ({ title })),
    ({ title }) => title,
    ({ title }) => {
      const button = make('button', { type: 'button' }, title)
      button.addEventListener('click', () => {
        if (view.sort !== title) [view.sort, view.isDescending] = [title, false]
        else if (!view.isDescending) view.isDescending = true
        else [view.sort, view.isDescending] = ['', false]
        view.first = 0
        redraw()
      })
      return make('th', { scope: 'col', 'data-column': title }, button)
    },
    (element, { title }) => {
      const direction = view.isDescending ? 'descending' : 'ascending'
      setAttribute(element, 'aria-sort', view.sort === title ? direction : undefined)
    },
  )
}

/** @type {WeakMap<Element, Row>} */
const tableRows = new WeakMap()

/** @param {Row} first @param {(row: Row) => void} open */
function createRow(first, open) {
  const element = make('tr')
  element.addEventListener('click', () => open(tableRows.get(element) ?? first))
  return element
}

/** @param {HTMLElement} element @param {Row} row @param {readonly string[]} columns */
function drawRow(element, row, columns) {
  tableRows.set(element, row)
  showList(
    element,
    columns.map((title, place) => ({ title, text: row.cells[place] ?? '', level: row.levels[place] })),
    ({ title }) => title,
    ({ title }) =>
      title === 'SUBNET'
        ? make('th', { scope: 'row', 'data-column': title }, make('button', { type: 'button' }))
        : make('td', { 'data-column': title }, make('span')),
    (cell, { title, text, level }) => {
      const inner = cell.firstElementChild
      if (inner === null) return
      if (title === 'ANSWERED') inner.replaceChildren(...(text === '' ? [] : [makeTime(text)]))
      else setText(inner, text)
      setAttribute(inner, 'data-level', level)
    },
  )
}
