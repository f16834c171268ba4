/**
 * Keeps our own lease: alive by KeepAlive, which no peer sees; created again at once when its key goes; never written over when
 * someone else has it. What runs in the kernel stays in each case.
 */
import { performance } from 'node:perf_hooks'
import { EtcdError } from '../etcd/errors'
import type { Registry } from '../etcd/registry'
import { readMoment } from '../host/moment'
import { formatIp, formatMac } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import {
  formatLeaseSubnet,
  isReservation,
  LEASE_TTL_SECONDS,
  type Lease,
  type LeaseValue,
  sameHost,
  sameLeaseValue,
  type UnreadableLease,
} from '../model/lease'
import type { Renewal } from '../model/moment'
import type { Logger } from './logger'
import { Waker } from './waker'

export type LeaseState =
  | { readonly kind: 'held'; readonly lease: Lease }
  /** The key is gone; we are about to create it again. */
  | { readonly kind: 'lost' }
  /** The key holds something that is not ours. */
  | { readonly kind: 'conflict'; readonly reason: string }
  /** An operator had it given back, and it is not taken again until told. `found` is what the key holds since. */
  | { readonly kind: 'drained'; readonly found: Lease | UnreadableLease | undefined }

/** Milliseconds. An hour is far below the 24 h a lease lives, and a KeepAlive costs etcd no write. */
const RENEW_EVERY = 3_600_000

/**
 * Milliseconds between two renewals, at the most.
 * @param margin minutes before the end of a lease at which it is renewed at the latest (flannel's --subnet-lease-renew-margin)
 */
export const renewInterval = (margin: number): number =>
  Math.min(RENEW_EVERY, LEASE_TTL_SECONDS * 1000 - margin * 60_000)

/**
 * How long to wait for the next renewal, up to a quarter less than the most by chance: hosts that came up together, after a power cut or an
 * upgrade of all, would renew together every hour for as long as they run.
 */
export const renewalDelay = (most: number, random: () => number): number => most * (1 - 0.25 * random())

const BACKOFF: BackoffBounds = { first: 200, most: 30_000 }

/** Writes of our key by others, a host's that asks whether we live among them, that may come in the way of giving it back. */
const MOST_RACES = 3

export interface KeeperOptions {
  /** Milliseconds between two renewals, at the most. */
  readonly renewEvery?: number
  /** When an earlier run renewed the lease, where etcd has not been asked yet. */
  readonly renewal?: Renewal | undefined
}

export class LeaseKeeper {
  readonly #waker = new Waker()
  #state: LeaseState
  #renewAt: number
  #failures = 0
  /** The last one that etcd granted. */
  #renewal: Renewal | undefined
  #problem: string | undefined
  readonly #renewEvery: number
  #changed = (): void => undefined
  #since = new Date()

  constructor(
    private readonly registry: Registry,
    readonly own: Lease,
    private value: LeaseValue,
    private readonly log: Logger,
    { renewEvery = RENEW_EVERY, renewal }: KeeperOptions = {},
  ) {
    this.#renewEvery = renewEvery
    this.#renewal = renewal
    this.#state = { kind: 'held', lease: own }
    this.#renewAt = performance.now()
  }

  get state(): LeaseState {
    return this.#state
  }

  /** Since when the lease is in this state, as far as this run knows. */
  get since(): Date {
    return this.#since
  }

  /** What this host announces. */
  get announced(): LeaseValue {
    return this.value
  }

  /** When the lease was last renewed; `undefined` when not known, or for a reservation. */
  get renewal(): Renewal | undefined {
    if (this.#state.kind !== 'held' || isReservation(this.#state.lease)) return undefined
    return this.#renewal
  }

  /** Seconds until etcd lets the lease expire; `undefined` when not known, or for a reservation. */
  get expiresInSeconds(): number | undefined {
    const { renewal } = this
    if (renewal === undefined) return undefined
    const now = readMoment()
    const sameBoot = renewal.at.bootId === now.bootId
    const elapsed = sameBoot
      ? now.uptimeSeconds - renewal.at.uptimeSeconds
      : now.wallSeconds - renewal.at.wallSeconds
    return Math.max(0, Math.round(renewal.ttlSeconds - elapsed))
  }

  /** Why what is due cannot be done: etcd does not take it. `undefined` when nothing is amiss. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Has it told whenever what an earlier run would have to know of the lease has changed. */
  onChange(changed: () => void): void {
    this.#changed = changed
  }

  /** Takes in what this host announces from now on, and has it written where it is something else. */
  announce(value: LeaseValue): void {
    if (sameLeaseValue(value, this.value)) return
    this.value = value
    this.#renewAt = performance.now()
    this.#waker.wake()
  }

  /** Takes in what etcd has under our key now; `undefined` for nothing. */
  observe(found: Lease | UnreadableLease | undefined): void {
    const before = this.#state
    if (before.kind === 'drained') {
      this.#state = { kind: 'drained', found }
      return
    }
    const now = this.#judge(found)
    this.#enter(now)
    this.#noteBinding(before)
    this.#noteQuestion(before)
    this.#noteOmission()
    this.#changed()
    if (now.kind === before.kind) return
    const subnet = formatLeaseSubnet(this.own.subnet)
    const about = [subnet]
    if (now.kind === 'held')
      this.log.info(`lease: ${subnet} is ours again`, { kind: 'lease-regained', about })
    else if (now.kind === 'lost') {
      this.log.warn(`lease: ${subnet} is gone from etcd; creating it again, the kernel keeps everything`, {
        kind: 'lease-lost',
        about,
      })
      this.#renewAt = performance.now()
    } else {
      this.log.error(
        `lease: CONFLICT: ${now.reason}; the kernel keeps everything, and the key is not written over. ` +
          'Stop the other host, or delete the key and restart the host that must move',
        { kind: 'lease-conflict', about },
      )
    }
    this.#waker.wake()
  }

  /**
   * Gives the lease back, so that all other hosts let go of this one, and takes it no more until {@link undrain}. The kernel keeps everything.
   * @throws {OverlayError} `drain` when there is none to give back: not held, or a reservation
   * @throws {EtcdError} when etcd does not take it; the lease is kept then
   */
  async drain(signal: AbortSignal): Promise<void> {
    if (this.#state.kind === 'drained') return
    const before = this.#leaseToGiveBack()
    const subnet = formatLeaseSubnet(this.own.subnet)
    // Before the key goes: that it is gone is no loss then, and nobody creates it again.
    this.#enter({ kind: 'drained', found: before })
    try {
      await this.#giveBack(before, signal)
    } catch (error) {
      if (!this.#isGone()) {
        this.#keepAfterAll(before)
        throw error
      }
    }
    this.#state = { kind: 'drained', found: undefined }
    this.#changed()
    this.log.warn(`lease: drained: ${subnet} is given back to etcd; the kernel keeps everything`, {
      kind: 'lease-drained',
      about: [subnet],
    })
  }

  /** Takes the lease again, if it was given back and nobody else has it. */
  undrain(): void {
    if (this.#state.kind !== 'drained') return
    const { found } = this.#state
    const subnet = formatLeaseSubnet(this.own.subnet)
    this.log.info(`lease: drained no more: taking ${subnet} again`, {
      kind: 'lease-undrained',
      about: [subnet],
    })
    this.#enter({ kind: 'lost' })
    this.#renewAt = performance.now()
    this.#waker.wake()
    if (found !== undefined) this.observe(found)
    else this.#changed()
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#waker.sleep(this.#renewAt - performance.now(), signal)
      if (signal.aborted || performance.now() < this.#renewAt) continue
      try {
        await this.#attend(signal)
        if (this.#failures > 0) this.log.info('lease: etcd takes it again', { kind: 'lease-renewed-again' })
        this.#failures = 0
        this.#problem = undefined
      } catch (error) {
        if (signal.aborted) return
        if (!(error instanceof EtcdError)) throw error
        this.#failures++
        this.#problem = describeError(error)
        if (this.#failures === 1)
          this.log.warn(`lease: ${describeError(error)}; trying again`, { kind: 'lease-renewal-problem' })
        this.#renewAt = performance.now() + backoffDelay(this.#failures, BACKOFF, Math.random)
      }
    }
  }

  /**
   * A host that doubts that we live writes our key as it is and looks whether our lease is renewed: so it is, at once. What we wrote
   * ourselves may look the same, and costs a renewal too many.
   */
  #noteQuestion(before: LeaseState): void {
    if (this.#state.kind !== 'held' || before.kind !== 'held' || isReservation(this.#state.lease)) return
    if (this.#state.lease.modRevision === before.lease.modRevision) return
    this.#renewAt = performance.now()
    this.#waker.wake()
  }

  /** Whoever wrote our lease may have left out what we take part in: a flanneld does, or an operator who reserves it. */
  #noteOmission(): void {
    if (this.#state.kind !== 'held' || sameLeaseValue(this.#state.lease.value, this.value)) return
    this.#renewAt = performance.now()
    this.#waker.wake()
  }

  #enter(state: LeaseState): void {
    if (state.kind !== this.#state.kind) this.#since = new Date()
    this.#state = state
  }

  /** Whatever etcd made of it: a lease that is gone is found out by its renewal, and created again. */
  #keepAfterAll(lease: Lease): void {
    const found = this.#state.kind === 'drained' ? this.#state.found : lease
    this.#enter({ kind: 'held', lease })
    this.#renewAt = performance.now()
    this.#waker.wake()
    if (found !== lease) this.observe(found)
  }

  /** Whether the watch has told that the key is gone. */
  #isGone(): boolean {
    return this.#state.kind === 'drained' && this.#state.found === undefined
  }

  #leaseToGiveBack(): Lease {
    const subnet = formatLeaseSubnet(this.own.subnet)
    if (this.#state.kind !== 'held') {
      throw new OverlayError(
        'drain',
        `${subnet} is not this host's now (${this.#state.kind}), so it cannot be given back`,
        'look at overlayctl lease',
      )
    }
    if (!isReservation(this.#state.lease)) return this.#state.lease
    throw new OverlayError(
      'drain',
      `${subnet} is reserved for this host, and so is not given back`,
      `end the reservation first: overlayctl release ${subnet.split(' ')[0]}`,
    )
  }

  async #giveBack(lease: Lease, signal: AbortSignal): Promise<void> {
    let current = lease
    for (let race = 0; race < MOST_RACES; race++) {
      const found = await this.registry.deleteLease(current, signal)
      if (found === undefined) return
      if (!('value' in found) || isReservation(found) || !sameLeaseValue(found.value, this.value)) break
      current = found
    }
    throw new OverlayError(
      'drain',
      `${lease.key} was changed meanwhile, and nothing was given back`,
      'look at overlayctl lease, then try again',
    )
  }

  /** A key that someone bound anew, as flannel's renewal does, is kept alive from now on; one that was reserved needs it no more. */
  #noteBinding(before: LeaseState): void {
    if (this.#state.kind !== 'held' || before.kind !== 'held') return
    if (this.#state.lease.etcdLease === before.lease.etcdLease) return
    const subnet = formatLeaseSubnet(this.own.subnet)
    const what = isReservation(this.#state.lease) ? 'is reserved for this host' : 'has another etcd lease'
    this.log.info(`lease: ${subnet} ${what} now`, { kind: 'lease-changed', about: [subnet] })
    this.#renewal = undefined
    this.#renewAt = performance.now()
    this.#waker.wake()
  }

  #judge(found: Lease | UnreadableLease | undefined): Exclude<LeaseState, { kind: 'drained' }> {
    if (found === undefined) return { kind: 'lost' }
    if (!('value' in found)) {
      return { kind: 'conflict', reason: `${found.key} cannot be read: ${found.reason}` }
    }
    if (sameHost(found.value, this.value) || this.#isOutdated(found)) {
      return { kind: 'held', lease: found }
    }
    const { publicIp, publicIpv6, vtep, vtep6 } = found.value
    const mac = (vtep ?? vtep6)?.mac
    const owner = `${formatIp(publicIp || (publicIpv6 ?? publicIp))} with MAC ${mac === undefined ? 'unknown' : formatMac(mac)}`
    return { kind: 'conflict', reason: `${found.key} now names ${owner}` }
  }

  /** Whether it is our lease as it was before we announced something else. */
  #isOutdated(found: Lease): boolean {
    return this.#state.kind === 'held' && found.modRevision === this.#state.lease.modRevision
  }

  /** Writes what we announce where the lease says something else. */
  async #update(lease: Lease, signal: AbortSignal): Promise<void> {
    if (sameLeaseValue(lease.value, this.value)) return
    const result = await this.registry.updateLease(lease, this.value, signal)
    if (result.kind === 'changed') return this.observe(result.now)
    // It may have been given back meanwhile.
    if (this.#state.kind !== 'held') return
    this.#state = { kind: 'held', lease: result.lease }
    this.#changed()
    const subnet = formatLeaseSubnet(this.own.subnet)
    this.log.info(`lease: ${subnet} is announced anew`, { kind: 'lease-changed', about: [subnet] })
  }

  /** Does what is due: create, write anew, or renew. */
  async #attend(signal: AbortSignal): Promise<void> {
    this.#renewAt = performance.now() + renewalDelay(this.#renewEvery, Math.random)
    if (this.#state.kind === 'lost') {
      const result = await this.registry.createLease(this.own.subnet, this.value, signal)
      this.observe(result.kind === 'created' ? result.lease : result.by)
    }
    if (this.#state.kind === 'held') await this.#update(this.#state.lease, signal)
    if (this.#state.kind !== 'held' || isReservation(this.#state.lease)) {
      this.#renewal = undefined
      return
    }
    const at = readMoment()
    const result = await this.registry.keepAlive(this.#state.lease.etcdLease, signal)
    // An expired lease takes its key with it, which the watch tells; this is only sooner.
    if (result === 'expired') this.observe(undefined)
    else {
      this.#renewal = { at, ttlSeconds: result.ttlSeconds }
      this.#changed()
    }
  }
}
