/** Following one network for ever: a snapshot, a watch from there, and whatever it takes to go on after a failure. */
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import type { Revision } from '../model/lease'
import type { EtcdClient } from './client'
import { EtcdError, toEtcdError } from './errors'
import type { Keys } from './keys'
import { type ReadSnapshot, readSnapshot } from './snapshot'
import { decodeEvent, type RegistryEvent, type UpdateQueue } from './updates'
import { watch } from './watch'
import type { WatchAnswer } from './wire'

/** Wait between two attempts. */
const RECONNECT: BackoffBounds = { first: 100, most: 2000 }
/** A refusal is not cured within seconds, and a login costs etcd much more than an answer. */
const REFUSED: BackoffBounds = { first: 1000, most: 15_000 }
/** A listing that came too late was most likely one of very many, and to ask for it again soon keeps etcd at answers that nobody waits for. */
const OVERLOADED: BackoffBounds = { first: 1000, most: 30_000 }
/** A stream that was up to date and lived that many milliseconds was a good one: the next wait is short again. */
const GOOD_AFTER_MS = RECONNECT.most

/**
 * Leases up to which everything is read again at the same pace; where there are more, hosts list the less often. All N of them ask etcd for N
 * leases, so that what it has to send would grow with N x N.
 */
const FEW_LEASES = 1000

/** Errors after which the history may well be whole: the connection is to blame, and a watch goes on where the last one ended. */
const RESUMABLE: readonly string[] = ['etcd-unreachable', 'etcd-timeout', 'etcd-tls', 'etcd-renewed']

/** Up to where everything has been told, and of which cluster. */
interface Position {
  readonly revision: Revision
  readonly clusterId: string
}

/**
 * Fills the queue until the signal fires.
 *
 * A watch begins at the last revision told, not the one after it, and leaves out what comes again: etcd (3.4) takes a watch from
 * exactly the compacted revision without a complaint, and when that revision was a delete the event is gone.
 */
export class Follower {
  #position: Position | undefined
  /** Of what was told last, also when there is no going on from there. */
  #told: Position | undefined
  #lost = false
  #failures = 0
  /** In the last listing. */
  #leases = 0
  /** The session before this one ended for a new token or certificates, and none has stood since. */
  #renewed = false

  constructor(
    private readonly client: EtcdClient,
    private readonly keys: Keys,
    private readonly queue: UpdateQueue,
    /** Mean time between two re-lists, in milliseconds, where there are few leases. */
    private readonly relistMs: number,
  ) {}

  /** Ends when the signal fires, and throws nothing but a defect of ours. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const started = Date.now()
      try {
        await this.#session(signal)
      } catch (cause) {
        if (signal.aborted) return
        const error = toEtcdError(cause, { doing: 'follow the leases', endpoint: this.client.endpoint })
        if (error.code === 'etcd-renewed' && !this.#renewed) {
          this.#renewed = true
          continue
        }
        const listed = this.#position !== undefined
        if (!RESUMABLE.includes(error.code)) this.#position = undefined
        this.#lost = true
        this.queue.push({ kind: 'lost', error })
        this.#failures = listed && Date.now() - started > GOOD_AFTER_MS ? 1 : this.#failures + 1
        const delay = backoffDelay(this.#failures, retryBounds(error.code, listed), Math.random)
        await sleep(delay, undefined, { signal }).catch(ignoreAbort)
      }
    }
  }

  /** From where we are, or from a snapshot, until the first failure. */
  async #session(signal: AbortSignal): Promise<never> {
    const position = this.#position ?? this.#tellSnapshot(await readSnapshot(this.client, this.keys, signal))
    const scope = new AbortController()
    const scoped = AbortSignal.any([signal, scope.signal])
    const handlers = { created: this.#created.bind(this), answer: this.#answer.bind(this) }
    const parts = [watch(this.client, this.keys, position.revision, handlers, scoped), this.#relist(scoped)]
    try {
      return await Promise.race(parts)
    } finally {
      scope.abort()
      await Promise.allSettled(parts)
    }
  }

  #tellSnapshot({ snapshot, clusterId }: ReadSnapshot): Position {
    const position = { revision: snapshot.revision, clusterId }
    const replaced = this.#told !== undefined && !isSuccessor(position, this.#told)
    this.#position = position
    this.#told = position
    this.#leases = snapshot.leases.length
    this.#lost = false
    this.queue.push({ kind: 'snapshot', snapshot, ...(replaced && { replaced }) })
    return position
  }

  /** The watch stands; an etcd that was put up anew or from a backup has other revisions than those we know. */
  #created({ header }: WatchAnswer): void {
    this.#renewed = false
    const known = this.#known()
    const { revision } = known
    // etcd's grpc-proxy is free to leave both out.
    this.#checkSucceeds(
      {
        revision: header.revision === 0n ? revision : header.revision,
        clusterId: header.clusterId === '0' ? known.clusterId : header.clusterId,
      },
      known,
    )
    if (this.#lost) this.#tellEvents(revision, [], performance.now())
  }

  #answer({ header, events }: WatchAnswer): void {
    const receivedAt = performance.now()
    const { revision: known } = this.#known()
    if (events.length === 0) {
      // A progress notification: everything up to here has been sent.
      if (header.revision > known) this.#moveTo(header.revision)
      return
    }
    const fresh = events.filter(({ keyValue }) => keyValue.modRevision > known)
    const last = fresh.at(-1)
    if (last === undefined) return
    const revision = last.keyValue.modRevision
    this.#moveTo(revision)
    const told = fresh.flatMap((event) => decodeEvent(this.keys, event) ?? [])
    if (told.length > 0) this.#tellEvents(revision, told, receivedAt)
  }

  #tellEvents(revision: Revision, events: readonly RegistryEvent[], receivedAt: number): void {
    this.#lost = false
    this.queue.push({ kind: 'events', revision, events, receivedAt })
  }

  #moveTo(revision: Revision): void {
    this.#position = { ...this.#known(), revision }
    this.#told = this.#position
  }

  /** @throws {EtcdError} where the history that we know is not that of this etcd: there is no going on, only a beginning anew */
  #checkSucceeds(found: Position, known: Position): void {
    if (isSuccessor(found, known)) return
    const what =
      found.clusterId === known.clusterId
        ? `revision ${found.revision} after ${known.revision}`
        : `cluster ${BigInt(found.clusterId).toString(16)} after ${BigInt(known.clusterId).toString(16)}`
    throw new EtcdError('etcd-failed', `etcd at ${this.client.endpoint} is not as it was left: ${what}`)
  }

  #known(): Position {
    if (this.#position === undefined) throw new Error('a watch without a snapshot before it')
    return this.#position
  }

  /**
   * The safety net: now and then everything is read again beside the watch. A snapshot older than events already told
   * would lead the consumer back, so it is read again. One that is older than what was told before it was asked for is of an etcd that went
   * back, behind a proxy that kept the watch.
   */
  async #relist(signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(relistDelay(this.relistMs, this.#leases, Math.random), undefined, { signal })
      let read: ReadSnapshot
      do {
        const known = this.#known()
        read = await readSnapshot(this.client, this.keys, signal)
        this.#checkSucceeds({ revision: read.snapshot.revision, clusterId: read.clusterId }, known)
      } while (read.snapshot.revision < this.#known().revision)
      this.#tellSnapshot(read)
    }
  }
}

/** @param listed whether there was a listing to go on from, or none came */
export function retryBounds(code: EtcdError['code'], listed: boolean): BackoffBounds {
  if (code === 'etcd-refused') return REFUSED
  return code === 'etcd-timeout' && !listed ? OVERLOADED : RECONNECT
}

/**
 * How long to wait before everything is read again.
 * @param relistMs mean time where there are few leases
 * @returns milliseconds, up to 20 % off by chance
 */
export const relistDelay = (relistMs: number, leases: number, random: () => number): number =>
  relistMs * Math.max(1, leases / FEW_LEASES) * (0.8 + 0.4 * random())

/** Whether the one can be what became of the other. */
const isSuccessor = (found: Position, known: Position): boolean =>
  found.clusterId === known.clusterId && found.revision >= known.revision

/** The sleep's only error is the abort, which the loop asks for itself. */
const ignoreAbort = () => {}
