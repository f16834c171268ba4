/**
 * Watches the kernels of many hosts by a single `ip monitor`, which the kernel lets listen to all of their
 * namespaces: when the overlay's routes of each host were added and deleted, and all changes.
 */

import { isOwnDoing, OBJECTS } from '../../test/lab/kernel-monitor'
import type { Host } from '../../test/lab/lab'
import { ipBatch } from '../../test/lab/namespace'
import { LongProcess } from '../../test/lab/process'
import { Pending, sleep, waitFor } from '../../test/lab/wait'

/** When a route was last added and last deleted, in milliseconds since the epoch. */
interface Seen {
  added?: number
  deleted?: number
}

/** The routes of a host through the overlay, by destination. */
type Routes = Map<string, Seen>

const DEAD_SHOWN = 3

export class FleetMonitor {
  /**
   * The next namespace id. The kernel itself assigns low ids, and frees those of a closed lab only after a
   * while.
   */
  static #nextId = 1000
  readonly #process: LongProcess
  /** Routes by the number of the host. */
  readonly #routes: Routes[]
  #read = 0
  #marks = 0
  #marked = 0
  #writes: string[] = []

  /** Starts to listen to these hosts. Every change after the promise resolves is seen. */
  static async start(hosts: readonly Host[]): Promise<FleetMonitor> {
    // The kernel labels the notifications of another namespace with a number that was assigned to it.
    const firstId = FleetMonitor.#nextId
    FleetMonitor.#nextId += hosts.length
    await ipBatch(
      undefined,
      hosts.map(({ namespace }, index) => `netns set ${namespace} ${firstId + index}`),
    )
    const monitor = new FleetMonitor(hosts, firstId)
    await monitor.catchUp()
    return monitor
  }

  private constructor(
    private readonly hosts: readonly Host[],
    private readonly firstId: number,
  ) {
    this.#routes = hosts.map(() => new Map())
    this.#process = new LongProcess('ip monitor of all hosts', [
      ...(['ip', '-ts', '-oneline', '-rcvbuf', '268435456'] as const),
      ...['monitor', ...OBJECTS, 'all-nsid'],
    ])
  }

  async stop(): Promise<void> {
    await this.#process.stop('SIGKILL')
  }

  /**
   * Waits until each host has this number of routes through the overlay.
   * @returns for each host, when its last route was added
   */
  waitForMesh(routes: number, timeoutMs: number): Promise<number[]> {
    return this.#wait(
      `${routes} routes on each of ${this.hosts.length} hosts`,
      () => {
        const present = this.#routes.map((seen) => [...seen.values()].filter(isThere))
        const short = present.filter(({ length }) => length !== routes).length
        if (short > 0) return new Pending(`missing on ${short} hosts`)
        return present.map((some) => Math.max(...some.map(({ added = 0 }) => added)))
      },
      { timeoutMs, intervalMs: 20 },
    )
  }

  /**
   * Waits until a route was added, or deleted, on these hosts after a time.
   * @returns the time on each host, in milliseconds since the epoch
   */
  times(kind: 'added' | 'deleted', prefix: string, on: readonly Host[], since: number): Promise<number[]> {
    const numbers = on.map((host) => this.hosts.indexOf(host))
    return this.#wait(
      `${prefix} to be ${kind} on ${on.length} hosts`,
      () => {
        const times = numbers.map((number) => this.#routes[number]?.get(prefix)?.[kind] ?? 0)
        const missing = times.filter((time) => time < since).length
        return missing === 0 ? times : new Pending(`missing on ${missing} hosts`)
      },
      { timeoutMs: 60_000, intervalMs: 2 },
    )
  }

  /** All changes on any host since the last call. A mark makes sure that all of them were read. */
  async writes(): Promise<readonly string[]> {
    await this.catchUp()
    const writes = this.#writes
    this.#writes = []
    return writes
  }

  /** Forgets all routes: the kernel does not report the routes that disappear with their device. */
  async forget(): Promise<void> {
    await this.catchUp()
    for (const routes of this.#routes) routes.clear()
  }

  /** Waits until all changes so far were read. */
  async catchUp(): Promise<void> {
    const [host] = this.hosts
    if (host === undefined) return
    // Marks that are made before the monitor listens never arrive.
    for (let attempt = 0; attempt < 100; attempt += 1) {
      this.#marks += 1
      const address = `127.99.${this.#marks >>> 8}.${this.#marks & 255}/32`
      await ipBatch(host.namespace, [`address add ${address} dev lo`, `address del ${address} dev lo`])
      for (let wait = 0; wait < 100; wait += 1) {
        this.#parse()
        if (this.#marked === this.#marks) return
        await sleep(5)
      }
    }
    throw new Error(`ip monitor does not answer\n${this.#process.tail()}`)
  }

  #wait<T>(
    what: string,
    probe: () => T | Pending,
    options: { readonly timeoutMs: number; readonly intervalMs: number },
  ): Promise<T> {
    const parsed = (): T | Pending => {
      if (!this.#process.running) throw new Error(this.#process.tail())
      this.#parse()
      return probe()
    }
    const dead = () =>
      this.hosts
        .filter(({ running }) => !running)
        .slice(0, DEAD_SHOWN)
        .map((host) => host.daemon.tail())
        .join('\n')
    return waitFor(what, parsed, { ...options, context: dead })
  }

  #parse(): void {
    const { output } = this.#process
    const end = output.lastIndexOf('\n') + 1
    if (end === this.#read) return
    // `[2026-01-31T12:00:00.123456] [nsid 1007]Deleted 10.1.2.0/24 nhid 5 via 10.1.2.0 dev flannel.1 ...`
    for (const line of output.slice(this.#read, end).split('\n')) {
      const mark = /Deleted local 127\.99\.(\d+)\.(\d+) /.exec(line)
      if (mark !== null) this.#marked = (Number(mark[1]) << 8) | Number(mark[2])
      const [, id = '', text = ''] = /^\[\S+\] \[nsid (\d+)\](.*)$/.exec(line) ?? []
      const routes = this.#routes[Number(id) - this.firstId]
      if (routes === undefined || isOwnDoing(line)) continue
      this.#writes.push(line)
      const route = /^(Deleted )?(\d+\.\d+\.\d+\.\d+\/\d+) .*\bvia /.exec(text)
      if (route === null) continue
      const [, deleted, prefix = ''] = route
      const seen = routes.get(prefix) ?? {}
      seen[deleted === undefined ? 'added' : 'deleted'] = timeOf(line)
      routes.set(prefix, seen)
    }
    this.#read = end
  }
}

const isThere = ({ added = 0, deleted = 0 }: Seen): boolean => added > deleted

/** The time of a line, in milliseconds since the epoch, with the fraction that Date.parse() drops. */
function timeOf(line: string): number {
  const [, second = '', fraction = ''] = /^\[(\S+?)(\.\d+)\]/.exec(line) ?? []
  return Date.parse(second) + Number(fraction) * 1000
}
