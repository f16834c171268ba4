/** Regular expressions as flannel takes them (Go's RE2 syntax) in the engine we have. */

/** POSIX classes inside brackets, which RE2 has and JavaScript has not. */
const POSIX_CLASSES: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  digit: '0-9',
  lower: 'a-z',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
}

/** What JavaScript would take for something else without a word: \Q..\E, \C, \pN, flags inside the pattern. */
const UNTRANSLATABLE = /\\[QECpP]|\(\?[imsU-]+[:)]/

/**
 * Translates what the two write differently: flags at the beginning, `\A` and `\z`, named groups, POSIX classes.
 * @throws {SyntaxError} when the pattern is wrong, or uses what only RE2 has
 */
export function compileGoRegex(pattern: string): RegExp {
  const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(pattern) ?? []
  const unknown = UNTRANSLATABLE.exec(rest)
  if (unknown !== null) throw new SyntaxError(`${unknown[0]} is not supported here`)
  const translated = rest
    .replace(/\\[Az]|\\./gs, (sequence) => ({ '\\A': '(?<![^])', '\\z': '(?![^])' })[sequence] ?? sequence)
    .replaceAll('(?P<', '(?<')
    .replace(/\[:(\w+):\]/g, (whole, name: string) => POSIX_CLASSES[name] ?? whole)
  return new RegExp(translated, flags)
}
