/** Translates regular expressions in Go's RE2 syntax, which flannel takes, to JavaScript. */

/** POSIX classes within brackets. RE2 has them, JavaScript does not. */
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

/** Syntax that JavaScript would silently read differently: \Q..\E, \C, \pN, flags within the pattern. */
const UNTRANSLATABLE = /\\[QECpP]|\(\?[imsU-]+[:)]/

/**
 * Translates the syntax in which the two differ: leading flags, `\A` and `\z`, named groups, POSIX classes.
 * @throws {SyntaxError} if the pattern is invalid or uses syntax that only RE2 has
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
