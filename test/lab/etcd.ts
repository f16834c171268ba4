/** A real etcd for tests: one member with its data in memory. It is killed when the test process ends. */
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SignedFiles } from './certificates'
import { patience } from './patience'
import { type Command, LongProcess, run, runOk } from './process'
import { Pending, waitFor } from './wait'

export interface EtcdSite {
  /** Network namespace to run in, by the name of its file in /run/netns; by default that of the test. */
  readonly netns?: string
  /** Address to listen on; default 127.0.0.1. */
  readonly ip?: string
  /** Default: 2379 in a namespace, else a free port. */
  readonly clientPort?: number
  /** Default: 2380 in a namespace, else a free port. */
  readonly peerPort?: number
  /**
   * An existing directory, which `stop()` keeps. The default is a new directory in memory, which it removes.
   */
  readonly dataDir?: string
  /** Further flags of etcd, after the default ones. */
  readonly flags?: readonly string[]
  /** Makes etcd use TLS for its clients. */
  readonly tls?: EtcdTls
}

export interface EtcdTls {
  readonly server: SignedFiles
  /**
   * Certificate of etcdctl. If given, etcd requires one signed by the server's authority from all clients.
   */
  readonly client?: SignedFiles
}

/** Work of an etcd member since its start. */
export interface EtcdLoad {
  /** Method -> count, as in {@link Etcd.metrics}. */
  readonly rpcs: ReadonlyMap<string, number>
  /** Events sent, summed over all watchers. */
  readonly watchEvents: number
}

/** Starts etcd and waits until it is healthy. */
export async function startEtcd(site: EtcdSite = {}): Promise<Etcd> {
  // The first ones in PATH are used.
  assertInstalled('etcd', 'etcd-server')
  assertInstalled('etcdctl', 'etcd-client')
  const { netns, ip = '127.0.0.1' } = site
  const clientPort = site.clientPort ?? (netns === undefined ? await freePort(ip) : 2379)
  const peerPort = site.peerPort ?? (netns === undefined ? await freePort(ip) : 2380)
  // Health and metrics without TLS, so that reading them needs no certificate.
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

/** Starts a cluster of three members in one namespace, each with its own ports and data below `directory`. */
export function startCluster({
  netns,
  ip,
  directory,
}: Required<Pick<EtcdSite, 'netns' | 'ip'>> & { readonly directory: string }): Promise<Etcd[]> {
  const names = ['a', 'b', 'c']
  const peerPort = (index: number): number => 12380 + index
  const cluster = names.map((name, index) => `${name}=http://${ip}:${peerPort(index)}`).join(',')
  const times = clusterTimes()
  return Promise.all(
    names.map((name, index) => {
      const dataDir = join(directory, `etcd-${name}`)
      mkdirSync(dataDir, { mode: 0o700 })
      return startEtcd({
        netns,
        ip,
        clientPort: 22379 + index,
        peerPort: peerPort(index),
        dataDir,
        flags: ['--name', name, '--initial-cluster', cluster, ...times],
      })
    }),
  )
}

/**
 * Flags of the members of a cluster: etcd's defaults (`--heartbeat-interval=100`, `--election-timeout=1000`)
 * for this machine. A member that gets no processor for the default time causes an election.
 */
export function clusterTimes(): string[] {
  const times = patience()
  return [`--heartbeat-interval=${Math.ceil(100 * times)}`, `--election-timeout=${Math.ceil(1000 * times)}`]
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

  get running(): boolean {
    return this.#process?.running ?? false
  }

  /** Starts etcd on its earlier data, if any, and waits until it is healthy, so until it has a leader. */
  async start(timeoutMs = 10_000): Promise<void> {
    this.#process = new LongProcess('etcd', this.#inNamespace(this.#command()))
    await waitFor(
      `etcd at ${this.endpoint} to be healthy`,
      async () => {
        if (!this.#running.running) throw new Error(`etcd has exited\n${this.#running.tail()}`)
        const { stdout, stderr } = await this.#get('/health')
        return stdout.includes('"true"') ? true : new Pending(stdout || stderr.trim())
      },
      { timeoutMs, context: () => this.#running.tail() },
    )
  }

  /** Kills etcd and removes its data, unless `dataDir` was given. Harmless if etcd has exited already. */
  async stop(): Promise<void> {
    await this.kill()
    if (this.site.dataDir === undefined) rmSync(this.dataDir, { recursive: true, force: true })
  }

  /** Kills etcd; its data stays. */
  async kill(): Promise<void> {
    await this.#process?.stop('SIGKILL')
  }

  /** Kills etcd and starts it again on the same data. */
  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  /** Kills etcd and starts it again without data, at the same address. */
  async wipe(): Promise<void> {
    await this.kill()
    this.#removeData()
    await this.start()
  }

  /** Writes a backup with etcdctl, as an operator would. */
  async save(file: string): Promise<void> {
    await this.etcdctl('snapshot', 'save', file)
  }

  /** Kills etcd, restores a backup and starts etcd again at the same address. */
  async restore(file: string): Promise<void> {
    await this.kill()
    this.#removeData()
    const { dataDir, peerUrl } = this
    await runOk(
      [
        ...(['etcdctl', 'snapshot', 'restore', file, '--name', 'test', '--data-dir', dataDir] as const),
        ...['--initial-cluster', `test=${peerUrl}`, '--initial-advertise-peer-urls', peerUrl],
      ],
      { env: { PATH: process.env['PATH'], ETCDCTL_API: '3' } },
    )
    await this.start()
  }

  /** Freezes etcd: its connections stay open, but it answers nothing. */
  pause(): void {
    this.#running.signal('SIGSTOP')
  }

  resume(): void {
    this.#running.signal('SIGCONT')
  }

  /** Runs etcdctl for this member. @returns its standard output. @throws {Error} if it fails */
  async etcdctl(...args: string[]): Promise<string> {
    const env = { PATH: process.env['PATH'], ETCDCTL_API: '3' }
    const { server, client } = this.site.tls ?? {}
    const tls = [
      ...(server === undefined ? [] : [`--cacert=${server.caFile}`]),
      ...(client === undefined ? [] : [`--cert=${client.certFile}`, `--key=${client.keyFile}`]),
    ]
    return runOk(this.#inNamespace(['etcdctl', `--endpoints=${this.endpoint}`, ...tls, ...args]), { env })
  }

  /** How many RPCs etcd has received since its start: method -> count, as `Range` -> 3. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    return (await this.load()).rpcs
  }

  /** The work of etcd since its start. */
  async load(): Promise<EtcdLoad> {
    const { stdout, stderr } = await this.#get('/metrics')
    if (stdout === '') throw new Error(`etcd has no metrics: ${stderr.trim()}`)
    const sent = /^etcd_debugging_mvcc_events_total (\S+)$/m.exec(stdout)?.[1]
    if (sent === undefined) throw new Error('etcd has no metric of the events it sent')
    return { rpcs: rpcCounts(stdout), watchEvents: Number(sent) }
  }

  /** Removes the data directory itself: `etcdctl snapshot restore` requires that it does not exist. */
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
      // The kernel kills etcd when the test process ends, whatever ends it.
      ...(['setpriv', '--pdeathsig', 'KILL'] as const),
      'etcd',
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

  /**
   * An HTTP GET from within etcd's namespace. On failure stdout is empty. bash speaks HTTP here because it
   * starts faster than node.
   * @returns the answer with its headers, as `stdout`
   */
  #get(path: string): Promise<{ stdout: string; stderr: string }> {
    const { hostname, port } = new URL(this.metricsUrl)
    // By HTTP/1.0, etcd closes the connection at the end of its answer.
    const script = 'exec 3<>"/dev/tcp/$1/$2" && printf "GET %s HTTP/1.0\\r\\n\\r\\n" "$3" >&3 && exec cat <&3'
    const command = ['bash', '-c', script, 'bash', hostname, port, path] as const
    return run(this.#inNamespace(command), { timeoutMs: 2000 })
  }
}

/**
 * Counts of received RPCs of etcd's services.
 * @param metrics text of /metrics
 * @returns method -> count
 */
export function rpcCounts(metrics: string): ReadonlyMap<string, number> {
  // gRPC's own services (such as health) are left out: some of their methods have the same names.
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

function assertInstalled(program: string, debianPackage: string): void {
  const directories = (process.env['PATH'] ?? '').split(':')
  if (directories.some((directory) => isExecutable(join(directory, program)))) return
  throw new Error(`${program} is missing; install it with: apt-get install ${debianPackage}`)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** A directory in memory, where fsync costs nothing: etcd 3.4 has no option to switch fsync off. */
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
