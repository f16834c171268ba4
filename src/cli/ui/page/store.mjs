// @ts-check
/** What the page knows, and what of it the filter lets through. */
import { forget, record } from './history.mjs'

/** @typedef {import('../document').Row} Row */
/** @typedef {import('../document').Head} Head */
/** @typedef {import('../document').PageEvent} PageEvent */

/** As on the server. */
const MOST_EVENTS = 1000

export const known = {
  /** @type {Head | undefined} */
  head: undefined,
  /** @type {Map<string, Row>} */
  rows: new Map(),
  /** All rows, the worst first. @type {Row[]} */
  ordered: [],
  /** The oldest first. @type {PageEvent[]} */
  events: [],
  /** Why nobody says how the host is. @type {string | undefined} */
  silence: undefined,
}

/** What is shown of it. */
export const view = {
  text: '',
  /** Keys of groups; empty for all. @type {Set<string>} */
  groups: new Set(),
  /** Title of a column; empty for the order of the groups. */
  sort: '',
  isDescending: false,
  /** Number of the first row of the table that is shown. */
  first: 0,
}

/** @param {import('../feed').News} news */
export function take(news) {
  if (news.kind === 'silence') {
    known.silence = news.why
    return
  }
  if (news.kind === 'events') {
    known.events = (news.isAll ? [...news.events] : [...known.events, ...news.events]).slice(-MOST_EVENTS)
    return
  }
  known.silence = undefined
  if (news.kind === 'page') {
    known.head = news.page.head
    known.rows = new Map(news.page.rows.map((row) => [row.id, row]))
    for (const row of news.page.rows) record(row, known.head.at)
  } else {
    known.head = news.change.head
    for (const id of news.change.gone) {
      known.rows.delete(id)
      forget(id)
    }
    for (const row of news.change.rows) {
      known.rows.set(row.id, row)
      record(row, known.head.at)
    }
    if (news.change.gone.length + news.change.rows.length === 0) return
  }
  known.ordered = inOrder([...known.rows.values()])
}

/** @param {Row[]} rows */
function inOrder(rows) {
  const ranks = new Map((known.head?.groups ?? []).map(({ key }, rank) => [key, rank]))
  const rankOf = (/** @type {Row} */ row) => ranks.get(row.group) ?? 0
  return rows.sort((a, b) => rankOf(a) - rankOf(b) || bySubnet(a, b))
}

/** @param {Row} a @param {Row} b */
const bySubnet = (a, b) => compare(a.order ?? '~', b.order ?? '~') || compare(a.id, b.id)

/** @param {string} a @param {string} b */
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

/** @param {Row} row @param {string} title @returns {string} the text in the column */
export function cellOf(row, title) {
  const place = known.head?.columns.indexOf(title) ?? -1
  return row.cells[place] ?? ''
}

/** @param {Row} row */
export const groupOf = (row) => known.head?.groups.find(({ key }) => key === row.group)

/** The rows that the filter lets through, in the order of the groups. @returns {Row[]} */
export function filtered() {
  const text = view.text.trim().toLowerCase()
  const digits = digitsOf(text)
  if (text === '' && view.groups.size === 0) return known.ordered
  return known.ordered.filter(
    (row) =>
      (view.groups.size === 0 || view.groups.has(row.group)) &&
      (text === '' || hasText(row, text) || (digits !== undefined && holds(row, digits))),
  )
}

/** @param {Row} row @param {string} text */
const hasText = (row, text) =>
  row.cells.some((cell) => cell.toLowerCase().includes(text)) ||
  (groupOf(row)?.title.toLowerCase().includes(text) ?? false)

/** @param {Row} row @param {string} digits as a row's `order` */
function holds({ order, length }, digits) {
  if (order === undefined || length === undefined || order[0] !== digits[0]) return false
  const bits = (order.length - 1) * 4
  const shift = BigInt(bits - length)
  return BigInt(`0x${order.slice(1)}`) >> shift === BigInt(`0x${digits.slice(1)}`) >> shift
}

/** @param {string} text an address, or any other text @returns {string | undefined} as a row's `order` */
function digitsOf(text) {
  const octets = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number)
  if (octets !== undefined) {
    if (octets.some((octet) => octet > 255)) return undefined
    return `4${octets.map((octet) => octet.toString(16).padStart(2, '0')).join('')}`
  }
  if (!text.includes(':') || !URL.canParse(`http://[${text}]`)) return undefined
  // The URL has the shortest form: at most one ::, and no dots.
  const [head = '', tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split('::')
  const parts = (/** @type {string} */ half) => (half === '' ? [] : half.split(':'))
  const [before, after] = [parts(head), parts(tail ?? '')]
  const between = tail === undefined ? 0 : 8 - before.length - after.length
  const all = [...before, ...Array.from({ length: between }, () => '0'), ...after]
  return `6${all.map((part) => part.padStart(4, '0')).join('')}`
}

const collator = new Intl.Collator('en', { numeric: true })

/** The rows of the table, in its order. @param {Row[]} rows @returns {Row[]} */
export function sorted(rows) {
  const { sort, isDescending } = view
  if (sort === '') return rows
  /** @type {(a: Row, b: Row) => number} */
  const order =
    sort === 'SUBNET'
      ? bySubnet
      : sort === 'RTT'
        ? (a, b) => byNumber(a.rttMs, b.rttMs)
        : sort === 'LOSS'
          ? (a, b) => byNumber(a.loss, b.loss)
          : (a, b) => byText(cellOf(a, sort), cellOf(b, sort))
  const sign = isDescending ? -1 : 1
  return [...rows].sort((a, b) => sign * order(a, b) || bySubnet(a, b))
}

/** @param {number | undefined} a @param {number | undefined} b */
const byNumber = (a, b) => (a ?? Number.MAX_VALUE) - (b ?? Number.MAX_VALUE)

/** Nothing is last. @param {string} a @param {string} b */
const byText = (a, b) => Number(a === '') - Number(b === '') || collator.compare(a, b)
