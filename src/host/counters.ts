/**
 * Loss counters of this network namespace's kernel: IP, UDP, connection tracking and each device (proc(5),
 * net/ipv4/proc.c).
 */
import { readFile } from 'node:fs/promises'

/** Files made of pairs of lines: one with the names, one with the values. */
const PAIRED = ['/proc/net/snmp', '/proc/net/netstat'] as const
/** Those counters in these files that count losses. */
const LOSSES: ReadonlySet<string> = new Set([
  ...[
    'IpInDiscards',
    'IpOutDiscards',
    'IpOutNoRoutes',
    'IpInAddrErrors',
    'IpInHdrErrors',
    'IpFragFails',
    'IpReasmFails',
  ],
  ...['UdpInErrors', 'UdpRcvbufErrors', 'UdpSndbufErrors', 'UdpInCsumErrors', 'UdpNoPorts'],
  ...['TcpExtIPReversePathFilter', 'IpExtInNoRoutes', 'IpExtInTruncatedPkts'],
])
const LOSSES_OF_IPV6: ReadonlySet<string> = new Set([
  ...[
    'Ip6InDiscards',
    'Ip6OutDiscards',
    'Ip6InNoRoutes',
    'Ip6OutNoRoutes',
    'Ip6InAddrErrors',
    'Ip6InTooBigErrors',
  ],
  ...['Udp6InErrors', 'Udp6RcvbufErrors', 'Udp6InCsumErrors', 'Udp6NoPorts'],
])
/** The name that nstat and the kernel's source use. /proc/net/netstat lists this counter under TcpExt. */
const CALLED: Readonly<Record<string, string>> = { TcpExtIPReversePathFilter: 'IPReversePathFilter' }
/** Columns of /proc/net/stat/nf_conntrack. Values are hexadecimal, one line per processor. */
const CONNTRACK: ReadonlySet<string> = new Set(['insert_failed', 'drop', 'early_drop'])
/** Columns of /proc/net/dev after the name: errs and drop, received and sent. */
const DEVICE = { 2: 'errors in', 3: 'drops in', 10: 'errors out', 11: 'drops out' } as const

type Counters = ReadonlyMap<string, number>

/**
 * Counts losses while an action runs.
 * @param devices whose errors and drops are counted too
 * @returns the action's result, and the counters that grew, by name
 */
export async function countDuring<T>(
  devices: readonly string[],
  action: () => Promise<T>,
): Promise<{ readonly result: T; readonly counted: Counters }> {
  const before = await readCounters(devices)
  const result = await action()
  const after = await readCounters(devices)
  const grown = [...after].map(([name, value]) => [name, value - (before.get(name) ?? value)] as const)
  return { result, counted: new Map(grown.filter(([, value]) => value > 0)) }
}

async function readCounters(devices: readonly string[]): Promise<Counters> {
  const [snmp, netstat, six, dev, conntrack] = await Promise.all(
    [...PAIRED, '/proc/net/snmp6', '/proc/net/dev', '/proc/net/stat/nf_conntrack'].map((path) =>
      readFile(path, 'latin1').catch(() => ''),
    ),
  )
  return new Map([
    ...parsePaired(snmp ?? ''),
    ...parsePaired(netstat ?? ''),
    ...parseNamed(six ?? ''),
    ...parseDevices(dev ?? '', new Set(devices)),
    ...parseConntrack(conntrack ?? ''),
  ])
}

/** Packets that a device lost, by direction and reason. */
export interface DeviceLosses {
  readonly in: { readonly errors: number; readonly drops: number }
  readonly out: { readonly errors: number; readonly drops: number }
}

/**
 * @param devices names
 * @returns by name, for devices that exist
 */
export async function readDeviceLosses(
  devices: readonly string[],
): Promise<ReadonlyMap<string, DeviceLosses>> {
  const counters = new Map(
    parseDevices(await readFile('/proc/net/dev', 'latin1').catch(() => ''), new Set(devices)),
  )
  return new Map(
    devices.flatMap((name): [string, DeviceLosses][] => {
      const of = (what: (typeof DEVICE)[keyof typeof DEVICE]): number => counters.get(`${name} ${what}`) ?? 0
      if (!counters.has(`${name} ${DEVICE[2]}`)) return []
      const losses = {
        in: { errors: of('errors in'), drops: of('drops in') },
        out: { errors: of('errors out'), drops: of('drops out') },
      }
      return [[name, losses]]
    }),
  )
}

export function parsePaired(text: string): [string, number][] {
  const lines = text.split('\n')
  return lines.flatMap((line, i): [string, number][] => {
    const [title = '', ...names] = line.split(' ')
    const [again, ...values] = lines[i + 1]?.split(' ') ?? []
    if (again !== title || /^-?\d+$/.test(names[0] ?? '')) return []
    const group = title.replace(':', '')
    return names.flatMap((name, column): [string, number][] => {
      const key = `${group}${name}`
      const value = Number(values[column])
      return LOSSES.has(key) && !Number.isNaN(value) ? [[CALLED[key] ?? key, value]] : []
    })
  })
}

function parseNamed(text: string): [string, number][] {
  return text.split('\n').flatMap((line): [string, number][] => {
    const [name = '', value] = line.split(/\s+/)
    return LOSSES_OF_IPV6.has(name) ? [[name, Number(value)]] : []
  })
}

export function parseDevices(text: string, devices: ReadonlySet<string>): [string, number][] {
  return text.split('\n').flatMap((line): [string, number][] => {
    const at = line.lastIndexOf(':')
    const name = line.slice(0, at).trim()
    if (at === -1 || !devices.has(name)) return []
    const columns = line
      .slice(at + 1)
      .trim()
      .split(/\s+/)
      .map(Number)
    return Object.entries(DEVICE).map(([column, what]) => [`${name} ${what}`, columns[Number(column)] ?? 0])
  })
}

export function parseConntrack(text: string): [string, number][] {
  const [header = '', ...lines] = text.trim().split('\n')
  return header.split(/\s+/).flatMap((name, column): [string, number][] => {
    if (!CONNTRACK.has(name)) return []
    const values = lines.map((line) => Number.parseInt(line.split(/\s+/)[column] ?? '0', 16))
    return [[`conntrack ${name}`, values.reduce((sum, value) => sum + (Number.isNaN(value) ? 0 : value), 0)]]
  })
}
