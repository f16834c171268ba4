/** The width of text on a terminal, in columns. */

/** A colour sequence as util.styleText writes it: it takes no columns. */
const COLOUR = new RegExp(`${String.fromCharCode(0x1b)}\\[\\d{1,2}m`, 'g')

/** Non-spacing and enclosing marks, which combine with the preceding character. */
const MARK = /[\p{Mn}\p{Me}]/u

/** Characters of two columns: East Asian Wide and Fullwidth (Unicode TR 11), by blocks, and emoji. */
const WIDE_BLOCKS = [
  String.raw`\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff`,
  String.raw`\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18d08}`,
  String.raw`\u{1aff0}-\u{1b2fb}\u{1f200}-\u{1f2ff}\u{20000}-\u{3fffd}`,
].join('')
const WIDE = new RegExp(String.raw`[${WIDE_BLOCKS}]|\p{Emoji_Presentation}`, 'u')

const ASCII = /^[\x20-\x7e]*$/

const widthOf = (character: string): number => (MARK.test(character) ? 0 : WIDE.test(character) ? 2 : 1)

/** @param text one line, with or without our colours */
export function columnsOf(text: string): number {
  if (ASCII.test(text)) return text.length
  let columns = 0
  for (const character of text.replaceAll(COLOUR, '')) columns += widthOf(character)
  return columns
}

export const padTo = (text: string, columns: number): string =>
  text + ' '.repeat(Math.max(0, columns - columnsOf(text)))

const ELLIPSIS = '...'

/**
 * The text, shortened with an ellipsis to at most that many columns. Without colours: they are added
 * afterwards.
 */
export function cut(text: string, columns: number): string {
  // The second test matters only if some characters are wide.
  if (text.length <= columns && columnsOf(text) <= columns) return text
  return `${take(text, Math.max(0, columns - ELLIPSIS.length))}${ELLIPSIS}`
}

/** The longest beginning of the text that fits into that many columns. */
export function take(text: string, columns: number): string {
  let room = columns
  let end = 0
  for (const character of text) {
    room -= widthOf(character)
    if (room < 0) break
    end += character.length
  }
  return text.slice(0, end)
}
