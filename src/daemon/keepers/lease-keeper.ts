/**
 * Keeps our own lease. The keeper renews it by KeepAlive, which no peer notices; creates it again at once
 * when its key goes; and never writes over the value of another host. The kernel keeps everything in each
 * case.
 */
import type { Registry } from '../../etcd/registry'
import { racing } from '../../etcd/transactions'
import { readMoment } from '../../host/moment'
import type { BackoffBounds } from '../../model/backoff'
import { evictLease, releaseLease } from '../../model/commands'
import { OverlayError } from '../../model/errors'
import {
  formatLeaseSubnet,
  isReservation,
  LEASE_TTL_SECONDS,
  type Lease,
  type LeaseValue,
  type Revision,
  sameHost,
  sameLeaseValue,
  type UnreadableLease,
} from '../../model/lease'
import type { Renewal } from '../../model/moment'
import {
  afterRenewal,
  afterReport,
  hold,
  type LeaseReport,
  type LeaseState,
  needsAttention,
  toRenew,
} from '../../plan/lease/lease-state'
import type { Move } from '../../plan/lease/own-lease'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'

/** Milliseconds. An hour is far below the 24 h a lease lives, and a KeepAlive costs etcd no write. */
const RENEW_EVERY = 3_600_000

/**
 * The longest time between two renewals, in milliseconds.
 * @param margin minutes before the end of a lease at which it is renewed at the latest (flannel's
 * --subnet-lease-renew-margin)
 */
export const renewInterval = (margin: number): number =>
  Math.min(RENEW_EVERY, LEASE_TTL_SECONDS * 1000 - margin * 60_000)

/**
 * The time to the next renewal: by chance up to a quarter less than the longest. Hosts that came up together,
 * after a power cut or an upgrade of all, would otherwise renew together for as long as they run.
 */
export const renewalDelay = (most: number, random: () => number): number => most * (1 - 0.25 * random())

const BACKOFF: BackoffBounds = { first: 200, most: 30_000 }

/**
 * Concurrent writes to our key that we tolerate when giving the lease back. The question of another host
 * whether we live is such a write.
 */
const MOST_RACES = 3

export interface KeeperOptions {
  /** The longest time between two renewals, in milliseconds. */
  readonly renewEvery?: number
  /** The last renewal by an earlier run, where etcd has not been asked yet. */
  readonly renewal?: Renewal | undefined
  /** The move of this host from another subnet, if it had another one before this start. */
  readonly moved?: Move | undefined
  /** Whether this host has signed a lease, and another one since. */
  readonly isFormer?: (lease: Lease) => boolean
}

export class LeaseKeeper {
  readonly #loop: Loop
  readonly #renewEvery: number
  #state: LeaseState
  #since = new Date()
  /** The move of this host from another subnet before this start. */
  readonly moved: Move | undefined
  #changed = (): void => undefined
  readonly #isFormer: (lease: Lease) => boolean

  constructor(
    private readonly registry: Registry,
    readonly own: Lease,
    private value: LeaseValue,
    private readonly log: Logger,
    { renewEvery = RENEW_EVERY, renewal, moved, isFormer = () => false }: KeeperOptions = {},
  ) {
    this.moved = moved
    this.#isFormer = isFormer
    this.#renewEvery = renewEvery
    this.#state = { kind: 'held', lease: own, renewal: isReservation(own) ? undefined : renewal }
    this.#loop = new Loop(
      {
        name: 'lease',
        retry: BACKOFF,
        pass: (signal) => this.#attend(signal),
        failed: (problem, before) => {
          if (before === undefined)
            log.warn(`lease: ${problem}; trying again`, { kind: 'lease-renewal-problem' })
        },
        recovered: () => log.info('lease: etcd takes it again', { kind: 'lease-renewed-again' }),
      },
      log,
    )
  }

  get state(): LeaseState {
    return this.#state
  }

  /** When the lease entered its state, as far as this run knows. */
  get since(): Date {
    return this.#since
  }

  /** The value that this host announces. */
  get announced(): LeaseValue {
    return this.value
  }

  /** The last renewal; `undefined` when not known, or for a reservation. */
  get renewal(): Renewal | undefined {
    return this.#state.kind === 'held' ? this.#state.renewal : undefined
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

  /**
   * Why etcd does not take what is due: a creation, a write or a renewal. `undefined` when nothing is wrong.
   */
  get problem(): string | undefined {
    return this.#loop.problem
  }

  /** Has `changed` called after each change that a later run has to know. */
  onChange(changed: () => void): void {
    this.#changed = changed
  }

  /** Sets the value that this host announces, and has it written if it is another one. */
  announce(value: LeaseValue): void {
    if (sameLeaseValue(value, this.value)) return
    this.value = value
    this.#loop.by(performance.now())
  }

  /**
   * Takes a report of our key in etcd, as {@link LeaseReport} has it.
   * @param found the lease; `undefined` when the key is not there
   */
  observe(
    found: Lease | UnreadableLease | undefined,
    report: { readonly revision?: Revision; readonly anew?: boolean } = {},
  ): void {
    const before = this.#state
    if (!this.#report({ found, ...report })) return
    if (needsAttention(before, this.#state, this.value)) this.#loop.by(performance.now())
  }

  /**
   * Gives the lease back, so that all other hosts drop this one, and does not take it again until {@link
   * undrain}. The kernel keeps everything.
   * @throws {OverlayError} `drain` when there is no lease to give back: not held, or a reservation
   * @throws {EtcdError} when etcd does not take it; the lease is kept then
   */
  async drain(signal: AbortSignal): Promise<void> {
    if (this.#state.kind === 'drained') return
    const before = this.#leaseToGiveBack()
    const subnet = formatLeaseSubnet(this.own.subnet)
    // Before the key goes: its removal is no loss then, and nobody creates it again.
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

  /** Takes the lease again, if it was given back and no other host has it. */
  undrain(): void {
    if (this.#state.kind !== 'drained') return
    const { found } = this.#state
    const subnet = formatLeaseSubnet(this.own.subnet)
    this.log.info(`lease: undrained; taking ${subnet} again`, {
      kind: 'lease-undrained',
      about: [subnet],
    })
    this.#enter({ kind: 'lost' })
    this.#loop.by(performance.now())
    if (found !== undefined) this.observe(found)
    else this.#changed()
  }

  /** Runs until the signal fires. */
  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal)
  }

  /** @returns false for a report that changes nothing */
  #report(report: LeaseReport): boolean {
    const before = this.#state
    const { found } = report
    const isFormer =
      found !== undefined && 'value' in found && !sameHost(found.value, this.value) && this.#isFormer(found)
    const now = afterReport(before, { ...report, isFormer }, this.value)
    if (now === before) return false
    this.#enter(now)
    if (now.kind === 'drained') return false
    this.#logReport(before, now)
    this.#changed()
    return true
  }

  #logReport(before: LeaseState, now: LeaseState): void {
    const subnet = formatLeaseSubnet(this.own.subnet)
    const about = [subnet]
    // A key with another etcd lease was written by another program, as flannel's renewal or `overlayctl
    // reserve` do.
    if (before.kind === 'held' && now.kind === 'held' && before.lease.etcdLease !== now.lease.etcdLease) {
      const what = isReservation(now.lease) ? 'is reserved for this host' : 'has another etcd lease'
      this.log.info(`lease: ${subnet} ${what} now`, { kind: 'lease-changed', about })
    }
    if (now.kind === before.kind) return
    if (now.kind === 'held')
      this.log.info(`lease: ${subnet} is ours again`, { kind: 'lease-regained', about })
    else if (now.kind === 'lost') {
      this.log.warn(`lease: ${subnet} is gone from etcd; creating it again, the kernel keeps everything`, {
        kind: 'lease-lost',
        about,
      })
    } else if (now.kind === 'conflict') {
      this.log.error(
        `lease: CONFLICT: ${now.reason}; the kernel keeps everything, and the key is not written over. ` +
          `To get it back, stop the other host, then here: ${evictLease(this.own.subnet)}; ` +
          `or restart overlayd here to take another subnet`,
        { kind: 'lease-conflict', about },
      )
    }
  }

  #enter(state: LeaseState): void {
    if (state.kind !== this.#state.kind) this.#since = new Date()
    this.#state = state
  }

  /**
   * Holds a lease that could not be given back. If etcd has ended it all the same, its renewal finds that,
   * and it is created again.
   */
  #keepAfterAll(lease: Lease): void {
    const found = this.#state.kind === 'drained' ? this.#state.found : lease
    this.#enter(hold(lease, this.#state))
    this.#loop.by(performance.now())
    if (found !== lease) this.observe(found)
  }

  /** Whether the watch has reported that the key of a drained host is gone. */
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
      `end the reservation first: ${releaseLease(this.own.subnet)}`,
    )
  }

  async #giveBack(lease: Lease, signal: AbortSignal): Promise<void> {
    let current = lease
    const outcome = await racing(MOST_RACES, async () => {
      const found = await this.registry.leases.delete(current, signal)
      if (found === undefined) return 'deleted'
      if (!('value' in found) || isReservation(found) || !sameLeaseValue(found.value, this.value))
        return 'changed'
      current = found
      return undefined
    })
    if (outcome === 'deleted') return
    throw new OverlayError(
      'drain',
      `${lease.key} was changed meanwhile, and nothing was given back`,
      'look at overlayctl lease, then try again',
    )
  }

  /** Does the work that is due: creates the lease, writes its value, or renews it. */
  async #attend(signal: AbortSignal): Promise<Next> {
    const due = performance.now() + renewalDelay(this.#renewEvery, Math.random)
    if (this.#state.kind === 'lost') {
      const result = await this.registry.leases.create(this.own.subnet, this.value, signal)
      // This pass goes on with the lease: it needs no other one.
      this.#report({ found: result.kind === 'created' ? result.lease : result.by })
    }
    if (this.#state.kind === 'held') await this.#update(this.#state.lease, signal)
    const lease = toRenew(this.#state)
    if (lease !== undefined) await this.#renew(lease, signal)
    return { due }
  }

  /** Writes the announced value if the lease has another one. */
  async #update(lease: Lease, signal: AbortSignal): Promise<void> {
    if (sameLeaseValue(lease.value, this.value)) return
    const result = await this.registry.leases.update(lease, this.value, signal)
    if (result.kind === 'changed') return this.observe(result.now)
    // The lease may have been given back meanwhile.
    if (this.#state.kind !== 'held') return
    this.#state = hold(result.lease, this.#state)
    this.#changed()
    const subnet = formatLeaseSubnet(this.own.subnet)
    this.log.info(`lease: ${subnet} is announced anew`, { kind: 'lease-changed', about: [subnet] })
  }

  async #renew(lease: Lease, signal: AbortSignal): Promise<void> {
    const at = readMoment()
    const result = await this.registry.etcdLeases.keepAlive(lease.etcdLease, signal)
    if (result !== 'expired') {
      this.#state = afterRenewal(this.#state, lease, { at, ttlSeconds: result.ttlSeconds })
      this.#changed()
    } else if (toRenew(this.#state)?.etcdLease === lease.etcdLease) {
      // An expired etcd lease takes its key with it. The watch reports that too, later.
      this.observe(undefined)
    }
  }
}
