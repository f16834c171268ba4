/**
 * The schemas of all options of the programs, made from the table. Their input is text from flags and
 * environment, their output typed values. A schema is made when the first text of its kind is read: most
 * commands of overlayctl are given no options.
 */
import { z } from 'zod'
import { type IpAddress, type Ipv4, type Ipv6, parseIp, parseIpv4, parseIpv6 } from '../model/address'
import { parseMark } from '../model/docker-mark'
import { parseGoBoolean, parseGoInteger } from './go-flags'
import { compileGoRegex } from './go-regex'
import { runDirectory, stateDirectory } from './instance'
import {
  isOption,
  isRepeatable,
  OPTION_NAMES,
  OPTIONS,
  type OptionName,
  type Value,
  variableName,
} from './table'
import { givenTexts } from './texts'
import { UsageError } from './usage-error'

/** What becomes of the text of a kind of value. */
type Parsed<V extends Value> = V extends { kind: 'boolean' }
  ? boolean
  : V extends { kind: 'text' | 'filled-text' }
    ? string
    : V extends { kind: 'integer' }
      ? number
      : V extends { kind: 'choice' }
        ? V['choices'][number]
        : V extends { kind: 'address' }
          ? { IPv4: Ipv4; IPv6: Ipv6; any: IpAddress }[V['family']] | undefined
          : V extends { kind: 'mark' }
            ? number | undefined
            : V extends { kind: 'list' }
              ? readonly string[]
              : readonly RegExp[]

export type Options = { readonly [Name in OptionName]: Parsed<(typeof OPTIONS)[Name]['value']> }

const text = z.string()

/** Reads a text; undefined means that it is wrong. */
type Read<T> = (text: string) => T | undefined

function readOr<T>(read: Read<T>, wanted: string, value: string, context: z.RefinementCtx<string>): T {
  const found = read(value)
  if (found !== undefined) return found
  context.addIssue({ code: 'custom', message: `expected ${wanted}` })
  return z.NEVER
}

const readBy = <T>(read: Read<T>, wanted: string) =>
  text.transform((value, context) => readOr(read, wanted, value, context))

/** @param none the text that stands for no value */
const readUnless = <T>(none: string, read: Read<T>, wanted: string) =>
  text.transform((value, context) => (value === none ? undefined : readOr(read, wanted, value, context)))

const list = () => z.array(text).transform((values) => values.filter((value) => value !== ''))

const patterns = () =>
  list().transform((values, context) =>
    values.map((value) => {
      try {
        return compileGoRegex(value)
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        context.addIssue({ code: 'custom', message: `${JSON.stringify(value)}: ${reason}` })
        return z.NEVER
      }
    }),
  )

/** What reads an address of a family, and an example. */
const ADDRESSES = {
  IPv4: [parseIpv4, 'an IPv4 address such as 192.0.2.1'],
  IPv6: [parseIpv6, 'an IPv6 address such as 2001:db8::1'],
  any: [parseIp, 'an address such as 192.0.2.1 or 2001:db8::1'],
} as const

type ValueOf<K extends Value['kind']> = Extract<Value, { kind: K }>

/** Kind of value -> what makes its schema. */
const MAKERS: {
  readonly [K in Value['kind']]: (value: ValueOf<K>) => z.ZodType<Parsed<ValueOf<K>>>
} = {
  boolean: () => readBy(parseGoBoolean, 'true or false'),
  text: () => text,
  'filled-text': () => text.min(1, { error: 'expected a value' }),
  integer: ({ least, most }) => {
    const error = `expected a whole number from ${least} to ${most}`
    return readBy(parseGoInteger, 'a whole number').pipe(
      z.number().min(least, { error }).max(most, { error }),
    )
  },
  choice: ({ choices }) => z.enum(choices, { error: `expected ${choices.join(' or ')}` }),
  address: ({ family }) => {
    const [parse, wanted] = ADDRESSES[family]
    return readUnless<IpAddress>('', parse, wanted)
  },
  mark: () => readUnless('off', parseMark, 'off or one bit other than 0x4000, such as 0x1000'),
  list: () => list(),
  patterns: () => patterns(),
}

const makeSchema = (value: Value): z.ZodType => (MAKERS[value.kind] as (value: Value) => z.ZodType)(value)

/** The schemas that were needed so far. Many options share a value, and with it the schema. */
const schemas = new Map<Value, z.ZodType>()

function schemaOf(name: OptionName): z.ZodType {
  const { value } = OPTIONS[name]
  const known = schemas.get(value)
  if (known !== undefined) return known
  const made = makeSchema(value)
  schemas.set(value, made)
  return made
}

/** Defaults that were needed so far. */
const defaults = new Map<OptionName, unknown>()

function defaultOf(name: OptionName): unknown {
  if (!defaults.has(name)) {
    defaults.set(name, schemaOf(name).parse(isRepeatable(name) ? [] : OPTIONS[name].fallback))
  }
  return defaults.get(name)
}

/**
 * Completes flags with the environment and the defaults, and checks them.
 * @param flags values as text by option name; the last value of a scalar counts
 * @throws {UsageError}
 */
export function parseOptions(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): Options {
  const options = parseGiven(OPTION_NAMES, flags, env)
  return {
    ...options,
    'run-dir': options['run-dir'] || runDirectory(options),
    'state-dir': options['state-dir'] || unitStateDirectory(env) || stateDirectory(options),
  }
}

/**
 * The same for one option, by its flag or its default.
 * @throws {UsageError}
 */
export const parseFlag = <Name extends OptionName>(
  name: Name,
  flags: Readonly<Record<string, unknown>>,
): Options[Name] => parseGiven([name], flags, {})[name]

function parseGiven<Name extends OptionName>(
  names: readonly Name[],
  flags: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
): Pick<Options, Name> {
  const given = givenTexts(flags, env)
  const entries = names.map((name) => {
    const said = given[name]
    if (said === undefined) return [name, defaultOf(name)]
    const result = schemaOf(name).safeParse(said)
    if (result.success) return [name, result.data]
    const where = flags[name] === undefined ? `the variable ${variableName(name)}` : `the flag --${name}`
    throw new UsageError(`${where} is ${JSON.stringify(said)}: ${whyNot(result.error)}`)
  })
  return Object.fromEntries(entries) as Pick<Options, Name>
}

const whyNot = ({ issues }: z.ZodError): string => issues[0]?.message ?? 'not valid'

/** Why a text is not a valid value of an option; `undefined` if it is valid. */
export function objectionTo(name: string, given: string | readonly string[]): string | undefined {
  if (!isOption(name)) return 'there is no such option'
  const result = schemaOf(name).safeParse(given)
  return result.success ? undefined : whyNot(result.error)
}

/**
 * The directory that systemd made for StateDirectory=; the first one if there are several (systemd.exec(5)).
 */
const unitStateDirectory = (env: NodeJS.ProcessEnv): string | undefined =>
  env['STATE_DIRECTORY']?.split(':')[0]
