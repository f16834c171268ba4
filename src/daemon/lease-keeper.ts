/**
 * Keeps our own lease: alive by KeepAlive, which no peer sees; created again at once when its key goes; never written over when
 * someone else has it. What runs in the kernel stays in each case.
 */
import { performance } from 'node:perf_hooks'
import { EtcdError } from '../etcd/errors'
import type { Registry } from '../etcd/registry'
import { formatIp, formatMac } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError } from '../model/errors'
import {
  formatLeaseSubnet,
  isReservation,
  LEASE_TTL_SECONDS,
  type Lease,
  type LeaseValue,
  sameLeaseValue,
  type UnreadableLease,
} from '../model/lease'

import type { Logger } from './logger'
import { Waker } from './waker'

export type LeaseState =
  | { readonly kind: 'held'; readonly lease: Lease }
  /** The key is gone; we are about to create it again. */
  | { readonly kind: 'lost' }
  /** The key holds something that is not ours. */
  | { readonly kind: 'conflict'; readonly reason: string }

/** Milliseconds. An hour is far below the 24 h a lease lives, and a KeepAlive costs etcd no write. */
const RENEW_EVERY = 3_600_000

/**
 * Milliseconds between two renewals.
 * @param margin minutes before the end of a lease at which it is renewed at the latest (flannel's --subnet-lease-renew-margin)
 */
export const renewInterval = (margin: number): number =>
  Math.min(RENEW_EVERY, LEASE_TTL_SECONDS * 1000 - margin * 60_000)

const BACKOFF: BackoffBounds = { first: 200, most: 30_000 }

export class LeaseKeeper {
  readonly #waker = new Waker()
  #state: LeaseState
  #renewAt: number
  #failures = 0
  /** Monotonic milliseconds at which etcd lets the lease expire unless it is renewed. */
  #expiresAt: number | undefined

  constructor(
    private readonly registry: Registry,
    readonly own: Lease,
    private readonly value: LeaseValue,
    private readonly log: Logger,
    private readonly renewEvery = RENEW_EVERY,
  ) {
    this.#state = { kind: 'held', lease: own }
    this.#renewAt = performance.now()
  }

  get state(): LeaseState {
    return this.#state
  }

  /** Seconds until etcd lets the lease expire; `undefined` when not known, or for a reservation. */
  get expiresInSeconds(): number | undefined {
    if (this.#expiresAt === undefined || this.#state.kind !== 'held') return undefined
    if (isReservation(this.#state.lease)) return undefined
    return Math.max(0, Math.round((this.#expiresAt - performance.now()) / 1000))
  }

  /** Takes in what etcd has under our key now; `undefined` for nothing. */
  observe(found: Lease | UnreadableLease | undefined): void {
    const before = this.#state
    this.#state = this.#judge(found)
    this.#noteBinding(before)
    if (this.#state.kind === before.kind) return
    const subnet = formatLeaseSubnet(this.own.subnet)
    if (this.#state.kind === 'held') this.log.info(`lease: ${subnet} is ours again`)
    else if (this.#state.kind === 'lost') {
      this.log.warn(`lease: ${subnet} is gone from etcd; creating it again, the kernel keeps everything`)
      this.#renewAt = performance.now()
    } else {
      this.log.error(
        `lease: CONFLICT: ${this.#state.reason}; the kernel keeps everything, and the key is not written over. ` +
          'Stop the other host, or delete the key and restart the host that must move',
      )
    }
    this.#waker.wake()
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#waker.sleep(this.#renewAt - performance.now(), signal)
      if (signal.aborted || performance.now() < this.#renewAt) continue
      try {
        await this.#attend(signal)
        this.#failures = 0
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof EtcdError)) throw error
        this.#failures++
        if (this.#failures === 1) this.log.warn(`lease: ${describeError(error)}; trying again`)
        this.#renewAt = performance.now() + backoffDelay(this.#failures, BACKOFF, Math.random)
      }
    }
  }

  /** A key that someone bound anew, as flannel's renewal does, is kept alive from now on; one that was reserved needs it no more. */
  #noteBinding(before: LeaseState): void {
    if (this.#state.kind !== 'held' || before.kind !== 'held') return
    if (this.#state.lease.etcdLease === before.lease.etcdLease) return
    const subnet = formatLeaseSubnet(this.own.subnet)
    const what = isReservation(this.#state.lease) ? 'is reserved for this host' : 'has another etcd lease'
    this.log.info(`lease: ${subnet} ${what} now`)
    this.#expiresAt = undefined
    this.#renewAt = performance.now()
    this.#waker.wake()
  }

  #judge(found: Lease | UnreadableLease | undefined): LeaseState {
    if (found === undefined) return { kind: 'lost' }
    if (!('value' in found)) {
      return { kind: 'conflict', reason: `${found.key} cannot be read: ${found.reason}` }
    }
    if (sameLeaseValue(found.value, this.value)) return { kind: 'held', lease: found }
    const { publicIp, publicIpv6, vtep, vtep6 } = found.value
    const mac = (vtep ?? vtep6)?.mac
    const owner = `${formatIp(publicIp || (publicIpv6 ?? publicIp))} with MAC ${mac === undefined ? 'unknown' : formatMac(mac)}`
    return { kind: 'conflict', reason: `${found.key} now names ${owner}` }
  }

  /** Does what is due: create, or renew. */
  async #attend(signal: AbortSignal): Promise<void> {
    this.#renewAt = performance.now() + this.renewEvery
    if (this.#state.kind === 'lost') {
      const result = await this.registry.createLease(this.own.subnet, this.value, signal)
      this.observe(result.kind === 'created' ? result.lease : result.by)
    }
    if (this.#state.kind !== 'held' || isReservation(this.#state.lease)) {
      this.#expiresAt = undefined
      return
    }
    const asked = performance.now()
    const result = await this.registry.keepAlive(this.#state.lease.etcdLease, signal)
    // An expired lease takes its key with it, which the watch tells; this is only sooner.
    if (result === 'expired') this.observe(undefined)
    else this.#expiresAt = asked + result.ttlSeconds * 1000
  }
}
