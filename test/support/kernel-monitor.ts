/**
 * What changes in the kernel of a namespace, by `ip monitor` or `nft monitor`: the proof that something wrote nothing. A mark (an address that is
 * added to and removed from `lo`, or a table that comes and goes) tells when the monitor listens, and that all that happened before has been seen.
 */
import { execOk, inNamespace, ipBatch } from './namespace'
import { type Command, LongProcess } from './process'
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

/** What is listened to. */
interface Subject {
  readonly command: Command
  /** Changes something and changes it back. */
  mark(namespace: string, number: number): Promise<unknown>
  /** Begins the last line that tells of a mark. */
  lastOf(number: number): string
  /** Whether a line is about no change of anyone but marks, and the kernel. */
  isNoChange(line: string): boolean
}

const markAddress = (number: number): string => `127.99.${number >>> 8}.${number & 255}`
const markTable = (number: number): string => `table netdev mark-${number}`

const SUBJECTS = {
  network: {
    command: ['ip', '-ts', '-oneline', 'monitor', ...OBJECTS],
    mark: (namespace, number) =>
      ipBatch(
        namespace,
        ['add', 'del'].map((verb) => `address ${verb} ${markAddress(number)}/32 dev lo`),
      ),
    lastOf: (number) => `Deleted local ${markAddress(number)} `,
    isNoChange: isOwnDoing,
  },
  nftables: {
    command: ['nft', 'monitor'],
    mark: async (namespace, number) => {
      await execOk(namespace, ['nft', `add ${markTable(number)}`])
      await execOk(namespace, ['nft', `delete ${markTable(number)}`])
    },
    lastOf: (number) => `delete ${markTable(number)}`,
    // The number of a transaction, and who made it: it tells nothing of what is in it.
    isNoChange: (line) => line.includes('table netdev mark-') || line.startsWith('#'),
  },
} satisfies Record<string, Subject>

export class KernelMonitor {
  readonly #process: LongProcess
  #marks = 0
  #read = 0

  /** Starts to listen in a namespace. Everything that happens after the answer is seen. */
  static async start(namespace: string, subject: keyof typeof SUBJECTS = 'network'): Promise<KernelMonitor> {
    const monitor = new KernelMonitor(namespace, SUBJECTS[subject])
    try {
      await monitor.#mark()
    } catch (error) {
      await monitor.stop()
      throw error
    }
    return monitor
  }

  private constructor(
    private readonly namespace: string,
    private readonly subject: Subject,
  ) {
    const [program] = subject.command
    this.#process = new LongProcess(
      `${program} monitor in ${namespace}`,
      inNamespace(namespace, subject.command),
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
      .filter((line) => line !== '' && !this.subject.isNoChange(line))
  }

  async stop(): Promise<void> {
    await this.#process.stop('SIGKILL')
  }

  /** Makes marks until one comes through: those made before the monitor listened never do. */
  async #mark(): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      this.#marks += 1
      await this.subject.mark(this.namespace, this.#marks)
      for (let wait = 0; wait < 100; wait += 1) {
        const end = this.#process.output.indexOf(this.subject.lastOf(this.#marks))
        if (end !== -1) {
          this.#read = this.#process.output.indexOf('\n', end) + 1 || this.#process.output.length
          return
        }
        await sleep(5)
      }
    }
    throw new Error(`${this.subject.command[0]} monitor does not answer\n${this.#process.tail()}`)
  }
}
