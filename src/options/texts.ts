/** The text of options from flags and environment, unchecked. */
import { strayVariables } from './stray-variables'
import { COMMANDS, isRepeatable, OPTION_NAMES, variableName } from './table'

/** Options as text, from flags, variables and files. */
export type OptionTexts = Readonly<Record<string, string | readonly string[]>>

/**
 * Collects the text of options from flags and environment, unchecked.
 * @param flags values as text by option name; the last value of a scalar counts
 */
export function givenTexts(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): OptionTexts {
  const input: Record<string, string | readonly string[]> = {}
  for (const name of OPTION_NAMES) {
    const given = flags[name]
    const variable = env[variableName(name)]
    if (given !== undefined) {
      input[name] = isRepeatable(name) ? [given].flat().map(String) : String([given].flat().at(-1))
    }
    // An empty variable counts as unset. A repeatable option gets one value from it (flannel:
    // coreos/pkg/flagutil).
    else if (variable !== undefined && variable !== '' && !COMMANDS.has(name)) {
      input[name] = isRepeatable(name) ? [variable] : variable
    }
  }
  return input
}

/** Warnings about variables that look like ours and have no effect. */
export function straysIn(env: NodeJS.ProcessEnv, flags: Readonly<Record<string, unknown>>): string[] {
  const settable = OPTION_NAMES.filter((name) => !COMMANDS.has(name))
  return strayVariables(
    env,
    settable,
    (option) => flags[option] !== undefined || (env[variableName(option)] ?? '') !== '',
  )
}
