/**
 * Records changes in the kernel of a namespace by `ip monitor` or `nft monitor`, to prove that a program
 * wrote nothing. The monitor makes a mark: it adds an address to `lo` and removes it, or creates and deletes
 * a table. Once the mark appears in the output, the monitor is listening and all earlier changes are in the
 * output.
 */
import { execOk, inNamespace, ipBatch } from './namespace'
import { type Command, LongProcess } from './process'
import { sleep } from './wait'

/** Object types of `ip monitor` that overlayd writes. */
export const OBJECTS = ['link', 'address', 'route', 'neigh', 'nexthop'] as const

/**
 * Whether a line of `ip -oneline monitor` shows a mark, or a change that the kernel makes by itself:
 * - the state of neighbours that are not permanent (ARP, multicast),
 * - link-local IPv6 addresses, which appear a second after their device,
 * - the operational state of the lab's interfaces, which the kernel announces up to a second late.
 */
export const isOwnDoing = (line: string): boolean =>
  line.includes('127.99.') ||
  /^\S+ (\[nsid \d+\])?\d+: (eth0|docker0|veth\d+)[:@]/.test(line) ||
  /\b(fe80|ff00|ff02):/.test(line) ||
  / lladdr .* (REACHABLE|STALE|DELAY|PROBE|NOARP)|(FAILED|INCOMPLETE)/.test(line)

/** A part of the kernel that can be monitored. */
interface Subject {
  readonly command: Command
  /** Makes a mark: a change that is reverted at once. */
  mark(namespace: string, number: number): Promise<unknown>
  /** Beginning of the last line that a mark causes. */
  lastOf(number: number): string
  /** Whether a line is to be ignored: a mark, or a change by the kernel itself. */
  isIgnored(line: string): boolean
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
    isIgnored: isOwnDoing,
  },
  nftables: {
    command: ['nft', 'monitor'],
    mark: async (namespace, number) => {
      await execOk(namespace, ['nft', `add ${markTable(number)}`])
      await execOk(namespace, ['nft', `delete ${markTable(number)}`])
    },
    lastOf: (number) => `delete ${markTable(number)}`,
    // Ignores comments (number and author of a transaction), and the lock on a device: an empty table that
    // each start creates and that ends with the process (device-lock.ts).
    isIgnored: (line) =>
      line.includes('table netdev mark-') ||
      /^(?:add|create|delete) table netdev overlayd-lock-\S+$/.test(line.trim()) ||
      line.startsWith('#'),
  },
} satisfies Record<string, Subject>

export class KernelMonitor {
  readonly #process: LongProcess
  #marks = 0
  #read = 0

  /** Starts a monitor in a namespace. Changes are recorded from the moment the promise resolves. */
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

  /** One line per change since the start or the last call, without ignored lines. */
  async changes(): Promise<string[]> {
    const from = this.#read
    await this.#mark()
    return this.#process.output
      .slice(from, this.#read)
      .split('\n')
      .filter((line) => line !== '' && !this.subject.isIgnored(line))
  }

  async stop(): Promise<void> {
    await this.#process.stop('SIGKILL')
  }

  /** Makes marks until one appears in the output. Marks made before the monitor listens never appear. */
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
    throw new Error(`${this.subject.command[0]} monitor shows no mark\n${this.#process.tail()}`)
  }
}
