/**
 * Records when routes are added and deleted in a host's kernel, by `ip monitor`, so that the kernel need not
 * be polled.
 */
import { inNamespace, ipBatch } from '../../test/lab/namespace'
import { LongProcess } from '../../test/lab/process'
import { Pending, waitFor } from '../../test/lab/wait'

/** A route that only marks: once the monitor shows its end, the monitor listens. */
const MARK = '127.99.0.1'

/** When a route was last added and last deleted, in milliseconds since the epoch. */
interface Seen {
  added?: number
  deleted?: number
}

export class RouteMonitor {
  readonly #process: LongProcess
  readonly #routes = new Map<string, Seen>()
  #read = 0

  /** Starts a monitor in a namespace. Changes are recorded from the moment the promise resolves. */
  static async start(namespace: string): Promise<RouteMonitor> {
    const monitor = new RouteMonitor(namespace)
    try {
      await waitFor('the monitor of routes', async () => {
        await ipBatch(namespace, [`route add ${MARK} dev lo`, `route delete ${MARK} dev lo`])
        return monitor.#process.output.includes(`Deleted ${MARK} `) || new Pending('no mark')
      })
    } catch (error) {
      await monitor.stop()
      throw error
    }
    return monitor
  }

  private constructor(namespace: string) {
    const command = ['ip', '-4', '-ts', '-oneline', '-rcvbuf', '268435456', 'monitor', 'route'] as const
    this.#process = new LongProcess(`ip monitor in ${namespace}`, inNamespace(namespace, command))
  }

  /**
   * Waits until all of the routes were added, or deleted, after a time.
   * @returns the times, in milliseconds since the epoch, in the order of the prefixes
   */
  async times(
    kind: 'added' | 'deleted',
    prefixes: readonly string[],
    since: number,
    { timeoutMs = 60_000, intervalMs = 2 } = {},
  ): Promise<number[]> {
    const time = (prefix: string): number => {
      const at = this.#routes.get(prefix)?.[kind] ?? 0
      return at < since ? Number.NaN : at
    }
    return waitFor(
      `${prefixes.length} routes to be ${kind}`,
      () => {
        this.#parse()
        const times = prefixes.map(time)
        const missing = times.filter(Number.isNaN).length
        return missing === 0 ? times : new Pending(`${missing} are missing`)
      },
      { timeoutMs, intervalMs },
    )
  }

  async stop(): Promise<void> {
    await this.#process.stop('SIGKILL')
  }

  #parse(): void {
    const { output } = this.#process
    const end = output.lastIndexOf('\n') + 1
    // `[2026-01-31T12:00:00.123456] Deleted 10.1.2.0/24 ...`
    for (const line of output.slice(this.#read, end).split('\n')) {
      const match = /^\[(\S+?)(\.\d+)\] (Deleted )?(?:unicast )?(\d+\.\d+\.\d+\.\d+\/\d+) /.exec(line)
      if (match === null) continue
      const [, second = '', fraction = '', deleted, prefix = ''] = match
      const seen = this.#routes.get(prefix) ?? {}
      seen[deleted === undefined ? 'added' : 'deleted'] = Date.parse(second) + Number(fraction) * 1000
      this.#routes.set(prefix, seen)
    }
    this.#read = end
  }
}

/** The current time in milliseconds since the epoch, with the fraction that Date.now() drops. */
export const now = (): number => performance.timeOrigin + performance.now()
