/**
 * The table of all options of the programs: names, words, defaults and kinds of values, as plain data. Help,
 * man page, completions and pages are made from it, and so are the schemas in schema.ts. Names and meanings
 * are flannel's (main.go); the syntax is that of Go's `flag` package.
 */
import { DEFAULT_DOCKER_MARK, formatMark } from '../model/docker-mark'

/** What an option's text may be. */
export type Value =
  | { readonly kind: 'boolean' }
  | { readonly kind: 'text' }
  /** Not empty. */
  | { readonly kind: 'filled-text' }
  | { readonly kind: 'integer'; readonly least: number; readonly most: number }
  | { readonly kind: 'choice'; readonly choices: readonly [string, string] }
  /** Empty text means no address, as in flannel: unit files pass variables that may be empty. */
  | { readonly kind: 'address'; readonly family: 'IPv4' | 'IPv6' | 'any' }
  /** One bit of a packet's mark, or `off`. */
  | { readonly kind: 'mark' }
  /** Several texts. */
  | { readonly kind: 'list' }
  /** Several patterns, in Go's syntax. */
  | { readonly kind: 'patterns' }

interface OptionEntry<V extends Value = Value> {
  readonly value: V
  readonly description: string
  /** Default as text; that of lists is an empty list. */
  readonly fallback: string
  /** Default in words, where it is not a fixed text; empty else. */
  readonly usually: string
}

const BOOLEAN = { kind: 'boolean' } as const
const TEXT = { kind: 'text' } as const
const FILLED = { kind: 'filled-text' } as const
const LIST = { kind: 'list' } as const
const PATTERNS = { kind: 'patterns' } as const
const MARK = { kind: 'mark' } as const
const integer = (least: number, most: number) => ({ kind: 'integer', least, most }) as const
const choice = <const A extends string, const B extends string>(first: A, second: B) =>
  ({ kind: 'choice', choices: [first, second] }) as const
const address = <const F extends 'IPv4' | 'IPv6' | 'any'>(family: F) => ({ kind: 'address', family }) as const

/**
 * An option.
 * @param fallback its default as text
 * @param usually describes a default that is not a fixed text
 */
const option = <V extends Value>(
  value: V,
  description: string,
  fallback = '',
  usually = '',
): OptionEntry<V> => ({
  value,
  description,
  fallback,
  usually,
})

export const DEFAULT_PREFIX = '/coreos.com/network'
export const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env'

/** Puts options under a heading of --help. */
const inGroup = <const T extends Readonly<Record<string, OptionEntry>>>(group: string, options: T) =>
  Object.fromEntries(Object.entries(options).map(([name, entry]) => [name, { ...entry, group }])) as {
    readonly [Name in keyof T]: T[Name] & { readonly group: string }
  }

/** All options, in the order of --help. */
export const OPTIONS = {
  ...inGroup('etcd', {
    'etcd-endpoints': option(
      FILLED,
      'etcd endpoints, comma separated',
      'http://127.0.0.1:4001,http://127.0.0.1:2379',
    ),
    'etcd-discovery-srv': option(
      TEXT,
      'DNS domain whose SRV records name the endpoints, instead of --etcd-endpoints',
    ),
    'etcd-prefix': option(FILLED, 'etcd key prefix of this network', DEFAULT_PREFIX),
    'etcd-cafile': option(
      TEXT,
      "file of the CA that etcd's certificate is checked against",
      '',
      "the system's",
    ),
    'etcd-certfile': option(TEXT, 'file of the client certificate for etcd'),
    'etcd-keyfile': option(TEXT, "file of the client certificate's key"),
    'etcd-username': option(TEXT, 'user name for etcd'),
    'etcd-password': option(
      TEXT,
      'password for etcd; better set FLANNELD_ETCD_PASSWORD, because every user can read command lines',
    ),
    'subnet-lease-renew-margin': option(
      integer(1, 1439),
      'minutes before the end of the lease at which it is renewed at the latest',
      '60',
    ),
    'peer-removal-grace': option(
      integer(0, 86_400),
      'seconds to keep peers when most of them disappear from etcd at once, in case etcd is wrong; ' +
        '0 for none',
      '60',
    ),
  }),
  ...inGroup('Underlay interface', {
    iface: option(
      LIST,
      'underlay interface, by name or address; repeat for alternatives',
      '',
      "the default route's",
    ),
    'iface-regex': option(
      PATTERNS,
      'pattern for the address or, if no address matches, the name of an interface; ' +
        'repeat for alternatives',
    ),
    'iface-can-reach': option(address('any'), 'use the interface through which this address is reached'),
    'public-ip': option(address('IPv4'), 'address other hosts send to', '', "the underlay interface's"),
    'public-ipv6': option(address('IPv6'), 'the same for IPv6', '', "the underlay interface's"),
    'allow-network-overlap': option(
      BOOLEAN,
      'start even if the network contains an address of the underlay, of etcd or of the default gateway',
      'false',
    ),
  }),
  ...inGroup('Files', {
    'subnet-file': option(FILLED, 'file that tells Docker and CNI the subnet', DEFAULT_SUBNET_FILE),
    'run-dir': option(
      TEXT,
      'directory of the control socket',
      '',
      '/run/overlayd; a further network of a host has its own',
    ),
    'state-dir': option(
      TEXT,
      'directory for state that survives a reboot',
      '',
      "the unit's StateDirectory, else /var/lib/overlayd; a further network has its own",
    ),
  }),
  ...inGroup('Firewall and routing', {
    'ip-masq': option(BOOLEAN, 'masquerade packets that leave the network', 'false'),
    'ip-masq-fully-random-disable': option(
      BOOLEAN,
      'masquerade without random source ports (no --random-fully)',
      'false',
    ),
    'iptables-forward-rules': option(
      BOOLEAN,
      'accept forwarded packets of the network; also with nftables',
      'true',
    ),
    'iptables-resync': option(integer(1, 86_400), 'seconds between checks of the firewall rules', '5'),
    'docker-mark': option(
      MARK,
      "the bit of a packet's mark by which Docker's nftables backend accepts packets of other hosts; " +
        'off for none',
      formatMark(DEFAULT_DOCKER_MARK),
    ),
    'ip-blackhole-route': option(BOOLEAN, "drop packets to unused addresses of this host's subnet", 'false'),
    'ip-forward': option(BOOLEAN, 'enable IP forwarding in the kernel', 'true'),
    multicast: option(
      choice('auto', 'off'),
      "exchange containers' multicast with other hosts: auto follows the network config, off never",
      'auto',
    ),
    encryption: option(
      choice('auto', 'off'),
      'encrypt packets to other hosts by WireGuard: auto follows the network config, off never',
      'auto',
    ),
    'encryption-key-days': option(
      integer(0, 36_500),
      'days for which a WireGuard key is used; 0 for ever (overlayctl rotate-key changes it at once)',
      '30',
    ),
  }),
  ...inGroup('Probing', {
    probe: option(
      choice('on', 'off'),
      'send echo requests to other hosts, to tell whether they are reached',
      'on',
    ),
    'probe-interval': option(
      integer(1, 60),
      'seconds between two rounds of requests; each round is a few packets, ' +
        'however many hosts there are',
      '1',
    ),
    'path-mtu': option(
      choice('auto', 'off'),
      'give the route to a host the MTU of its path, where that is smaller than the device has: ' +
        'auto or off',
      'auto',
    ),
  }),
  ...inGroup('Health', {
    'healthz-ip': option(TEXT, 'address to serve /healthz and /readyz on', '0.0.0.0'),
    'healthz-port': option(integer(0, 65_535), 'port to serve them on; 0 for none', '0'),
  }),
  ...inGroup('Metrics', {
    'metrics-ip': option(TEXT, 'address to serve /metrics on, for Prometheus', '127.0.0.1'),
    'metrics-port': option(
      integer(0, 65_535),
      'port to serve them on; 0 for none (overlayctl metrics prints them anyway)',
      '0',
    ),
  }),
  ...inGroup('Logging', {
    v: option(integer(0, Number.MAX_SAFE_INTEGER), 'log verbosity: 0 events, 1 details, 2 everything', '0'),
  }),
  ...inGroup('About', {
    version: option(BOOLEAN, 'print the version and exit', 'false'),
    help: option(BOOLEAN, 'print this help and exit', 'false'),
  }),
}

export type OptionName = keyof typeof OPTIONS

/** In the order of --help. */
export const OPTION_NAMES = Object.keys(OPTIONS) as readonly OptionName[]

export const isOption = (name: string): name is OptionName => Object.hasOwn(OPTIONS, name)

const KINDS_OF_LISTS: ReadonlySet<Value['kind']> = new Set(['list', 'patterns'])

/** Whether an option may be given several times; all values count. */
export const isRepeatable = (name: OptionName): boolean => KINDS_OF_LISTS.has(OPTIONS[name].value.kind)

export const isBoolean = (name: OptionName): boolean => OPTIONS[name].value.kind === 'boolean'

/** Whether the option's value is the path of a file or a directory. */
export const isPath = (name: string): boolean => /(?:file|-dir)$/.test(name)

/** Options that are commands. They have no variable, as in flannel. */
export const COMMANDS: ReadonlySet<string> = new Set<OptionName>(['version', 'help'])

export const variableName = (option: string): string =>
  `FLANNELD_${option.toUpperCase().replaceAll('-', '_')}`

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
