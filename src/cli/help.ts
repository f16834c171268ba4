/**
 * The output of `--help` and `overlayctl help`: the command's own flags first, those of all commands last.
 */
import type { Options as YargsOption } from 'yargs'
import { hang } from './show/screen'
import { COMMON, GLOBAL, GROUPS, type Verb } from './verb'
import { VERBS } from './verbs'

type YargsOptions = Readonly<Record<string, YargsOption>>
/** The left side of a line, and its description. */
type Row = readonly [string, string]

/** Most columns of the left side; a longer one gets a line of its own. */
const MOST_LEFT = 34

const EVERYWHERE: YargsOptions = {
  ...GLOBAL,
  help: { alias: 'h', type: 'boolean', describe: 'explain the command' },
  version: { type: 'boolean', describe: 'print the version' },
}

/** Texts of `overlayctl --help` and of the man page, not wrapped. */
export const CTL_HELP = {
  about: 'overlayctl: shows and controls overlayd, the overlay network of this host.',
  etcd:
    'Flags of all commands that concern a host. None is needed where overlayd is installed. ' +
    'A setting without a flag is taken from the variable FLANNELD_<FLAG> (upper case, "_" for "-"), ' +
    'else from the running overlayd, else from /etc/default/overlayd ' +
    '(with --network=blue from /etc/default/overlayd-blue), else it has its default. ' +
    'Only root may ask the daemon.',
} as const

/** Whether the list of all commands names it: those of a group are listed by the group. */
const isTop = ({ path }: Verb): boolean =>
  !path.includes(' ') || GROUPS[path.split(' ')[0] ?? ''] === undefined

/** The list of commands. */
export function programHelp(width: number): string {
  const rows = [...VERBS.filter(isTop).map((verb): Row => [usageOf(verb), verb.describe])]
  const at = rows.findIndex(([left]) => left === 'overlayctl metrics') + 1
  const groups = Object.entries(GROUPS).map(([name, describe]): Row => [`overlayctl ${name}`, describe])
  return join([
    paragraph(CTL_HELP.about, width),
    ['Usage: overlayctl <command>'],
    ['Commands:', ...table([...rows.slice(0, at), ...groups, ...rows.slice(at)], width)],
    ['Options:', ...table(optionRows(EVERYWHERE), width)],
  ])
}

/** The list of a group's commands. */
export function groupHelp(name: string, width: number): string {
  const below = VERBS.filter(({ path }) => path.startsWith(`${name} `))
  return join([
    [`overlayctl ${name}`],
    paragraph(GROUPS[name] ?? '', width),
    [
      'Commands:',
      ...table(
        below.map((verb): Row => [usageOf(verb), verb.describe]),
        width,
      ),
    ],
    ['Options:', ...table(optionRows(EVERYWHERE), width)],
  ])
}

export function verbHelp(verb: Verb, width: number): string {
  const { path, describe, positionals, options, examples, isOfHost } = verb
  const words = Object.entries(positionals).map(([name, each]): Row => {
    const choices = each.choices === undefined ? '' : `: ${each.choices.join(', ')}`
    return [name, `${each.describe ?? ''}${choices}`]
  })
  const own = optionRows(options)
  return join([
    [usageOf(verb)],
    paragraph(describe, width),
    ...(words.length === 0 ? [] : [['Arguments:', ...table(words, width)]]),
    ...(own.length === 0 ? [] : [['Options:', ...table(own, width)]]),
    [
      'Examples:',
      ...table(
        examples.map(([line, what]): Row => [`overlayctl ${line}`, what]),
        width,
        60,
      ),
    ],
    ['All commands have:', ...table(optionRows(path === 'docker-opts' ? {} : EVERYWHERE), width)],
    ...(isOfHost
      ? [
          paragraph(
            'etcd and the daemon are found automatically. Flags to override that: overlayctl help etcd',
            width,
          ),
        ]
      : []),
  ])
}

/** The flags for etcd and the daemon, and where their values come from otherwise. */
export function etcdHelp(width: number): string {
  return join([
    ['overlayctl help etcd'],
    paragraph(CTL_HELP.etcd, width),
    ['Options:', ...table(optionRows({ network: GLOBAL.network, ...COMMON }), width)],
  ])
}

/** `overlayctl config set <config>` */
export const usageOf = ({ path, args }: Verb): string => `overlayctl ${path}${args === '' ? '' : ` ${args}`}`

const join = (blocks: readonly (readonly string[])[]): string =>
  `${blocks
    .filter((lines) => lines.length > 1 || lines[0]?.endsWith(':') !== true)
    .map((lines) => lines.join('\n'))
    .join('\n\n')}\n`

const paragraph = (text: string, width: number): string[] => hang('', text, width, 0)

/** `-o, --output=text|json` */
export function optionRows(options: YargsOptions): Row[] {
  return Object.entries(options).map(([name, option]) => {
    const short = option.alias === undefined ? '' : `-${String(option.alias)}, `
    const isShort = name.length === 1
    const value = valueName(option)
    const flag = `${isShort ? '-' : '--'}${name}${value === '' ? '' : `${isShort ? ' ' : '='}${value}`}`
    return [`${short === '' && !isShort ? '    ' : short}${flag}`, describeOption(option)]
  })
}

/** An option's description, with its default if that is a text. */
export const describeOption = ({ describe, default: fallback }: YargsOption): string =>
  `${describe || ''}${typeof fallback === 'string' && fallback !== '' ? ` (default: ${fallback})` : ''}`

function valueName({ type, choices, ...rest }: YargsOption): string {
  if (choices !== undefined) return choices.join('|')
  return type === 'string' || rest.string === true ? 'VALUE' : ''
}

function table(rows: readonly Row[], width: number, mostLeft = MOST_LEFT): string[] {
  const bound = Math.min(mostLeft, Math.floor(width * 0.6))
  const left = rows.reduce((most, [text]) => (text.length <= bound ? Math.max(most, text.length) : most), 0)
  // If all left sides are too long, the descriptions are indented by a fixed width.
  const indent = left === 0 ? 8 : left + 4
  return rows.flatMap(([text, description]) => {
    if (text.length > bound || left === 0)
      return [
        `  ${text}`,
        ...(description === '' ? [] : hang(' '.repeat(indent), description, width, indent)),
      ]
    return hang(`  ${text}`, description, width, indent)
  })
}
