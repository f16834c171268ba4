/**
 * Keeps in etcd what this host announces: writes a key again that is gone or was changed, for as long as this
 * host has its lease, and takes it back when its time is over.
 */
import { performance } from 'node:perf_hooks'
import type { Registry } from '../../etcd/registry'
import { formatPrefix, type Prefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import { type EtcdLeaseId, isReservation, type Lease, type Revision } from '../../model/lease'
import {
  type Announcement,
  MOST_OF_HOST,
  type PrefixClaim,
  prefixName,
  sameAnnouncement,
} from '../../model/prefixes'
import type { LeaseKeeper } from '../keepers/lease-keeper'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'
import type { AnnouncedPrefixes } from './announced'
import type { Deliverer } from './deliverer'

/** Longest time between two looks, in milliseconds: a timer of Node takes no more than 24 days. */
const PERIOD = 3_600_000

export class Announcer {
  readonly #loop: Loop
  /** Name of the prefix -> what this host announces. */
  readonly #wanted: Map<string, Announcement>
  /** Whether `#wanted` is complete: else what an earlier run has announced is kept. */
  #isComplete: boolean
  /** Name of the prefix -> revision of our last write or deletion. */
  readonly #done = new Map<string, Revision>()
  #changed = (): void => undefined

  /** @param remembered what an earlier run has announced; `undefined` when that is not known */
  constructor(
    private readonly registry: Registry,
    private readonly keeper: LeaseKeeper,
    private readonly announced: AnnouncedPrefixes,
    private readonly deliverer: Deliverer,
    private readonly log: Logger,
    remembered: readonly Announcement[] | undefined,
  ) {
    this.#wanted = new Map((remembered ?? []).map((each) => [prefixName(each.prefix), each]))
    this.#isComplete = remembered !== undefined
    deliverer.follow(
      () => this.#wanted.values(),
      () => {
        this.wake()
        this.#changed()
      },
    )
    this.#loop = new Loop(
      {
        name: 'prefixes',
        pass: (signal) => this.#pass(signal),
        failed: (problem, before) => {
          if (before === undefined) log.warn(`prefixes: ${problem}; trying again`, { kind: 'prefix-problem' })
        },
        recovered: () => log.info('prefixes: etcd has what this host announces', { kind: 'prefix-problem' }),
      },
      log,
    )
  }

  /** What this host announces; `undefined` while that is not known. */
  get wanted(): readonly Announcement[] | undefined {
    return this.#isComplete ? [...this.#wanted.values()] : undefined
  }

  /** Why etcd does not have what this host announces; `undefined` when it has. */
  get problem(): string | undefined {
    return this.#loop.problem
  }

  /** @param changed called after each change that a later run has to know */
  onChange(changed: () => void): void {
    this.#changed = changed
  }

  /** Compares with etcd soon. */
  wake(): void {
    this.#loop.wake()
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal)
  }

  /**
   * Announces a prefix, or another priority or end of one that is announced.
   * @returns why it waits until it is announced; `undefined` when it is
   * @throws {OverlayError} `announce` with the reason for a refusal; {EtcdError}: nothing is announced then
   */
  async announce(announcement: Announcement, signal: AbortSignal): Promise<string | undefined> {
    const { prefix, priority } = announcement
    const text = formatPrefix(prefix)
    const objection = this.announced.objectionToOwn(prefix)
    if (objection !== undefined)
      throw new OverlayError(
        'announce',
        `${text} may not be announced: ${objection}`,
        'see overlayctl prefixes',
      )
    if (!this.#wanted.has(prefixName(prefix)) && this.#wanted.size >= MOST_OF_HOST)
      throw new OverlayError('announce', `a host announces at most ${MOST_OF_HOST} prefixes`, 'withdraw some')
    const lease = this.#lease('announce')
    if (announcement.via !== undefined) await this.deliverer.look(signal)
    const obstacle = this.deliverer.obstacle(announcement)
    if (obstacle === undefined) await this.#put(lease, announcement, signal)
    this.#wanted.set(prefixName(prefix), announcement)
    if (obstacle === undefined)
      this.log.info(`prefixes: this host announces ${text} with priority ${priority}`, {
        kind: 'prefix-announced',
        about: [text],
      })
    this.deliverer.update()
    this.#changed()
    this.wake()
    return obstacle?.reason
  }

  /** Writes a key. The way to the prefix is there before, so that no packet comes back. */
  async #put(lease: Lease, announcement: Announcement, signal: AbortSignal): Promise<void> {
    await this.deliverer.prepare(announcement, signal)
    try {
      const revision = await this.registry.prefixes.put(lease, announcement, signal)
      this.deliverer.told(announcement, this.#note(announcement.prefix, revision))
    } catch (error) {
      this.deliverer.undo(announcement)
      throw error
    }
  }

  /**
   * Withdraws a prefix, whoever has written its key.
   * @throws {OverlayError} `withdraw` when this host does not announce it; {EtcdError}: nothing has changed
   */
  async withdraw(prefix: Prefix, signal: AbortSignal): Promise<void> {
    const name = prefixName(prefix)
    const text = formatPrefix(prefix)
    const isThere = this.announced
      .ownClaims()
      .some(({ announcement }) => prefixName(announcement.prefix) === name)
    if (!this.#wanted.has(name) && !isThere)
      throw new OverlayError('withdraw', `this host does not announce ${text}`, 'see overlayctl prefixes')
    const wanted = this.#wanted.get(name)
    const waits = wanted !== undefined && this.deliverer.obstacle(wanted) !== undefined
    // One that waits for its way is not in etcd, and may be withdrawn while etcd is away.
    if (isThere || !waits)
      this.#note(prefix, await this.registry.prefixes.delete(this.#lease('withdraw'), prefix, signal))
    this.#wanted.delete(name)
    this.deliverer.update()
    this.#logWithdrawal(text, 'an operator has asked for it')
    this.#changed()
    this.wake()
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    const { state } = this.keeper
    if (this.announced.revision === undefined || state.kind !== 'held')
      return { due: performance.now() + PERIOD }
    const { lease } = state
    const there = new Map(
      this.announced.ownClaims().map((claim) => [prefixName(claim.announcement.prefix), claim]),
    )
    if (!this.#isComplete) this.#adopt(there, lease)
    this.#endOld()
    const waits = new Set<string>()
    for (const [name, announcement] of this.#wanted) {
      if (this.deliverer.obstacle(announcement) !== undefined) waits.add(name)
      else if (!isWritten(there.get(name), announcement, lease) && !this.#isAhead(name))
        await this.#put(lease, announcement, signal)
    }
    for (const [name, { announcement, etcdLease }] of there) {
      // Without an etcd lease it may be an operator's, for good.
      const isWanted = this.#wanted.has(name) && !waits.has(name)
      if (isWanted || !isBoundTo(etcdLease, lease) || this.#isAhead(name)) continue
      this.#note(announcement.prefix, await this.registry.prefixes.delete(lease, announcement.prefix, signal))
    }
    return { due: performance.now() + Math.min(PERIOD, this.#nextEnd - Date.now()) }
  }

  /** Takes over what an earlier run has announced with this lease, of which no state file tells. */
  #adopt(there: ReadonlyMap<string, PrefixClaim>, lease: Lease): void {
    for (const [name, { announcement, etcdLease }] of there)
      if (isBoundTo(etcdLease, lease)) this.#wanted.set(name, announcement)
    this.#isComplete = true
    if (there.size > 0) this.#changed()
  }

  #endOld(): void {
    for (const [name, { prefix, until }] of this.#wanted) {
      if (until === undefined || until > Date.now()) continue
      this.#wanted.delete(name)
      this.#logWithdrawal(formatPrefix(prefix), 'its time is over')
      this.#changed()
    }
  }

  get #nextEnd(): number {
    return Math.min(...[...this.#wanted.values()].map(({ until = Number.POSITIVE_INFINITY }) => until))
  }

  /** Whether our last write is newer than what the watch has reported. */
  #isAhead(name: string): boolean {
    const done = this.#done.get(name)
    return done !== undefined && done > (this.announced.revision ?? 0n)
  }

  /** @throws {OverlayError} when our lease has changed, which the watch is about to report */
  #note(prefix: Prefix, revision: Revision | undefined): Revision {
    if (revision === undefined)
      throw new OverlayError('announce', 'the lease of this host has just changed in etcd', 'try again')
    this.#done.set(prefixName(prefix), revision)
    return revision
  }

  #lease(what: string): Lease {
    const { state } = this.keeper
    if (state.kind === 'held') return state.lease
    const reason = `this host has no lease now (${state.kind})`
    throw new OverlayError(what, reason, 'see why: overlayctl lease')
  }

  #logWithdrawal(text: string, why: string): void {
    this.log.info(`prefixes: ${text} is withdrawn: ${why}`, { kind: 'prefix-withdrawn', about: [text] })
  }
}

const isBoundTo = (etcdLease: EtcdLeaseId, lease: Lease): boolean =>
  etcdLease === lease.etcdLease && !isReservation(lease)

const isWritten = (
  claim: PrefixClaim | undefined,
  announcement: Announcement,
  { etcdLease }: Lease,
): boolean =>
  claim !== undefined && sameAnnouncement(claim.announcement, announcement) && claim.etcdLease === etcdLease
