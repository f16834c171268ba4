/** The syntax of Go's `flag` package, in which flannel's flags and their values are written. */
import { z } from 'zod'
import { UsageError } from './usage-error'

const INTEGER = /^([+-]?)(0[xX]_?[\da-fA-F](?:_?[\da-fA-F])*|(?:0[oObB]_?)?\d(?:_?\d)*)$/

/** Integers as strconv.ParseInt reads them with base 0: 10, 0x10, 0o17 or 017, 0b1, 1_000. */
export const goInteger = z.string().transform((text, context) => {
  const [, sign = '', digits = ''] = INTEGER.exec(text) ?? []
  const plain = digits.replaceAll('_', '').replace(/^0(?=\d)/, '0o')
  const number = plain === '' ? Number.NaN : Number(plain)
  // Not -0, which equals 0 and yet is not the same.
  if (Number.isSafeInteger(number)) return sign === '-' ? 0 - number : number
  context.addIssue({ code: 'custom', message: 'a whole number is wanted' })
  return z.NEVER
})

/** Booleans as strconv.ParseBool reads them. */
export const goBoolean = z
  .stringbool({
    truthy: ['1', 't', 'T', 'TRUE', 'true', 'True'],
    falsy: ['0', 'f', 'F', 'FALSE', 'false', 'False'],
    case: 'sensitive',
    error: 'true or false is wanted',
  })
  .meta({ boolean: true })

/** A flag as it was given; a boolean without a value has `true`. */
export interface GivenFlag {
  readonly name: string
  readonly value: string
}

/**
 * Reads a command line of Go flags: `-x`, `--x`, `=` or a blank; a boolean takes a value only with `=`.
 * @param isBoolean `undefined` for a flag that does not exist
 * @throws {UsageError} for a word that is no flag, an unknown flag, and a flag without its value
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

/** flannel ends its reading at such a word and drops all flags after it without saying so. */
function notAFlag(
  word: string,
  before: string | undefined,
  isBoolean: (name: string) => boolean | undefined,
): UsageError {
  if (before !== undefined && isBoolean(before) === true && goBoolean.safeParse(word).success) {
    return new UsageError(
      `"${word}" is not a flag, and not the value of --${before} either: a boolean takes one only with "="`,
      `write --${before}=${word}`,
    )
  }
  return new UsageError(`"${word}" is not a flag, and there are no arguments`)
}
