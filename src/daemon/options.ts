/**
 * Every option of the programs, in one schema: its input is text as flags and environment give it, its output typed
 * values; help, defaults and checks are read from it. Names and meanings are flannel's (main.go), the syntax is Go's `flag` package's.
 */
import yargs from 'yargs'
import { z } from 'zod'
import { parseIpv4 } from '../model/address'
import { OverlayError } from '../model/errors'

/** A wrong flag, value or variable: exit code 2. */
export class UsageError extends OverlayError {
  constructor(message: string, fix = 'see --help') {
    super('usage', message, fix)
  }
}

const text = z.string()

/** Go's integers (strconv.ParseInt with base 0): 0x10, 0o17, 0b1, 1_000. */
const integer = text.transform((value, context) => {
  const number = /^-?\d|^0/.test(value) ? Number(value.replaceAll('_', '')) : Number.NaN
  if (Number.isSafeInteger(number)) return number
  context.addIssue({ code: 'custom', message: 'a whole number is wanted' })
  return z.NEVER
})

/** Go's booleans (strconv.ParseBool). */
const flag = z
  .stringbool({
    truthy: ['1', 't', 'T', 'TRUE', 'true', 'True'],
    falsy: ['0', 'f', 'F', 'FALSE', 'false', 'False'],
    case: 'sensitive',
    error: 'true or false is wanted',
  })
  .meta({ boolean: true })

const ipv4Option = text.transform((value, context) => {
  if (value === '') return undefined
  const address = parseIpv4(value)
  if (address !== undefined) return address
  context.addIssue({ code: 'custom', message: 'an IPv4 address such as 192.0.2.1 is wanted' })
  return z.NEVER
})

const optionsSchema = z.object({
  'etcd-endpoints': text
    .min(1)
    .prefault('http://127.0.0.1:4001,http://127.0.0.1:2379')
    .describe('etcd endpoints, comma separated'),
  'etcd-prefix': text.min(1).prefault('/coreos.com/network').describe('etcd key prefix of this network'),
  iface: z
    .array(text)
    // An empty one is none, as with flannel: unit files pass variables that may be empty.
    .transform((names) => names.filter((name) => name !== ''))
    .prefault([])
    .describe(
      'underlay interface, by name or address; repeat for alternatives (default: that of the default route)',
    ),
  'public-ip': ipv4Option
    .prefault('')
    .describe('address other hosts send to (default: that of the underlay interface)'),
  'subnet-file': text
    .min(1)
    .prefault('/run/flannel/subnet.env')
    .describe('file that tells Docker and CNI the subnet'),
  'run-dir': text.min(1).prefault('/run/overlayd').describe('directory of the control socket'),
  v: integer
    .pipe(z.number().min(0))
    .prefault('0')
    .describe('log verbosity: 0 events, 1 details, 2 everything'),
  version: flag.prefault('false').describe('print the version and exit'),
  help: flag.prefault('false').describe('print this help and exit'),
})

export type Options = z.output<typeof optionsSchema>
type OptionName = keyof Options

/** What yargs needs to know of an option: read from the schema, so that it stands nowhere twice. */
interface YargsOption {
  readonly array: boolean
  /** False for booleans, whose text the schema reads. */
  readonly string: boolean
  readonly describe: string
}

/** The options of that name, for yargs. */
export function yargsOptions<Name extends OptionName>(names: readonly Name[]): Record<Name, YargsOption> {
  const { properties = {} } = z.toJSONSchema(optionsSchema, { io: 'input' })
  const entries = names.map((name): [Name, YargsOption] => {
    const property = properties[name]
    const schema = typeof property === 'object' ? property : {}
    const boolean = schema['boolean'] === true
    const fallback = typeof schema.default === 'string' && !boolean ? schema.default : ''
    const describe = `${schema.description ?? ''}${fallback === '' ? '' : ` (default: ${fallback})`}`
    return [name, { array: schema.type === 'array', string: !boolean, describe }]
  })
  return Object.fromEntries(entries) as Record<Name, YargsOption>
}

const optionNames = Object.keys(optionsSchema.shape) as OptionName[]

export type Invocation =
  | { readonly kind: 'run'; readonly options: Options }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }

/**
 * Reads overlayd's command line.
 * @param argv the words after the program's name
 * @throws {UsageError} naming the flag or variable, its value, and what is wanted
 */
export async function parseCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<Invocation> {
  const known = yargsOptions(optionNames)
  const parser = yargs(splitGoFlags(argv, known))
    .scriptName('overlayd')
    .usage(
      'overlayd: gives this Docker host a subnet out of one network and connects it with all others.\n\n' +
        'Usage: overlayd [--flag=value ...]',
    )
    // Before the options: both names are ours.
    .version(false)
    .help(false)
    .options(known)
    .epilogue(
      'Each flag may be written -flag or --flag, with "=" or a blank before its value; a boolean takes a value only with "=". ' +
        'Without a flag the variable FLANNELD_<FLAG> counts (upper case, "_" for "-").',
    )
    .parserConfiguration({ 'camel-case-expansion': false, 'boolean-negation': false })
    .wrap(100)
    .strict()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new UsageError(message)
    })
  const { _: _positional, $0: _program, ...flags } = parser.parseSync()
  const options = parseOptions(flags, env)
  if (options.help) return { kind: 'help', text: await parser.getHelp() }
  return options.version ? { kind: 'version' } : { kind: 'run', options }
}

/**
 * Completes flags with the environment and the defaults, and checks them.
 * @param flags values as text, by option name; of a scalar given several times the last counts
 * @throws {UsageError}
 */
export function parseOptions(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): Options {
  const input: Record<string, unknown> = {}
  for (const name of optionNames) {
    const given = flags[name]
    const variable = env[variableName(name)]
    if (given !== undefined) input[name] = name === 'iface' ? given : String([given].flat().at(-1))
    // An empty variable counts as unset; a repeatable option gets exactly one value (flannel: coreos/pkg/flagutil).
    else if (variable !== undefined && variable !== '' && !COMMANDS.has(name)) {
      input[name] = name === 'iface' ? [variable] : variable
    }
  }
  const result = optionsSchema.safeParse(input)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const name = String(issue?.path[0])
  const where = flags[name] === undefined ? `the variable ${variableName(name)}` : `the flag --${name}`
  throw new UsageError(`${where} is ${JSON.stringify(input[name])}: ${issue?.message ?? 'not valid'}`)
}

/** These are asked for, never set: flannel reads no variable for them either. */
const COMMANDS: ReadonlySet<string> = new Set(['version', 'help'])

const variableName = (option: string): string => `FLANNELD_${option.toUpperCase().replaceAll('-', '_')}`

/**
 * Brings Go's flag syntax into the one form `--name=value`: `-x`, `--x`, `=` or a blank; a boolean takes a value only with `=`.
 * @throws {UsageError} for a word that is no flag, an unknown flag, and a flag without its value
 */
function splitGoFlags(
  argv: readonly string[],
  known: Readonly<Record<string, Pick<YargsOption, 'string'>>>,
): string[] {
  const words: string[] = []
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ''
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word)
    if (match === null) throw new UsageError(`"${word}" is not a flag, and there are no arguments`)
    const [, spelled = '', inline] = match
    const name = spelled === 'h' ? 'help' : spelled
    const option = Object.hasOwn(known, name) ? known[name] : undefined
    if (option === undefined) throw new UsageError(`there is no flag --${name}`)
    const value = inline ?? (option.string ? argv[++i] : 'true')
    if (value === undefined) throw new UsageError(`the flag --${name} needs a value`)
    words.push(`--${name}=${value}`)
  }
  return words
}
