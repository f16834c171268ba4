// @ts-check
/** One host: all that is known of it, its round trips, and the events about it. */
import { byId, make, makeTime, setAttribute, setText, showList } from './dom.mjs'
import { historyOf } from './history.mjs'
import { drawEvents } from './status.mjs'
import { cellOf, groupOf, known } from './store.mjs'

/** @typedef {import('./store.mjs').Row} Row */

const dialog = /** @type {HTMLDialogElement} */ (byId('details'))

/** Id of the host that is shown. @type {string | undefined} */
let shown

/** @param {Row} row */
export function openDetails(row) {
  shown = row.id
  drawDetails()
  dialog.showModal()
}

byId('close').addEventListener('click', () => dialog.close())
// A click beside the dialog is one on its backdrop.
dialog.addEventListener('click', (event) => {
  if (event.target === dialog) dialog.close()
})
dialog.addEventListener('close', () => {
  // The event comes after the closing. Meanwhile a host may have been opened by the keyboard.
  if (!dialog.open) shown = undefined
})

export function drawDetails() {
  const { head } = known
  if (shown === undefined || head === undefined) return
  const row = known.rows.get(shown)
  if (row === undefined) {
    setText(byId('details-group'), 'it is not among the hosts any more')
    setAttribute(byId('details-group'), 'data-level', 'plain')
    return
  }
  const group = groupOf(row)
  setText(byId('details-title'), cellOf(row, 'SUBNET'))
  setText(byId('details-group'), group === undefined ? '' : `${group.title}: ${group.about}`)
  setAttribute(byId('details-group'), 'data-level', group?.level ?? 'plain')
  showList(
    byId('details-facts'),
    head.columns.flatMap((title, place) => {
      const text = row.cells[place] ?? ''
      return text === '' ? [] : [{ title, text, level: row.levels[place] }]
    }),
    ({ title }) => title,
    ({ title }) => make('div', {}, make('dt', {}, title), make('dd')),
    (element, { title, text, level }) => {
      const value = element.lastElementChild
      if (value === null) return
      value.replaceChildren(
        title === 'ANSWERED' ? makeTime(text) : make('span', { 'data-level': level }, text),
      )
    },
  )
  drawHistory(row)
  const names = [cellOf(row, 'SUBNET'), cellOf(row, 'PUBLIC IP')].filter((name) => name !== '-')
  const events = known.events.filter(({ about }) => about.some((name) => names.includes(name)))
  drawEvents(byId('details-events'), byId('details-no-events'), events)
}

const WIDTH = 560
const HEIGHT = 96
const EDGE = 6

/** @param {Row} row */
function drawHistory(row) {
  const samples = historyOf(row.id)
  const known = samples.flatMap(({ rttMs }) => (rttMs === undefined ? [] : [rttMs]))
  const place = byId('details-history')
  if (known.length === 0 || samples.length < 2) {
    place.replaceChildren(make('p', { class: 'empty' }, samples.length === 0 ? 'not probed' : 'none yet'))
    return
  }
  const [least, most] = [Math.min(...known), Math.max(...known)]
  const lost = samples.length - known.length
  const range = `${milliseconds(least)} to ${milliseconds(most)}`
  const words = `${range} in ${samples.length} readings, ${lost} without an answer`
  const [begin, end] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 0]
  const x = (/** @type {number} */ at) =>
    EDGE + ((at - begin) / Math.max(1, end - begin)) * (WIDTH - 2 * EDGE)
  const y = (/** @type {number} */ rtt) => HEIGHT - EDGE - (rtt / most) * (HEIGHT - 2 * EDGE)
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': words })
  picture.append(
    svg('line', { class: 'axis', x1: '0', x2: `${WIDTH}`, y1: `${HEIGHT - 1}`, y2: `${HEIGHT - 1}` }),
  )
  let path = ''
  let isBroken = true
  for (const { at, rttMs } of samples) {
    if (rttMs === undefined) {
      const [left, top] = [x(at), HEIGHT - EDGE]
      picture.append(svg('path', { class: 'lost', d: `M${left - 3} ${top - 3}l6 6m0 -6l-6 6` }))
      isBroken = true
      continue
    }
    path += `${isBroken ? 'M' : 'L'}${x(at).toFixed(1)} ${y(rttMs).toFixed(1)}`
    picture.append(svg('circle', { cx: x(at).toFixed(1), cy: y(rttMs).toFixed(1), r: '1.6' }))
    isBroken = false
  }
  picture.append(svg('path', { class: 'trace', d: path }))
  place.replaceChildren(picture, make('p', { class: 'range' }, words))
}

/** @param {number} value */
const milliseconds = (value) => `${value.toPrecision(value < 100 ? 2 : 3)} ms`

/** @param {string} tag @param {Record<string, string>} attributes */
function svg(tag, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  return element
}
