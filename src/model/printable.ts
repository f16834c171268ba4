/**
 * Makes foreign text safe to show. Whoever writes to etcd, names an interface or sets a variable chooses text
 * that appears on an operator's terminal, in a log and in systemd. That text must not control a terminal,
 * hide characters, or change the reading order (Unicode TR 36, 39).
 */

/**
 * Characters that are never shown as they are: control and format characters, lone surrogates, private use,
 * unassigned (`\p{C}`); line and paragraph separators; blanks other than the space; invisible characters
 * (Default_Ignorable_Code_Point includes variation selectors and fillers; U+2800 is Braille's blank).
 */
const UNSHOWN = String.raw`[\p{C}\p{Zl}\p{Zp}\p{DI}\u2800]|(?! )\p{Zs}`

/**
 * Combining marks a letter may carry. More marks, or one without a letter, would be drawn over neighbouring
 * text.
 */
const MOST_MARKS = 4

const SCAN = new RegExp(
  String.raw`((?!\p{DI})\p{L}(?:(?!\p{DI})\p{M}){1,${MOST_MARKS}})|\p{M}|${UNSHOWN}`,
  'gu',
)

/** Most text is plain ASCII and needs no scan. */
const PLAIN = /^[\x20-\x7e]*$/

/** The text on one line, with unsafe characters spelled out: `\x1b`, `\u202e`, `\u{e0041}`. */
export function printable(text: string): string {
  if (PLAIN.test(text)) return text
  return text.replace(SCAN, (found: string, letter: string | undefined) => letter ?? spell(found))
}

function spell(character: string): string {
  const code = character.codePointAt(0) ?? 0
  const digits = code.toString(16)
  if (code <= 0xff) return `\\x${digits.padStart(2, '0')}`
  return code <= 0xffff ? `\\u${digits.padStart(4, '0')}` : `\\u{${digits}}`
}

/** {@link printable} for text of several lines: line ends stay. */
export const printableLines = (text: string): string =>
  PLAIN.test(text) ? text : text.split('\n').map(printable).join('\n')

/** Plain data with {@link printable} applied to every text in it, including field names. */
export function printableData<T>(data: T): T
export function printableData(data: unknown): unknown {
  if (typeof data === 'string') return printable(data)
  if (Array.isArray(data)) return data.map((each) => printableData<unknown>(each))
  if (data instanceof Set) return new Set([...data].map((each) => printableData<unknown>(each)))
  if (data instanceof Map)
    return new Map(
      [...data].map(([key, each]) => [printableData<unknown>(key), printableData<unknown>(each)]),
    )
  if (typeof data !== 'object' || data === null) return data
  if (Object.getPrototypeOf(data) !== Object.prototype) return data
  return Object.fromEntries(
    Object.entries(data).map(([key, each]) => [printable(key), printableData<unknown>(each)]),
  )
}

/** Unsafe characters in JSON text. Except for line ends, they occur within strings only. */
const UNSHOWN_IN_JSON = new RegExp(String.raw`(?!\n)(?:${UNSHOWN}|\p{M})`, 'gu')

/**
 * JSON that is exact for programs and safe on a terminal: characters that {@link printable} spells out are
 * escaped (`\u202e`), so a JSON parser gets the exact text.
 */
export function toJson(data: unknown, indent?: number): string {
  return escapeJson(JSON.stringify(data, undefined, indent))
}

/** The escaping of {@link toJson}, for text that is JSON already. The text must be JSON. */
export const escapeJson = (json: string): string =>
  PLAIN.test(json) ? json : json.replace(UNSHOWN_IN_JSON, utf16Escape)

const utf16Escape = (character: string): string =>
  Array.from({ length: character.length }, (_, place) => unitEscape(character.charCodeAt(place))).join('')

const unitEscape = (unit: number): string => `\\u${unit.toString(16).padStart(4, '0')}`
