/** A real etcd for tests: one member with data of its own in memory, gone with the test that started it. */
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SignedFiles } from './certificates'
import { type Command, LongProcess, run, runOk } from './process'
import { Pending, waitFor } from './wait'

const ETCD = '/usr/bin/etcd'
const ETCDCTL = '/usr/bin/etcdctl'

export interface EtcdSite {
  /** Network namespace to run in, by the name of its file in /run/netns; default is the test's own. */
  readonly netns?: string
  /** Address to listen on; default 127.0.0.1. */
  readonly ip?: string
  /** Default is a free port, or 2379 in a namespace. */
  readonly clientPort?: number
  readonly peerPort?: number
  /** An existing directory, which is kept at the end. Default is a new one in memory, which is not. */
  readonly dataDir?: string
  /** More flags of etcd, after ours. */
  readonly flags?: readonly string[]
  /** Makes it speak TLS with its clients. */
  readonly tls?: EtcdTls
}

export interface EtcdTls {
  readonly server: SignedFiles
  /** What etcdctl shows; with it all clients have to show a certificate of the server's authority. */
  readonly client?: SignedFiles
}

export interface EtcdLoad {
  /** By method, as in {@link Etcd.metrics}. */
  readonly rpcs: ReadonlyMap<string, number>
  /** Events it sent, to all watchers together. */
  readonly watchEvents: number
}

/** Starts etcd and waits until it answers. */
export async function startEtcd(site: EtcdSite = {}): Promise<Etcd> {
  assertInstalled(ETCD, 'etcd-server')
  assertInstalled(ETCDCTL, 'etcd-client')
  const { netns, ip = '127.0.0.1' } = site
  const clientPort = site.clientPort ?? (netns === undefined ? await freePort(ip) : 2379)
  const peerPort = site.peerPort ?? (netns === undefined ? await freePort(ip) : 2380)
  // Health and metrics without TLS, so that asking needs no certificates.
  const metricsUrl = site.tls && `http://${ip}:${await freePort(ip)}`
  const scheme = site.tls === undefined ? 'http' : 'https'
  const etcd = new Etcd(site, `${scheme}://${ip}:${clientPort}`, `http://${ip}:${peerPort}`, metricsUrl)
  try {
    await etcd.start()
    return etcd
  } catch (error) {
    await etcd.stop()
    throw error
  }
}

export class Etcd {
  readonly dataDir: string
  #process: LongProcess | undefined

  /** @param endpoint the client URL */
  constructor(
    private readonly site: EtcdSite,
    readonly endpoint: string,
    private readonly peerUrl: string,
    private readonly metricsUrl = endpoint,
  ) {
    this.dataDir = site.dataDir ?? mkdtempSync(join(memoryDirectory(), 'overlayd-etcd-'))
  }

  get pid(): number {
    return this.#running.pid
  }

  /** Starts it on the data it left, if any, and waits until it has a leader. */
  async start(): Promise<void> {
    this.#process = new LongProcess('etcd', this.#inNamespace(this.#command()))
    await waitFor(
      `etcd at ${this.endpoint} to be healthy`,
      async () => {
        if (!this.#running.running) throw new Error(`etcd ended\n${this.#running.tail()}`)
        const { stdout, stderr } = await this.#get('/health')
        return stdout.includes('"true"') ? true : new Pending(stdout || stderr.trim())
      },
      { context: () => this.#running.tail() },
    )
  }

  /** Ends it and removes its data. Harmless when it has ended already. */
  async stop(): Promise<void> {
    await this.kill()
    if (this.site.dataDir === undefined) rmSync(this.dataDir, { recursive: true, force: true })
  }

  /** Ends it as a power cut would; the data stays. */
  async kill(): Promise<void> {
    await this.#process?.stop('SIGKILL')
  }

  /** Kills it and starts it again on the same data. */
  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  /** Kills it and starts it again with nothing, at the same address. */
  async wipe(): Promise<void> {
    await this.kill()
    this.#removeData()
    await this.start()
  }

  /** Writes a backup, as an operator would. */
  async save(file: string): Promise<void> {
    await this.etcdctl('snapshot', 'save', file)
  }

  /** Kills it and starts it again on a backup, at the same address. */
  async restore(file: string): Promise<void> {
    await this.kill()
    this.#removeData()
    const { dataDir, peerUrl } = this
    await runOk(
      [
        ...([ETCDCTL, 'snapshot', 'restore', file, '--name', 'test', '--data-dir', dataDir] as const),
        ...['--initial-cluster', `test=${peerUrl}`, '--initial-advertise-peer-urls', peerUrl],
      ],
      { env: { PATH: process.env['PATH'], ETCDCTL_API: '3' } },
    )
    await this.start()
  }

  /** Freezes it: connections stay open, nothing answers. */
  pause(): void {
    this.#running.signal('SIGSTOP')
  }

  resume(): void {
    this.#running.signal('SIGCONT')
  }

  /** Runs etcdctl against it. */
  async etcdctl(...args: string[]): Promise<string> {
    const env = { PATH: process.env['PATH'], ETCDCTL_API: '3' }
    const { server, client } = this.site.tls ?? {}
    const tls = [
      ...(server === undefined ? [] : [`--cacert=${server.caFile}`]),
      ...(client === undefined ? [] : [`--cert=${client.certFile}`, `--key=${client.keyFile}`]),
    ]
    return runOk(this.#inNamespace([ETCDCTL, `--endpoints=${this.endpoint}`, ...tls, ...args]), { env })
  }

  /** RPCs it has received since its start, by method: `Range` -> 3. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    return (await this.load()).rpcs
  }

  /** What it had to do since its start. */
  async load(): Promise<EtcdLoad> {
    const { stdout, stderr } = await this.#get('/metrics')
    if (stdout === '') throw new Error(`etcd shows no metrics: ${stderr.trim()}`)
    const sent = /^etcd_debugging_mvcc_events_total (\S+)$/m.exec(stdout)?.[1]
    if (sent === undefined) throw new Error('etcd does not count the events it sends')
    return { rpcs: rpcCounts(stdout), watchEvents: Number(sent) }
  }

  /** etcdctl restores only to a directory that does not exist. */
  #removeData(): void {
    rmSync(this.dataDir, { recursive: true, force: true })
  }

  get #running(): LongProcess {
    if (this.#process === undefined) throw new Error('etcd was not started')
    return this.#process
  }

  #command(): Command {
    const { endpoint, peerUrl, dataDir } = this
    return [
      // Dies with the test, however that ends.
      ...(['setpriv', '--pdeathsig', 'KILL'] as const),
      ETCD,
      ...['--name', 'test', '--data-dir', dataDir],
      ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', `test=${peerUrl}`],
      ...tlsFlags(this.site.tls, this.metricsUrl),
      ...(this.site.flags ?? []),
    ]
  }

  #inNamespace(command: Command): Command {
    const { netns } = this.site
    return netns === undefined ? command : ['nsenter', `--net=/run/netns/${netns}`, '--', ...command]
  }

  /** An HTTP GET from its own namespace; no output when it failed. */
  #get(path: string): Promise<{ stdout: string; stderr: string }> {
    const script = `fetch(process.argv[1], { signal: AbortSignal.timeout(2000) }).then((r) => r.text()).then((t) => process.stdout.write(t))`
    return run(this.#inNamespace([process.execPath, '-e', script, this.metricsUrl + path]))
  }
}

/** How many RPCs were received, by method, out of the text of /metrics. */
export function rpcCounts(metrics: string): ReadonlyMap<string, number> {
  // Not gRPC's own services, whose names of methods are partly the same.
  const line = /^grpc_server_started_total\{grpc_method="(\w+)",grpc_service="etcdserverpb\..*\} (\S+)$/gm
  return new Map(Array.from(metrics.matchAll(line), ([, method = '', count]) => [method, Number(count)]))
}

function tlsFlags(tls: EtcdTls | undefined, metricsUrl: string): string[] {
  if (tls === undefined) return []
  const { server, client } = tls
  return [
    ...['--cert-file', server.certFile, '--key-file', server.keyFile, '--listen-metrics-urls', metricsUrl],
    ...(client === undefined ? [] : ['--client-cert-auth', '--trusted-ca-file', server.caFile]),
  ]
}

function assertInstalled(path: string, debianPackage: string): void {
  try {
    accessSync(path, constants.X_OK)
  } catch (cause) {
    throw new Error(`${path} is missing; install it with: apt-get install ${debianPackage}`, { cause })
  }
}

/** etcd 3.4 has no switch to leave out its fsyncs; in memory they cost nothing. */
function memoryDirectory(): string {
  try {
    accessSync('/dev/shm', constants.W_OK)
    return '/dev/shm'
  } catch {
    return tmpdir()
  }
}

function freePort(ip: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, ip, () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}
