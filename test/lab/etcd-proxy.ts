/** etcd's grpc-proxy between clients and a real etcd, as large clusters have it. */
import { join } from 'node:path'
import { type Etcd, rpcCounts } from './etcd'
import { inNamespace } from './namespace'
import { type Command, LongProcess } from './process'
import { Pending, waitFor } from './wait'

export interface GrpcProxySite {
  /** Network namespace to run in; by default that of the test. */
  readonly netns?: string
  /** Address to listen on. The test has to be able to reach it. */
  readonly ip: string
  readonly port: number
  /** An existing directory. */
  readonly directory: string
}

export class GrpcProxy {
  readonly endpoint: string
  readonly #metricsUrl: string
  #process: LongProcess | undefined

  /** Starts the proxy and waits until it answers. */
  static async start(etcd: Etcd, site: GrpcProxySite): Promise<GrpcProxy> {
    const proxy = new GrpcProxy(etcd, site)
    await proxy.start()
    return proxy
  }

  private constructor(
    private readonly etcd: Etcd,
    private readonly site: GrpcProxySite,
  ) {
    this.endpoint = `http://${site.ip}:${site.port}`
    // A separate address: /metrics of the endpoint returns etcd's metrics, not the proxy's.
    this.#metricsUrl = `http://${site.ip}:${site.port + 1}`
  }

  get pid(): number {
    return this.#running.pid
  }

  async start(): Promise<void> {
    const { netns } = this.site
    const command = this.#command()
    this.#process = new LongProcess(
      'etcd grpc-proxy',
      netns === undefined ? command : inNamespace(netns, command),
    )
    await waitFor(
      `etcd's grpc-proxy at ${this.endpoint}`,
      async () => {
        if (!this.#running.running) throw new Error(this.#running.tail())
        return fetch(`${this.endpoint}/health`).then(
          ({ ok, status }) => ok || new Pending(`HTTP ${status}`),
          (error: unknown) => new Pending(String(error)),
        )
      },
      { context: () => this.#running.tail() },
    )
  }

  /** Kills the proxy and starts it again. */
  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }

  /** Harmless if the proxy has exited already. */
  async stop(): Promise<void> {
    await this.#process?.stop('SIGKILL')
  }

  /** How many RPCs the proxy has received since its start: method -> count. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    return rpcCounts(await (await fetch(`${this.#metricsUrl}/metrics`)).text())
  }

  get #running(): LongProcess {
    if (this.#process === undefined) throw new Error('the grpc-proxy was not started')
    return this.#process
  }

  #command(): Command {
    const { ip, port, directory } = this.site
    return [
      ...(['setpriv', '--pdeathsig', 'KILL', 'etcd', 'grpc-proxy', 'start'] as const),
      ...['--endpoints', this.etcd.endpoint, '--listen-addr', `${ip}:${port}`],
      ...['--advertise-client-url', `${ip}:${port}`, '--metrics-addr', this.#metricsUrl],
      ...['--data-dir', join(directory, 'grpc-proxy')],
    ]
  }
}
