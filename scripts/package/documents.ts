/** Texts made of the programs' help: man pages, completions, /etc/default. */
import type { Help, HelpOption } from './help'

/** Every help there is: `overlayctl config set` -> its help. */
export type Helps = ReadonlyMap<string, Help>

/** What roff would read as its own. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')

export interface Page {
  readonly name: string
  readonly summary: string
  readonly version: string
  /** `2026-01-31` */
  readonly date: string
  /** Further sections, by title; their text is roff. */
  readonly sections: string
}

/** A man page of section 8. */
export function manPage(helps: Helps, { name, summary, version, date, sections }: Page): string {
  const own = helps.get(name)
  if (own === undefined) throw new Error(`there is no help of ${name}`)
  const below = [...helps].filter(([path]) => path.startsWith(`${name} `))
  return [
    `.TH ${name.toUpperCase()} 8 "${date}" "overlayd ${version}" "System administration"`,
    '.SH NAME',
    `${name} \\- ${roff(summary)}`,
    '.SH SYNOPSIS',
    ...(below.length === 0
      ? [`.B ${name}`, `[\\fB\\-\\-\\fIflag\\fB=\\fIvalue\\fR ...]`]
      : [`.B ${name}`, '.I command', '[\\fIoption\\fR ...]']),
    '.SH DESCRIPTION',
    ...own.intro.filter((text) => !text.startsWith('Usage:')).flatMap((text) => [roff(text), '.PP']),
    ...own.outro.flatMap((text) => [roff(text), '.PP']),
    ...(below.length === 0 ? [] : ['.SH COMMANDS']),
    ...below
      .filter(([, help]) => help.commands.length === 0)
      .flatMap(([path, help]) => [
        `.SS ${roff(help.intro[0] ?? path)}`,
        roff(help.intro.slice(1).join(' ')),
        ...options(help),
        ...examples(help),
      ]),
    ...(below.length === 0 ? ['.SH OPTIONS', ...options(own)] : []),
    sections.trimEnd(),
    '',
  ].join('\n')
}

function options({ options: all }: Help): string[] {
  return all
    .filter(({ flags }) => !flags.includes('--help') && !flags.includes('--version'))
    .flatMap(({ flags, describe, takesValue, choices }) => [
      '.TP',
      flags.map((flag) => `\\fB${roff(flag)}\\fR`).join(', ') + (takesValue ? ' \\fIvalue\\fR' : ''),
      roff(choices.length === 0 ? describe : `${choices.join(' or ')}: ${describe}`),
    ])
}

/** Each command line, and below it what it is for. */
function examples({ examples: all }: Help): string[] {
  if (all.length === 0) return []
  return [
    '.PP',
    all.length === 1 ? 'Example:' : 'Examples:',
    ...all.flatMap(({ command, describe }) => ['.TP', `\\fB${roff(command)}\\fR`, roff(describe)]),
  ]
}

/** The environment of the service: every option of overlayd, as a comment, with its default. */
export function defaultsFile(overlayd: Help): string {
  const lines = overlayd.options.flatMap(({ flags, describe }) => {
    const name = flags.at(-1)?.replace(/^-+/, '') ?? ''
    if (name === 'help' || name === 'version') return []
    const [, text = describe, fallback = ''] = /^(.*?) \(default: (.*)\)$/.exec(describe) ?? []
    // A default in words is what counts when the variable is not set.
    const value = fallback.includes(' ') ? '' : fallback
    const said = value === fallback ? text : describe
    const variable = `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`
    return ['', `# ${said}`, `#${variable}=${value}`]
  })
  return [
    '# Options of overlayd, under the names that flannel reads: see overlayd(8).',
    '# Take the # away from what is to be other than its default, then: systemctl restart overlayd',
    ...lines,
    '',
  ].join('\n')
}

const longest = (option: HelpOption): string => option.flags.at(-1) ?? ''

/** Whether its value is the name of a file or a folder. */
const isFile = (option: HelpOption): boolean => /-(file|dir)$/.test(longest(option))

/** Completion for bash: the words that may follow, by the commands typed so far. */
export function bashCompletion(program: string, helps: Helps): string {
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
${[...new Set(values), `    ${files.join(' | ')}) COMPREPLY=($(compgen -f -- "$current")) && return ;;`].join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F ${name} ${program}
`
}

/** Completion for fish. */
export function fishCompletion(program: string, helps: Helps): string {
  // A string in single quotes knows no other escapes.
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
export function zshCompletion(program: string, helps: Helps): string {
  const quote = (text: string): string => text.replace(/['[\]:`$"\\]/g, ' ')
  const branches = [...helps].map(([path, help]) => {
    const commands = help.commands.map(({ name, describe }) => `'${name}:${quote(describe)}'`)
    const flags = help.options.map((option) => {
      const value = option.takesValue
        ? `:value:${option.choices.length > 0 ? `(${option.choices.join(' ')})` : '_files'}`
        : ''
      return `'${longest(option)}${option.takesValue && longest(option).startsWith('--') ? '=' : ''}[${quote(option.describe)}]${value}'`
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
