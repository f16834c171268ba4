/**
 * Read-only facts from /proc about this host: settings that may hinder an overlay, and running processes such
 * as Docker's. A value that cannot be read is `undefined`.
 */
import { readdir, readFile, readlink } from 'node:fs/promises'

const SYS = '/proc/sys/net'

/** A sysctl under `net`, e.g. `ipv6/conf/all/forwarding`, as a number. */
export async function readNumber(name: string): Promise<number | undefined> {
  const text = await readText(`${SYS}/${name}`)
  const value = Number(text)
  return text === undefined || Number.isNaN(value) ? undefined : value
}

/** interface name, `all` or `default` -> its IPv4 reverse path filter */
export async function readReversePathFilters(): Promise<ReadonlyMap<string, number>> {
  const names = await readdir(`${SYS}/ipv4/conf`).catch(() => [])
  const values = await Promise.all(
    names.map(async (name) => [name, await readNumber(`ipv4/conf/${name}/rp_filter`)] as const),
  )
  return new Map(values.flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const])))
}

/**
 * interface name, or `all` -> whether it forwards IPv4, and whether IPv6 is disabled on it
 * @param only default: all interfaces
 */
export async function readLinkSwitches(
  only?: readonly string[],
): Promise<
  ReadonlyMap<string, { readonly forwarding: boolean | undefined; readonly noIpv6: boolean | undefined }>
> {
  const names = only ?? (await readdir(`${SYS}/ipv4/conf`).catch(() => []))
  const isOn = async (name: string): Promise<boolean | undefined> => {
    const value = await readNumber(name)
    return value === undefined ? undefined : value !== 0
  }
  const values = await Promise.all(
    names.map(async (name) => {
      const [forwarding, noIpv6] = await Promise.all([
        isOn(`ipv4/conf/${name}/forwarding`),
        isOn(`ipv6/conf/${name}/disable_ipv6`),
      ])
      return [name, { forwarding, noIpv6 }] as const
    }),
  )
  return new Map(values)
}

/** Number of tracked connections, and the limit, of this network namespace. */
export async function readConntrack(): Promise<{ readonly count: number; readonly max: number } | undefined> {
  const [count, max] = await Promise.all([
    readNumber('netfilter/nf_conntrack_count'),
    readNumber('netfilter/nf_conntrack_max'),
  ])
  return count === undefined || max === undefined ? undefined : { count, max }
}

export interface RunningProcess {
  readonly pid: number
  /** Milliseconds since 1970. */
  readonly startedAt: number
}

/** Units of start times in /proc: USER_HZ, which is 100 on every architecture Node runs on (proc(5)). */
const TICKS_PER_SECOND = 100

/** The processes with that name (comm) in this network namespace. */
export async function findProcesses(name: string): Promise<readonly RunningProcess[]> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))
  const [own, bootedAt] = await Promise.all([namespaceOf('self'), readBootTime()])
  const found = await Promise.all(
    pids.map(async (pid) => {
      if ((await readText(`/proc/${pid}/comm`)) !== name) return []
      const namespace = await namespaceOf(pid)
      if (namespace !== undefined && namespace !== own) return []
      const ticks = startTicks((await readText(`/proc/${pid}/stat`)) ?? '')
      if (ticks === undefined || bootedAt === undefined) return []
      return [{ pid: Number(pid), startedAt: bootedAt + (ticks / TICKS_PER_SECOND) * 1000 }]
    }),
  )
  return found.flat()
}

/** Field 22 of /proc/PID/stat. Field 2, the name, is in brackets and may contain anything. */
export function startTicks(stat: string): number | undefined {
  const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  return Number.isNaN(ticks) ? undefined : ticks
}

async function readBootTime(): Promise<number | undefined> {
  const seconds = /^btime (\d+)$/m.exec((await readText('/proc/stat')) ?? '')?.[1]
  return seconds === undefined ? undefined : Number(seconds) * 1000
}

/** How a process was started. */
export interface StartedProcess {
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/**
 * @returns undefined if there is no such process, or it may not be inspected (proc(5):
 *   PTRACE_MODE_READ_FSCREDS)
 */
export async function readProcess(pid: number): Promise<StartedProcess | undefined> {
  const read = (name: string): Promise<string[] | undefined> =>
    readFile(`/proc/${pid}/${name}`, 'utf8').then(
      (text) => text.split('\0').filter((each) => each !== ''),
      () => undefined,
    )
  const [words, variables] = await Promise.all([read('cmdline'), read('environ')])
  if (words === undefined || variables === undefined) return undefined
  const pairs = variables.map((each): [string, string] => {
    const at = each.indexOf('=')
    return [each.slice(0, at), each.slice(at + 1)]
  })
  return { words, environment: Object.fromEntries(pairs.reverse()) }
}

const namespaceOf = (pid: string): Promise<string | undefined> =>
  readlink(`/proc/${pid}/ns/net`).catch(() => undefined)

const readText = (path: string): Promise<string | undefined> =>
  readFile(path, 'latin1').then(
    (text) => text.trim(),
    () => undefined,
  )
