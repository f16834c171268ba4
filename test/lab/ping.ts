/** Runs iputils' ping and counts the answers. */
import { inNamespace } from './namespace'
import { patient, patientSeconds } from './patience'
import { LongProcess, run, runOk } from './process'
import { sleep } from './wait'

export interface PingResult {
  readonly sent: number
  readonly received: number
  /**
   * Sent without an answer, except those that were still on the way when ping was stopped.
   */
  readonly lost: number
  /** Output of ping. */
  readonly output: string
}

export interface PingOptions {
  readonly count?: number
  readonly intervalMs?: number
}

/** Sends pings from a namespace to an address and waits for the end. */
export async function ping(
  namespace: string,
  address: string,
  { count = 3, intervalMs = 5 }: PingOptions = {},
): Promise<PingResult> {
  // After its last packet ping waits for one interval, or two round trips, if any packet was answered.
  const interval = patient(intervalMs)
  // Without any answer, ping ends so long after its last packet.
  const seconds = patientSeconds(1)
  const { stdout, stderr } = await run(
    inNamespace(namespace, [
      'ping',
      '-n',
      '-c',
      `${count}`,
      '-i',
      `${interval / 1000}`,
      '-W',
      `${seconds}`,
      address,
    ]),
    { timeoutMs: 10_000 + count * (interval + 10) },
  )
  return parsePing(stdout + stderr)
}

/** A ping that runs until it is stopped, to count the packets that a fault costs. */
export class RunningPing {
  readonly #process: LongProcess

  /**
   * Starts it when the way is there, and waits for the first answer. The first packet between two hosts waits
   * for neighbours, up to 2 s while an IPv6 address is tentative, and a neighbour's queue holds 200 packets.
   */
  static async start(namespace: string, address: string, intervalMs = 5): Promise<RunningPing> {
    const seconds = `${patientSeconds(5)}`
    await runOk(inNamespace(namespace, ['ping', '-n', '-c', '1', '-w', seconds, address]), {
      timeoutMs: 10_000,
    })
    const running = new RunningPing(namespace, address, intervalMs)
    try {
      await running.#process.waitForOutput(ANSWER, { timeoutMs: 5000 })
    } catch (error) {
      running.kill()
      throw error
    }
    return running
  }

  private constructor(namespace: string, address: string, intervalMs: number) {
    this.#process = new LongProcess(
      `ping ${address} in ${namespace}`,
      inNamespace(namespace, ['ping', '-n', '-i', `${intervalMs / 1000}`, address]),
    )
  }

  kill(): void {
    this.#process.signal('SIGKILL')
  }

  /**
   * Pings for another 100 ms, so that a fault that just happened can take effect, and until the next answer.
   * Then stops and counts.
   */
  async stop(): Promise<PingResult> {
    await sleep(100)
    const answered = await this.#nextAnswer()
    await this.#process.stop('SIGINT')
    const result = parsePing(this.#process.output)
    // While answers come, a ping is only lost if a later one is answered. On a slow machine several are still
    // on the way.
    return answered ? { ...result, lost: lastAnswered(result.output) - result.received } : result
  }

  /** Whether an answer comes in time. */
  async #nextAnswer(): Promise<boolean> {
    const from = this.#process.output.length
    try {
      await this.#process.waitForOutput(ANSWER, { from, timeoutMs: 300 })
      return true
    } catch {
      return false
    }
  }
}

/** A line of ping about an answer; the group is the number of the ping, from 1. */
const ANSWER = /icmp_seq=(\d+) ttl/

/** The number of the last ping that was answered; 0 if none was. */
const lastAnswered = (output: string): number =>
  Math.max(0, ...Array.from(output.matchAll(new RegExp(ANSWER, 'g')), (match) => Number(match[1])))

function parsePing(output: string): PingResult {
  const summary = /(\d+) packets transmitted, (\d+) received/.exec(output)
  if (summary === null) throw new Error(`ping gave no summary: ${output.trim()}`)
  const sent = Number(summary[1])
  const received = Number(summary[2])
  const inFlight = lastAnswered(output) === sent - 1 ? 1 : 0
  return { sent, received, lost: Math.max(0, sent - received - inFlight), output }
}
