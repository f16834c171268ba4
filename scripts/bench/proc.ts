/** Reads the usage of a process and of the machine from /proc. */
import { readdirSync, readFileSync } from 'node:fs'
import { sleep } from '../../test/lab/wait'

/** Clock ticks a second in /proc/PID/stat; 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

/** CPU time of a process since its start, user and system, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // After the name in parentheses: state is field 3, utime 14, stime 15 (man 5 proc).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** The largest resident set of a process so far, in MB (10^6 bytes). */
export const peakRssMb = (pid: number): number => peakRssOf(readFileSync(`/proc/${pid}/status`, 'utf8'))

/** The same from the text of /proc/PID/status. */
export const peakRssOf = (status: string): number => megabytes('VmHWM', status)

/** The resident set of a process now, in MB. */
export const rssMb = (pid: number): number => megabytes('VmRSS', readFileSync(`/proc/${pid}/status`, 'utf8'))

/**
 * What a process adds to the memory in use, in MB: a shared page counts in equal parts for all processes that
 * share it.
 */
export const pssMb = (pid: number): number =>
  megabytes('Pss', readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))

const megabytes = (field: string, status: string): number =>
  (Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024) / 1e6

/** How often the threads of a process have gone to sleep voluntarily so far; they were woken as often. */
export function wakeups(pid: number): number {
  const counts = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')
    return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1] ?? 0)
  })
  return counts.reduce((sum, count) => sum + count, 0)
}

/**
 * The number of routes in the network namespace of a process, without disturbing the process: the size of the
 * routing trie, which the kernel computes in well under a millisecond. Includes a handful of local routes.
 */
export function trieSize(pid: number): number {
  return Number(/Prefixes:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/net/fib_triestat`, 'utf8'))?.[1] ?? 0)
}

/** The exact number of routes with a gateway on a device. */
export function routeCount(pid: number, device: string): number {
  // RTF_GATEWAY (linux/route.h)
  const gatewayFlag = 2
  return readFileSync(`/proc/${pid}/net/route`, 'utf8')
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([name, , , flags]) => name === device && (Number.parseInt(flags ?? '0', 16) & gatewayFlag) !== 0)
    .length
}

/**
 * Waits until other work on the machine has calmed down, for example the kernel's removal of the last run's
 * namespaces.
 * @returns false if it has not within a minute
 */
export async function quietMachine(): Promise<boolean> {
  let before = cpuTimes()
  for (let attempt = 0; attempt < 300; attempt += 1) {
    await sleep(200)
    const now = cpuTimes()
    const idle = (now.idle - before.idle) / (now.total - before.total)
    if (idle > 0.95) return true
    before = now
  }
  return false
}

function cpuTimes(): { idle: number; total: number } {
  const times =
    readFileSync('/proc/stat', 'utf8').split('\n')[0]?.trim().split(/\s+/).slice(1).map(Number) ?? []
  return {
    idle: (times[3] ?? 0) + (times[4] ?? 0),
    total: times.slice(0, 8).reduce((sum, time) => sum + time, 0),
  }
}
