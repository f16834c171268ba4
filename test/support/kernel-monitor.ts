/**
 * What changes in the kernel of a namespace, by `ip monitor`: the proof that something wrote nothing. A mark (an address that is
 * added to and removed from `lo`) tells when the monitor listens, and that all that happened before has been seen.
 */
import { inNamespace, ipBatch } from './namespace'
import { LongProcess } from './process'
import { sleep } from './wait'

/** All that overlayd writes. */
export const OBJECTS = ['link', 'address', 'route', 'neigh', 'nexthop'] as const

/**
 * Whether a line of `ip -oneline monitor` tells of a mark, or of what the kernel does by itself: the state of neighbours that are not
 * permanent (ARP, multicast), link-local IPv6 addresses, which appear a second after their device, and the operational state of interfaces that the
 * lab made, which the kernel tells up to a second late.
 */
export const isOwnDoing = (line: string): boolean =>
  line.includes('127.99.') ||
  /^\S+ (\[nsid \d+\])?\d+: (eth0|docker0|veth\d+)[:@]/.test(line) ||
  /\b(fe80|ff00|ff02):/.test(line) ||
  / lladdr .* (REACHABLE|STALE|DELAY|PROBE|NOARP)|(FAILED|INCOMPLETE)/.test(line)

export class KernelMonitor {
  readonly #process: LongProcess
  #marks = 0
  #read = 0

  /** Starts to listen in a namespace. Everything that happens after the answer is seen. */
  static async start(namespace: string): Promise<KernelMonitor> {
    const monitor = new KernelMonitor(namespace)
    try {
      await monitor.#mark()
    } catch (error) {
      await monitor.stop()
      throw error
    }
    return monitor
  }

  private constructor(private readonly namespace: string) {
    this.#process = new LongProcess(
      `ip monitor in ${namespace}`,
      inNamespace(namespace, ['ip', '-ts', '-oneline', 'monitor', ...OBJECTS]),
    )
  }

  /**
   * One line for each change since the start or the last call; left out is what {@link isOwnDoing} knows.
   */
  async changes(): Promise<string[]> {
    const from = this.#read
    await this.#mark()
    return this.#process.output
      .slice(from, this.#read)
      .split('\n')
      .filter((line) => line !== '' && !isOwnDoing(line))
  }

  async stop(): Promise<void> {
    await this.#process.stop('SIGKILL')
  }

  /** Makes marks until one comes through: those made before the monitor listened never do. */
  async #mark(): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      this.#marks += 1
      const address = `127.99.${this.#marks >>> 8}.${this.#marks & 255}`
      await ipBatch(this.namespace, [`address add ${address}/32 dev lo`, `address del ${address}/32 dev lo`])
      for (let wait = 0; wait < 100; wait += 1) {
        const end = this.#process.output.indexOf(`Deleted local ${address} `)
        if (end !== -1) {
          this.#read = this.#process.output.indexOf('\n', end) + 1 || this.#process.output.length
          return
        }
        await sleep(5)
      }
    }
    throw new Error(`ip monitor does not answer\n${this.#process.tail()}`)
  }
}
