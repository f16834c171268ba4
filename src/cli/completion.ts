/** Shell completions, made from the table of commands and their flags. */
import { COMMON, GLOBAL, GROUPS, type Verb } from './verb'

export interface CompletedOption {
  /** As written on the command line, short first: `-o`, `--output`. */
  readonly flags: readonly string[]
  readonly describe: string
  readonly choices: readonly string[]
  readonly takesValue: boolean
}

/** A command, and what may follow it. */
export interface CompletedCommand {
  readonly commands: readonly { readonly name: string; readonly describe: string }[]
  readonly options: readonly CompletedOption[]
}

/** command such as `overlayctl config set` -> what may follow it */
export type Completed = ReadonlyMap<string, CompletedCommand>

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

/** The completion of overlayctl itself. */
export const completionFor = (shell: Shell, verbs: readonly Verb[]): string =>
  completionOf(shell, PROGRAM, ofVerbs(verbs))

/** The completion of any program, from what may follow each of its commands. */
export const completionOf = (shell: Shell, program: string, completed: Completed): string =>
  ({ bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion })[shell](program, completed)

const PROGRAM = 'overlayctl'

function ofVerbs(verbs: readonly Verb[]): Completed {
  const global = optionsOf({
    ...GLOBAL,
    help: { alias: 'h', type: 'boolean', describe: 'explain the command' },
  })
  const groups = Object.entries(GROUPS)
  const commandsBelow = (name: string) =>
    verbs
      .filter(({ path }) => path.startsWith(`${name} `))
      .map(({ path, describe }) => ({ name: path.slice(name.length + 1), describe }))
  const names = verbs.filter(({ path }) => !path.includes(' '))
  const top = [
    ...names.map(({ path, describe }) => ({ name: path, describe })),
    ...groups.map(([name, describe]) => ({ name, describe })),
  ]
  return new Map<string, CompletedCommand>([
    [PROGRAM, { commands: top, options: global }],
    ...groups.map(([group]): [string, CompletedCommand] => {
      return [`${PROGRAM} ${group}`, { commands: commandsBelow(group), options: global }]
    }),
    ...verbs.map(({ path, positionals, options, isOfHost }): [string, CompletedCommand] => {
      const words = Object.values(positionals).flatMap(({ choices = [] }) => choices.map(String))
      const commands = [...words.map((name) => ({ name, describe: '' })), ...commandsBelow(path)]
      return [
        `${PROGRAM} ${path}`,
        { commands, options: [...optionsOf(options), ...(isOfHost ? optionsOf(COMMON) : []), ...global] },
      ]
    }),
  ])
}

/** yargs options as they are typed. */
export function optionsOf(options: typeof COMMON): CompletedOption[] {
  return Object.entries(options).map(([name, { alias, choices = [], describe, type, ...rest }]) => ({
    flags: [
      ...(alias === undefined ? [] : [`-${String(alias)}`]),
      name.length === 1 ? `-${name}` : `--${name}`,
    ],
    describe: describe || '',
    choices: choices.map(String),
    takesValue: type === 'string' || choices.length > 0 || rest.string === true,
  }))
}

const longest = (option: CompletedOption): string => option.flags.at(-1) ?? ''

/** Whether the option's value is the path of a file or a directory. */
const isFile = (option: CompletedOption): boolean => /-(file|dir)$/.test(longest(option))

/** Completion for bash: the words that may follow the commands typed so far. */
export function bashCompletion(program: string, helps: Completed): string {
  const cases = [...helps].map(([path, help]) => {
    const flags = help.options.flatMap((option) => option.flags)
    return `    '${path}') words='${[...help.commands.map(({ name }) => name), ...flags].join(' ')}' ;;`
  })
  const values = [...helps.values()]
    .flatMap((help) => help.options)
    .filter(({ choices }) => choices.length > 0)
    .map(({ flags, choices }) => `    ${flags.join(' | ')}) words='${choices.join(' ')}' ;;`)
  const files = [
    ...new Set(
      [...helps.values()]
        .flatMap((help) => help.options)
        .filter(isFile)
        .flatMap(({ flags }) => flags),
    ),
  ]
  const filesCase = `    ${files.join(' | ')}) COMPREPLY=($(compgen -f -- "$current")) && return ;;`
  const name = `_${program}`
  return `# bash completion for ${program}
${name}() {
  local path=${program} words= word
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $word" in
${[...helps.keys()].map((path) => `      '${path}') path='${path}' ;;`).join('\n')}
    esac
  done
  case $path in
${cases.join('\n')}
  esac
  case $previous in
${[...new Set(values), filesCase].join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F ${name} ${program}
`
}

/** Completion for fish. */
export function fishCompletion(program: string, helps: Completed): string {
  // Within single quotes, fish knows no other escapes.
  const quote = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`
  const name = `__${program}_at`
  const lines = [...helps].flatMap(([path, help]) => {
    const at = `complete -c ${program} -n "${name} '${path}'"`
    return [
      ...help.commands.map((command) => `${at} -f -a ${quote(command.name)} -d ${quote(command.describe)}`),
      ...help.options.map((option) => {
        const flags = option.flags.map((flag) =>
          flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
        )
        const value = !option.takesValue
          ? '-f'
          : option.choices.length > 0
            ? `-x -a ${quote(option.choices.join(' '))}`
            : isFile(option)
              ? '-r -F'
              : '-x'
        return `${at} ${flags.join(' ')} ${value} -d ${quote(option.describe)}`
      }),
    ]
  })
  return `# fish completion for ${program}
function ${name}
    set -l at ${program}
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case ${[...helps.keys()].map(quote).join(' ')}
                set at "$at $word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c ${program} -f
${lines.join('\n')}
`
}

/** Completion for zsh. */
export function zshCompletion(program: string, helps: Completed): string {
  // For a word in single quotes. Brackets and backslashes are special to _arguments.
  const quote = (text: string): string => text.replace(/[[\]\\]/g, '\\$&').replaceAll("'", "'\\''")
  const branches = [...helps].map(([path, help]) => {
    const commands = help.commands.map(({ name, describe }) => `'${name}:${quote(describe)}'`)
    const flags = help.options.map((option) => {
      const value = option.takesValue
        ? `:value:${option.choices.length > 0 ? `(${option.choices.join(' ')})` : '_files'}`
        : ''
      const assign = option.takesValue && longest(option).startsWith('--') ? '=' : ''
      return `'${longest(option)}${assign}[${quote(option.describe)}]${value}'`
    })
    const describe = commands.length === 0 ? '' : `\n      commands=(${commands.join(' ')})`
    return `    '${path}')${describe}\n      flags=(${flags.join(' ')}) ;;`
  })
  return `#compdef ${program}
local -a commands flags
local path_=${program} word
for word in \${words[2,CURRENT-1]}; do
  case "$path_ $word" in
${[...helps.keys()].map((path) => `    '${path}') path_='${path}' ;;`).join('\n')}
  esac
done
case $path_ in
${branches.join('\n')}
esac
(( $#commands )) && [[ $words[CURRENT] != -* ]] && { _describe command commands; return }
_arguments -s $flags '*: :'
`
}
