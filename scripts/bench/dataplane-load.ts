/** Loads along a path, by common programs: iperf3 for throughput, ping and sockperf for round trips. */
import { z } from 'zod'
import { execOk, inNamespace } from '../../test/lab/namespace'
import { ping } from '../../test/lab/ping'
import { type Command, LongProcess } from '../../test/lab/process'
import type { Path } from './dataplane-lab'

const PING_PORT = 11_111
/** Milliseconds that a program may take in addition to its load, on a busy machine. */
const PATIENCE_MS = 30_000

/** The figures of one load on one path, by the keys of its measures. */
export type Figures = Readonly<Record<string, number>>

export interface Measure {
  readonly key: string
  readonly label: string
  readonly digits: number
  /** Undefined if a ratio of this figure is meaningless. */
  readonly better?: 'more' | 'less'
}

export interface Load {
  readonly measures: readonly Measure[]
  /** @param seconds 0 for the least load that shows that packets arrive */
  run(path: Path, seconds: number): Promise<Figures>
}

/**
 * CPU time is that of iperf3's processes by their own account; the scheduler keeps it in nanoseconds. The lab
 * has no card that raises interrupts: a packet travels from socket to socket within the sender's system call,
 * and its answer within the receiver's. Work that the kernel defers to ksoftirqd is not counted. The time of
 * the whole machine in /proc/stat would contain it, but also all other work, sampled 250 times a second.
 */
export const tcp: Load = {
  measures: [
    { key: 'tcp', label: 'TCP, 1 stream, Gbit/s', digits: 2, better: 'more' },
    { key: 'tcpCpu', label: 'TCP, 1 stream, CPU of both ends, ms a Gbit', digits: 1, better: 'less' },
  ],
  async run(path, seconds) {
    const { gbit, took, cpu } = await streams(path, seconds, 1)
    return { tcp: gbit / took, tcpCpu: ((cpu.sender + cpu.receiver) * 1000) / gbit }
  },
}

export const tcp8: Load = {
  measures: [{ key: 'tcp8', label: 'TCP, 8 streams, Gbit/s', digits: 2, better: 'more' }],
  async run(path, seconds) {
    const { gbit, took } = await streams(path, seconds, 8)
    return { tcp8: gbit / took }
  },
}

/**
 * Sent as fast as the sender can. Losses happen in the receiving socket, because both ends share the
 * machine's CPUs.
 */
export const udp = (bytes: number): Load => {
  const key = `udp${bytes}`
  return {
    measures: [
      { key, label: `UDP, ${bytes} B, thousand received a second`, digits: 1, better: 'more' },
      { key: `${key}Loss`, label: `UDP, ${bytes} B, lost, %`, digits: 1 },
      {
        key: `${key}Cpu`,
        label: `UDP, ${bytes} B, CPU of the sender, us a packet`,
        digits: 2,
        better: 'less',
      },
    ],
    async run(path, seconds) {
      const options = ['--udp', '--bandwidth=0', `--length=${bytes}`]
      const { end } = udpReport.parse(JSON.parse(await iperf(path, seconds, options)))
      const { packets, lost_packets: lost, seconds: took } = end.sum
      return {
        [key]: (packets - lost) / took / 1000,
        [`${key}Loss`]: (lost / packets) * 100,
        [`${key}Cpu`]: (cpuSeconds(end, took).sender * 1e6) / packets,
      }
    },
  }
}

export const roundTrip: Load = {
  measures: [
    { key: 'pingMin', label: 'ping, least, ms', digits: 3, better: 'less' },
    { key: 'pingAverage', label: 'ping, mean, ms', digits: 3, better: 'less' },
  ],
  async run({ from, address }, seconds) {
    const { output, lost } = await ping(from, address, { count: seconds === 0 ? 10 : 500, intervalMs: 2 })
    const times = /= ([\d.]+)\/([\d.]+)\//.exec(output)
    if (times === null || lost > 0) throw new Error(`ping from ${from} to ${address}: ${output.trim()}`)
    return { pingMin: Number(times[1]), pingAverage: Number(times[2]) }
  },
}

export const request: Load = {
  measures: [
    { key: 'request', label: 'TCP, request and response, median, us', digits: 1, better: 'less' },
    {
      key: 'requestP99',
      label: 'TCP, request and response, 99 of 100 within, us',
      digits: 1,
      better: 'less',
    },
  ],
  async run({ from, address }, seconds) {
    const time = `${Math.max(1, Math.min(2, seconds))}`
    const options = ['--tcp', '-i', address, '-p', `${PING_PORT}`, '-t', time, '--full-rtt']
    const text = await execOk(from, ['sockperf', 'ping-pong', ...options], { timeoutMs: PATIENCE_MS })
    const within = (percent: string): number => {
      const found = new RegExp(`percentile ${percent} =\\s*([\\d.]+)`).exec(text)?.[1]
      if (found === undefined) throw new Error(`sockperf from ${from} to ${address}: ${text.trim()}`)
      return Number(found)
    }
    return { request: within('50.000'), requestP99: within('99.000') }
  },
}

/** How many times worse a figure is than a reference. */
export const worseBy = ({ better }: Measure, figure: number, reference: number): number =>
  better === 'more' ? reference / figure : figure / reference

/** The items in random order, so that no place in a round is an advantage. */
export const shuffled = <T>(items: readonly T[]): T[] =>
  items
    .map((item) => ({ item, place: Math.random() }))
    .sort((one, other) => one.place - other.place)
    .map(({ item }) => item)

/** Runs something while servers for all loads listen at the end of each path. */
export async function withServers<T>(paths: readonly Path[], work: () => Promise<T>): Promise<T> {
  const servers: LongProcess[] = []
  const start = async (path: Path, command: Command, ready: RegExp) => {
    const server = new LongProcess(`${command[0]} at ${path.address}`, inNamespace(path.to, command))
    servers.push(server)
    await server.waitForOutput(ready)
  }
  try {
    await Promise.all(
      paths.flatMap((path) => [
        start(path, ['iperf3', '--server', '--forceflush', `--bind=${path.address}`], /Server listening/),
        start(path, ['sockperf', 'server', '--tcp', '-i', path.address, '-p', `${PING_PORT}`], /recvfrom/),
      ]),
    )
    return await work()
  } finally {
    await Promise.all(servers.map((server) => server.stop('SIGKILL')))
  }
}

const cpuReport = z.object({
  cpu_utilization_percent: z.object({ host_total: z.number(), remote_total: z.number() }),
})
const streamReport = z.object({
  end: cpuReport.extend({
    sum_received: z.object({ bytes: z.number().positive(), seconds: z.number().positive() }),
  }),
})
const udpReport = z.object({
  end: cpuReport.extend({
    sum: z.object({
      packets: z.number().positive(),
      lost_packets: z.number(),
      seconds: z.number().positive(),
    }),
  }),
})

const cpuSeconds = ({ cpu_utilization_percent: percent }: z.infer<typeof cpuReport>, took: number) => ({
  sender: (percent.host_total * took) / 100,
  receiver: (percent.remote_total * took) / 100,
})

/** @returns Gbit that arrived, the seconds that took, and the CPU seconds of both ends */
async function streams(path: Path, seconds: number, count: number) {
  const text = await iperf(path, seconds, [`--parallel=${count}`])
  const { end } = streamReport.parse(JSON.parse(text))
  const { bytes, seconds: took } = end.sum_received
  return { gbit: (bytes * 8) / 1e9, took, cpu: cpuSeconds(end, took) }
}

/** Runs the iperf3 client, which takes whole seconds or a number of blocks. */
function iperf({ from, address }: Path, seconds: number, options: readonly string[]): Promise<string> {
  const lasting = seconds === 0 ? '--blockcount=200' : `--time=${seconds}`
  return execOk(from, ['iperf3', `--client=${address}`, '--json', lasting, ...options], {
    timeoutMs: PATIENCE_MS + seconds * 1000,
  })
}
