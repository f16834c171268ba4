/**
 * Follows one network for ever: a snapshot, a watch from its revision, and whatever it takes to go on after a
 * failure.
 */
import { randomUUID } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import type { Revision } from '../../model/lease'
import { CALL_DEADLINE_MS, type EtcdCalls } from '../client/client'
import { EtcdError, toEtcdError } from '../client/errors'
import type { Keys } from '../codec/keys'
import type { WatchAnswer } from '../codec/wire'
import { type ListingOptions, readSnapshot } from './listing'
import {
  type At,
  afterEvents,
  afterListing,
  afterLoss,
  afterReport,
  beginWatch,
  isSuccessor,
  moveTo,
  type Place,
  type Position,
  UNLISTED,
} from './place'
import { configText, type ReadSnapshot } from './snapshot'
import { decodeEvent, type RegistryEvent, type UpdateQueue } from './updates'
import { watch } from './watch'

/** Wait between two attempts. */
const RECONNECT: BackoffBounds = { first: 100, most: 2000 }
/** A refusal is not cured within seconds, and a login costs etcd much more than an answer. */
const REFUSED: BackoffBounds = { first: 1000, most: 15_000 }
/**
 * A listing that timed out was most likely one of very many. Asking again soon keeps etcd at answers that
 * nobody waits for.
 */
const OVERLOADED: BackoffBounds = { first: 1000, most: 30_000 }
/**
 * A stream that was up to date and lived so many milliseconds was a good one: the next wait is short again.
 */
const GOOD_AFTER_MS = RECONNECT.most

/**
 * Leases up to which the time between two listings is the same. Hosts of a larger network list less often:
 * all N hosts ask etcd for N leases, so that the traffic of etcd would grow with N x N.
 */
const FEW_LEASES = 1000

/** Milliseconds after a listing within which the watch has to report the newest change of that listing. */
const REPORTED_WITHIN_MS = CALL_DEADLINE_MS

/** Errors of the connection: the history may well be whole, and a watch goes on where the last one ended. */
const RESUMABLE: readonly string[] = ['etcd-unreachable', 'etcd-timeout', 'etcd-tls', 'etcd-renewed']

/**
 * Fills the queue until the signal fires.
 *
 * A watch begins at the last revision told, not the one after it, and drops the events that come again. etcd
 * (3.4) accepts a watch from exactly the compacted revision without an error, and if that revision was a
 * delete, its event is gone.
 */
export class Follower {
  #place: Place = UNLISTED
  /** Failures in a row. */
  #failures = 0
  /** Whether the watch is of a range that no other host has. */
  #alone = false
  /**
   * The session before this one ended for a new token or new certificates, and no watch has been created
   * since.
   */
  #renewed = false
  /** Whether the consumer is told of groups, by the config that was told last. */
  #tellsGroups = false
  #hasManyGroups = false
  /** Ends the wait for the next listing. */
  #listNow = new AbortController()

  constructor(
    private readonly client: EtcdCalls,
    private readonly keys: Keys,
    private readonly queue: UpdateQueue,
    /** Mean time between two listings of a small network, in milliseconds. */
    private readonly relistMs: number,
    private readonly wantsGroups: NonNullable<ListingOptions['wantsGroups']>,
  ) {}

  /** Ends when the signal fires, and throws nothing but a defect of ours. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const started = performance.now()
      try {
        await this.#session(signal)
      } catch (cause) {
        if (signal.aborted) return
        const error = toEtcdError(cause, { doing: 'follow the leases', endpoint: this.client.endpoint })
        if (error.code === 'etcd-renewed' && !this.#renewed) {
          this.#renewed = true
          continue
        }
        const listed = this.#place.kind === 'at'
        this.#place = afterLoss(this.#place, RESUMABLE.includes(error.code))
        this.queue.push({ kind: 'lost', error })
        const isGood = listed && performance.now() - started > GOOD_AFTER_MS
        this.#failures = isGood ? 1 : this.#failures + 1
        const delay = backoffDelay(this.#failures, retryBounds(error.code, listed), Math.random)
        await sleep(delay, undefined, { signal }).catch(ignoreAbort)
      }
    }
  }

  /** From the present position, or from a snapshot, until the first failure. */
  async #session(signal: AbortSignal): Promise<never> {
    const place = this.#place.kind === 'at' ? this.#place : this.#tellSnapshot(await this.#read(signal))
    const scope = new AbortController()
    const scoped = AbortSignal.any([signal, scope.signal])
    const handlers = { created: this.#created.bind(this), answer: this.#answer.bind(this) }
    const watched = this.#alone ? alone(this.keys) : this.keys
    this.#place = beginWatch(place)
    const { revision } = place.position
    const parts = [watch(this.client, watched, revision, handlers, scoped), this.#relist(scoped)]
    try {
      return await Promise.race(parts)
    } finally {
      scope.abort()
      await Promise.allSettled(parts)
    }
  }

  #read(signal: AbortSignal): Promise<ReadSnapshot> {
    const { wantsGroups } = this
    return readSnapshot(this.client, this.keys, signal, { wantsGroups, hasManyGroups: this.#hasManyGroups })
  }

  #tellSnapshot({ snapshot, clusterId, hasManyGroups }: ReadSnapshot): At {
    this.#hasManyGroups ||= hasManyGroups
    this.#tellsGroups = snapshot.groups !== undefined
    const position = { revision: snapshot.revision, clusterId }
    const { place, isReplaced } = afterListing(this.#place, position, snapshot.leases.length)
    this.#place = place
    this.queue.push({ kind: 'snapshot', snapshot, ...(isReplaced && { replaced: true }) })
    return place
  }

  /**
   * The watch is created. An etcd that was set up anew, or from a backup, has another history than the known
   * one.
   */
  #created({ header }: WatchAnswer): void {
    this.#renewed = false
    const { position: known, isLost } = this.#known()
    const { revision } = known
    // etcd's grpc-proxy is free to leave both out.
    this.#checkSucceeds(
      {
        revision: header.revision === 0n ? revision : header.revision,
        clusterId: header.clusterId === '0' ? known.clusterId : header.clusterId,
      },
      known,
    )
    if (isLost) this.#tellEvents(revision, [], performance.now())
  }

  #answer({ header, events }: WatchAnswer): void {
    const receivedAt = performance.now()
    const place = afterReport(this.#known(), events.at(-1)?.keyValue.modRevision ?? header.revision)
    this.#place = place
    const { revision: known } = place.position
    if (events.length === 0) {
      // A progress notification: etcd has sent everything up to its revision.
      if (header.revision > known) this.#place = moveTo(place, header.revision)
      return
    }
    const fresh = events.filter(({ keyValue }) => keyValue.modRevision > known)
    const last = fresh.at(-1)
    if (last === undefined) return
    const revision = last.keyValue.modRevision
    this.#place = moveTo(place, revision)
    for (const { type, keyValue } of fresh) {
      if (!keyValue.key.equals(this.keys.bytes.config)) continue
      const wants = this.wantsGroups(type === 'Put' ? configText(keyValue) : undefined)
      // No event has the groups that were written before: only a listing has them.
      if (wants && !this.#tellsGroups) this.#listNow.abort()
      this.#tellsGroups = wants
    }
    const told = fresh.flatMap((event) => decodeEvent(this.keys, event, this.#tellsGroups) ?? [])
    if (told.length > 0) this.#tellEvents(revision, told, receivedAt)
  }

  #tellEvents(revision: Revision, events: readonly RegistryEvent[], receivedAt: number): void {
    this.#place = afterEvents(this.#known())
    this.queue.push({ kind: 'events', revision, events, receivedAt })
  }

  /** @throws {EtcdError} when this etcd has another history than the known one: only a new listing helps */
  #checkSucceeds(found: Position, known: Position): void {
    if (isSuccessor(found, known)) return
    const what =
      found.clusterId === known.clusterId
        ? `revision ${found.revision} after ${known.revision}`
        : `cluster ${BigInt(found.clusterId).toString(16)} after ${BigInt(known.clusterId).toString(16)}`
    throw new EtcdError('etcd-failed', `etcd at ${this.client.endpoint} is not as it was left: ${what}`)
  }

  #known(): At {
    if (this.#place.kind !== 'at') throw new Error('a watch without a snapshot before it')
    return this.#place
  }

  /**
   * The safety net: everything is listed again now and then, beside the watch. A listing that is older than
   * the events that were told while it was read would lead the consumer back, and is read again. A listing
   * that is older than what was told before it was asked for is of an etcd that went back, behind a proxy
   * that kept the watch.
   */
  async #relist(signal: AbortSignal): Promise<never> {
    for (;;) {
      const delay = relistDelay(this.relistMs, this.#known().leases, Math.random)
      await sleep(delay, undefined, { signal: AbortSignal.any([signal, this.#listNow.signal]) }).catch(
        ignoreAbort,
      )
      signal.throwIfAborted()
      this.#listNow = new AbortController()
      let read: ReadSnapshot
      do {
        const { position } = this.#known()
        read = await this.#read(signal)
        this.#checkSucceeds({ revision: read.snapshot.revision, clusterId: read.clusterId }, position)
      } while (read.snapshot.revision < this.#known().position.revision)
      this.#tellSnapshot(read)
      await this.#checkReports(read.newest, signal)
    }
  }

  /**
   * etcd's grpc-proxy (3.4) adds watches of one range to one that etcd has cancelled for a compaction, as
   * long as another host is on it, and never reports anything to them. It adds a watch of a range of our own
   * to none.
   */
  async #checkReports(newest: Revision, signal: AbortSignal): Promise<void> {
    if (newest <= this.#known().reported) return
    await sleep(REPORTED_WITHIN_MS, undefined, { signal })
    if (newest <= this.#known().reported) return
    this.#alone = true
    throw new EtcdError(
      'etcd-failed',
      `etcd at ${this.client.endpoint} has not told the watch of revision ${newest}, which a listing has`,
    )
  }
}

/** @param listed whether there was a listing to go on from */
export function retryBounds(code: EtcdError['code'], listed: boolean): BackoffBounds {
  if (code === 'etcd-refused') return REFUSED
  return code === 'etcd-timeout' && !listed ? OVERLOADED : RECONNECT
}

/**
 * The time to the next listing.
 * @param relistMs mean time of a small network
 * @returns milliseconds, up to 20 % off by chance
 */
export const relistDelay = (relistMs: number, leases: number, random: () => number): number =>
  relistMs * Math.max(1, leases / FEW_LEASES) * (0.8 + 0.4 * random())

/**
 * The same keys under a range that no other host has: it ends behind all keys that we read, at a random name.
 */
const alone = (keys: Keys): Keys => ({
  ...keys,
  range: { ...keys.range, end: `${keys.range.start}~${randomUUID()}` },
})

/** The sleep's only error is the abort, which the loop asks for itself. */
const ignoreAbort = () => {}
