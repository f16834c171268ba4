/** The generated blocks of the pages, each from the table that the program itself uses. */
import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Options as YargsOption } from 'yargs'
import { z } from 'zod'
import packageJson from '../../package.json'
import { EVENTS } from '../../src/api/events'
import { describeOption, optionRows, usageOf } from '../../src/cli/help'
import { COMMON, GLOBAL, type Verb } from '../../src/cli/verb'
import { VERBS } from '../../src/cli/verbs'
import { SERIES } from '../../src/daemon/serve/series'
import { CHECKS } from '../../src/judge/diagnose'
import { BACKEND_FIELDS, CONFIG_FIELDS, type ConfigChange, schemaOf } from '../../src/model/config/fields'
import { type DocumentedOption, documentedOptions } from '../../src/options/documented'
import { variableName } from '../../src/options/table'
import { NODE_VERSION } from '../package/targets'

type Blocks = Readonly<Record<string, () => string>>

/** Text in a table: `|` would end its cell, and `<` could begin a tag. */
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '\\<')

const code = (text: string): string => (text === '' ? '' : `\`${text.replaceAll('|', '\\|')}\``)

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('\n')
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

function optionTables(): string {
  const all = documentedOptions()
  return [...new Set(all.map(({ group }) => group))]
    .map((group) => {
      const options = all.filter((each) => each.group === group)
      const title = `${group.charAt(0).toUpperCase()}${group.slice(1)}`.replace(/^Etcd$/, 'etcd')
      return `### ${title}\n\n${table(['flag', 'variable', 'default', 'meaning'], options.map(optionRow))}`
    })
    .join('\n\n')
}

function optionRow({ name, kind, fallback, usually, description }: DocumentedOption): string[] {
  const flag = name.length === 1 ? `-${name}` : `--${name}`
  const isAsked = name === 'help' || name === 'version'
  const standard = kind === 'boolean' && !isAsked && fallback === '' ? 'false' : fallback
  return [
    code(flag),
    isAsked ? '' : code(variableName(name)),
    standard === '' ? cell(usually) : code(standard),
    cell(description),
  ]
}

const commandSections = (): string => VERBS.map(commandSection).join('\n\n')

function commandSection(verb: Verb): string {
  const words = Object.entries(verb.positionals).map(([name, { describe, choices }]) => [
    code(name),
    cell(`${describe || ''}${choices === undefined ? '' : `: ${choices.join(', ')}`}`),
  ])
  const rows = [...words, ...flagRows(verb.options)]
  const width = Math.max(...verb.examples.map(([line]) => line.length))
  const examples = verb.examples.map(([line, purpose]) => `overlayctl ${line.padEnd(width)}   # ${purpose}`)
  return [
    `### \`${usageOf(verb)}\``,
    wrap(sentence(verb.describe)),
    ...(rows.length === 0 ? [] : [table(['argument or flag', 'meaning'], rows)]),
    ['```sh', ...examples, '```'].join('\n'),
  ].join('\n\n')
}

const flagRows = (options: Readonly<Record<string, YargsOption>>): string[][] =>
  Object.entries(options).map(([name, option]) => {
    const [[flag] = ['']] = optionRows({ [name]: option })
    return [code(flag.trim()), cell(describeOption(option))]
  })

const commonFlags = (): string => table(['flag', 'meaning'], flagRows({ ...GLOBAL, ...COMMON }))

const checkTable = (): string =>
  table(
    ['check', 'what is checked'],
    CHECKS.map(({ name, about }) => [code(name), cell(about)]),
  )

const seriesTable = (): string =>
  table(
    ['series', 'type', 'labels', 'meaning'],
    SERIES.map(({ name, type, labels = [], help }) => [
      code(name),
      type,
      labels.map(code).join(', '),
      cell(help),
    ]),
  )

const eventTable = (): string =>
  table(
    ['kind', 'meaning'],
    Object.entries(EVENTS).map(([kind, meaning]) => [code(kind), cell(meaning)]),
  )

/** How the page says it. */
const CHANGES: Readonly<Record<ConfigChange, string>> = {
  live: 'at once',
  lossy: 'at once, with loss',
  restart: 'at a restart',
  fits: 'at once if the subnet fits',
  never: '',
}

type FieldTable = Parameters<typeof schemaOf>[0]

function fieldTables(): string {
  const fields = (rows: FieldTable, prefix: string): string => {
    const { properties = {} } = z.toJSONSchema(schemaOf(rows), { io: 'input' })
    return table(
      ['field', 'type', 'default', 'meaning', 'a change is applied'],
      Object.entries(rows).map(([name, { fallback, meaning, change }]) => [
        code(`${prefix}${name}`),
        typeOf(properties[name]),
        fallback === '' ? 'none' : fallback,
        meaning,
        CHANGES[change],
      ]),
    )
  }
  const { Backend: _, ...config } = CONFIG_FIELDS
  return [
    '### Fields of the object',
    fields(config, ''),
    '### Fields of `Backend`',
    fields(BACKEND_FIELDS, 'Backend.'),
  ].join('\n\n')
}

/** `whole number, 0 to 65535`, or the words that a field may have */
function typeOf(property: unknown): string {
  const parts = z
    .object({
      type: z.union([z.string(), z.array(z.string())]).optional(),
      anyOf: z.array(z.unknown()).optional(),
    })
    .parse(property)
  const [type] = [parts.type ?? []].flat().filter((each) => each !== 'null')
  if (type === 'boolean' || type === 'string') return type
  const isObject = z.object({ type: z.literal('object') })
  if ((parts.anyOf ?? []).some((each) => isObject.safeParse(each).success)) return 'object'
  const choice = z.object({ enum: z.array(z.string()) })
  const bounds = z.object({ type: z.literal('integer'), minimum: z.number(), maximum: z.number() })
  const words = (parts.anyOf ?? []).map((each) => choice.safeParse(each)).find(({ success }) => success)?.data
  if (words !== undefined) return words.enum.map((word) => `\`${word}\``).join(', ')
  const found = (parts.anyOf ?? []).map((each) => bounds.safeParse(each)).find(({ success }) => success)?.data
  if (found === undefined) throw new Error(`no type that the page can name: ${JSON.stringify(property)}`)
  const { minimum, maximum } = found
  return maximum === Number.MAX_SAFE_INTEGER ? 'whole number' : `whole number, ${minimum} to ${maximum}`
}

const nodeTable = (): string =>
  table(
    ['', 'version'],
    [
      ['Node.js that runs a checkout or the bundle', code(packageJson.engines.node)],
      ['Node.js in the Debian package', code(NODE_VERSION)],
    ],
  )

/** All pages with their first sentence. */
function pageList(): string {
  const names = readdirSync(__dirname)
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .sort()
  const rows = names.map((name) => {
    const text = readFileSync(resolve(__dirname, name), 'utf8')
    const [, title = '', about = ''] = /^# (.*)\n\n((?:.+\n)+)/.exec(text) ?? []
    if (title === '') throw new Error(`${name} begins with no title and paragraph`)
    const [first = ''] = about.replaceAll('\n', ' ').split(/(?<=\.) /)
    return [`[${title}](${name})`, first.trim()]
  })
  return table(['page', 'subject'], rows)
}

/** Lines of at most 110 columns. */
function wrap(text: string): string {
  return text.split(' ').reduce((lines, word) => {
    const last = lines.slice(lines.lastIndexOf('\n') + 1)
    if (lines === '') return word
    return last.length + word.length + 1 > 110 ? `${lines}\n${word}` : `${lines} ${word}`
  }, '')
}

/** Page -> block -> its text. */
export const BLOCKS: Readonly<Record<string, Blocks>> = {
  'README.md': { pages: pageList },
  'options.md': { options: optionTables },
  'overlayctl.md': { commands: commandSections, 'common flags': commonFlags },
  'doctor.md': { checks: checkTable },
  'telemetry.md': { series: seriesTable, events: eventTable },
  'network-config.md': { fields: fieldTables },
  'supported-versions.md': { node: nodeTable },
}
