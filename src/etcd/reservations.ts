/**
 * Reservations: leases that an operator keeps for a host. They are bound to no etcd lease. A note beside each
 * names its host.
 */
import type { IRequestOp } from 'etcd3'
import type { AuditRecord } from '../model/audit'
import type { HostEntry, HostRecord } from '../model/host-record'
import {
  isReservation,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  NO_ETCD_LEASE,
  type ReservedFor,
  type UnreadableLease,
} from '../model/lease'
import type { EtcdCalls } from './client/client'
import { EtcdError } from './client/errors'
import { decodeHost, encodeHost, hostKey } from './codec/host-codec'
import { formatSubnetName, type Keys } from './codec/keys'
import { encodeLeaseValue, toRevision } from './codec/lease-codec'
import { prefixRangeOf } from './codec/prefix-codec'
import { decodeReservedFor, encodeReservedFor, reservationKey } from './codec/reservation-codec'
import type { EtcdLeases } from './etcd-leases'
import type { CreateResult, UpdateResult } from './leases'
import { leaseOf, subnetPlace } from './subnet-place'
import { ABSENT, foundIn, type Transactions } from './transactions'

/** The character after `/`. */
const AFTER_SLASH = '0'
/** Notes that are read: far more than a network has reserved subnets. */
const MOST_NOTES = 16_384

/** The write of an operator who reserves a subnet. */
export interface OperatorWrite {
  readonly record: AuditRecord
  /** Whether the host is noted, under a key that hosts may not write. */
  readonly isNoted: boolean
  /** The record of the host that the subnet is enrolled for. */
  readonly host?: HostRecord
}

export class Reservations {
  constructor(
    private readonly client: EtcdCalls,
    private readonly keys: Keys,
    private readonly transactions: Transactions,
    private readonly etcdLeases: EtcdLeases,
  ) {}

  /**
   * Takes a subnet for good if no host has it: the key is bound to no etcd lease.
   * @param write absent for the reservation that a host goes on with
   * @returns `created` also when the same reservation exists, most likely by a first try of ours
   */
  async create(
    subnet: LeaseSubnet,
    value: LeaseValue,
    signal: AbortSignal,
    write?: OperatorWrite,
  ): Promise<CreateResult> {
    const { key, range } = subnetPlace(this.keys, subnet)
    const wanted = Buffer.from(encodeLeaseValue(value))
    const response = await this.transactions.run(
      'create the reservation',
      {
        compare: [{ ...range, ...ABSENT }],
        success: [{ request_put: { key, value: wanted } }, ...this.#beside(subnet, value, write)],
        failure: [{ request_range: range }],
      },
      signal,
      write?.record,
    )
    const found = response.succeeded ? undefined : foundIn(response, (kv) => key.equals(kv.key))
    if (found !== undefined && !(found.etcdLease === NO_ETCD_LEASE && found.value.equals(wanted))) {
      return { kind: 'taken', by: leaseOf(this.keys, found) }
    }
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return {
      kind: 'created',
      lease: { key: key.toString(), subnet, value, etcdLease: NO_ETCD_LEASE, modRevision },
    }
  }

  /**
   * Makes a lease a reservation if it is still as `current` says: the same value, no longer bound to an etcd
   * lease. The former etcd lease is given back; if that fails, it ends by itself within a day.
   */
  async reserve(current: Lease, write: OperatorWrite, signal: AbortSignal): Promise<UpdateResult> {
    const key = Buffer.from(current.key)
    const value = Buffer.from(encodeLeaseValue(current.value))
    const response = await this.transactions.guarded(
      'reserve the lease',
      current,
      [{ request_put: { key, value } }, ...this.#beside(current.subnet, current.value, write)],
      signal,
      write.record,
    )
    const found = response.succeeded ? undefined : foundIn(response)
    const isDone = response.succeeded || (found?.etcdLease === NO_ETCD_LEASE && found.value.equals(value))
    if (!isDone) {
      return { kind: 'changed', now: found === undefined ? undefined : leaseOf(this.keys, found) }
    }
    if (!isReservation(current))
      await this.etcdLeases.revoke(current.etcdLease, signal).catch(ignoreEtcdError)
    const modRevision = found?.modRevision ?? toRevision(response.header.revision)
    return { kind: 'updated', lease: { ...current, etcdLease: NO_ETCD_LEASE, modRevision } }
  }

  /**
   * Writes what belongs to a reservation, if the reservation is still as `current` says.
   * @returns whether it was
   */
  async note(current: Lease, write: OperatorWrite, signal: AbortSignal): Promise<boolean> {
    const operations = this.#beside(current.subnet, current.value, write)
    const doing = 'note for whom a subnet is reserved'
    return (await this.transactions.guarded(doing, current, operations, signal, write.record)).succeeded
  }

  /** The record of the host that a subnet is enrolled for; `undefined` if there is none. */
  async hostOf(subnet: LeaseSubnet, signal: AbortSignal): Promise<HostEntry | undefined> {
    const key = Buffer.from(hostKey(this.keys, subnet))
    const { kvs } = await this.client.call(
      'read the record of the host',
      (etcd, options) => etcd.kv.range({ key }, options),
      signal,
    )
    const [kv] = kvs
    return (
      kv &&
      decodeHost(formatSubnetName(subnet), { value: kv.value, modRevision: toRevision(kv.mod_revision) })
    )
  }

  /**
   * Ends an enrolment: deletes the record of the host, and the lease of the subnet, its note, its groups and
   * its prefixes.
   * @param current the lease as it was read; `undefined` where there was none
   * @returns whether the lease was still as it was read; nothing is deleted otherwise
   */
  async endEnrolment(
    subnet: LeaseSubnet,
    current: Lease | UnreadableLease | undefined,
    record: AuditRecord,
    signal: AbortSignal,
  ): Promise<boolean> {
    const name = formatSubnetName(subnet)
    const key = Buffer.from(this.keys.subnets + name)
    const compare =
      current === undefined
        ? { key, ...ABSENT }
        : ({ key, target: 'Mod', result: 'Equal', mod_revision: String(current.modRevision) } as const)
    const { hosts, subnets, reservations, groups } = this.keys
    const request = {
      compare: [compare],
      success: [
        ...[hosts, subnets, reservations, groups].map((place) => ({
          request_delete_range: { key: Buffer.from(place + name) },
        })),
        deletionOfPrefixes(this.keys, subnet),
      ],
      failure: [{ request_range: { key } }],
    }
    const response = await this.transactions.run('end the enrolment', request, signal, record)
    // A lease that is gone was most likely deleted by a first try of ours whose answer was lost.
    return response.succeeded || (current !== undefined && foundIn(response) === undefined)
  }

  /**
   * The notes of operators: the key of a reservation -> its host. Unreadable notes are left out.
   */
  async reservedFor(signal: AbortSignal): Promise<ReadonlyMap<string, ReservedFor>> {
    const start = this.keys.reservations
    const request = {
      key: Buffer.from(start),
      range_end: Buffer.from(`${start.slice(0, -1)}${AFTER_SLASH}`),
      limit: MOST_NOTES,
    }
    const { kvs } = await this.client.call(
      'read for whom subnets are reserved',
      (etcd, options) => etcd.kv.range(request, options),
      signal,
    )
    return new Map(
      kvs.flatMap(({ key, value }) => {
        const note = decodeReservedFor(this.keys, key.toString(), value.toString())
        return note === undefined ? [] : [note]
      }),
    )
  }

  /**
   * Deletes a reservation and its note, if it is still as `current` says.
   * @returns the lease that is there instead; undefined when the key is gone
   */
  async delete(
    current: Lease,
    record: AuditRecord,
    signal: AbortSignal,
  ): Promise<Lease | UnreadableLease | undefined> {
    const key = Buffer.from(current.key)
    const note = Buffer.from(reservationKey(this.keys, current.subnet))
    const deletions = [
      { request_delete_range: { key } },
      { request_delete_range: { key: note } },
      deletionOfPrefixes(this.keys, current.subnet),
    ]
    const doing = 'delete the reservation'
    const response = await this.transactions.guarded(doing, current, deletions, signal, record)
    const found = response.succeeded ? undefined : foundIn(response)
    return found === undefined ? undefined : leaseOf(this.keys, found)
  }

  /** What is written beside a reservation. */
  #beside(subnet: LeaseSubnet, value: LeaseValue, write: OperatorWrite | undefined): IRequestOp[] {
    const put = (key: string, text: string): IRequestOp => ({
      request_put: { key: Buffer.from(key), value: Buffer.from(text) },
    })
    return [
      ...(write?.isNoted ? [put(reservationKey(this.keys, subnet), encodeReservedFor(value))] : []),
      ...(write?.host === undefined ? [] : [put(hostKey(this.keys, subnet), encodeHost(write.host))]),
    ]
  }
}

function ignoreEtcdError(error: unknown): void {
  if (!(error instanceof EtcdError)) throw error
}

/** Prefixes that the host announced with a reservation do not end by themselves. */
function deletionOfPrefixes(keys: Keys, subnet: LeaseSubnet): IRequestOp {
  const { start, end } = prefixRangeOf(keys, subnet)
  return { request_delete_range: { key: Buffer.from(start), range_end: Buffer.from(end) } }
}
