/** Continuous pings between containers while faults happen. Losses are counted by sequence numbers. */
import { inNamespace } from '../lab/namespace'
import { LongProcess } from '../lab/process'

/** ping prints the sequence number of the ICMP header, which has 16 bits (RFC 792). */
const WRAP = 65_536

/**
 * Bytes of data per ping. ping's default is 56. Two ping processes in one namespace may draw the same
 * identifier, and then each also prints the answers to the other one. The size tells them apart.
 */
const DATA = 57
const ICMP_HEADER = 8
const ANSWER = new RegExp(`^${DATA + ICMP_HEADER} bytes from .* icmp_seq=(\\d+) ttl`, 'gm')

/**
 * Counts sent and lost pings from the printed answers. Answers on one path arrive in order, so each gap
 * between their numbers is a lost ping. Pings after the last printed answer belong to the next count.
 * @param output whole lines
 * @param after number of the last answer of the previous count
 * @returns `last`: `after` for the next count
 */
export function countPings(
  output: string,
  after: number,
): { readonly sent: number; readonly lost: number; readonly last: number } {
  const answered = new Set<number>()
  let last = after
  for (const [, text = ''] of output.matchAll(ANSWER)) {
    const laps = Math.round((last - Number(text)) / WRAP)
    const number = Number(text) + laps * WRAP
    if (number <= after) continue
    answered.add(number)
    last = Math.max(last, number)
  }
  const sent = last - after
  return { sent, lost: sent - answered.size, last }
}

export class CountedPing {
  readonly #process: LongProcess
  #read = 0
  #last = 0

  /** @param pair name for messages, as `host5 -> host6` */
  constructor(
    readonly pair: string,
    namespace: string,
    address: string,
    intervalMs: number,
  ) {
    this.#process = new LongProcess(
      `ping ${address} in ${namespace}`,
      inNamespace(namespace, ['ping', '-n', '-s', `${DATA}`, '-i', `${intervalMs / 1000}`, address]),
    )
  }

  started(): Promise<unknown> {
    return this.#process.waitForOutput(/icmp_seq=\d+ ttl/, { timeoutMs: 20_000 })
  }

  /** Pings sent and lost since the last count. */
  count(): { readonly pair: string; readonly sent: number; readonly lost: number } {
    const end = this.#process.output.lastIndexOf('\n') + 1
    const { sent, lost, last } = countPings(this.#process.output.slice(this.#read, end), this.#last)
    this.#read = end
    this.#last = last
    return { pair: this.pair, sent, lost }
  }

  kill(): void {
    this.#process.signal('SIGKILL')
  }
}
