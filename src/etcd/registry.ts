/** The registry of one network in etcd: its config, everyone's leases, our own. */
import { randomBytes } from 'node:crypto'
import type { IKeyValue, IRequestOp, ITxnRequest, ITxnResponse } from 'etcd3'
import {
  type EtcdLeaseId,
  isReservation,
  LEASE_TTL_SECONDS,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  NO_ETCD_LEASE,
  type Revision,
  type UnreadableLease,
} from '../model/lease'
import { GROUPS_TTL_SECONDS, type HostGroups } from '../model/multicast'
import { CALL_DEADLINE_MS, type EtcdClient } from './client'
import { EtcdError } from './errors'
import { Follower } from './follow'
import { encodeGroups } from './groups-codec'
import { etcdPrefix, formatSubnetName, type Keys, keysUnder } from './keys'
import { decodeLease, encodeLeaseValue, toRevision } from './lease-codec'
import { readSnapshot, type Snapshot } from './snapshot'
import { type RegistryUpdate, UpdateQueue } from './updates'
import type { KeyValue } from './wire'

export interface RegistryOptions {
  /** flannel's `--etcd-prefix`, as the operator wrote it. */
  readonly prefix: string
  /** Mean time between two re-lists of a follower, in milliseconds, where there are few leases; each is up to 20 % off. */
  readonly relistMs?: number
}

const RELIST_MS = 10 * 60 * 1000

/**
 * - `created`: the key is ours, bound to a new etcd lease
 * - `taken`: someone has it; nothing was left behind
 */
export type CreateResult =
  | { readonly kind: 'created'; readonly lease: Lease }
  | { readonly kind: 'taken'; readonly by: Lease | UnreadableLease }

/**
 * - `updated`: the key has the wanted value
 * - `changed`: the key is no longer as `current` says, and was not touched; `now` is undefined when it is gone
 */
export type UpdateResult =
  | { readonly kind: 'updated'; readonly lease: Lease }
  | { readonly kind: 'changed'; readonly now: Lease | UnreadableLease | undefined }

/** All methods may be called at the same time; all throw {@link EtcdError}, or the signal's reason when it has fired. */
export class Registry {
  readonly #keys: Keys
  readonly #relistMs: number

  /** @throws {EtcdError} `etcd-options` */
  constructor(
    private readonly client: EtcdClient,
    options: RegistryOptions,
  ) {
    this.#keys = keysUnder(etcdPrefix(options.prefix))
    this.#relistMs = options.relistMs ?? RELIST_MS
  }

  /** To be called when this host has another address: what was connected from the old one is dead, and nobody says so. */
  reconnect(): void {
    this.client.reconnect()
  }

  /** Config and leases at one revision: one RPC up to 16,384 keys. */
  async snapshot(signal: AbortSignal): Promise<Snapshot> {
    return (await readSnapshot(this.client, this.#keys, signal)).snapshot
  }

  /**
   * A snapshot, then every change after it, for ever: ends only when the signal fires or the consumer stops asking. After a
   * failure it says `lost` and goes on by itself, where it was when etcd still has the history, else with a new snapshot.
   */
  async *follow(signal: AbortSignal): AsyncGenerator<RegistryUpdate, void, void> {
    const scope = new AbortController()
    const scoped = AbortSignal.any([signal, scope.signal])
    const queue = new UpdateQueue(scoped)
    const running = new Follower(this.client, this.#keys, queue, this.#relistMs).run(scoped)
    // A defect of ours ends the iteration, and is thrown by the `await` at its end.
    running.catch(() => scope.abort())
    try {
      for (let update = await queue.take(); update !== undefined; update = await queue.take()) yield update
    } finally {
      scope.abort()
      await running
    }
  }

  /**
   * Takes a subnet if nobody has it: an etcd lease, and the key bound to it under the guard that it does not exist, nor another with
   * the same IPv4 half, as that of a host that starts at the same moment and chose another IPv6 half. When the key
   * was not created the etcd lease is given back; where even that fails it ends by itself after a day.
   */
  async createLease(subnet: LeaseSubnet, value: LeaseValue, signal: AbortSignal): Promise<CreateResult> {
    // The id is ours to choose. So it is known, and can be given back, even when the answer is lost.
    const etcdLease = newEtcdLeaseId()
    try {
      const { lease, taken } = await this.#takeKey(subnet, value, etcdLease, signal)
      if (taken === undefined) return { kind: 'created', lease: { ...lease, subnet } }
      await this.revoke(etcdLease, signal)
      return { kind: 'taken', by: decodeLease(this.#keys, taken) }
    } catch (error) {
      return await this.#giveUp(etcdLease, error)
    }
  }

  /**
   * Takes a subnet if nobody has it, for good: the key is bound to no etcd lease.
   * @returns `created` also when the same reservation is there already, most likely by a first try of ours
   */
  async createReservation(
    subnet: LeaseSubnet,
    value: LeaseValue,
    signal: AbortSignal,
  ): Promise<CreateResult> {
    const { key, range } = this.#placeOf(subnet)
    const wanted = encodeLeaseValue(value)
    const response = await this.#txn(
      'create the reservation',
      {
        compare: [{ ...range, ...ABSENT }],
        success: [{ request_put: { key, value: Buffer.from(wanted) } }],
        failure: [{ request_range: range }],
      },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response, (kv) => key.equals(kv.key))
    if (found !== undefined && !(found.etcdLease === NO_ETCD_LEASE && found.value === wanted)) {
      return { kind: 'taken', by: decodeLease(this.#keys, found) }
    }
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return {
      kind: 'created',
      lease: { key: key.toString(), subnet, value, etcdLease: NO_ETCD_LEASE, modRevision },
    }
  }

  /**
   * Makes a lease a reservation if it is still as `current` says: the same value, bound to no etcd lease any more. The etcd lease it
   * was bound to is given back; where that fails it ends by itself within a day.
   */
  async reserveLease(current: Lease, signal: AbortSignal): Promise<UpdateResult> {
    const key = Buffer.from(current.key)
    const value = encodeLeaseValue(current.value)
    const response = await this.#guarded(
      'reserve the lease',
      current,
      { request_put: { key, value: Buffer.from(value) } },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response)
    const isDone = response.succeeded || (found?.etcdLease === NO_ETCD_LEASE && found.value === value)
    if (!isDone) {
      return { kind: 'changed', now: found === undefined ? undefined : decodeLease(this.#keys, found) }
    }
    if (!isReservation(current)) await this.revoke(current.etcdLease, signal).catch(ignoreEtcdError)
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return { kind: 'updated', lease: { ...current, etcdLease: NO_ETCD_LEASE, modRevision } }
  }

  /**
   * Gives our lease another value if it is still as `current` says; it stays bound to the etcd lease it has, or to none. A value
   * that says the same is not written.
   */
  async updateLease(current: Lease, value: LeaseValue, signal: AbortSignal): Promise<UpdateResult> {
    const wanted = encodeLeaseValue(value)
    if (wanted === encodeLeaseValue(current.value)) return { kind: 'updated', lease: current }
    const key = Buffer.from(current.key)
    const response = await this.#guarded(
      'update our lease',
      current,
      { request_put: { key, value: Buffer.from(wanted), ignore_lease: true } },
      signal,
    )
    const updated = (modRevision: Revision): UpdateResult => ({
      kind: 'updated',
      lease: { ...current, value, modRevision },
    })
    if (response.succeeded) return updated(toRevision(response.header.revision))
    const found = foundIn(response)
    if (found === undefined) return { kind: 'changed', now: undefined }
    // What we want is there, most likely by a first try of ours whose answer was lost.
    if (found.etcdLease === current.etcdLease && found.value === wanted) return updated(found.modRevision)
    return { kind: 'changed', now: decodeLease(this.#keys, found) }
  }

  /**
   * Writes a lease as it is if it is still as `current` says: only its revision is another then, which its owner notices and no peer minds.
   */
  async touchLease(current: Lease, signal: AbortSignal): Promise<UpdateResult> {
    const key = Buffer.from(current.key)
    const response = await this.#guarded(
      'ask for the owner of a lease',
      current,
      { request_put: { key, ignore_value: true, ignore_lease: true } },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response)
    const isSame = found?.etcdLease === current.etcdLease && found.value === encodeLeaseValue(current.value)
    if (!response.succeeded && !isSame) {
      return { kind: 'changed', now: found === undefined ? undefined : decodeLease(this.#keys, found) }
    }
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return { kind: 'updated', lease: { ...current, modRevision } }
  }

  /**
   * Writes the network config if it is still as it was read.
   * @param expected its revision then, or `absent`
   * @returns `changed` when it is not: nothing was written
   */
  async putConfig(
    text: string,
    expected: Revision | 'absent',
    signal: AbortSignal,
  ): Promise<'written' | 'changed'> {
    const key = Buffer.from(this.#keys.config)
    const value = Buffer.from(text)
    const response = await this.#txn(
      'write the network config',
      {
        compare: [
          expected === 'absent'
            ? { key, target: 'Version', result: 'Equal', version: '0' }
            : { key, target: 'Mod', result: 'Equal', mod_revision: String(expected) },
        ],
        success: [{ request_put: { key, value } }],
        failure: [{ request_range: { key } }],
      },
      signal,
    )
    // The same text may be there by a first try of ours whose answer was lost; in either case it is as wanted.
    return response.succeeded || foundIn(response)?.value === text ? 'written' : 'changed'
  }

  /**
   * Deletes our key if it is still as `current` says, and the etcd lease with it.
   * @returns what is there instead; undefined when the key is gone
   */
  async deleteLease(current: Lease, signal: AbortSignal): Promise<Lease | UnreadableLease | undefined> {
    const key = Buffer.from(current.key)
    const response = await this.#guarded(
      'delete our lease',
      current,
      { request_delete_range: { key } },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response)
    if (found !== undefined) return decodeLease(this.#keys, found)
    if (!isReservation(current)) await this.revoke(current.etcdLease, signal)
    return undefined
  }

  /**
   * Renews an etcd lease once, which no other host notices.
   * @returns its life time from now in seconds, or `expired`: then its keys are gone too
   */
  async keepAlive(
    etcdLease: EtcdLeaseId,
    signal: AbortSignal,
  ): Promise<{ readonly ttlSeconds: number } | 'expired'> {
    try {
      return await this.#keepAliveOnce(etcdLease, signal)
    } catch (error) {
      if (!(error instanceof EtcdError && error.code === 'etcd-renewed')) throw error
      return await this.#keepAliveOnce(etcdLease, signal)
    }
  }

  /** The seconds an etcd lease has left, for people; undefined when it is gone. */
  async timeToLive(etcdLease: EtcdLeaseId, signal: AbortSignal): Promise<number | undefined> {
    const { TTL } = await this.client.call(
      'read the life time of our lease',
      (etcd, options) => etcd.leaseClient.leaseTimeToLive({ ID: etcdLease }, options),
      signal,
    )
    return Number(TTL) > 0 ? Number(TTL) : undefined
  }

  /** Gives an etcd lease back; its keys go with it. That it is gone already is no error. */
  async revoke(etcdLease: EtcdLeaseId, signal: AbortSignal): Promise<void> {
    try {
      await this.client.call(
        'give our lease back',
        (etcd, options) => etcd.leaseClient.leaseRevoke({ ID: etcdLease }, options),
        signal,
      )
    } catch (error) {
      if (!(error instanceof EtcdError && error.message.includes(LEASE_NOT_FOUND))) throw error
    }
  }

  /** Asks the cluster for its revision: cheap, and answered only by a member in touch with a leader. */
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

  /**
   * Gets an etcd lease for what this host says of multicast groups.
   * @throws {EtcdError}; it ends by itself where its id is not known therefore
   */
  async grantGroupsLease(signal: AbortSignal): Promise<EtcdLeaseId> {
    const id = newEtcdLeaseId()
    await this.#grant(id, signal, GROUPS_TTL_SECONDS)
    return id
  }

  /**
   * Says which multicast groups this host wants, if its subnet is still its own. Whatever is there in that place is of an earlier run, or of
   * nobody who may say it.
   * @param own our lease as it was last seen
   * @returns the revision; `undefined` when our lease has changed, and nothing was written
   */
  async putGroups(
    own: Lease,
    groups: HostGroups,
    etcdLease: EtcdLeaseId,
    signal: AbortSignal,
  ): Promise<Revision | undefined> {
    const request_put = {
      key: this.#groupsKey(own),
      value: Buffer.from(encodeGroups(groups)),
      lease: etcdLease,
    }
    return revisionOf(await this.#guarded('say which groups are wanted', own, { request_put }, signal))
  }

  /**
   * Takes back what was said of multicast groups under our lease, be it by an earlier run.
   * @returns as {@link putGroups}
   */
  async deleteGroups(own: Lease, signal: AbortSignal): Promise<Revision | undefined> {
    const request_delete_range = { key: this.#groupsKey(own) }
    const doing = 'take back which groups are wanted'
    return revisionOf(await this.#guarded(doing, own, { request_delete_range }, signal))
  }

  #groupsKey({ subnet }: Lease): Buffer {
    return Buffer.from(this.#keys.groups + formatSubnetName(subnet))
  }

  async #keepAliveOnce(
    etcdLease: EtcdLeaseId,
    signal: AbortSignal,
  ): Promise<{ readonly ttlSeconds: number } | 'expired'> {
    const { stream, release, failed } = await this.client.openStream(
      'renew our lease',
      (etcd, options) => etcd.leaseClient.leaseKeepAlive(options),
      signal,
      CALL_DEADLINE_MS,
    )
    try {
      signal.throwIfAborted()
      const ttlSeconds = await new Promise<number>((resolve, reject) => {
        stream.on('data', ({ TTL }) => resolve(Number(TTL)))
        stream.on('error', (cause) => reject(failed(cause)))
        stream.on('end', () => reject(failed(new Error('the stream ended without an answer'))))
        stream.write({ ID: etcdLease })
      })
      return ttlSeconds > 0 ? { ttlSeconds } : 'expired'
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      release()
      stream.end()
      stream.cancel()
    }
  }

  async #grant(id: EtcdLeaseId, signal: AbortSignal, seconds = LEASE_TTL_SECONDS): Promise<void> {
    try {
      await this.client.call(
        'get a lease from etcd',
        (etcd, options) => etcd.leaseClient.leaseGrant({ ID: id, TTL: seconds }, options),
        signal,
      )
    } catch (error) {
      // A second try of ours: nobody else chooses this id.
      if (!(error instanceof EtcdError && error.message.includes(LEASE_EXISTS))) throw error
    }
  }

  /** @returns `taken` when the key is someone else's */
  async #takeKey(
    subnet: LeaseSubnet,
    value: LeaseValue,
    etcdLease: EtcdLeaseId,
    signal: AbortSignal,
  ): Promise<{ readonly lease: Omit<Lease, 'subnet'>; readonly taken: KeyValue | undefined }> {
    await this.#grant(etcdLease, signal)
    const { key, range } = this.#placeOf(subnet)
    const response = await this.#txn(
      'create our lease',
      {
        compare: [{ ...range, ...ABSENT }],
        success: [{ request_put: { key, value: Buffer.from(encodeLeaseValue(value)), lease: etcdLease } }],
        failure: [{ request_range: range }],
      },
      signal,
    )
    const found = response.succeeded ? undefined : foundIn(response, (kv) => kv.lease === etcdLease)
    // A second try of ours finds what the first has put when its answer was lost: nobody else knows the etcd lease.
    const taken = found?.etcdLease === etcdLease ? undefined : found
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return { lease: { key: key.toString(), value, etcdLease, modRevision }, taken }
  }

  /** The key of a subnet, and all keys that hold the same IPv4 half: `&` and an IPv6 half may follow it in a name. */
  #placeOf(subnet: LeaseSubnet): { readonly key: Buffer; readonly range: PlaceRange } {
    const key = Buffer.from(this.#keys.subnets + formatSubnetName(subnet))
    if (subnet.ipv4 === undefined) return { key, range: { key } }
    const alone = this.#keys.subnets + formatSubnetName({ ipv4: subnet.ipv4, ipv6: undefined })
    return { key, range: { key: Buffer.from(alone), range_end: Buffer.from(`${alone}${AFTER_AND}`) } }
  }

  /** Tries to leave nothing behind, also after an abort, and throws the error that brought us here. */
  async #giveUp(etcdLease: EtcdLeaseId, error: unknown): Promise<never> {
    try {
      await this.revoke(etcdLease, AbortSignal.timeout(GIVE_BACK_MS))
    } catch {
      if (error instanceof EtcdError) {
        const left = `etcd lease ${etcdLease} may be left, it ends by itself within a day`
        throw new EtcdError(error.code, `${error.message}; ${left}`, { cause: error })
      }
    }
    throw error
  }

  /** Does one operation if the key is still at the revision of `current`; the else branch reads it. */
  #guarded(doing: string, current: Lease, operation: IRequestOp, signal: AbortSignal): Promise<ITxnResponse> {
    const key = Buffer.from(current.key)
    return this.#txn(
      doing,
      {
        compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: String(current.modRevision) }],
        success: [operation],
        failure: [{ request_range: { key } }],
      },
      signal,
    )
  }

  #txn(doing: string, request: ITxnRequest, signal: AbortSignal): Promise<ITxnResponse> {
    return this.client.call(doing, (etcd, options) => etcd.kv.txn(request, options), signal)
  }
}

interface PlaceRange {
  readonly key: Buffer
  readonly range_end?: Buffer
}

/** The character after `&`. */
const AFTER_AND = "'"

/** Of a key or of all keys of a range: that there is none (etcd: server/etcdserver/apply.go, applyCompare). */
const ABSENT = { target: 'Version', result: 'Equal', version: '0' } as const

export interface RegistryStatus {
  /** The member that answered. */
  readonly endpoint: string
  readonly latencyMs: number
  readonly revision: Revision
}

/** etcd's texts (api/v3rpc/rpctypes/error.go); gRPC's status codes do not tell these from others. */
const LEASE_NOT_FOUND = 'requested lease not found'
const LEASE_EXISTS = 'lease already exists'

const GIVE_BACK_MS = 1000

function ignoreEtcdError(error: unknown): void {
  if (!(error instanceof EtcdError)) throw error
}

/**
 * The key as the else branch of a transaction found it; undefined when it does not exist.
 * @param best which one, if there are several
 */
function foundIn(
  { responses }: ITxnResponse,
  best: (kv: IKeyValue) => boolean = () => true,
): KeyValue | undefined {
  const kvs = responses[0]?.response_range.kvs ?? []
  const found = kvs.find(best) ?? kvs[0]
  return (
    found && {
      key: found.key.toString(),
      value: found.value.toString(),
      modRevision: toRevision(found.mod_revision),
      etcdLease: found.lease as EtcdLeaseId,
    }
  )
}

/** The revision at which a transaction did what it was for; undefined when it did not. */
const revisionOf = ({ succeeded, header }: ITxnResponse): Revision | undefined =>
  succeeded ? toRevision(header.revision) : undefined

/** A random positive 63-bit number: etcd's ids are signed, and zero means "choose one". */
const newEtcdLeaseId = () => String(randomBytes(8).readBigUInt64BE() >> 1n || 1n) as EtcdLeaseId
