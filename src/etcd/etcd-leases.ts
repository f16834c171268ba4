/**
 * etcd's own leases. Each expires unless it is renewed, and its keys with it. The key of a host's lease is
 * bound to one.
 */
import { randomBytes } from 'node:crypto'
import type { EtcdLeaseId } from '../model/lease'
import { CALL_DEADLINE_MS, type EtcdCalls } from './client/client'
import { EtcdError } from './client/errors'

/**
 * Error texts of etcd (api/v3rpc/rpctypes/error.go). gRPC's status codes do not tell these from other errors.
 */
const LEASE_NOT_FOUND = 'requested lease not found'
const LEASE_EXISTS = 'lease already exists'

export class EtcdLeases {
  constructor(private readonly client: EtcdCalls) {}

  /**
   * Gets an etcd lease under an id that the caller chose.
   * @throws {EtcdError}
   */
  async grant(id: EtcdLeaseId, signal: AbortSignal, seconds: number): Promise<void> {
    try {
      await this.client.call(
        'get a lease from etcd',
        (etcd, options) => etcd.leaseClient.leaseGrant({ ID: id, TTL: seconds }, options),
        signal,
      )
    } catch (error) {
      // Our first try made it: no one else chooses this id.
      if (!(error instanceof EtcdError && error.message.includes(LEASE_EXISTS))) throw error
    }
  }

  /**
   * Renews an etcd lease once. No other host notices that.
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

  /** The seconds that an etcd lease has left, rounded by etcd; undefined when it is gone. */
  async timeToLive(etcdLease: EtcdLeaseId, signal: AbortSignal): Promise<number | undefined> {
    const { TTL } = await this.client.call(
      'read the life time of our lease',
      (etcd, options) => etcd.leaseClient.leaseTimeToLive({ ID: etcdLease }, options),
      signal,
    )
    return Number(TTL) > 0 ? Number(TTL) : undefined
  }

  /** Gives an etcd lease back; its keys go with it. An etcd lease that is gone already is no error. */
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
}

/** A random positive 63-bit number: the ids of etcd are signed, and zero asks etcd to choose one. */
export const newEtcdLeaseId = () => String(randomBytes(8).readBigUInt64BE() >> 1n || 1n) as EtcdLeaseId
