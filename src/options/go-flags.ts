/** The syntax of Go's `flag` package, which flannel's flags and their values follow. */
import { UsageError } from './usage-error'

const INTEGER = /^([+-]?)(0[xX]_?[\da-fA-F](?:_?[\da-fA-F])*|(?:0[oObB]_?)?\d(?:_?\d)*)$/

/**
 * Integers as strconv.ParseInt reads them with base 0: 10, 0x10, 0o17 or 017, 0b1, 1_000.
 * @returns undefined for another text, and for a number that JavaScript cannot count with
 */
export function parseGoInteger(text: string): number | undefined {
  const [, sign = '', digits = ''] = INTEGER.exec(text) ?? []
  const plain = digits.replaceAll('_', '').replace(/^0(?=\d)/, '0o')
  const number = plain === '' ? Number.NaN : Number(plain)
  if (!Number.isSafeInteger(number)) return undefined
  // `0 - number` avoids -0, which equals 0 and yet is not the same.
  return sign === '-' ? 0 - number : number
}

const TRUE: readonly string[] = ['1', 't', 'T', 'TRUE', 'true', 'True']
const FALSE: readonly string[] = ['0', 'f', 'F', 'FALSE', 'false', 'False']

/** Booleans as strconv.ParseBool reads them. @returns undefined for another text */
export const parseGoBoolean = (text: string): boolean | undefined =>
  TRUE.includes(text) ? true : FALSE.includes(text) ? false : undefined

/** A flag as given; the value of a boolean without one is `true`. */
export interface GivenFlag {
  readonly name: string
  readonly value: string
}

/**
 * Reads a command line of Go flags: `-x` or `--x`, with `=` or a blank before the value. A boolean takes a
 * value only with `=`.
 * @param isBoolean whether a flag is a boolean; `undefined` for a flag that does not exist
 * @throws {UsageError} for a word that is not a flag, an unknown flag, or a missing value
 */
export function readGoFlags(
  argv: readonly string[],
  isBoolean: (name: string) => boolean | undefined,
): GivenFlag[] {
  const given: GivenFlag[] = []
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ''
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word)
    if (match === null) throw notAFlag(word, given.at(-1)?.name, isBoolean)
    const [, spelled = '', inline] = match
    const name = spelled === 'h' ? 'help' : spelled
    const boolean = isBoolean(name)
    if (boolean === undefined) throw new UsageError(`there is no flag --${name}`)
    const value = inline ?? (boolean ? 'true' : argv[++i])
    if (value === undefined) throw new UsageError(`the flag --${name} needs a value`)
    given.push({ name, value })
  }
  return given
}

/** The error for such a word. flannel stops reading there and silently ignores all flags after it. */
function notAFlag(
  word: string,
  before: string | undefined,
  isBoolean: (name: string) => boolean | undefined,
): UsageError {
  if (before !== undefined && isBoolean(before) === true && parseGoBoolean(word) !== undefined) {
    return new UsageError(
      `"${word}" is not a flag, and not the value of --${before} either: a boolean takes one only with "="`,
      `write --${before}=${word}`,
    )
  }
  return new UsageError(`"${word}" is not a flag, and there are no arguments`)
}
