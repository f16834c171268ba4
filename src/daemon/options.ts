/**
 * Every option of the programs, in one schema: its input is text as flags and environment give it, its output typed
 * values; help, defaults and checks are read from it. Names and meanings are flannel's (main.go), the syntax is Go's `flag` package's.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { EtcdOptions } from '../etcd/client'
import { formatIp, type IpAddress, parseIp, parseIpv4, parseIpv6 } from '../model/address'
import { checkForeignFlag, foreignFlagNames, isForeignBoolean } from './foreign-flags'
import { type GivenFlag, goBoolean, goInteger, readGoFlags } from './go-flags'
import { compileGoRegex } from './go-regex'
import { UsageError } from './usage-error'

export { UsageError } from './usage-error'

const text = z.string()
const notEmpty = text.min(1, { error: 'a value is wanted' })
const off = goBoolean.prefault('false')
const on = goBoolean.prefault('true')

const integerFrom = (least: number, most: number) => {
  const error = `a whole number from ${least} to ${most} is wanted`
  return goInteger.pipe(z.number().min(least, { error }).max(most, { error }))
}

/** An empty one is none, as with flannel: unit files pass variables that may be empty. */
const addressOption = <A extends IpAddress>(parse: (text: string) => A | undefined, wanted: string) =>
  text
    .transform((value, context) => {
      if (value === '') return undefined
      const address = parse(value)
      if (address !== undefined) return address
      context.addIssue({ code: 'custom', message: `${wanted} is wanted` })
      return z.NEVER
    })
    .prefault('')

const list = z.array(text).transform((values) => values.filter((value) => value !== ''))

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

/** The headings of --help. */
const inGroup =
  (group: string) =>
  <T extends z.ZodType>(schema: T, description: string): T =>
    schema.meta({ group, description })

const etcd = inGroup('etcd:')
const underlay = inGroup('Underlay interface:')
const files = inGroup('Files:')
const firewall = inGroup('Firewall and routing:')
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
    "file of the CA that etcd's certificate is checked against (default: the system's)",
  ),
  'etcd-certfile': etcd(text.prefault(''), 'file of the client certificate for etcd'),
  'etcd-keyfile': etcd(text.prefault(''), "file of the client certificate's key"),
  'etcd-username': etcd(text.prefault(''), 'user name for etcd'),
  'etcd-password': etcd(
    text.prefault(''),
    'its password; better in the variable FLANNELD_ETCD_PASSWORD, for everyone can read command lines',
  ),
  'subnet-lease-renew-margin': etcd(
    integerFrom(1, 1439).prefault('60'),
    'minutes before the end of its lease at which the lease is renewed at the latest',
  ),
  'peer-removal-grace': etcd(
    integerFrom(0, 86_400).prefault('60'),
    'seconds for which peers are kept when most of them are gone from etcd at once, in case etcd is wrong; 0 for none',
  ),
  iface: underlay(
    list.prefault([]),
    'underlay interface, by name or address; repeat for alternatives (default: that of the default route)',
  ),
  'iface-regex': underlay(
    patterns,
    'pattern for an address or, where none matches, a name of an interface; repeat for alternatives',
  ),
  'iface-can-reach': underlay(
    addressOption(parseIp, 'an address such as 192.0.2.1 or 2001:db8::1'),
    'take the interface over which this address is reached',
  ),
  'public-ip': underlay(
    addressOption(parseIpv4, 'an IPv4 address such as 192.0.2.1'),
    'address other hosts send to (default: that of the underlay interface)',
  ),
  'public-ipv6': underlay(
    addressOption(parseIpv6, 'an IPv6 address such as 2001:db8::1'),
    'the same for IPv6 (default: that of the underlay interface)',
  ),
  'allow-network-overlap': underlay(
    off,
    'start although the network covers an address of the underlay, of etcd or of the default gateway',
  ),
  'subnet-file': files(notEmpty.prefault(DEFAULT_SUBNET_FILE), 'file that tells Docker and CNI the subnet'),
  'run-dir': files(
    text.prefault(''),
    'directory of the control socket (default: /run/overlayd, and one of its own for a further network of a host)',
  ),
  'state-dir': files(
    text.prefault(''),
    "directory of what is remembered over a reboot (default: the unit's StateDirectory, else /var/lib/overlayd, and one of its own for a further network)",
  ),
  'ip-masq': firewall(off, 'masquerade what leaves the network'),
  'ip-masq-fully-random-disable': firewall(
    off,
    'masquerade without choosing source ports at random (--random-fully)',
  ),
  'iptables-forward-rules': firewall(on, 'accept forwarded packets of the network; also with nftables'),
  'iptables-resync': firewall(
    integerFrom(1, 86_400).prefault('5'),
    'seconds between two looks whether the rules are there',
  ),
  'ip-blackhole-route': firewall(off, "drop what goes to addresses of this host's subnet that nobody has"),
  'ip-forward': firewall(on, 'switch forwarding on in the kernel'),
  multicast: firewall(
    z.enum(['auto', 'off'], { error: 'auto or off is wanted' }).prefault('auto'),
    "exchange containers' multicast with other hosts: auto as the network config says, off never",
  ),
  'healthz-ip': health(text.prefault('0.0.0.0'), 'address to serve /healthz and /readyz on'),
  'healthz-port': health(integerFrom(0, 65_535).prefault('0'), 'port to serve them on; 0 for none'),
  'metrics-ip': metrics(text.prefault('127.0.0.1'), 'address to serve /metrics on, for Prometheus'),
  'metrics-port': metrics(
    integerFrom(0, 65_535).prefault('0'),
    'port to serve them on; 0 for none, and overlayctl metrics prints them all the same',
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

/** The options that say where etcd is and how to get in, for every program that talks to it. */
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

/** The same as the etcd client wants it. */
export function etcdOptions(options: Pick<Options, (typeof ETCD_OPTIONS)[number]>): EtcdOptions {
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

/** Where etcd is to be, for people. */
export const etcdEndpointNames = (
  options: Pick<Options, 'etcd-endpoints' | 'etcd-discovery-srv'>,
): string[] =>
  options['etcd-discovery-srv'] === ''
    ? options['etcd-endpoints'].split(',')
    : [`SRV records of ${options['etcd-discovery-srv']}`]

/** What yargs needs to know of an option: read from the schema, so that it stands nowhere twice. */
interface YargsOption {
  readonly array: boolean
  /** False for booleans, whose text the schema reads. */
  readonly string: boolean
  readonly describe: string
  readonly group: string
}

/** The options of that name, for yargs. */
export function yargsOptions<Name extends OptionName>(names: readonly Name[]): Record<Name, YargsOption> {
  const { properties = {} } = z.toJSONSchema(optionsSchema, { io: 'input' })
  const entries = names.map((name): [Name, YargsOption] => {
    const property = properties[name]
    const schema = typeof property === 'object' ? property : {}
    const boolean = schema['boolean'] === true
    const given = typeof schema.default === 'string' ? schema.default : ''
    const fallback = boolean && given === 'false' ? '' : given
    const describe = `${schema.description ?? ''}${fallback === '' ? '' : ` (default: ${fallback})`}`
    const group = String(schema['group'])
    return [name, { array: schema.type === 'array', string: !boolean, describe, group }]
  })
  return Object.fromEntries(entries) as Record<Name, YargsOption>
}

/** What an option is by default tells its kind. Cheaper than asking for its JSON schema, and every start asks. */
const defaultOf = (name: OptionName): unknown => optionsSchema.shape[name].parse(undefined)
/** These may be given several times, and all count. */
const REPEATABLE: ReadonlySet<string> = new Set(optionNames.filter((name) => Array.isArray(defaultOf(name))))
const BOOLEAN: ReadonlySet<string> = new Set(
  optionNames.filter((name) => typeof defaultOf(name) === 'boolean'),
)

export type Invocation =
  | {
      readonly kind: 'run'
      readonly options: Options
      /** What was given and has no effect. */
      readonly warnings: readonly string[]
    }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }

/**
 * Reads overlayd's command line.
 * @param argv the words after the program's name
 * @throws {UsageError} naming the flag or variable, its value, and what is wanted
 */
export async function parseCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<Invocation> {
  const isOption = (name: string): name is OptionName => Object.hasOwn(optionsSchema.shape, name)
  const given = readGoFlags(argv, (name) => (isOption(name) ? BOOLEAN.has(name) : isForeignBoolean(name)))
  const flags: Record<string, string[]> = {}
  for (const { name, value } of given) {
    if (isOption(name)) flags[name] = [...(flags[name] ?? []), value]
  }
  // Asked for, they are answered whatever else is wrong.
  const { help, version } = parseOptions({ help: flags['help'], version: flags['version'] }, {})
  if (help) return { kind: 'help', text: await helpText() }
  if (version) return { kind: 'version' }
  const warnings = readForeignFlags(
    given.filter(({ name }) => !isOption(name)),
    env,
  )
  return { kind: 'run', options: parseOptions(flags, env), warnings }
}

/** Only now yargs is loaded: a start of the daemon needs no help. Not by import(), whose yargs wraps its lines within words. */
async function helpText(): Promise<string> {
  const yargs: typeof import('yargs', { with: { 'resolution-mode': 'require' }}) = require('yargs')
  return (
    yargs([])
      .scriptName('overlayd')
      .usage(
        'overlayd: gives this Docker host a subnet out of one network and connects it with all others.\n\n' +
          'Usage: overlayd [--flag=value ...]',
      )
      // Before the options: both names are ours.
      .version(false)
      .help(false)
      .options(yargsOptions(optionNames))
      .epilogue(
        'Each flag may be written -flag or --flag, with "=" or a blank before its value; a boolean takes a value only with "=". ' +
          'Without a flag the variable FLANNELD_<FLAG> counts (upper case, "_" for "-").',
      )
      .wrap(100)
      .getHelp()
  )
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
    if (given !== undefined) input[name] = REPEATABLE.has(name) ? given : String([given].flat().at(-1))
    // An empty variable counts as unset; a repeatable option gets exactly one value (flannel: coreos/pkg/flagutil).
    else if (variable !== undefined && variable !== '' && !COMMANDS.has(name)) {
      input[name] = REPEATABLE.has(name) ? [variable] : variable
    }
  }
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

/**
 * What tells a further network's instance on a host from the first one's, for all that both would call the same: chains of the firewall, the
 * run directory. A host with one network has at most one of prefix and subnet file of its own choice, and needs no telling; a further
 * instance must have both (flannel's functional test `multi`).
 * @returns eight hexadecimal digits, `undefined` for the first
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

/** What systemd made for a unit with StateDirectory=, the first where there are several (systemd.exec(5)). */
const unitStateDirectory = (env: NodeJS.ProcessEnv): string | undefined =>
  env['STATE_DIRECTORY']?.split(':')[0]

const SECRETS: ReadonlySet<OptionName> = new Set(['etcd-password'])
const ADDRESSES: ReadonlySet<OptionName> = new Set(['iface-can-reach', 'public-ip', 'public-ipv6'])

/** The options that differ from their defaults, for the log: `etcd-prefix=/a iface=eth0`. No secret is among them. */
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

/** These are asked for, never set: flannel reads no variable for them either. */
const COMMANDS: ReadonlySet<string> = new Set(['version', 'help'])

const variableName = (option: string): string => `FLANNELD_${option.toUpperCase().replaceAll('-', '_')}`

/**
 * One line for all that has no effect.
 * @throws {UsageError} when one has a meaning that would be lost
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
  return seen.length === 0 ? [] : [`without effect here, as a flag of flannel's: ${seen.join(', ')}`]
}
