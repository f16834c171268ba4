/** Texts made of the tables of options and commands: man pages, completions, /etc/default. */
import {
  type Completed,
  type CompletedOption,
  completionFor,
  completionOf,
  optionsOf,
  type Shell,
} from '../../src/cli/completion'
import { CTL_HELP, describeOption, usageOf } from '../../src/cli/help'
import { COMMON, GLOBAL, type Verb, type YargsOptions } from '../../src/cli/verb'
import { VERBS } from '../../src/cli/verbs'
import { DAEMON_HELP, daemonOptions, documentedOptions } from '../../src/options/documented'
import { variableName } from '../../src/options/table'
import type { Program } from './bundle'

/** Escapes the characters that roff would read as its own. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')

export interface Page {
  readonly version: string
  /** `2026-01-31` */
  readonly date: string
  /** Further sections, in roff. */
  readonly sections: string
}

const SUMMARIES: Readonly<Record<Program, string>> = {
  overlayd: 'overlay network of a Docker host',
  overlayctl: "looks after overlayd, this host's overlay network",
}

/** The man page of a program, of section 8. */
export function manPage(name: Program, { version, date, sections }: Page): string {
  return [
    `.TH ${name.toUpperCase()} 8 "${date}" "overlayd ${version}" "System administration"`,
    '.SH NAME',
    `${name} \\- ${roff(SUMMARIES[name])}`,
    ...(name === 'overlayd' ? daemonSections() : commandSections(VERBS)),
    sections.trimEnd(),
    '',
  ].join('\n')
}

const daemonSections = (): string[] => [
  '.SH SYNOPSIS',
  '.B overlayd',
  '[\\fB\\-\\-\\fIflag\\fB=\\fIvalue\\fR ...]',
  '.SH DESCRIPTION',
  ...paragraphs(DAEMON_HELP.about, DAEMON_HELP.notes),
  '.SH OPTIONS',
  ...flagRows(daemonOptions()),
]

/** Exported for tests. */
export const commandSections = (verbs: readonly Verb[]): string[] => [
  '.SH SYNOPSIS',
  '.B overlayctl',
  '.I command',
  '[\\fIoption\\fR ...]',
  '.SH DESCRIPTION',
  ...paragraphs(CTL_HELP.about),
  '.SH COMMANDS',
  ...verbs.flatMap((verb) => [
    `.SS ${roff(usageOf(verb))}`,
    roff(verb.describe),
    ...flagRows(verb.options),
    ...examples(verb),
  ]),
  '.SH OPTIONS OF ALL COMMANDS',
  ...paragraphs(CTL_HELP.etcd),
  ...flagRows({ network: GLOBAL.network, ...COMMON }),
]

const paragraphs = (...texts: readonly string[]): string[] => texts.flatMap((text) => [roff(text), '.PP'])

/** Every program has these; its man page leaves them out. */
const EVERYWHERE: ReadonlySet<string> = new Set(['help', 'version'])

/** Exported for tests. */
export function flagRows(options: YargsOptions): string[] {
  const shown = Object.entries(options).filter(([name]) => !EVERYWHERE.has(name))
  const flags = optionsOf(Object.fromEntries(shown))
  return shown.flatMap(([, option], index) => flagRow(flags[index], describeOption(option)))
}

function flagRow(flag: CompletedOption | undefined, said: string): string[] {
  if (flag === undefined) return []
  const { flags, takesValue, choices } = flag
  return [
    '.TP',
    flags.map((each) => `\\fB${roff(each)}\\fR`).join(', ') + (takesValue ? ' \\fIvalue\\fR' : ''),
    roff(choices.length === 0 ? said : `${choices.join(' or ')}: ${said}`),
  ]
}

/** Each command line, and below it its purpose. */
const examples = ({ examples: all }: Verb): string[] => [
  '.PP',
  all.length === 1 ? 'Example:' : 'Examples:',
  ...all.flatMap(([line, purpose]) => ['.TP', `\\fB${roff(`overlayctl ${line}`)}\\fR`, roff(purpose)]),
]

/** The completion of a program. */
export const completion = (shell: Shell, program: Program): string =>
  program === 'overlayctl' ? completionFor(shell, VERBS) : completionOf(shell, program, daemonCompleted())

const daemonCompleted = (): Completed =>
  new Map([['overlayd', { commands: [], options: optionsOf(daemonOptions()) }]])

/** The environment of the service: every option of overlayd, as a comment, with its default. */
export function defaultsFile(): string {
  const lines = documentedOptions()
    .filter(({ name }) => !EVERYWHERE.has(name))
    .flatMap(({ name, description, fallback, usually }) => [
      '',
      `# ${description}${usually === '' ? '' : ` (default: ${usually})`}`,
      `#${variableName(name)}=${fallback}`,
    ])
  return [
    '# Options of overlayd, under the names that flannel reads: see overlayd(8).',
    '# To change an option remove its #, then: systemctl restart overlayd',
    '# A password may stand here: only root can read the file, and systemd gives its contents to the service.',
    ...lines,
    '',
  ].join('\n')
}

/** A page as it is installed: its links to files of the source tree, which is not there, are text. */
export const installedPage = (text: string): string => text.replaceAll(/\[([^\]]*)\]\(\.\.\/[^)]*\)/g, '$1')
