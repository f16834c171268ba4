/**
 * A cluster on one machine, as close to a real one as one kernel allows. Each host is a network namespace
 * with an interface on a common underlay. etcd has its own namespace on the underlay. overlayd runs on every
 * host as it would on a real machine.
 *
 *   host1 eth0 192.168.77.11 ──┐
 *   host2 eth0 192.168.77.12 ──┼── bridge `underlay`, 192.168.77.0/24 ── etcd eth0 192.168.77.2
 *   ...                        └── lab0 192.168.77.1: the test itself
 *
 * The underlay also has IPv6, fd77::/64. The last group has the decimal digits of the IPv4 address's last
 * octet: host1 is fd77::11.
 *
 * Works only inside `scripts/sandbox`, one lab at a time. `close()` removes all that the lab has created,
 * also after failures.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Etcd3 } from 'etcd3'
import { type Etcd, startCluster, startEtcd } from './etcd'
import { Host } from './host'
import { KernelMonitor } from './kernel-monitor'
import { type FakePeer, leaseKey, putPeers, subnetName } from './leases'
import { assertSandbox, ipBatch } from './namespace'
import { type PingOptions, type PingResult, ping, RunningPing } from './ping'
import { run } from './process'

export { type Container, Host } from './host'

/** Of the sandbox: a daemon without `--run-dir` makes it. */
const DEFAULT_RUN_DIRECTORY = '/run/overlayd'

export const ETCD_PREFIX = '/coreos.com/network'
/**
 * Hosts of the lab get subnets up to 10.5.99.0. A test can put leases above that without taking a host's
 * subnet.
 */
export const NETWORK_CONFIG = '{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"vxlan"}}'

const LAB_ADDRESS = '192.168.77.1'
const LAB_ADDRESS6 = 'fd77::1'
export const ETCD_ADDRESS = '192.168.77.2'
/** The last octet of a host's address is the host's number plus this. */
const HOST_OFFSET = 10
export const MAX_HOSTS = 254 - HOST_OFFSET

/** {@link NETWORK_CONFIG} with IPv6 as well. */
export const DUAL_STACK_CONFIG =
  '{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0",' +
  '"EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}'
export const IPV6_CONFIG =
  '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}'

export interface LabOptions {
  readonly hosts: number
  /** Network config written to etcd before any host starts; null for none. */
  readonly config?: string | null
  /** Members of etcd: one, or a cluster of three in one namespace. */
  readonly members?: 1 | 3
}

/** Source of a ping: a host or a container. */
interface Origin {
  readonly namespace: string
}

/** Destination of a ping. */
interface Target {
  readonly address: string
}

export class Lab {
  readonly directory = mkdtempSync('/run/lab-')
  readonly hosts: Host[] = []
  /** Cleanup steps; `close()` runs them from the last to the first. */
  #cleanup: (() => unknown)[] = [
    () => rmSync(this.directory, { recursive: true, force: true }),
    () => rmSync(DEFAULT_RUN_DIRECTORY, { recursive: true, force: true }),
  ]
  #members: readonly Etcd[] = []
  #client: Etcd3 | undefined

  static async create({ hosts, config = NETWORK_CONFIG, members = 1 }: LabOptions): Promise<Lab> {
    assertSandbox()
    const lab = new Lab()
    try {
      await lab.#makeUnderlay()
      await lab.#startEtcd(members)
      if (config !== null) await lab.putConfig(config)
      await lab.addHosts(hosts)
      return lab
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  private constructor() {}

  /** The first member of etcd. */
  get etcd(): Etcd {
    const [etcd] = this.#members
    if (etcd === undefined) throw new Error('the lab has no etcd')
    return etcd
  }

  /** All members of etcd. */
  get members(): readonly Etcd[] {
    return this.#members
  }

  /** Client URLs of all members, in the format of `--etcd-endpoints`. */
  get endpoints(): string {
    return this.#members.map(({ endpoint }) => endpoint).join(',')
  }

  /** A client of the lab's etcd. */
  get client(): Etcd3 {
    if (this.#client === undefined) throw new Error('the lab has no etcd')
    return this.#client
  }

  /** @param number from 1 */
  host(number: number): Host {
    const host = this.hosts[number - 1]
    if (host === undefined) throw new Error(`the lab has no host${number}`)
    return host
  }

  /** Adds hosts to the underlay. Does not start overlayd on them. */
  async addHosts(count: number): Promise<readonly Host[]> {
    const hosts = this.hosts.length + count
    if (hosts > MAX_HOSTS) throw new Error(`a lab has room for ${MAX_HOSTS} hosts, not for ${hosts}`)
    const added = Array.from({ length: count }, (_, index) => {
      const number = this.hosts.length + index + 1
      const name = `host${number}`
      const directory = join(this.directory, name)
      mkdirSync(directory)
      const address = `192.168.77.${HOST_OFFSET + number}`
      const etcdEndpoint = this.endpoints
      const address6 = `fd77::${HOST_OFFSET + number}`
      return new Host({ name, address, address6, directory, etcdEndpoint, etcdPrefix: ETCD_PREFIX })
    })
    this.hosts.push(...added)
    await this.#join(added)
    return added
  }

  /**
   * Starts overlayd on every host where it does not run. Waits until each host has all the others as peers.
   */
  async startAll(timeoutMs = 20_000): Promise<void> {
    for (const host of this.hosts) if (!host.running) host.start()
    await this.waitConverged(0, timeoutMs)
  }

  /**
   * Waits until every running host has all the others as peers.
   * @param fakePeers how many further peers each host has, put by {@link putPeers}
   */
  async waitConverged(fakePeers = 0, timeoutMs = 20_000): Promise<void> {
    const running = this.hosts.filter((host) => host.running)
    await Promise.all(running.map((host) => host.waitConverged(running.length - 1 + fakePeers, timeoutMs)))
  }

  /** Creates a namespace that is not on the underlay. `close()` removes it. */
  async addNamespace(name: string): Promise<void> {
    await ipBatch(undefined, [`netns add ${name}`])
    this.#cleanup.push(() => removeNamespaces([name]))
  }

  async putConfig(config: string): Promise<void> {
    await this.client.put(`${ETCD_PREFIX}/config`).value(config)
  }

  /** Writes leases of hosts that do not exist to etcd. */
  async putPeers(...peers: readonly FakePeer[]): Promise<void> {
    await putPeers(this.client, ETCD_PREFIX, peers)
  }

  /**
   * Finds a /24 that a host could get and no lease has. Hosts choose their subnets at random, so no fixed one
   * is free.
   * @returns its address, such as `10.5.99.0`
   */
  async freeSubnet(): Promise<string> {
    const prefix = leaseKey(ETCD_PREFIX, '')
    const taken = new Set(
      (await this.client.getAll().prefix(prefix).keys()).map((key) => key.slice(prefix.length).split('-')[0]),
    )
    for (let third = 99; third > 0; third -= 1) if (!taken.has(`10.5.${third}.0`)) return `10.5.${third}.0`
    throw new Error('no /24 between 10.5.1.0 and 10.5.99.0 is free')
  }

  async deletePeer(peer: Pick<FakePeer, 'subnet' | 'six'>): Promise<void> {
    await this.client.delete().key(leaseKey(ETCD_PREFIX, subnetName(peer)))
  }

  ping(from: Origin, to: Target, options?: PingOptions): Promise<PingResult> {
    return ping(from.namespace, to.address, options)
  }

  /** Starts a ping that runs until it is stopped, at the latest by `close()`. */
  async startPing(from: Origin, to: Target, intervalMs?: number): Promise<RunningPing> {
    const running = await RunningPing.start(from.namespace, to.address, intervalMs)
    this.#cleanup.push(() => running.kill())
    return running
  }

  /**
   * Records changes in a host's kernel until `close()` at the latest.
   * @param subject network objects (the default), or nftables
   */
  async monitor(host: Host, subject?: Parameters<typeof KernelMonitor.start>[1]): Promise<KernelMonitor> {
    const monitor = await KernelMonitor.start(host.namespace, subject)
    this.#cleanup.push(() => monitor.stop())
    return monitor
  }

  /** Removes everything. A failed step does not stop the others. @throws the first failure, at the end */
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

  async #startEtcd(members: 1 | 3): Promise<void> {
    // Below /run: it disappears with the sandbox even if the lab is not closed.
    const directory = join(this.directory, 'etcd')
    mkdirSync(directory, { mode: 0o700 })
    const place = { netns: 'etcd', ip: ETCD_ADDRESS }
    this.#members =
      members === 1
        ? [await startEtcd({ ...place, dataDir: directory })]
        : await startCluster({ ...place, directory })
    this.#cleanup.push(() => Promise.all(this.#members.map((member) => member.stop())))
    const client = new Etcd3({ hosts: this.#members.map(({ endpoint }) => endpoint) })
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
    // The kernel announces that a link is up a second later at worst.
    const isUp = async (host: Host): Promise<boolean> =>
      (await host.exec('ip', '-o', 'link', 'show', 'eth0')).includes(' state UP ')
    await Promise.all(hosts.map((host) => host.waitUntil('its underlay is up', () => isUp(host))))
  }
}

/** Removes the namespaces that exist: a lab that failed while being created does not have all of them. */
function removeNamespaces(names: readonly string[]): Promise<void> {
  const existing = names.filter((name) => existsSync(`/run/netns/${name}`))
  return ipBatch(
    undefined,
    existing.map((name) => `netns delete ${name}`),
  )
}
