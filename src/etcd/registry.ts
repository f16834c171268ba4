/** The registry of one network in etcd: its config, all leases, and the changes of both. */
import type { Revision } from '../model/lease'
import { Audit } from './audit'
import type { EtcdCalls } from './client/client'
import { etcdPrefix, type Keys, keysUnder } from './codec/keys'
import { toRevision } from './codec/lease-codec'
import { ConfigKey } from './config'
import { EtcdLeases } from './etcd-leases'
import { Follower } from './follow/follower'
import { type ListingOptions, readSnapshot } from './follow/listing'
import type { Snapshot } from './follow/snapshot'
import { type RegistryUpdate, UpdateQueue } from './follow/updates'
import { Groups } from './groups'
import { Leases } from './leases'
import { Prefixes } from './prefixes'
import { Reservations } from './reservations'
import { Transactions } from './transactions'
import { Users } from './users'

export interface RegistryOptions {
  /** flannel's `--etcd-prefix`, as the operator wrote it. */
  readonly prefix: string
  /**
   * Mean time between two listings of a follower in a small network, in milliseconds; each is up to 20 % off.
   */
  readonly relistMs?: number
}

const RELIST_MS = 10 * 60 * 1000

type WantsGroups = NonNullable<ListingOptions['wantsGroups']>

/** For a caller that does not need the multicast groups of hosts. */
export const NO_GROUPS: WantsGroups = () => false

export interface RegistryStatus {
  /** The member that answered. */
  readonly endpoint: string
  readonly latencyMs: number
  readonly revision: Revision
}

/**
 * One network in etcd. All methods, also those of the fields, may be called at the same time. All throw
 * {@link EtcdError}, or the signal's reason when it has fired.
 */
export class Registry {
  /** The leases of hosts. */
  readonly leases: Leases
  readonly reservations: Reservations
  readonly config: ConfigKey
  /** What operators have written. */
  readonly audit: Audit
  /** The multicast groups that hosts want. */
  readonly groups: Groups
  /** The prefixes that hosts announce. */
  readonly prefixes: Prefixes
  /** Users and roles of etcd. */
  readonly users: Users
  /** etcd's own leases. */
  readonly etcdLeases: EtcdLeases
  readonly #keys: Keys
  readonly #relistMs: number

  /** @throws {EtcdError} `etcd-options` */
  constructor(
    private readonly client: EtcdCalls,
    options: RegistryOptions,
  ) {
    this.#keys = keysUnder(etcdPrefix(options.prefix))
    this.#relistMs = options.relistMs ?? RELIST_MS
    this.audit = new Audit(client, this.#keys)
    const transactions = new Transactions(client, this.audit)
    this.etcdLeases = new EtcdLeases(client)
    this.leases = new Leases(client, this.#keys, transactions, this.etcdLeases)
    this.reservations = new Reservations(client, this.#keys, transactions, this.etcdLeases)
    this.users = new Users(client, this.#keys)
    this.config = new ConfigKey(this.#keys, transactions)
    this.groups = new Groups(this.#keys, transactions, this.etcdLeases)
    this.prefixes = new Prefixes(this.#keys, transactions)
  }

  /**
   * Drops all connections. To be called when this host has another address: connections from the old one are
   * dead without an error.
   */
  reconnect(): void {
    this.client.reconnect()
  }

  /**
   * Reads config and leases at one revision: one RPC up to 16,384 keys.
   * @param wantsGroups whether the groups of hosts are read in a network with that config
   */
  async snapshot(signal: AbortSignal, wantsGroups: WantsGroups = () => true): Promise<Snapshot> {
    const read = await readSnapshot(this.client, this.#keys, signal, { wantsGroups })
    return read.snapshot
  }

  /**
   * A snapshot, then every change after it. The iteration ends only when the signal fires or the consumer
   * stops asking. After a failure the consumer gets `lost`. The iteration then goes on by itself: from its
   * last revision if etcd still has the history, else with a new snapshot.
   * @param wantsGroups as for {@link snapshot}; a config that changes its answer causes a new listing at once
   */
  async *follow(
    signal: AbortSignal,
    wantsGroups: WantsGroups = () => true,
  ): AsyncGenerator<RegistryUpdate, void, void> {
    const scope = new AbortController()
    const scoped = AbortSignal.any([signal, scope.signal])
    const queue = new UpdateQueue(scoped)
    const running = new Follower(this.client, this.#keys, queue, this.#relistMs, wantsGroups).run(scoped)
    // A defect of ours ends the iteration, and is thrown by the `await` at its end.
    running.catch(() => scope.abort())
    try {
      for (let update = await queue.take(); update !== undefined; update = await queue.take()) yield update
    } finally {
      scope.abort()
      await running
    }
  }

  /** Asks the cluster for its revision. The call is cheap, and only a member that has a leader answers it. */
  async status(signal: AbortSignal): Promise<RegistryStatus> {
    const started = performance.now()
    const { header } = await this.client.call(
      'ask etcd for its state',
      (etcd, options) => etcd.kv.range({ key: Buffer.from(this.#keys.config), count_only: true }, options),
      signal,
    )
    return {
      endpoint: this.client.endpoint,
      latencyMs: performance.now() - started,
      revision: toRevision(header.revision),
    }
  }
}
