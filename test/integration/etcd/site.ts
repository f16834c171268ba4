/** The common part of the tests in this folder: one etcd, registries on that etcd, and a follower. */
import { Etcd3 } from 'etcd3'
import { type EtcdClient, type EtcdLog, type EtcdOptions, openEtcd } from '../../../src/etcd/client/client'
import type { RegistryEvent, RegistryUpdate } from '../../../src/etcd/follow/updates'
import { Registry, type RegistryOptions } from '../../../src/etcd/registry'
import { mac, networkOf, parseIpv4, parseMac } from '../../../src/model/address'
import type { AuditRecord } from '../../../src/model/audit'
import type { LeaseSubnet, LeaseValue } from '../../../src/model/lease'
import { type Etcd, type EtcdSite, startEtcd } from '../../lab/etcd'
import { leaseValue } from '../../lab/leases'
import { assertSandbox } from '../../lab/namespace'
import { Pending, waitFor } from '../../lab/wait'

export const PREFIX = '/coreos.com/network'
export const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'

/** One etcd, and a client that acts for the other hosts of a cluster. */
export class Site {
  readonly #closing: (() => unknown)[] = []

  private constructor(
    readonly etcd: Etcd,
    readonly others: Etcd3,
  ) {}

  static async start(etcdSite?: EtcdSite): Promise<Site> {
    assertSandbox()
    const etcd = await startEtcd(etcdSite)
    return new Site(etcd, new Etcd3({ hosts: etcd.endpoint }))
  }

  async stop(): Promise<void> {
    for (const close of this.#closing.reverse()) await close()
    this.others.close()
    await this.etcd.stop()
  }

  /** Makes a registry with a client of its own. */
  async registry(options: Partial<EtcdOptions & RegistryOptions> = {}, log?: EtcdLog): Promise<Registry> {
    return new Registry(await this.client(options, log), { prefix: PREFIX, ...options })
  }

  async client(options: Partial<EtcdOptions> = {}, log?: EtcdLog): Promise<EtcdClient> {
    const client = await openEtcd({ endpoints: this.etcd.endpoint, ...options }, log)
    this.onStop(() => client.close())
    return client
  }

  follow(registry: Registry): Follow {
    const follow = new Follow(registry)
    this.onStop(() => follow.end())
    return follow
  }

  onStop(close: () => unknown): void {
    this.#closing.push(close)
  }

  /** Removes every key. */
  async clear(): Promise<void> {
    await this.others.delete().all()
  }

  async put(key: string, value: string): Promise<void> {
    await this.others.put(`${PREFIX}/${key}`).value(value)
  }

  async remove(key: string): Promise<void> {
    await this.others.delete().key(`${PREFIX}/${key}`)
  }

  /** Puts many leases in few transactions. */
  async putMany(subnets: readonly string[]): Promise<void> {
    for (let start = 0; start < subnets.length; start += 128) {
      const success = subnets.slice(start, start + 128).map((subnet) => ({
        request_put: { key: Buffer.from(`${PREFIX}/subnets/${subnet}`), value: Buffer.from(peerValue(1)) },
      }))
      await this.others.kv.txn({ success })
    }
  }

  /** Compacts the history up to now. */
  async compact(): Promise<void> {
    const { header } = await this.others.kv.range({ key: Buffer.from(PREFIX) })
    await this.others.kv.compact({ revision: header.revision, physical: true })
  }

  /** Numbers of RPCs that etcd gets while `action` runs, by method. A method without an RPC is absent. */
  async rpcsOf(action: () => Promise<unknown>): Promise<Record<string, number>> {
    const before = await this.etcd.metrics()
    await action()
    const after = await this.etcd.metrics()
    const grown = [...after].map(([method, count]) => [method, count - (before.get(method) ?? 0)] as const)
    return Object.fromEntries(grown.filter(([, count]) => count > 0))
  }
}

/** A follower that keeps all updates. */
export class Follow {
  readonly updates: RegistryUpdate[] = []
  readonly ended: Promise<void>
  readonly #controller = new AbortController()

  constructor(registry: Registry) {
    this.ended = this.#run(registry)
  }

  get last(): RegistryUpdate | undefined {
    return this.updates.at(-1)
  }

  /** All events, without the snapshots. */
  get events(): RegistryEvent[] {
    return this.updates.flatMap((update) => (update.kind === 'events' ? update.events : []))
  }

  /** Waits for an update of that kind, from the given number on. */
  async waitFor<Kind extends RegistryUpdate['kind']>(
    kind: Kind,
    { from = 0, timeoutMs = 10_000 } = {},
  ): Promise<Extract<RegistryUpdate, { kind: Kind }>> {
    const isWanted = (update: RegistryUpdate): update is Extract<RegistryUpdate, { kind: Kind }> =>
      update.kind === kind
    return waitFor(
      `an update of kind ${kind}`,
      () => this.updates.slice(from).find(isWanted) ?? new Pending(this.#seen()),
      {
        timeoutMs,
        intervalMs: 5,
      },
    )
  }

  async waitForEvents(count: number, timeoutMs = 10_000): Promise<RegistryEvent[]> {
    return waitFor(
      `${count} events`,
      () =>
        this.events.length >= count ? this.events : new Pending(`${this.events.length}: ${this.#seen()}`),
      { timeoutMs, intervalMs: 5 },
    )
  }

  /** @returns the duration in milliseconds */
  async end(): Promise<number> {
    const started = performance.now()
    this.#controller.abort()
    await this.ended
    return performance.now() - started
  }

  async #run(registry: Registry): Promise<void> {
    for await (const update of registry.follow(this.#controller.signal)) this.updates.push(update)
  }

  #seen(): string {
    return this.updates
      .map(({ kind }) => kind)
      .join(' ')
      .slice(-200)
  }
}

/** The record of an operator's command. Two of one number are the same. */
export const recordOf = (verb: string, number = 0): AuditRecord => ({
  time: new Date(0),
  who: { user: 'alice', host: 'admin1' },
  verb,
  what: `write ${number}`,
  id: number.toString(16).padStart(16, '0'),
})

/** A signal that never fires. */
export const ever = new AbortController().signal

export function subnetOf(text: string, length = 24): LeaseSubnet {
  const address = parseIpv4(text)
  if (address === undefined) throw new Error(`${text} is not an address`)
  return { ipv4: networkOf(address, length), ipv6: undefined }
}

/** The value that a host announces, with a MAC made from the host's number. */
export function hostValue(host: number): LeaseValue {
  const publicIp = parseIpv4(`192.168.77.${host}`)
  if (publicIp === undefined) throw new Error(`there is no host ${host}`)
  const hostMac = mac((parseMac('02:00:00:00:00:00') ?? 0) + host)
  return {
    publicIp,
    publicIpv6: undefined,
    backendType: 'vxlan',
    vtep: { vni: 1, mac: hostMac },
    vtep6: undefined,
  }
}

/** The same value as text, as another host writes the value. */
export const peerValue = (host: number): string =>
  leaseValue({
    subnet: '',
    publicIp: `192.168.77.${host}`,
    mac: `02:00:00:00:00:${host.toString(16).padStart(2, '0')}`,
  })
