/**
 * The lab of the nemesis: hosts to which faults happen, two witness hosts to which none happens, an etcd
 * cluster of one or three members, and a container on every host. As systemd does on a real host, the site
 * starts a daemon again that has exited.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Etcd3 } from 'etcd3'
import { ETCD_PREFIX, type Host, Lab } from '../lab/lab'
import { leaseKey } from '../lab/leases'
import { inNamespace } from '../lab/namespace'
import { type Command, type LongProcess, run } from '../lab/process'
import { sleep } from '../lab/wait'
import type { KeyPicture, Picture } from './picture'

type Owner = NonNullable<KeyPicture['owner']>

export const WITNESSES = 2
export const HEALTH_PORT = 8286
/**
 * The network of the unchanged config. Hosts get subnets from 10.5.1.0 to 10.5.99.0; the rest of 10.0.0.0/8
 * has room for thousands of forged keys.
 */
export const NETWORK = {
  Network: '10.0.0.0/8',
  SubnetLen: 24,
  SubnetMin: '10.5.1.0',
  SubnetMax: '10.5.99.0',
}
export const CONFIG = JSON.stringify({ ...NETWORK, Backend: { Type: 'vxlan' } })
/** --peer-removal-grace in seconds; short, so that rounds do not have to wait for it. */
const GRACE = 5
/** Milliseconds until a daemon that exited by itself is started again; RestartSec of the systemd unit. */
const RESTART = 1000
/** Milliseconds for one etcd call. */
const CALL = 5000
/** Milliseconds for a daemon to end after a signal, and for etcd to accept writes again. */
const PATIENCE = 60_000

/** The daemon of a host, which is restarted whenever it ends, unless a fault holds it. */
export class Supervised {
  /** Exits of the daemon that no fault caused: exit code or signal, and the end of the log. */
  readonly ends: string[] = []
  starts = 0
  /** How many faults keep the daemon from being started. */
  #held = 0
  #finished = false
  /** Bytes logged by processes that have exited. */
  #bytes = 0
  /** Processes that a fault ended. */
  readonly #ended = new WeakSet<LongProcess>()

  constructor(
    readonly host: Host,
    private readonly flags: Readonly<Record<string, string | undefined>>,
  ) {}

  /** Bytes that all processes of this daemon have logged so far. */
  get logged(): number {
    return this.#bytes + (this.starts > 0 && this.host.running ? this.host.daemon.output.length : 0)
  }

  start(): void {
    if (this.#finished || this.#held > 0 || this.host.running) return
    const daemon = this.host.start({ flags: this.flags })
    this.starts++
    void daemon.exited.then(async ({ code, signal }) => {
      this.#bytes += daemon.output.length
      if (this.#finished) return
      if (!this.#ended.has(daemon)) {
        this.ends.push(`${signal ?? `exit code ${code}`}\n${daemon.tail(10)}`)
        await sleep(RESTART)
      }
      this.start()
    })
  }

  /** Ends the daemon by a signal. It is started again at once, unless a fault holds it. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (!this.host.running) return
    const { daemon } = this.host
    this.#ended.add(daemon)
    await daemon.stop(signal, PATIENCE)
  }

  /** Ends the daemon, and keeps it from being started until {@link release}. */
  async hold(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#held++
    await this.end(signal)
  }

  release(): void {
    this.#held--
    this.start()
  }

  signal(signal: NodeJS.Signals): void {
    if (this.host.running) this.host.daemon.signal(signal)
  }

  /** From now on the daemon is not started again. */
  finish(): void {
    this.#finished = true
  }
}

export interface SiteOptions {
  /** How many hosts faults may happen to; the witnesses are added. */
  readonly hosts: number
  /** Members of etcd. */
  readonly members: 1 | 3
}

export class Site {
  readonly daemons: readonly Supervised[]
  /** Key of each host in etcd; the index is the host's number minus one. */
  #keys: readonly string[] = []
  /** Key -> the values that faults have written to it. */
  readonly #forged = new Map<string, Set<string>>()
  /** The nemesis's own etcd client; its calls have a deadline. */
  readonly client: Etcd3
  /** Address of a host -> owner in its key, as of the last time all invariants held. */
  #owners: ReadonlyMap<string, Owner> = new Map()
  /** Processes of faults. Those that their fault has not ended are ended with the site. */
  readonly #helpers = new Set<LongProcess>()

  static async create({ hosts, members }: SiteOptions): Promise<Site> {
    const lab = await Lab.create({ hosts: hosts + WITNESSES, config: CONFIG, members })
    const site = new Site(lab, hosts)
    try {
      await site.#start()
      return site
    } catch (error) {
      await site.close()
      throw error
    }
  }

  private constructor(
    readonly lab: Lab,
    /** Faults may happen to the hosts 1 to this number. */
    readonly hosts: number,
  ) {
    this.client = new Etcd3({
      hosts: lab.members.map(({ endpoint }) => endpoint),
      defaultCallOptions: () => ({ deadline: Date.now() + CALL }),
    })
    this.daemons = lab.hosts.map((host, index) => new Supervised(host, this.#flagsOf(host, index)))
  }

  /** Every second host has no --iface and finds its interface by the default route, as most real hosts do. */
  #flagsOf(host: Host, index: number): Record<string, string | undefined> {
    return {
      v: '0',
      'healthz-port': `${HEALTH_PORT}`,
      'peer-removal-grace': `${GRACE}`,
      'state-dir': this.stateDirectory(host),
      ...(index % 2 === 1 && { iface: undefined }),
    }
  }

  async #start(): Promise<void> {
    for (const { host } of this.daemons) {
      // A separate file system for the state, which a fault can fill or make read-only.
      mkdirSync(host.stateDirectory, { recursive: true })
      await host.exec(
        'mount',
        '-t',
        'tmpfs',
        '-o',
        'size=1m,mode=0755',
        `state-${host.name}`,
        host.stateDirectory,
      )
    }
    for (const daemon of this.daemons) daemon.start()
    await this.lab.waitConverged(0, PATIENCE)
    this.#keys = await Promise.all(
      this.lab.hosts.map(async (host) => {
        await host.addContainer()
        return leaseKey(ETCD_PREFIX, (await host.subnetEnv()).subnet.replace(/\d+\/(\d+)$/, '0-$1'))
      }),
    )
  }

  host(number: number): Host {
    return this.lab.host(number)
  }

  daemon(number: number): Supervised {
    const daemon = this.daemons[number - 1]
    if (daemon === undefined) throw new Error(`there is no host${number}`)
    return daemon
  }

  /** The daemon's --state-dir: a directory on the host's separate file system. */
  stateDirectory(host: Host): string {
    return join(host.stateDirectory, 'overlayd')
  }

  /** The key of a host in etcd. It stays the same because a host keeps its subnet. */
  keyOf(number: number): string {
    const key = this.#keys[number - 1]
    if (key === undefined) throw new Error(`host${number} has no key`)
    return key
  }

  /** Records the owner in each key. To be called while all invariants hold. */
  recordOwners({ etcd }: Picture): void {
    this.#owners = new Map(etcd.keys.flatMap(({ owner }) => (owner ? [[owner.publicIp, owner]] : [])))
  }

  /** The owner in a host's key, as of the last time all invariants held. */
  ownerOf(number: number): Owner {
    const owner = this.#owners.get(this.host(number).address)
    if (owner === undefined) throw new Error(`host${number} had no key`)
    return owner
  }

  /** Runs a command on a host and ignores its failure: another fault may have removed its object. */
  async attempt(number: number, ...command: Command): Promise<void> {
    await run(inNamespace(this.host(number).namespace, command))
  }

  /** As {@link attempt}, for a line of shell. */
  shell(number: number, line: string): Promise<void> {
    return this.attempt(number, 'sh', '-c', line)
  }

  /**
   * Runs overlayctl on a host with that host's files and etcd endpoints.
   * @returns exit code, and stdout followed by stderr
   */
  async overlayctl(number: number, ...words: readonly string[]) {
    const { code, stdout, stderr } = await this.host(number).overlayctl(...words)
    return { code, output: stdout + stderr }
  }

  /**
   * Repeats an etcd call until it succeeds, for at most 60 s: another fault may have disabled etcd meanwhile.
   */
  async write<T>(action: (client: Etcd3) => Promise<T>): Promise<T> {
    const deadline = performance.now() + PATIENCE
    for (;;) {
      try {
        return await action(this.client)
      } catch (error) {
        if (performance.now() > deadline) throw error
        await sleep(200)
      }
    }
  }

  /** Writes a key as a foreign client would, without an etcd lease. {@link takeBack} removes it again. */
  async forge(key: string, value: string): Promise<void> {
    this.#forged.set(key, new Set([...(this.#forged.get(key) ?? []), value]))
    await this.write((client) => client.put(key).value(value).exec())
  }

  /** Deletes a key if it still has a forged value. The host that owns the key then writes it again. */
  async takeBack(key: string): Promise<void> {
    await this.write(async (client) => {
      const [kv] = (await client.get(key).exec()).kvs
      if (kv === undefined || kv.lease !== '0' || this.#forged.get(key)?.has(kv.value.toString()) !== true)
        return
      await client.if(key, 'Mod', '==', kv.mod_revision).then(client.delete().key(key)).commit()
    })
  }

  /** Registers a process of a fault, so that it is ended with the site at the latest. */
  keep(process: LongProcess): LongProcess {
    this.#helpers.add(process)
    return process
  }

  /** Ends a process of {@link keep}. */
  async drop(process: LongProcess | undefined): Promise<void> {
    if (process === undefined) return
    await process.stop('SIGKILL', PATIENCE)
    this.#helpers.delete(process)
  }

  async close(): Promise<void> {
    for (const daemon of this.daemons) daemon.finish()
    for (const process of this.#helpers) process.signal('SIGKILL')
    for (const { host } of this.daemons) {
      if (host.running) await host.stop('SIGKILL')
      await run(['umount', '--lazy', host.stateDirectory])
    }
    this.client.close()
    await this.lab.close()
  }
}
