/** Pings by iputils' ping, as a user would, with its answer counted. */
import { inNamespace } from './namespace'
import { LongProcess, run } from './process'
import { sleep } from './wait'

export interface PingResult {
  readonly sent: number
  readonly received: number
  /** Sent and never answered; a last one whose answer was still on its way when ping was stopped does not count. */
  readonly lost: number
  /** What ping printed. */
  readonly output: string
}

export interface PingOptions {
  readonly count?: number
  readonly intervalMs?: number
}

/** Sends a number of pings from a namespace to an address and waits for the end. */
export async function ping(
  namespace: string,
  address: string,
  { count = 3, intervalMs = 5 }: PingOptions = {},
): Promise<PingResult> {
  const { stdout, stderr } = await run(
    inNamespace(namespace, [
      'ping',
      '-n',
      '-c',
      `${count}`,
      '-i',
      `${intervalMs / 1000}`,
      '-W',
      '1',
      address,
    ]),
    { timeoutMs: 10_000 + count * (intervalMs + 10) },
  )
  return parsePing(stdout + stderr)
}

/** A ping that goes on until it is stopped, to see what a fault costs. */
export class RunningPing {
  readonly #process: LongProcess

  /** Starts it and waits for the first answer. */
  static async start(namespace: string, address: string, intervalMs = 5): Promise<RunningPing> {
    const running = new RunningPing(namespace, address, intervalMs)
    try {
      await running.#process.waitForOutput(/icmp_seq=\d+ ttl/, { timeoutMs: 5000 })
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

  /** Pings on for a moment, so that what just happened has had its effect, then stops and counts. */
  async stop(): Promise<PingResult> {
    await sleep(100)
    await this.#process.stop('SIGINT')
    return parsePing(this.#process.output)
  }
}

function parsePing(output: string): PingResult {
  const summary = /(\d+) packets transmitted, (\d+) received/.exec(output)
  if (summary === null) throw new Error(`ping gave no summary: ${output.trim()}`)
  const sent = Number(summary[1])
  const received = Number(summary[2])
  const lastAnswered = Math.max(
    0,
    ...Array.from(output.matchAll(/icmp_seq=(\d+) ttl/g), (match) => Number(match[1])),
  )
  const onItsWay = lastAnswered === sent - 1 ? 1 : 0
  return { sent, received, lost: Math.max(0, sent - received - onItsWay), output }
}
