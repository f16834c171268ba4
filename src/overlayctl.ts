#!/usr/bin/env node
/**
 * The operator's program: parses the command line by the table of commands, and runs one command. A command
 * loads only what it needs.
 */
import type { Argv } from 'yargs'
import { EXIT } from './cli/exit'
import { etcdHelp, groupHelp, programHelp, verbHelp } from './cli/help'
import { COMMON, type Context, GLOBAL, type Verb, type YargsOptions } from './cli/verb'
import { FIRST_WORDS, VERBS } from './cli/verbs'
import { complain, complainAtLength, onReaderGone, print, standardOutput } from './host/streams'
import { commandsFor } from './model/commands'
import { describeError, isOverlayError } from './model/errors'
import { nearest } from './model/nearest'
import { straysIn } from './options/texts'
import { isUsageError, UsageError } from './options/usage-error'
import { readVersion } from './options/version'

// As in overlayd: Node's deprecation warnings do not help an operator.
process.noDeprecation = true

const PARSING = { 'camel-case-expansion': false, 'boolean-negation': false } as const
/** Replaces a lone dash, which yargs would turn into an empty text. */
const STANDARD_INPUT = '/dev/stdin'

async function main(): Promise<number> {
  const given = process.argv.slice(2)
  if (given.length === 1 && given[0] === '--version') {
    print(`${readVersion()}\n`)
    return EXIT.healthy
  }
  const words = await readWords(given)
  const bare = bareWords(words)
  const isHelp = words.some((word) => word === '--help' || (word === '-h' && bare[0] !== 'docker-opts'))
  if (bare[0] === 'help' || isHelp) {
    const isOfHelp = bare[0] === 'help' && isHelp && bare.length === 1
    print(helpFor(bare[0] === 'help' && !isOfHelp ? bare.slice(1) : bare))
    return EXIT.healthy
  }
  if (bare.length === 0 && !words.some((word) => word.startsWith('-') && word !== '--debug')) {
    complainAtLength(helpFor([]))
    throw new UsageError('expected a command', 'overlayctl help COMMAND explains each')
  }
  demandVerb(bare)
  let run = async (): Promise<number> => EXIT.healthy
  const names = bare[0] === undefined ? FIRST_WORDS : [bare[0]]
  const cli = buildCli(words, names, (verb) => (args) => {
    run = () => verb.run(args, contextOf(args))
  })
  cli
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? explainUsage(message, cli)
    })
    .parseSync()
  return run()
}

/** Instead of a description: yargs lays its help out in each run, and the help that is printed is ours. */
const UNSEEN = false

const hidden = (options: YargsOptions): YargsOptions =>
  Object.fromEntries(Object.entries(options).map(([name, option]) => [name, { ...option, hidden: true }]))

/**
 * Commands as a yargs parser.
 * @param names their first words
 */
function buildCli(
  words: readonly string[],
  names: readonly string[],
  handler: (verb: Verb) => (args: Record<string, unknown>) => void,
): Argv {
  // Only here: neither --help nor --version needs yargs.
  const yargs: typeof import('yargs', { with: { 'resolution-mode': 'require' }}) = require('yargs')
  const cli = yargs([...words])
  const add = (argv: Argv, verb: Verb, name: string, below: readonly Verb[] = []): Argv =>
    argv.command(
      verb.args === '' ? name : `${name} ${verb.args}`,
      UNSEEN,
      (command: Argv) => {
        for (const [positional, options] of Object.entries(verb.positionals))
          command.positional(positional, options)
        for (const each of below) add(command, each, each.path.slice(name.length + 1))
        command.options(hidden({ ...verb.options, ...(verb.isOfHost && COMMON) }))
        return command
      },
      handler(verb),
    )
  for (const name of names) {
    const below = VERBS.filter(({ path }) => path.startsWith(`${name} `))
    const [own] = VERBS.filter(({ path }) => path === name)
    if (own !== undefined) add(cli, own, name, below)
    else {
      cli.command(name, UNSEEN, (group: Argv) => {
        for (const each of below) add(group, each, each.path.slice(name.length + 1))
        return group.demandCommand(1, `expected one of ${listOf(below.map(({ path }) => path))}`)
      })
    }
  }
  return cli
    .scriptName('overlayctl')
    .options(hidden(GLOBAL))
    .help(false)
    .version(readVersion())
    .parserConfiguration(PARSING)
    .strict() as Argv
}

/** Columns of the help: the terminal's, at most as many as read well. */
const helpWidth = (): number => {
  const asked = Number(process.env['COLUMNS'])
  if (asked > 0) return Math.max(40, asked)
  return Math.min(100, standardOutput().columns ?? 100)
}

/** @param path `status`, `config set`; empty: the program itself */
function helpFor(path: readonly string[]): string {
  const width = helpWidth()
  const [first, second] = path
  if (first === undefined) return programHelp(width)
  if (first === 'etcd') return etcdHelp(width)
  demandVerb(path)
  const named = (name: string): Verb | undefined => VERBS.find(({ path: each }) => each === name)
  const verb = named(`${first} ${second}`) ?? named(first)
  return verb === undefined ? groupHelp(first, width) : verbHelp(verb, width)
}

/** The further network of this call, once it is known. Fixes in errors name it. */
let network: string | undefined

const contextOf = (args: Readonly<Record<string, unknown>>): Context => {
  const names = [...Object.keys(COMMON), 'network']
  const flags = Object.fromEntries(
    names.flatMap((name) => (args[name] === undefined ? [] : [[name, args[name]]])),
  )
  const find = async (askDaemon: boolean) => {
    const { findSettings } = await import('./client/settings.js')
    const settings = await findSettings(flags, process.env, { askDaemon })
    network = settings.known.network
    for (const warning of straysIn(process.env, flags)) complain(`overlayctl: ${warning}`)
    for (const note of settings.known.notes) {
      if (process.argv.includes('--debug')) complain(`overlayctl: ${note}`)
    }
    return settings
  }
  const local = async () => {
    const settings = await find(false)
    const { demandDaemon } = await import('./client/settings.js')
    demandDaemon(settings)
    return settings
  }
  return { local, settings: () => find(true) }
}

/** The words of the command line. The flags of docker-opts are read as flannel's shell script reads them. */
async function readWords(given: readonly string[]): Promise<string[]> {
  const [command = '', ...words] = given
  const isForYargs = words.some((word) => word === '--help' || word === '--version')
  if (command === 'docker-opts' && !isForYargs) {
    const { splitGetopts } = await import('./cli/verbs/docker-options.js')
    return [command, ...splitGetopts(words)]
  }
  return command === 'config'
    ? [command, ...words.map((word) => (word === '-' ? STANDARD_INPUT : word))]
    : // yargs passes no words after it to a command.
      joinDash(given.filter((word) => word !== '--'))
}

/** yargs would read a lone dash after `--output` as another word. */
const joinDash = (words: readonly string[]): string[] =>
  words.flatMap((word, place) => {
    if (word === '-' && words[place - 1] === '--output') return []
    return word === '--output' && words[place + 1] === '-' ? ['--output=-'] : [word]
  })

const isValued = (option: {
  readonly type?: unknown
  readonly choices?: unknown
  readonly string?: unknown
}): boolean => option.type === 'string' || option.choices !== undefined || option.string === true

/** Flags whose value may be a separate word. */
const VALUED: ReadonlySet<string> = new Set(
  [COMMON, GLOBAL, ...VERBS.map(({ options }) => options)].flatMap((options) =>
    Object.entries(options).flatMap(([name, option]) =>
      isValued(option)
        ? [`--${name}`, ...(option.alias === undefined ? [] : [`-${String(option.alias)}`])]
        : [],
    ),
  ),
)

/** The words that are neither flags nor values of flags. */
function bareWords(words: readonly string[]): string[] {
  const bare: string[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ''
    if (word === '--') return [...bare, ...words.slice(i + 1)]
    if (!word.startsWith('-') || word === '-') bare.push(word)
    else if (VALUED.has(word)) i++
  }
  return bare
}

/** @throws {UsageError} for an unknown command, with the one that was most likely meant */
function demandVerb([first, second]: readonly string[]): void {
  if (first === undefined) return
  if (!FIRST_WORDS.includes(first)) throw unknownWord(first, FIRST_WORDS, '')
  const below = VERBS.flatMap(({ path }) =>
    path.startsWith(`${first} `) ? [path.slice(first.length + 1)] : [],
  )
  if (below.length === 0 || second === undefined || below.includes(second)) return
  throw unknownWord(second, below, `${first} `)
}

function unknownWord(word: string, known: readonly string[], group: string): UsageError {
  const meant = nearest(word, known)
  const guess = meant === undefined ? '' : `, did you mean ${group}${meant}?`
  return new UsageError(
    `unknown command ${JSON.stringify(`${group}${word.slice(0, 60)}`)}${guess}`,
    `there are ${listOf(known.map((each) => `${group}${each}`))}`,
  )
}

const listOf = (words: readonly string[]): string => `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`

/** Whether the error means that there is no answer, as opposed to a bad answer. */
function isUnreachable(error: unknown): boolean {
  return (
    isOverlayError(error) &&
    (error.code.startsWith('etcd-') || ['control-socket', 'daemon-down'].includes(error.code))
  )
}

/** A usage error, with the word that was most likely meant. */
function explainUsage(message: string, cli: Argv): UsageError {
  const [, list = ''] = /^Unknown (?:arguments?|commands?): (.*)$/.exec(message) ?? []
  const meant = list.split(', ').flatMap((word) => (word === '' ? [] : (meantBy(word, cli) ?? [])))
  const [command] = bareWords(process.argv.slice(2))
  const fix = `see overlayctl ${command === undefined ? '--help' : `help ${command}`}`
  return new UsageError(message, meant.length === 0 ? fix : `did you mean ${meant.join(' and ')}?`)
}

/** @param cli the parser at the command that was being read */
function meantBy(word: string, cli: Argv): string | undefined {
  // yargs has this method, but its type does not.
  const parser = cli as unknown as { getOptions(): { readonly key: object } }
  const isFlag = process.argv.some((each) => each.replace(/^-+/, '-').split('=')[0] === `-${word}`)
  const found = isFlag ? nearest(word, Object.keys(parser.getOptions().key)) : undefined
  return found === undefined ? undefined : `--${found}`
}

/** Prints the error as one line, without its stack unless --debug is given. */
function fail(error: unknown): void {
  complain(`overlayctl: ${commandsFor(network, describeError(error))}`)
  if (process.argv.includes('--debug') && error instanceof Error) complainAtLength(String(error.stack))
  process.exitCode = isUsageError(error) || isUnreachable(error) ? EXIT.usage : EXIT.degraded
}

process.on('uncaughtException', (error) => {
  fail(error)
  process.exit()
})
// A reader that has read enough, such as head, is no error.
onReaderGone(() => process.exit(EXIT.healthy))

main().then((code) => {
  process.exitCode = code
}, fail)
