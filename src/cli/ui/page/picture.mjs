// @ts-check
/** The hosts as a picture: this host, and from it a line to each group of others, the worst first. */
import { byId, grouped, make, setAttribute, setText, showList } from './dom.mjs'
import { cellOf, known } from './store.mjs'

/** @typedef {import('./store.mjs').Row} Row */
/** @typedef {import('../document').Head['groups'][number]} Group */
/** How large a host is drawn. @typedef {'links' | 'cards' | 'names' | 'tiles'} Size */

/** Up to so many hosts, each has a line of its own. */
const MOST_LINKS = 8
/** Up to so many hosts, each is a card. */
const MOST_CARDS = 36
/** Groups that are not larger have cards or names although there are more hosts. */
const MOST_TROUBLE = 24
/** With more hosts than these, tiles are smaller. */
const MANY = 2000
/** The word for packets that are not encrypted. */
const CLEAR = 'clear'
/** Bounds of the shades of a tile, in milliseconds. */
const SHADES = [1, 10, 100]

/** @param {readonly Row[]} rows those to draw @param {(row: Row) => void} open */
export function drawPicture(rows, open) {
  const { head } = known
  if (head === undefined) return
  /** @type {Map<string, Row[]>} */
  const members = new Map()
  for (const row of rows) members.set(row.group, [...(members.get(row.group) ?? []), row])
  const parts = head.groups.flatMap((group) => {
    const found = members.get(group.key)
    return found === undefined ? [] : [{ group, rows: found, size: sizeOf(group, found, rows.length) }]
  })
  showList(byId('picture'), ['self', 'groups'], String, (key) =>
    key === 'self' ? make('div', { class: 'self' }) : make('div', { class: 'groups' }),
  )
  const [self, groups] = byId('picture').children
  if (self === undefined || groups === undefined) return
  drawSelf(self, head)
  setAttribute(groups, 'data-empty', parts.length === 0 ? '' : undefined)
  showList(
    groups,
    parts,
    ({ group, size }) => `${group.key} ${size}`,
    ({ group, size }) => createGroup(group, size, open),
    (element, part) => drawGroup(element, part),
  )
  setAttribute(groups, 'data-many', rows.length > MANY ? '' : undefined)
  const hasTiles = parts.some(({ size }) => size === 'tiles')
  drawLegend(
    hasTiles && rows.some(({ rttMs }) => rttMs !== undefined),
    hasTiles && rows.some((row) => cellOf(row, 'ENCRYPTION') === CLEAR),
  )
}

/** @param {Group} group @param {Row[]} rows @param {number} all @returns {Size} */
function sizeOf({ level }, rows, all) {
  if (all <= MOST_LINKS) return 'links'
  if (all <= MOST_CARDS) return 'cards'
  if (rows.length > MOST_TROUBLE) return 'tiles'
  return level === 'bad' ? 'cards' : level === 'warn' ? 'names' : 'tiles'
}

/** @param {Element} element @param {import('../document').Head} head */
function drawSelf(element, { self, verdict }) {
  setAttribute(element, 'data-level', verdict.level)
  const lines = [
    { key: 'name', text: self.name },
    { key: 'what', text: 'this host' },
    ...self.subnets.flatMap(({ subnet, publicIp }) => [
      { key: `subnet ${subnet}`, text: subnet },
      { key: `ip ${publicIp}`, text: publicIp },
    ]),
    ...(self.mtu === undefined ? [] : [{ key: 'mtu', text: `MTU ${self.mtu}` }]),
  ]
  showList(
    element,
    lines,
    ({ key }) => key,
    ({ key }) => make('p', { class: key.split(' ')[0] }),
    (line, { text }) => setText(line, text),
  )
}

/** @param {Group} group @param {Size} size @param {(row: Row) => void} open */
function createGroup(group, size, open) {
  const title = `group-${group.key}-${size}`
  const items = make('div', { class: 'items', role: 'group', 'aria-labelledby': title })
  items.addEventListener('click', ({ target }) => {
    const row = target instanceof Element ? rowAt(target) : undefined
    if (row !== undefined) open(row)
  })
  items.addEventListener('keydown', (event) => moveFocus(items, event))
  items.addEventListener('focusin', ({ target }) => {
    if (target instanceof HTMLElement) setStop(items, target)
  })
  return make(
    'section',
    { class: `group ${size}`, 'data-level': group.level, 'aria-labelledby': title },
    make(
      'div',
      { class: 'head' },
      make(
        'h3',
        { id: title },
        make('span', { class: 'sign', 'aria-hidden': 'true' }),
        make('span', { class: 'title' }),
      ),
      make('p', { class: 'about' }, group.about),
    ),
    items,
  )
}

/** @param {HTMLElement} element @param {{ group: Group, rows: Row[], size: Size }} part */
function drawGroup(element, { group, rows, size }) {
  const [title] = element.getElementsByClassName('title')
  const [items] = element.getElementsByClassName('items')
  if (title === undefined || items === undefined) return
  setText(title, `${grouped(rows.length)} ${group.title}`)
  showList(
    items,
    rows,
    ({ id }) => id,
    () => make('button', { type: 'button', class: CLASSES[size], tabindex: '-1' }),
    (button, row) => {
      rowsOf.set(button, row)
      setAttribute(button, 'data-level', group.level)
      setAttribute(button, 'aria-label', wordsOf(row, group))
      if (size === 'tiles') drawTile(button, row, group)
      else if (size === 'names') drawName(button, row)
      else drawCard(button, row, size)
    },
  )
  const stop = items.querySelector('[tabindex="0"]') ?? items.firstElementChild
  if (stop instanceof HTMLElement) setStop(items, stop)
}

const CLASSES = { links: 'card', cards: 'card', names: 'name-tag', tiles: 'tile' }

/** @type {WeakMap<Element, Row>} */
const rowsOf = new WeakMap()

/** @param {Element} element */
function rowAt(element) {
  const button = element.closest('button')
  return button === null ? undefined : rowsOf.get(button)
}

/** What is said of a host in one line. @param {Row} row @param {Group} group */
const wordsOf = (row, group) =>
  [
    cellOf(row, 'SUBNET'),
    ipOf(row),
    group.title,
    cellOf(row, 'RTT'),
    mtuOf(row),
    cellOf(row, 'ENCRYPTION'),
    cellOf(row, 'WHY'),
  ]
    .filter((text) => text !== '')
    .join(', ')

/** Of a lease that names none, nothing. @param {Row} row */
const ipOf = (row) => cellOf(row, 'PUBLIC IP').replace(/^-$/, '')

/** @param {Row} row */
const mtuOf = (row) => {
  const mtu = cellOf(row, 'MTU')
  return mtu === '' ? '' : `MTU ${mtu}`
}

/** @param {HTMLElement} button @param {Row} row @param {Group} group */
function drawTile(button, row, group) {
  setAttribute(button, 'data-shade', shadeOf(row, group))
  setAttribute(button, 'data-lock', cellOf(row, 'ENCRYPTION') || undefined)
  setAttribute(button, 'title', wordsOf(row, group))
}

/** @param {Row} row @param {Group} group */
function shadeOf({ rttMs }, { level }) {
  if (rttMs === undefined || level !== 'good') return undefined
  const place = SHADES.findIndex((bound) => rttMs < bound)
  return String(place === -1 ? SHADES.length : place)
}

/** @param {HTMLElement} button @param {Row} row */
function drawName(button, row) {
  const figures = mtuOf(row) === '' ? cellOf(row, 'WHY') : mtuOf(row)
  button.replaceChildren(
    make('span', { class: 'host' }, cellOf(row, 'SUBNET')),
    make('span', { class: 'figures' }, figures || cellOf(row, 'RTT')),
  )
}

/** @param {HTMLElement} button @param {Row} row @param {Size} size */
function drawCard(button, row, size) {
  const lock = cellOf(row, 'ENCRYPTION')
  const figures = [cellOf(row, 'RTT'), mtuOf(row)].filter((text) => text !== '').join(', ')
  const why = cellOf(row, 'WHY')
  const box = make(
    'span',
    { class: 'box' },
    make('span', { class: 'host' }, cellOf(row, 'SUBNET')),
    make('span', { class: 'ip' }, ipOf(row)),
    ...(why === '' ? [] : [make('span', { class: 'why' }, why)]),
  )
  const over = make('span', { class: 'over' }, figures)
  const under = make('span', { class: 'under', 'data-lock': lock || undefined }, lock)
  if (size === 'links') {
    const line = make('span', { class: 'line', 'aria-hidden': 'true' })
    button.replaceChildren(make('span', { class: 'wire' }, over, line, under), box)
  } else {
    box.append(make('span', { class: 'figures' }, over, under))
    button.replaceChildren(box)
  }
}

/** @param {boolean} hasShades @param {boolean} hasClear */
function drawLegend(hasShades, hasClear) {
  const shades = ['', ...SHADES].map((from, place) => {
    const to = SHADES[place]
    return { text: to === undefined ? `${from} ms and more` : `below ${to} ms`, shade: String(place) }
  })
  /** @type {{ text: string, shade?: string, lock?: string }[]} */
  const parts = [
    ...(hasShades ? [{ text: 'RTT' }, ...shades] : []),
    ...(hasClear ? [{ text: CLEAR, shade: '1', lock: CLEAR }] : []),
  ]
  byId('legend').hidden = parts.length === 0
  showList(
    byId('legend'),
    parts,
    ({ text }) => text,
    ({ text, shade, lock }) =>
      make('span', {}, ...(shade === undefined ? [] : [make('span', tileLike(shade, lock))]), text),
  )
}

/** @param {string} shade @param {string | undefined} lock */
const tileLike = (shade, lock) => ({
  class: 'tile',
  'data-level': 'good',
  'data-shade': shade,
  'data-lock': lock,
  'aria-hidden': 'true',
})

/**
 * One host of a group takes part in the order of the Tab key.
 * @param {Element} items
 * @param {HTMLElement} chosen
 */
function setStop(items, chosen) {
  for (const other of items.querySelectorAll('[tabindex="0"]'))
    if (other !== chosen) other.setAttribute('tabindex', '-1')
  setAttribute(chosen, 'tabindex', '0')
}

/**
 * The arrow keys, Home and End go from host to host.
 * @param {HTMLElement} items
 * @param {KeyboardEvent} event
 */
function moveFocus(items, event) {
  const buttons = [...items.children]
  const here = buttons.indexOf(/** @type {Element} */ (document.activeElement))
  const first = buttons[0]
  if (here === -1 || !(first instanceof HTMLElement)) return
  const top = first.offsetTop
  const end = buttons.findIndex((each) => each instanceof HTMLElement && each.offsetTop !== top)
  const perLine = end === -1 ? buttons.length : end
  const steps = /** @type {Record<string, number>} */ ({
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -perLine,
    ArrowDown: perLine,
    Home: -here,
    End: buttons.length - 1 - here,
  })
  const step = steps[event.key]
  const target = buttons[here + (step ?? 0)]
  if (step === undefined || !(target instanceof HTMLElement)) return
  event.preventDefault()
  target.focus()
}
