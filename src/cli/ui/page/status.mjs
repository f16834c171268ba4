// @ts-check
/** How this host is: the verdict, what is wrong, the lines of the status, and the events. */
import { byId, clock, make, makeTime, setAttribute, setText, showList } from './dom.mjs'
import { known } from './store.mjs'

/** Events that are shown at first, and with each request for older ones. */
const EVENTS_AT_ONCE = 50

export const events = { isGraveOnly: false, most: EVENTS_AT_ONCE }

/** @param {{ text: string, level: string }} liveness */
export function drawStatus(liveness) {
  const { head, silence } = known
  setText(byId('liveness'), liveness.text)
  setAttribute(byId('liveness'), 'data-level', liveness.level)
  const notices = [
    ...(silence === undefined ? [] : [{ level: 'bad', text: silence }]),
    ...(head?.problems ?? []).map((text) => ({
      level: head?.verdict.level === 'bad' ? 'bad' : 'warn',
      text,
    })),
    ...(head?.warnings ?? []).map((text) => ({ level: 'plain', text })),
  ]
  showList(
    byId('notices'),
    notices,
    ({ level, text }) => `${level} ${text}`,
    ({ level, text }) => make('p', { class: 'notice', 'data-level': level }, text),
  )
  setAttribute(
    document.documentElement,
    'data-stale',
    silence === undefined && liveness.level !== 'bad' ? undefined : '',
  )
  if (head === undefined) return
  const verdict = byId('verdict')
  verdict.hidden = false
  setText(verdict, head.verdict.text)
  setAttribute(verdict, 'data-level', head.verdict.level)
  setText(byId('name'), head.self.name)
  document.title = `${head.verdict.text}: ${head.self.name}, overlayd`
  showList(
    byId('facts'),
    head.facts.map(({ name, text }, place) => ({ key: `${place} ${name}`, name, text })),
    ({ key }) => key,
    ({ name }) => make('div', {}, make('dt', {}, name), make('dd')),
    (element, { text }) => {
      if (element.lastElementChild !== null) setText(element.lastElementChild, text)
    },
  )
  announce(
    [
      head.verdict.text,
      ...head.groups.flatMap(({ level, count, title }) => (level === 'good' ? [] : `${count} ${title}`)),
    ].join(', '),
  )
}

let announced = ''

/** Tells a screen reader what has changed. @param {string} text */
function announce(text) {
  if (text === announced) return
  const isFirst = announced === ''
  announced = text
  if (!isFirst) setText(byId('announcer'), text)
}

export function drawAllEvents() {
  const wanted = events.isGraveOnly
    ? known.events.filter(({ level }) => level === 'warn' || level === 'error')
    : known.events
  drawEvents(byId('events'), byId('no-events'), wanted.slice(-events.most))
  byId('older').hidden = wanted.length <= events.most
}

export function showOlder() {
  events.most += EVENTS_AT_ONCE
}

/**
 * @param {Element} list
 * @param {HTMLElement} none shown where there are none
 * @param {readonly import('./store.mjs').PageEvent[]} shown the oldest first
 */
export function drawEvents(list, none, shown) {
  none.hidden = shown.length > 0
  showList(
    list,
    [...shown].reverse(),
    ({ seq, time, kind, text }) => `${seq} ${time} ${kind} ${text}`,
    ({ time, level, kind, text }) =>
      make(
        'li',
        { 'data-level': level },
        make('div', { class: 'when' }, makeTime(time), make('span', { class: 'kind' }, kind)),
        make(
          'p',
          {},
          ...(level === 'warn' || level === 'error' ? [make('strong', {}, `${level}: `)] : []),
          text,
        ),
      ),
  )
}

/** @param {string} at */
export const asOf = (at) => clock(at)
