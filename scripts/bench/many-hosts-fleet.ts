/**
 * Many hosts with a daemon each, and their costs: for etcd, for its grpc-proxy if there is one, and for the
 * daemons.
 */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { type EtcdLoad, rpcCounts } from '../../test/lab/etcd'
import { GrpcProxy } from '../../test/lab/etcd-proxy'
import { keyOf } from '../../test/lab/faults'
import { ETCD_ADDRESS, ETCD_PREFIX, type Host, Lab } from '../../test/lab/lab'
import { type FakePeer, fakePeer } from '../../test/lab/leases'
import type { RunningPing } from '../../test/lab/ping'
import { sleep, type WaitOptions } from '../../test/lab/wait'
import type { Effort, FleetStage, Sample } from './case'
import { launch, verify } from './daemon'
import { loadSince } from './etcd-load'
import { FleetMonitor } from './many-hosts-monitor'
import { cpuSeconds } from './proc'
import { quantile } from './statistics'

/** Hosts take subnets up to 10.5.223.0; {@link Fleet.spare} takes those above. */
const CONFIG = '{"Network":"10.5.0.0/16","SubnetMax":"10.5.223.0","Backend":{"Type":"vxlan"}}'
const FIRST_SPARE = 80
const MOST_HOSTS = 200
/** Least memory of a daemon plus its share of etcd's, in bytes. */
const MEMORY_PER_HOST = 50e6
/** Number of hosts whose kernels are read in parallel. */
const VERIFIED_AT_ONCE = 8

const leaseSchema = z.object({ PublicIP: z.string(), BackendData: z.object({ VtepMAC: z.string() }) })

/** Totals at one moment. */
interface Spent {
  readonly etcd: { readonly pid: number; readonly counters: Counters; readonly cpu: number }
  readonly proxy: { readonly pid: number; readonly cpu: number } | undefined
  /** Process id -> CPU seconds. */
  readonly daemons: ReadonlyMap<number, number>
}

/** Counters of etcd since its start. */
interface Counters extends EtcdLoad {
  /** Bytes sent to all clients. */
  readonly sent: number
}

const NOTHING: Counters = { rpcs: new Map(), watchEvents: 0, sent: 0 }

/** Labs switch probing off, because leases of hosts that do not exist are in many of them. */
const AS_SHIPPED = { FLANNELD_PROBE: 'on' }

export class Fleet {
  readonly effort: Effort

  /** Makes a lab with etcd, and with hosts on which nothing runs yet. */
  static async create(stage: FleetStage, way: 'direct' | 'proxy'): Promise<Fleet> {
    checkSize(stage.hosts)
    const lab = await Lab.create({ hosts: 0, config: CONFIG })
    let proxy: GrpcProxy | undefined
    try {
      if (way === 'proxy') {
        const site = { netns: 'etcd', ip: ETCD_ADDRESS, port: 23_790, directory: lab.directory }
        proxy = await GrpcProxy.start(lab.etcd, site)
      }
      const hosts = await lab.addHosts(stage.hosts)
      await stage.quiet()
      return new Fleet(stage, lab, hosts, await FleetMonitor.start(hosts), proxy)
    } catch (error) {
      await proxy?.stop()
      await lab.close()
      throw error
    }
  }

  private constructor(
    private readonly stage: FleetStage,
    readonly lab: Lab,
    readonly hosts: readonly Host[],
    readonly monitor: FleetMonitor,
    readonly proxy: GrpcProxy | undefined,
  ) {
    this.effort = stage.effort
  }

  get say(): FleetStage['say'] {
    return this.stage.say
  }

  async close(): Promise<void> {
    await this.monitor.stop()
    await this.lab.close()
    await this.proxy?.stop()
  }

  /** Starts the daemon of a host. @returns the time of the exec, in milliseconds since the epoch */
  start(host: Host): number {
    const { flags } = this.stage.subject.start
    const exec = Date.now()
    host.start({ ...this.stage.subject.start, env: AS_SHIPPED, flags: { ...flags, ...this.#endpoint } })
    return exec
  }

  /** Starts the daemon of a host and waits until it is ready. @returns seconds from exec to READY=1 */
  async startAndWait(
    host: Host,
    flags: Readonly<Record<string, string>> = {},
    wait: Pick<WaitOptions, 'intervalMs' | 'timeoutMs'> = {},
  ): Promise<number> {
    const stage = { lab: this.lab, subject: this.stage.subject }
    return launch(stage, host, { env: AS_SHIPPED, flags: { ...this.#endpoint, ...flags } }).ready(wait)
  }

  /** A peer that does not exist, in a subnet that no host takes. */
  spare(index: number): FakePeer {
    return fakePeer(FIRST_SPARE + index)
  }

  async leaseOf(host: Host): Promise<{ readonly subnet: string; readonly etcdLease: string }> {
    const { subnet } = await host.subnetEnv()
    const { key, etcdLease } = await keyOf(this.lab, host)
    if (etcdLease === undefined) throw new Error(`there is no ${key}`)
    return { subnet: subnet.replace(/\d+\//, '0/'), etcdLease }
  }

  /** Starts pings every 5 ms from a container of the first host to one of the second. */
  async startPing(): Promise<RunningPing> {
    const [first, second] = this.hosts
    if (first === undefined || second === undefined) throw new Error('it takes two hosts to ping')
    return this.lab.startPing(await first.addContainer(), await second.addContainer(), 5)
  }

  /** Compares all objects in all kernels with the leases, one by one. */
  async verify(): Promise<void> {
    const values = await this.lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).strings()
    const peers = Object.entries(values).map(([key, text]): FakePeer => {
      const value = leaseSchema.parse(JSON.parse(text))
      const subnet = key.slice(key.lastIndexOf('/') + 1)
      return { subnet, publicIp: value.PublicIP, mac: value.BackendData.VtepMAC }
    })
    if (peers.length !== this.hosts.length)
      throw new Error(`${this.hosts.length} hosts have ${peers.length} leases`)
    const left = this.hosts[Symbol.iterator]()
    const worker = async (): Promise<void> => {
      for (const host of left) {
        await verify({ peers: peers.filter(({ publicIp }) => publicIp !== host.address) }, host)
      }
    }
    await Promise.all(Array.from({ length: VERIFIED_AT_ONCE }, worker))
  }

  /**
   * Runs something, and adds its costs to the sample that it returns.
   * @param name prefix of each key
   */
  async loadOf(name: string, run: () => Promise<Sample>, settleMs = this.effort.settleMs): Promise<Sample> {
    this.say(name)
    const before = await this.#spent()
    const sample = await run()
    await sleep(settleMs)
    const all = { ...this.#difference(before, await this.#spent()), ...sample }
    return Object.fromEntries(
      Object.entries(all).map(([key, value]) => [`${name}${key[0]?.toUpperCase()}${key.slice(1)}`, value]),
    )
  }

  /** Reads the count of an RPC at etcd periodically until it is stopped, also while etcd is down. */
  sample(
    method: string,
    everyMs: number,
  ): { readonly stop: () => Promise<readonly (readonly [number, number])[]> } {
    const counts: [number, number][] = []
    let stopped = false
    const watching = (async () => {
      while (!stopped) {
        const rpcs = await this.#counters().then(
          (counters) => counters.rpcs,
          () => undefined,
        )
        if (rpcs !== undefined) counts.push([performance.now(), rpcs.get(method) ?? 0])
        await sleep(everyMs)
      }
    })()
    return {
      stop: async () => {
        stopped = true
        await watching
        return counts
      },
    }
  }

  get #endpoint() {
    return { 'etcd-endpoints': (this.proxy ?? this.lab.etcd).endpoint }
  }

  async #counters(): Promise<Counters> {
    const text = await (await fetch(`${this.lab.etcd.endpoint}/metrics`)).text()
    const counter = (name: string): number =>
      Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
    return {
      rpcs: rpcCounts(text),
      watchEvents: counter('etcd_debugging_mvcc_events_total'),
      sent: counter('etcd_network_client_grpc_sent_bytes_total'),
    }
  }

  async #spent(): Promise<Spent> {
    const { pid } = this.lab.etcd
    const running = this.hosts.filter((host) => host.running).map((host) => host.daemon.pid)
    return {
      etcd: { pid, counters: await this.#counters(), cpu: cpuSeconds(pid) },
      proxy: this.proxy && { pid: this.proxy.pid, cpu: cpuSeconds(this.proxy.pid) },
      daemons: new Map(running.map((each) => [each, cpuSeconds(each)])),
    }
  }

  /** A process that was started in between counts from its start. */
  #difference(before: Spent, after: Spent): Sample {
    const known = before.etcd.pid === after.etcd.pid ? before.etcd : { counters: NOTHING, cpu: 0 }
    const { counters, cpu } = after.etcd
    const daemons = Array.from(after.daemons, ([pid, spent]) => spent - (before.daemons.get(pid) ?? 0))
    const load = loadSince(known.counters, counters)
    const count = this.hosts.length
    return {
      ...load,
      rpcsPerHost: (load['rpcs'] ?? 0) / count,
      sentMb: (counters.sent - known.counters.sent) / 1e6,
      etcdCpuSeconds: cpu - known.cpu,
      ...(after.proxy && {
        proxyCpuSeconds:
          after.proxy.cpu - (before.proxy?.pid === after.proxy.pid ? (before.proxy.cpu ?? 0) : 0),
      }),
      daemonCpuSum: daemons.reduce((sum, each) => sum + each, 0),
      daemonCpuMedian: quantile(daemons, 0.5),
      daemonCpuMax: Math.max(...daemons),
    }
  }
}

function checkSize(hosts: number): void {
  if (hosts < 3 || hosts > MOST_HOSTS) throw new Error(`--hosts: from 3 to ${MOST_HOSTS}, not ${hosts}`)
  const available =
    Number(/^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024
  if (available < hosts * MEMORY_PER_HOST) {
    const [wanted, there] = [hosts * MEMORY_PER_HOST, available].map((bytes) => (bytes / 1e9).toFixed(1))
    throw new Error(`--hosts: ${hosts} hosts take ${wanted} GB of memory, and ${there} GB are available`)
  }
}
