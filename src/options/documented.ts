/** The options as --help, man pages, completions and the pages for operators show them. */
import { isBoolean, isRepeatable, OPTION_NAMES, OPTIONS, type OptionName } from './table'

/** One option as --help, man pages, completions and the pages for operators show it. */
export interface DocumentedOption {
  readonly name: OptionName
  /** Heading of --help: `etcd`. */
  readonly group: string
  /** `list`: may be given several times. */
  readonly kind: 'boolean' | 'text' | 'list'
  readonly description: string
  /** Default as an option's text; empty where there is none, and for a boolean that is false. */
  readonly fallback: string
  /** Default in words, where no fixed text is the default; empty else. */
  readonly usually: string
}

/** @param names default: all options, in the order of --help */
export const documentedOptions = (names: readonly OptionName[] = OPTION_NAMES): DocumentedOption[] =>
  names.map((name) => {
    const { group, description, fallback, usually } = OPTIONS[name]
    return {
      name,
      group,
      kind: isBoolean(name) ? 'boolean' : isRepeatable(name) ? 'list' : 'text',
      description,
      fallback: isBoolean(name) && fallback === 'false' ? '' : fallback,
      usually,
    }
  })

/** What yargs needs to know of an option. */
interface YargsOption {
  readonly array: boolean
  /** False for booleans, which yargs must not read as text. */
  readonly string: boolean
  readonly describe: string
  readonly group: string
}

/** These options for yargs. */
export function yargsOptions<Name extends OptionName>(names: readonly Name[]): Record<Name, YargsOption> {
  const entries = documentedOptions(names).map(
    ({ name, group, kind, description, fallback, usually }): [string, YargsOption] => {
      const said = fallback || usually
      const describe = `${description}${said === '' ? '' : ` (default: ${said})`}`
      return [name, { array: kind === 'list', string: kind !== 'boolean', describe, group: `${group}:` }]
    },
  )
  return Object.fromEntries(entries) as Record<Name, YargsOption>
}

/** All options of overlayd, for completions. */
export const daemonOptions = (): Readonly<Record<string, YargsOption>> => yargsOptions(OPTION_NAMES)

/** The words around the options in --help and in the man page. */
export const DAEMON_HELP = {
  about: 'overlayd: gives this Docker host a subnet out of one network and connects it with all others.',
  notes:
    'Each flag may be written -flag or --flag, with "=" or a blank before its value; a boolean takes a ' +
    'value only with "=". Without a flag the variable FLANNELD_<FLAG> counts (upper case, "_" for "-").',
} as const

/**
 * The text of `overlayd --help`. Loads yargs only here, because a start of the daemon needs no help. Not by
 * import(): that yargs breaks lines within words.
 */
export function daemonHelp(): Promise<string> {
  const yargs: typeof import('yargs', { with: { 'resolution-mode': 'require' }}) = require('yargs')
  return (
    yargs([])
      .scriptName('overlayd')
      .usage(`${DAEMON_HELP.about}\n\nUsage: overlayd [--flag=value ...]`)
      // Before the options: both names are ours.
      .version(false)
      .help(false)
      .options(daemonOptions())
      .epilogue(DAEMON_HELP.notes)
      .wrap(100)
      .getHelp()
  )
}
