/** Control characters, which text from etcd may hold and a terminal or a log reader must not get. */
const CONTROL = /\p{Cc}/gu

/** The text on one line, its control characters spelled out: `\x1b`. */
export const printable = (text: string): string =>
  text.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
