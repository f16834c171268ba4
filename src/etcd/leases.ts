/** The leases of hosts: keys under `subnets/`, each bound to an etcd lease. */
import type { AuditRecord } from '../model/audit'
import {
  type EtcdLeaseId,
  isReservation,
  LEASE_TTL_SECONDS,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  type Revision,
  type UnreadableLease,
} from '../model/lease'
import type { EtcdCalls } from './client/client'
import { EtcdError } from './client/errors'
import { type Keys, keyText } from './codec/keys'
import { encodeLeaseValue, toRevision } from './codec/lease-codec'
import type { KeyValue } from './codec/wire'
import { type EtcdLeases, newEtcdLeaseId } from './etcd-leases'
import { leaseOf, subnetPlace } from './subnet-place'
import { ABSENT, foundIn, type Transactions } from './transactions'

/** Milliseconds for giving back the etcd lease of a key that could not be created. */
const GIVE_BACK_MS = 1000

/**
 * - `created`: the key is ours, bound to a new etcd lease
 * - `taken`: another host has it; no etcd lease of ours is left
 */
export type CreateResult =
  | { readonly kind: 'created'; readonly lease: Lease }
  | { readonly kind: 'taken'; readonly by: Lease | UnreadableLease }

/**
 * - `updated`: the key has the wanted value
 * - `changed`: the key is another than `current`, and was not written; `now` is undefined when it is gone
 */
export type UpdateResult =
  | { readonly kind: 'updated'; readonly lease: Lease }
  | { readonly kind: 'changed'; readonly now: Lease | UnreadableLease | undefined }

export class Leases {
  constructor(
    private readonly client: EtcdCalls,
    private readonly keys: Keys,
    private readonly transactions: Transactions,
    private readonly etcdLeases: EtcdLeases,
  ) {}

  /**
   * Takes a subnet if no host has it. The key is bound to a new etcd lease, under the guard that neither the
   * key nor another one with the same IPv4 subnet exists: a host that starts at the same moment may choose
   * the same IPv4 and another IPv6 subnet. When the key was not created, the etcd lease is given back; if
   * that fails too, it ends by itself after a day.
   */
  async create(subnet: LeaseSubnet, value: LeaseValue, signal: AbortSignal): Promise<CreateResult> {
    // The client chooses the id. So it is known, and can be given back, even when the answer is lost.
    const etcdLease = newEtcdLeaseId()
    try {
      const { lease, taken } = await this.#takeKey(subnet, value, etcdLease, signal)
      if (taken === undefined) return { kind: 'created', lease: { ...lease, subnet } }
      await this.etcdLeases.revoke(etcdLease, signal)
      return { kind: 'taken', by: leaseOf(this.keys, taken) }
    } catch (error) {
      return await this.#giveUp(etcdLease, error)
    }
  }

  /**
   * Gives our lease another value if it is still as `current` says. The key stays bound to its etcd lease, or
   * to none. An equal value is not written.
   */
  async update(current: Lease, value: LeaseValue, signal: AbortSignal): Promise<UpdateResult> {
    const wanted = Buffer.from(encodeLeaseValue(value))
    if (wanted.equals(Buffer.from(encodeLeaseValue(current.value))))
      return { kind: 'updated', lease: current }
    const key = Buffer.from(current.key)
    const response = await this.transactions.guarded(
      'update our lease',
      current,
      { request_put: { key, value: wanted, ignore_lease: true } },
      signal,
    )
    const updated = (modRevision: Revision): UpdateResult => ({
      kind: 'updated',
      lease: { ...current, value, modRevision },
    })
    if (response.succeeded) return updated(toRevision(response.header.revision))
    const found = foundIn(response)
    if (found === undefined) return { kind: 'changed', now: undefined }
    // The key has the value already: most likely by a first try of ours whose answer was lost.
    if (found.etcdLease === current.etcdLease && found.value.equals(wanted)) return updated(found.modRevision)
    return { kind: 'changed', now: leaseOf(this.keys, found) }
  }

  /**
   * Writes a lease with the same value if it is still as `current` says. Only its revision changes: the owner
   * notices that, and peers ignore it.
   */
  async touch(current: Lease, signal: AbortSignal): Promise<UpdateResult> {
    const key = Buffer.from(current.key)
    const response = await this.transactions.guarded(
      'ask for the owner of a lease',
      current,
      { request_put: { key, ignore_value: true, ignore_lease: true } },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response)
    const isSame =
      found?.etcdLease === current.etcdLease &&
      found.value.equals(Buffer.from(encodeLeaseValue(current.value)))
    if (!response.succeeded && !isSame) {
      return { kind: 'changed', now: found === undefined ? undefined : leaseOf(this.keys, found) }
    }
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return { kind: 'updated', lease: { ...current, modRevision } }
  }

  /**
   * Deletes our key if it is still as `current` says, and the etcd lease with it.
   * @returns the lease that is there instead; undefined when the key is gone
   */
  async delete(current: Lease, signal: AbortSignal): Promise<Lease | UnreadableLease | undefined> {
    const key = Buffer.from(current.key)
    const response = await this.transactions.guarded(
      'delete our lease',
      current,
      { request_delete_range: { key } },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response)
    if (found !== undefined) return leaseOf(this.keys, found)
    if (!isReservation(current)) await this.etcdLeases.revoke(current.etcdLease, signal)
    return undefined
  }

  /**
   * Deletes a key under `subnets/`, readable or not, if it is still as it was read. Its etcd lease stays: the
   * writer of the key chose it, and other keys may be bound to it.
   * @returns whether it is gone
   */
  async deleteKey(
    { key, modRevision }: Lease | UnreadableLease,
    record: AuditRecord,
    signal: AbortSignal,
  ): Promise<boolean> {
    // Finds the bytes of the key by its revision: they may differ from its text.
    const start = this.keys.bytes.subnets
    const { kvs } = await this.client.call(
      'find the key',
      (etcd, options) =>
        etcd.kv.range(
          {
            key: start,
            range_end: Buffer.from(`${this.keys.subnets.slice(0, -1)}0`),
            keys_only: true,
            min_mod_revision: String(modRevision),
            max_mod_revision: String(modRevision),
          },
          options,
        ),
      signal,
    )
    const textOf = (bytes: Buffer): string =>
      this.keys.subnets + keyText(bytes.subarray(this.keys.bytes.subnets.length))
    const bytes = kvs.map((kv) => kv.key).find((each) => textOf(each) === key)
    if (bytes === undefined) return false
    const response = await this.transactions.run(
      'delete the key',
      {
        compare: [{ key: bytes, target: 'Mod', result: 'Equal', mod_revision: String(modRevision) }],
        success: [{ request_delete_range: { key: bytes } }],
        failure: [{ request_range: { key: bytes } }],
      },
      signal,
      record,
    )
    // A key that is gone was most likely deleted by a first try of ours whose answer was lost.
    return response.succeeded || foundIn(response) === undefined
  }

  /** @returns `taken` when the key is another host's */
  async #takeKey(
    subnet: LeaseSubnet,
    value: LeaseValue,
    etcdLease: EtcdLeaseId,
    signal: AbortSignal,
  ): Promise<{ readonly lease: Omit<Lease, 'subnet'>; readonly taken: KeyValue | undefined }> {
    await this.etcdLeases.grant(etcdLease, signal, LEASE_TTL_SECONDS)
    const { key, range } = subnetPlace(this.keys, subnet)
    const response = await this.transactions.run(
      'create our lease',
      {
        compare: [{ ...range, ...ABSENT }],
        success: [{ request_put: { key, value: Buffer.from(encodeLeaseValue(value)), lease: etcdLease } }],
        failure: [{ request_range: range }],
      },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response, (kv) => kv.lease === etcdLease)
    // If the answer to our first try was lost, the second one finds our key: no one else knows the etcd
    // lease.
    const taken = found?.etcdLease === etcdLease ? undefined : found
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return { lease: { key: key.toString(), value, etcdLease, modRevision }, taken }
  }

  /** Gives the etcd lease back, also after an abort, and throws the error. */
  async #giveUp(etcdLease: EtcdLeaseId, error: unknown): Promise<never> {
    try {
      await this.etcdLeases.revoke(etcdLease, AbortSignal.timeout(GIVE_BACK_MS))
    } catch {
      if (error instanceof EtcdError) {
        const left = `etcd lease ${etcdLease} may be left, it ends by itself within a day`
        throw new EtcdError(error.code, `${error.message}; ${left}`, { cause: error })
      }
    }
    throw error
  }
}
