// @ts-check
/** Brings it together: news come in, and what they change is drawn once in a frame. */
import { drawDetails, openDetails } from './details.mjs'
import { byId, grouped, make, setAttribute, setText, showList } from './dom.mjs'
import { drawPicture } from './picture.mjs'
import { asOf, drawAllEvents, drawStatus, events, showOlder } from './status.mjs'
import { filtered, known, take, view } from './store.mjs'
import { drawTable, turn } from './table.mjs'

/** Milliseconds without news after which the page says so: the server tells something each few seconds. */
const SILENT = 20_000

/** @type {import('../html').PageData} */
const data = JSON.parse(byId('data').textContent ?? '')

/** How the page is connected. @type {'connecting' | 'live' | 'lost' | 'refused' | 'snapshot'} */
let connection = data.kind === 'snapshot' ? 'snapshot' : 'connecting'
let newsAt = performance.now()
let isDue = false

function redraw() {
  if (isDue) return
  isDue = true
  // Not requestAnimationFrame alone: a page in the background would gather all news until it is looked at.
  if (document.hidden) setTimeout(draw, 1000)
  else requestAnimationFrame(draw)
}

function draw() {
  isDue = false
  drawStatus(liveness())
  drawChips()
  const rows = filtered()
  drawPicture(rows, openDetails)
  drawTable(rows, openDetails, redraw)
  drawAllEvents()
  drawDetails()
  setAttribute(document.documentElement, 'data-unknown', known.head === undefined ? '' : undefined)
  setAttribute(document.documentElement, 'data-drawn', String(known.rows.size))
}

/** @returns {{ text: string, level: string }} */
function liveness() {
  const at = known.head === undefined ? '' : asOf(known.head.at)
  const last = at === '' ? '' : `; this is of ${at}`
  if (connection === 'snapshot') return { text: `snapshot of ${at}`, level: 'plain' }
  if (connection === 'refused')
    return {
      text: `this address is no longer served: open the one that overlayctl ui has printed last${last}`,
      level: 'bad',
    }
  if (connection === 'lost')
    return { text: `overlayctl ui does not answer; trying again${last}`, level: 'bad' }
  if (known.head === undefined)
    return { text: known.silence === undefined ? 'connecting' : 'trying again', level: 'plain' }
  return known.silence === undefined
    ? { text: `live, as of ${at}`, level: 'good' }
    : { text: `no news since ${at}; trying again`, level: 'bad' }
}

function drawChips() {
  const groups = known.head?.groups ?? []
  for (const key of view.groups) if (!groups.some((group) => group.key === key)) view.groups.delete(key)
  byId('show-only').hidden = groups.length < 2
  showList(
    byId('chips'),
    groups.map((group) => ({ ...group })),
    ({ key }) => key,
    ({ key, level, about }) => {
      const button = make(
        'button',
        { type: 'button', class: 'chip', 'data-level': level, title: about },
        make('span', { class: 'sign', 'aria-hidden': 'true' }),
        make('span'),
      )
      button.addEventListener('click', () => {
        if (!view.groups.delete(key)) view.groups.add(key)
        view.first = 0
        redraw()
      })
      return button
    },
    (button, { key, title, count }) => {
      setAttribute(button, 'aria-pressed', String(view.groups.has(key)))
      if (button.lastElementChild !== null) setText(button.lastElementChild, `${grouped(count)} ${title}`)
    },
  )
}

function follow() {
  const source = new EventSource('events')
  source.addEventListener('message', ({ data: text }) => {
    connection = 'live'
    newsAt = performance.now()
    take(JSON.parse(text))
    redraw()
  })
  source.addEventListener('error', () => {
    // A browser does not connect again by itself where it was refused.
    connection = source.readyState === EventSource.CLOSED ? 'refused' : 'lost'
    redraw()
  })
  setInterval(() => {
    if (connection !== 'live' || performance.now() - newsAt < SILENT) return
    connection = 'lost'
    redraw()
  }, 1000)
}

byId('filter').addEventListener('input', ({ target }) => {
  if (target instanceof HTMLInputElement) view.text = target.value
  view.first = 0
  redraw()
})
byId('grave').addEventListener('change', ({ target }) => {
  if (target instanceof HTMLInputElement) events.isGraveOnly = target.checked
  redraw()
})
byId('older').addEventListener('click', () => {
  showOlder()
  redraw()
})
for (const [id, step] of /** @type {const} */ ([
  ['previous', -1],
  ['next', 1],
])) {
  byId(id).addEventListener('click', () => {
    turn(step, filtered().length)
    redraw()
  })
}

if (data.kind === 'snapshot') {
  take({ kind: 'page', page: data.document })
  take({ kind: 'events', isAll: true, events: data.events })
} else follow()
redraw()
