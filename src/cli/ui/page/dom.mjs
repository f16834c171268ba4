// @ts-check
/** Elements, made and kept without any HTML in text: whatever a peer calls itself stays text. */

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page has no ${id}`)
  return found
}

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | undefined>} [attributes] those without a value are left out
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** @param {Element} element @param {string} name @param {string | undefined} value */
export function setAttribute(element, name, value) {
  if (value === undefined) element.removeAttribute(name)
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value)
}

/** @type {WeakMap<Element, Map<string, { element: HTMLElement, item: unknown }>>} */
const kept = new WeakMap()

/**
 * Makes the children of an element those of a list. Elements stay where their keys stay, and so does the
 * focus in them. An item that is the same object as before is not drawn again.
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} keyOf unique in the list
 * @param {(item: T) => HTMLElement} create
 * @param {(element: HTMLElement, item: T) => void} [update]
 */
export function showList(parent, items, keyOf, create, update = () => {}) {
  const before = kept.get(parent) ?? new Map()
  const after = new Map()
  const focused = document.activeElement
  const keys = new Set(items.map(keyOf))
  // First, so that what stays is not moved for it.
  for (const [key, { element }] of before) if (!keys.has(key)) element.remove()
  let next = parent.firstElementChild
  for (const item of items) {
    const key = keyOf(item)
    const old = before.get(key)
    const element = old?.element ?? create(item)
    if (old?.item !== item) update(element, item)
    after.set(key, { element, item })
    if (element === next) next = element.nextElementSibling
    else parent.insertBefore(element, next)
  }
  kept.set(parent, after)
  // An element that is moved loses the focus.
  if (focused instanceof HTMLElement && focused !== document.activeElement && parent.contains(focused))
    focused.focus({ preventScroll: true })
}

/** @param {string} iso @returns {string} the time of day, and the date where it is not today's */
export function clock(iso) {
  const date = new Date(iso)
  if (Number.isNaN(date.getTime())) return iso
  const two = (/** @type {number} */ number) => String(number).padStart(2, '0')
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')
  const isToday = date.toDateString() === new Date().toDateString()
  return isToday ? time : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`
}

/** @param {string} iso */
export const makeTime = (iso) => make('time', { datetime: iso }, clock(iso))

/** @param {number} number */
export const grouped = (number) => number.toLocaleString('en')
