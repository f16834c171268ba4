/**
 * The schema of all options of the programs. Its input is text from flags and environment, its output typed
 * values. Help, defaults and checks are derived from it. Names and meanings are flannel's (main.go); the
 * syntax is that of Go's `flag` package.
 */
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { z } from 'zod'
import { formatIp, type IpAddress, parseIp, parseIpv4, parseIpv6 } from '../model/address'
import { DEFAULT_DOCKER_MARK, formatMark, parseMark } from '../model/docker-mark'
import { checkForeignFlag, foreignFlagNames, isForeignBoolean } from './foreign-flags'
import { type GivenFlag, goBoolean, goInteger, readGoFlags } from './go-flags'
import { compileGoRegex } from './go-regex'
import { strayVariables } from './stray-variables'
import { UsageError } from './usage-error'

export { UsageError } from './usage-error'

const text = z.string()
const notEmpty = text.min(1, { error: 'expected a value' })
const off = goBoolean.prefault('false')
const on = goBoolean.prefault('true')

const integerFrom = (least: number, most: number) => {
  const error = `expected a whole number from ${least} to ${most}`
  return goInteger.pipe(z.number().min(least, { error }).max(most, { error }))
}

/** Empty text means no address, as in flannel: unit files pass variables that may be empty. */
const addressOption = <A extends IpAddress>(parse: (text: string) => A | undefined, wanted: string) =>
  text
    .transform((value, context) => {
      if (value === '') return undefined
      const address = parse(value)
      if (address !== undefined) return address
      context.addIssue({ code: 'custom', message: `expected ${wanted}` })
      return z.NEVER
    })
    .prefault('')

const list = z.array(text).transform((values) => values.filter((value) => value !== ''))

const mark = text.transform((value, context) => {
  if (value === 'off') return undefined
  const bit = parseMark(value)
  if (bit !== undefined) return bit
  context.addIssue({ code: 'custom', message: 'expected off or one bit other than 0x4000, such as 0x1000' })
  return z.NEVER
})

const patterns = list
  .transform((values, context) =>
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
  .prefault([])

/**
 * A heading of --help.
 * @returns a function that adds the description of an option under that heading; `usually` describes a
 *   default that is not a fixed text
 */
const inGroup =
  (group: string) =>
  <T extends z.ZodType>(schema: T, description: string, usually = ''): T =>
    schema.meta({ group, description, usually })

const etcd = inGroup('etcd:')
const underlay = inGroup('Underlay interface:')
const files = inGroup('Files:')
const firewall = inGroup('Firewall and routing:')
const probing = inGroup('Probing:')
const health = inGroup('Health:')
const metrics = inGroup('Metrics:')
const logging = inGroup('Logging:')
const about = inGroup('About:')

const DEFAULT_PREFIX = '/coreos.com/network'
const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env'

const optionsSchema = z.object({
  'etcd-endpoints': etcd(
    notEmpty.prefault('http://127.0.0.1:4001,http://127.0.0.1:2379'),
    'etcd endpoints, comma separated',
  ),
  'etcd-discovery-srv': etcd(
    text.prefault(''),
    'DNS domain whose SRV records name the endpoints, instead of --etcd-endpoints',
  ),
  'etcd-prefix': etcd(notEmpty.prefault(DEFAULT_PREFIX), 'etcd key prefix of this network'),
  'etcd-cafile': etcd(
    text.prefault(''),
    "file of the CA that etcd's certificate is checked against",
    "the system's",
  ),
  'etcd-certfile': etcd(text.prefault(''), 'file of the client certificate for etcd'),
  'etcd-keyfile': etcd(text.prefault(''), "file of the client certificate's key"),
  'etcd-username': etcd(text.prefault(''), 'user name for etcd'),
  'etcd-password': etcd(
    text.prefault(''),
    'password for etcd; better set FLANNELD_ETCD_PASSWORD, because every user can read command lines',
  ),
  'subnet-lease-renew-margin': etcd(
    integerFrom(1, 1439).prefault('60'),
    'minutes before the end of the lease at which it is renewed at the latest',
  ),
  'peer-removal-grace': etcd(
    integerFrom(0, 86_400).prefault('60'),
    'seconds to keep peers when most of them disappear from etcd at once, in case etcd is wrong; 0 for none',
  ),
  iface: underlay(
    list.prefault([]),
    'underlay interface, by name or address; repeat for alternatives',
    "the default route's",
  ),
  'iface-regex': underlay(
    patterns,
    'pattern for the address or, if no address matches, the name of an interface; repeat for alternatives',
  ),
  'iface-can-reach': underlay(
    addressOption(parseIp, 'an address such as 192.0.2.1 or 2001:db8::1'),
    'use the interface through which this address is reached',
  ),
  'public-ip': underlay(
    addressOption(parseIpv4, 'an IPv4 address such as 192.0.2.1'),
    'address other hosts send to',
    "the underlay interface's",
  ),
  'public-ipv6': underlay(
    addressOption(parseIpv6, 'an IPv6 address such as 2001:db8::1'),
    'the same for IPv6',
    "the underlay interface's",
  ),
  'allow-network-overlap': underlay(
    off,
    'start even if the network contains an address of the underlay, of etcd or of the default gateway',
  ),
  'subnet-file': files(notEmpty.prefault(DEFAULT_SUBNET_FILE), 'file that tells Docker and CNI the subnet'),
  'run-dir': files(
    text.prefault(''),
    'directory of the control socket',
    '/run/overlayd; a further network of a host has its own',
  ),
  'state-dir': files(
    text.prefault(''),
    'directory for state that survives a reboot',
    "the unit's StateDirectory, else /var/lib/overlayd; a further network has its own",
  ),
  'ip-masq': firewall(off, 'masquerade packets that leave the network'),
  'ip-masq-fully-random-disable': firewall(off, 'masquerade without random source ports (no --random-fully)'),
  'iptables-forward-rules': firewall(on, 'accept forwarded packets of the network; also with nftables'),
  'iptables-resync': firewall(
    integerFrom(1, 86_400).prefault('5'),
    'seconds between checks of the firewall rules',
  ),
  'docker-mark': firewall(
    mark.prefault(formatMark(DEFAULT_DOCKER_MARK)),
    "the bit of a packet's mark by which Docker's nftables backend accepts packets of other hosts; off for " +
      'none',
  ),
  'ip-blackhole-route': firewall(off, "drop packets to unused addresses of this host's subnet"),
  'ip-forward': firewall(on, 'enable IP forwarding in the kernel'),
  multicast: firewall(
    z.enum(['auto', 'off'], { error: 'expected auto or off' }).prefault('auto'),
    "exchange containers' multicast with other hosts: auto follows the network config, off never",
  ),
  encryption: firewall(
    z.enum(['auto', 'off'], { error: 'expected auto or off' }).prefault('auto'),
    'encrypt packets to other hosts by WireGuard: auto follows the network config, off never',
  ),
  'encryption-key-days': firewall(
    integerFrom(0, 36_500).prefault('30'),
    'days for which a WireGuard key is used; 0 for ever (overlayctl rotate-key changes it at once)',
  ),
  probe: probing(
    z.enum(['on', 'off'], { error: 'expected on or off' }).prefault('on'),
    'send echo requests to other hosts, to tell whether they are reached',
  ),
  'probe-interval': probing(
    integerFrom(1, 60).prefault('1'),
    'seconds between two rounds of requests; each round is a few packets, however many hosts there are',
  ),
  'path-mtu': probing(
    z.enum(['auto', 'off'], { error: 'expected auto or off' }).prefault('auto'),
    'give the route to a host the MTU of its path, where that is smaller than the device has: auto or off',
  ),
  'healthz-ip': health(text.prefault('0.0.0.0'), 'address to serve /healthz and /readyz on'),
  'healthz-port': health(integerFrom(0, 65_535).prefault('0'), 'port to serve them on; 0 for none'),
  'metrics-ip': metrics(text.prefault('127.0.0.1'), 'address to serve /metrics on, for Prometheus'),
  'metrics-port': metrics(
    integerFrom(0, 65_535).prefault('0'),
    'port to serve them on; 0 for none (overlayctl metrics prints them anyway)',
  ),
  v: logging(
    integerFrom(0, Number.MAX_SAFE_INTEGER).prefault('0'),
    'log verbosity: 0 events, 1 details, 2 everything',
  ),
  version: about(off, 'print the version and exit'),
  help: about(off, 'print this help and exit'),
})

export type Options = z.output<typeof optionsSchema>
type OptionName = keyof Options

const optionNames = Object.keys(optionsSchema.shape) as OptionName[]

/** The options that say where etcd is and how to authenticate, for every program that talks to etcd. */
export const ETCD_OPTIONS = [
  'etcd-endpoints',
  'etcd-discovery-srv',
  'etcd-prefix',
  'etcd-cafile',
  'etcd-certfile',
  'etcd-keyfile',
  'etcd-username',
  'etcd-password',
] as const satisfies readonly OptionName[]

/** These options in the form the etcd client takes. */
export function etcdOptions(options: Pick<Options, (typeof ETCD_OPTIONS)[number]>) {
  return {
    endpoints: options['etcd-endpoints'],
    discoverySrv: options['etcd-discovery-srv'],
    tls: {
      caFile: options['etcd-cafile'],
      certFile: options['etcd-certfile'],
      keyFile: options['etcd-keyfile'],
    },
    auth: { username: options['etcd-username'], password: options['etcd-password'] },
  }
}

/** The etcd endpoints as given, for people. */
export const etcdEndpointNames = (
  options: Pick<Options, 'etcd-endpoints' | 'etcd-discovery-srv'>,
): string[] =>
  options['etcd-discovery-srv'] === ''
    ? options['etcd-endpoints'].split(',')
    : [`SRV records of ${options['etcd-discovery-srv']}`]

/** One option as --help, man pages, completions and the pages for operators show it. Read from the schema. */
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
export function documentedOptions(names: readonly OptionName[] = optionNames): DocumentedOption[] {
  const { properties = {} } = z.toJSONSchema(optionsSchema, { io: 'input' })
  return names.map((name) => {
    const property = properties[name]
    const schema = typeof property === 'object' ? property : {}
    const isBoolean = schema['boolean'] === true
    const given = typeof schema.default === 'string' ? schema.default : ''
    return {
      name,
      group: String(schema['group']).replace(/:$/, ''),
      kind: isBoolean ? 'boolean' : schema.type === 'array' ? 'list' : 'text',
      description: schema.description ?? '',
      fallback: isBoolean && given === 'false' ? '' : given,
      usually: String(schema['usually']),
    }
  })
}

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
export const daemonOptions = (): Readonly<Record<string, YargsOption>> => yargsOptions(optionNames)

/**
 * The default of an option, which shows the option's kind. Cheaper than its JSON schema, which each start
 * would compute.
 */
const defaultOf = (name: OptionName): unknown => optionsSchema.shape[name].parse(undefined)
/** Options that may be given several times; all values count. */
const REPEATABLE: ReadonlySet<string> = new Set(optionNames.filter((name) => Array.isArray(defaultOf(name))))
const BOOLEAN: ReadonlySet<string> = new Set(
  optionNames.filter((name) => typeof defaultOf(name) === 'boolean'),
)

export type Invocation =
  | {
      readonly kind: 'run'
      readonly options: Options
      /** Flags and variables that were given and have no effect. */
      readonly warnings: readonly string[]
    }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }

/**
 * Reads overlayd's command line.
 * @param argv the words after the program's name
 * @throws {UsageError} naming the flag or variable, its value, and what is expected
 */
export async function parseCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<Invocation> {
  const isOption = (name: string): name is OptionName => Object.hasOwn(optionsSchema.shape, name)
  const given = readGoFlags(argv, (name) => (isOption(name) ? BOOLEAN.has(name) : isForeignBoolean(name)))
  const flags: Record<string, string[]> = {}
  for (const { name, value } of given) {
    if (isOption(name)) flags[name] = [...(flags[name] ?? []), value]
  }
  // --help and --version are answered even if other flags are wrong.
  const { help, version } = parseOptions({ help: flags['help'], version: flags['version'] }, {})
  if (help) return { kind: 'help', text: await helpText() }
  if (version) return { kind: 'version' }
  const warnings = [
    ...readForeignFlags(
      given.filter(({ name }) => !isOption(name)),
      env,
    ),
    ...straysIn(env, flags),
    ...(flags['etcd-password'] === undefined
      ? []
      : [
          '--etcd-password shows in the process list, which every user of this host can read: ' +
            'set FLANNELD_ETCD_PASSWORD in a file that only root can read instead',
        ]),
  ]
  return { kind: 'run', options: parseOptions(flags, env), warnings }
}

/** Warnings about variables that look like ours and have no effect. */
export function straysIn(env: NodeJS.ProcessEnv, flags: Readonly<Record<string, unknown>>): string[] {
  const settable = optionNames.filter((name) => !COMMANDS.has(name))
  return strayVariables(
    env,
    settable,
    (option) => flags[option] !== undefined || (env[variableName(option)] ?? '') !== '',
  )
}

/** The words around the options in --help and in the man page. */
export const DAEMON_HELP = {
  about: 'overlayd: gives this Docker host a subnet out of one network and connects it with all others.',
  notes:
    'Each flag may be written -flag or --flag, with "=" or a blank before its value; a boolean takes a ' +
    'value only with "=". Without a flag the variable FLANNELD_<FLAG> counts (upper case, "_" for "-").',
} as const

/**
 * Loads yargs only here, because a start of the daemon needs no help. Not by import(): that yargs breaks
 * lines within words.
 */
async function helpText(): Promise<string> {
  const yargs: typeof import('yargs', { with: { 'resolution-mode': 'require' }}) = require('yargs')
  return (
    yargs([])
      .scriptName('overlayd')
      .usage(`${DAEMON_HELP.about}\n\nUsage: overlayd [--flag=value ...]`)
      // Before the options: both names are ours.
      .version(false)
      .help(false)
      .options(yargsOptions(optionNames))
      .epilogue(DAEMON_HELP.notes)
      .wrap(100)
      .getHelp()
  )
}

/** Options as text, from flags, variables and files. */
export type OptionTexts = Readonly<Record<string, string | readonly string[]>>

/**
 * Collects the text of options from flags and environment, unchecked.
 * @param flags values as text by option name; the last value of a scalar counts
 */
export function givenTexts(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): OptionTexts {
  const input: Record<string, string | readonly string[]> = {}
  for (const name of optionNames) {
    const given = flags[name]
    const variable = env[variableName(name)]
    if (given !== undefined) {
      input[name] = REPEATABLE.has(name) ? [given].flat().map(String) : String([given].flat().at(-1))
    }
    // An empty variable counts as unset. A repeatable option gets one value from it (flannel:
    // coreos/pkg/flagutil).
    else if (variable !== undefined && variable !== '' && !COMMANDS.has(name)) {
      input[name] = REPEATABLE.has(name) ? [variable] : variable
    }
  }
  return input
}

/**
 * Completes flags with the environment and the defaults, and checks them.
 * @param flags values as text by option name; the last value of a scalar counts
 * @throws {UsageError}
 */
export function parseOptions(flags: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): Options {
  const input = givenTexts(flags, env)
  const result = optionsSchema.safeParse(input)
  if (result.success) {
    const { data } = result
    return {
      ...data,
      'run-dir': data['run-dir'] || runDirectory(data),
      'state-dir': data['state-dir'] || unitStateDirectory(env) || stateDirectory(data),
    }
  }
  const issue = result.error.issues[0]
  const name = String(issue?.path[0])
  const where = flags[name] === undefined ? `the variable ${variableName(name)}` : `the flag --${name}`
  throw new UsageError(`${where} is ${JSON.stringify(input[name])}: ${issue?.message ?? 'not valid'}`)
}

/** Why a text is not a valid value of an option; `undefined` if it is valid. */
export function objectionTo(name: string, text: string | readonly string[]): string | undefined {
  if (!Object.hasOwn(optionsSchema.shape, name)) return 'there is no such option'
  const result = optionsSchema.shape[name as OptionName].safeParse(text)
  return result.success ? undefined : (result.error.issues[0]?.message ?? 'not valid')
}

/** Whether the option's value is the path of a file or a directory. */
export const isPath = (name: string): boolean => /(?:file|-dir)$/.test(name)

/**
 * Options that {@link shareableOptions} leaves out: commands, a secret, and patterns, whose original text is
 * lost.
 */
const NOT_SHARED: ReadonlySet<string> = new Set(['help', 'version', 'etcd-password', 'iface-regex'])

/**
 * The options in use as text, for another program of this host. The password is left out: a program may have
 * access to the control socket only to read the metrics.
 */
export function shareableOptions(options: Options): OptionTexts {
  const shared = optionNames.filter((name) => !NOT_SHARED.has(name))
  return Object.fromEntries(
    shared.map((name) => {
      const value = options[name]
      if (Array.isArray(value)) return [name, value.map(String)]
      if (value === undefined || value === '') return [name, '']
      // The other program may run in another working directory.
      if (isPath(name)) return [name, resolve(String(value))]
      return [name, ADDRESSES.has(name) ? formatIp(value as IpAddress) : String(value)]
    }),
  )
}

/**
 * Id that distinguishes a further network's instance on a host from the first one, in names that would
 * otherwise be equal: firewall chains, run directory. A host with one network changes at most one of prefix
 * and subnet file, and needs no id; a further instance must change both (flannel's functional test `multi`).
 * @returns eight hexadecimal digits; `undefined` for the first instance
 */
export function instanceId(options: Pick<Options, 'etcd-prefix' | 'subnet-file'>): string | undefined {
  const { 'etcd-prefix': prefix, 'subnet-file': file } = options
  if (prefix === DEFAULT_PREFIX || file === DEFAULT_SUBNET_FILE) return undefined
  return createHash('sha256').update(`${prefix}\n${file}`).digest('hex').slice(0, 8)
}

function runDirectory(options: Pick<Options, 'etcd-prefix' | 'subnet-file'>): string {
  const id = instanceId(options)
  return id === undefined ? '/run/overlayd' : `/run/overlayd-${id}`
}

function stateDirectory(options: Pick<Options, 'etcd-prefix' | 'subnet-file'>): string {
  const id = instanceId(options)
  return id === undefined ? '/var/lib/overlayd' : `/var/lib/overlayd-${id}`
}

/**
 * The directory that systemd made for StateDirectory=; the first one if there are several (systemd.exec(5)).
 */
const unitStateDirectory = (env: NodeJS.ProcessEnv): string | undefined =>
  env['STATE_DIRECTORY']?.split(':')[0]

const SECRETS: ReadonlySet<OptionName> = new Set(['etcd-password'])
const ADDRESSES: ReadonlySet<OptionName> = new Set(['iface-can-reach', 'public-ip', 'public-ipv6'])

/**
 * The options that differ from their defaults, for the log: `etcd-prefix=/a iface=eth0`. Secrets are masked.
 */
export function describeOptions(options: Options): string {
  const defaults = parseOptions({}, {})
  return optionNames
    .filter((name) => String(options[name]) !== String(defaults[name]))
    .map((name) => `${name}=${describeValue(name, options[name])}`)
    .join(' ')
}

function describeValue(name: OptionName, value: Options[OptionName]): string {
  if (SECRETS.has(name)) return '(not shown)'
  if (ADDRESSES.has(name)) return formatIp(value as IpAddress)
  return [value]
    .flat()
    .map((each) => (each instanceof RegExp ? each.source : String(each)))
    .join(',')
}

/** Options that are commands. They have no variable, as in flannel. */
const COMMANDS: ReadonlySet<string> = new Set(['version', 'help'])

export const variableName = (option: string): string =>
  `FLANNELD_${option.toUpperCase().replaceAll('-', '_')}`

/**
 * One warning for all flags and variables of flannel without effect.
 * @throws {UsageError} if one of them cannot be ignored
 */
function readForeignFlags(given: readonly GivenFlag[], env: NodeJS.ProcessEnv): string[] {
  const last = new Map(given.map((flag) => [flag.name, flag]))
  const seen = foreignFlagNames.flatMap((name) => {
    const flag = last.get(name)
    const variable = env[variableName(name)] ?? ''
    if (flag === undefined && variable === '') return []
    const where = flag === undefined ? variableName(name) : `--${name}`
    checkForeignFlag(flag ?? { name, value: variable }, where)
    return [where]
  })
  return seen.length === 0 ? [] : [`flannel flags without effect in overlayd: ${seen.join(', ')}`]
}
