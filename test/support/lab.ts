/**
 * A cluster on one machine, as near to the real thing as one kernel allows: hosts are network namespaces with an interface each on
 * a common underlay, etcd has a namespace of its own there, and overlayd runs on every host as it would on a machine.
 *
 *   host1 eth0 192.168.77.11 ──┐
 *   host2 eth0 192.168.77.12 ──┼── bridge `underlay`, 192.168.77.0/24 ── etcd eth0 192.168.77.2
 *   ...                        └── lab0 192.168.77.1: the test itself
 *
 * The underlay has IPv6 too, fd77::/64, with the same last number in decimal: host1 is fd77::11.
 *
 * Only inside `scripts/sandbox`, one lab at a time. `close()` removes all that the lab made, also after failures.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Etcd3 } from 'etcd3'
import { type Etcd, startEtcd } from './etcd'
import { Host } from './host'
import { KernelMonitor } from './kernel-monitor'
import { type FakePeer, leaseKey, putPeers, subnetName } from './leases'
import { assertSandbox, ipBatch } from './namespace'
import { type PingOptions, type PingResult, ping, RunningPing } from './ping'
import { run } from './process'

export { type Container, Host } from './host'

export const ETCD_PREFIX = '/coreos.com/network'
/** Real hosts take subnets up to 10.5.99.0, so that a test can put leases above without getting into their way. */
export const NETWORK_CONFIG = '{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan"}}'

const LAB_ADDRESS = '192.168.77.1'
const LAB_ADDRESS6 = 'fd77::1'
export const ETCD_ADDRESS = '192.168.77.2'
/** The last octet of a host's address is its number and this. */
const HOST_OFFSET = 10
export const MAX_HOSTS = 254 - HOST_OFFSET

/** The same range for IPv4, and one for IPv6. */
export const DUAL_STACK_CONFIG =
  '{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}'
export const IPV6_CONFIG =
  '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}'

export interface LabOptions {
  readonly hosts: number
  /** The network config in etcd before any host starts; null for none. */
  readonly config?: string | null
}

/** Where a ping starts. */
interface Origin {
  readonly namespace: string
}

/** Where a ping goes. */
interface Target {
  readonly address: string
}

export class Lab {
  readonly directory = mkdtempSync('/run/lab-')
  readonly hosts: Host[] = []
  /** Undoes what was done, last first. */
  #cleanup: (() => unknown)[] = [() => rmSync(this.directory, { recursive: true, force: true })]
  #etcd: Etcd | undefined
  #client: Etcd3 | undefined

  static async create({ hosts, config = NETWORK_CONFIG }: LabOptions): Promise<Lab> {
    assertSandbox()
    if (hosts > MAX_HOSTS) throw new Error(`a lab has room for ${MAX_HOSTS} hosts, not for ${hosts}`)
    const lab = new Lab()
    try {
      await lab.#makeUnderlay()
      await lab.#startEtcd()
      if (config !== null) await lab.putConfig(config)
      await lab.addHosts(hosts)
      return lab
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  private constructor() {}

  get etcd(): Etcd {
    if (this.#etcd === undefined) throw new Error('the lab has no etcd')
    return this.#etcd
  }

  /** A client of the lab's etcd. */
  get client(): Etcd3 {
    if (this.#client === undefined) throw new Error('the lab has no etcd')
    return this.#client
  }

  /** A host by its number, from 1. */
  host(number: number): Host {
    const host = this.hosts[number - 1]
    if (host === undefined) throw new Error(`the lab has no host${number}`)
    return host
  }

  /** Adds hosts to the underlay; nothing runs on them yet. */
  async addHosts(count: number): Promise<readonly Host[]> {
    const added = Array.from({ length: count }, (_, index) => {
      const number = this.hosts.length + index + 1
      const name = `host${number}`
      const directory = join(this.directory, name)
      mkdirSync(directory)
      const address = `192.168.77.${HOST_OFFSET + number}`
      const etcdEndpoint = this.etcd.endpoint
      const address6 = `fd77::${HOST_OFFSET + number}`
      return new Host({ name, address, address6, directory, etcdEndpoint, etcdPrefix: ETCD_PREFIX })
    })
    this.hosts.push(...added)
    await this.#join(added)
    return added
  }

  /** Starts overlayd on every host where it does not run, and waits until each has all the others as peers. */
  async startAll(timeoutMs = 20_000): Promise<void> {
    for (const host of this.hosts) if (!host.running) host.start()
    await this.waitConverged(0, timeoutMs)
  }

  /** Waits until every running host has all the others as peers, and as many that do not exist as a test put. */
  async waitConverged(fakePeers = 0, timeoutMs = 20_000): Promise<void> {
    const running = this.hosts.filter((host) => host.running)
    await Promise.all(running.map((host) => host.waitConverged(running.length - 1 + fakePeers, timeoutMs)))
  }

  /** Makes a namespace that is not on the underlay; removed with the lab. */
  async addNamespace(name: string): Promise<void> {
    await ipBatch(undefined, [`netns add ${name}`])
    this.#cleanup.push(() => removeNamespaces([name]))
  }

  async putConfig(config: string): Promise<void> {
    await this.client.put(`${ETCD_PREFIX}/config`).value(config)
  }

  /** Puts leases of hosts that do not exist. */
  async putPeers(...peers: readonly FakePeer[]): Promise<void> {
    await putPeers(this.client, ETCD_PREFIX, peers)
  }

  async deletePeer(peer: Pick<FakePeer, 'subnet' | 'six'>): Promise<void> {
    await this.client.delete().key(leaseKey(ETCD_PREFIX, subnetName(peer)))
  }

  ping(from: Origin, to: Target, options?: PingOptions): Promise<PingResult> {
    return ping(from.namespace, to.address, options)
  }

  /** Starts a ping that goes on until it is stopped, at the latest by `close()`. */
  async startPing(from: Origin, to: Target, intervalMs?: number): Promise<RunningPing> {
    const running = await RunningPing.start(from.namespace, to.address, intervalMs)
    this.#cleanup.push(() => running.kill())
    return running
  }

  /** Listens to all changes in a host's kernel, of the network's objects or of nftables, at the latest until `close()`. */
  async monitor(host: Host, subject?: Parameters<typeof KernelMonitor.start>[1]): Promise<KernelMonitor> {
    const monitor = await KernelMonitor.start(host.namespace, subject)
    this.#cleanup.push(() => monitor.stop())
    return monitor
  }

  /** Removes everything. All of it is tried; the first failure is thrown in the end. */
  async close(): Promise<void> {
    const failures: unknown[] = []
    const attempt = async (undo: () => unknown) => {
      try {
        await undo()
      } catch (error) {
        failures.push(error)
      }
    }
    await Promise.all(
      this.hosts.filter((host) => host.running).map((host) => attempt(() => host.stop('SIGKILL'))),
    )
    for (const undo of this.#cleanup.reverse()) await attempt(undo)
    this.#cleanup = []
    const containers = this.hosts.flatMap((host) => host.containers)
    await attempt(() => removeNamespaces([...containers, ...this.hosts].map(({ namespace }) => namespace)))
    if (failures.length > 0) throw failures[0]
  }

  async #makeUnderlay(): Promise<void> {
    await ipBatch(undefined, ['netns add underlay', 'netns add etcd'])
    this.#cleanup.push(() => removeNamespaces(['etcd', 'underlay']))
    await ipBatch('underlay', ['link add underlay type bridge', 'link set underlay up'])
    await ipBatch(undefined, [
      'link add lab0 type veth peer name lab netns underlay',
      `address add ${LAB_ADDRESS}/24 dev lab0`,
      `address add ${LAB_ADDRESS6}/64 dev lab0 nodad`,
      'link set lab0 up',
    ])
    this.#cleanup.push(() => run(['ip', 'link', 'delete', 'lab0']))
    await ipBatch('underlay', [
      'link set lab master underlay up',
      'link add to-etcd type veth peer name eth0 netns etcd',
      'link set to-etcd master underlay up',
    ])
    await ipBatch('etcd', [
      'link set lo up',
      `address add ${ETCD_ADDRESS}/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${LAB_ADDRESS}`,
    ])
  }

  async #startEtcd(): Promise<void> {
    // Below /run, which ends with the sandbox, also when the lab is not closed.
    const dataDir = join(this.directory, 'etcd')
    mkdirSync(dataDir, { mode: 0o700 })
    const etcd = await startEtcd({ netns: 'etcd', ip: ETCD_ADDRESS, dataDir })
    this.#cleanup.push(() => etcd.stop())
    this.#etcd = etcd
    const client = new Etcd3({ hosts: etcd.endpoint })
    this.#cleanup.push(() => client.close())
    this.#client = client
  }

  async #join(hosts: readonly Host[]): Promise<void> {
    await ipBatch(
      undefined,
      hosts.map(({ namespace }) => `netns add ${namespace}`),
    )
    await ipBatch(
      'underlay',
      hosts.flatMap(({ namespace }) => [
        `link add ${namespace} type veth peer name eth0 netns ${namespace}`,
        `link set ${namespace} master underlay up`,
      ]),
    )
    await Promise.all(
      hosts.map((host) =>
        ipBatch(host.namespace, [
          'link set lo up',
          `address add ${host.address}/24 dev eth0`,
          `address add ${host.address6}/64 dev eth0 nodad`,
          'link set eth0 up',
          `route add default via ${LAB_ADDRESS}`,
          `route add ::/0 via ${LAB_ADDRESS6}`,
        ]),
      ),
    )
  }
}

/** Removes those that exist: a lab that failed half-way has not made them all. */
function removeNamespaces(names: readonly string[]): Promise<void> {
  const existing = names.filter((name) => existsSync(`/run/netns/${name}`))
  return ipBatch(
    undefined,
    existing.map((name) => `netns delete ${name}`),
  )
}
