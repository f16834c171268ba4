/**
 * A client that does not need DNS to name its endpoints yet. They are looked up at the first call, and again
 * until it succeeds. So a domain that does not resolve is treated like an etcd that does not answer: the host
 * starts from its state file meanwhile, and reports what it waits for.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type BackoffBounds, backoffDelay } from '../../model/backoff'
import {
  CALL_DEADLINE_MS,
  checkEtcdOptions,
  type EtcdCalls,
  type EtcdClient,
  type EtcdLog,
  type EtcdOptions,
  openEtcd,
} from './client'
import { EtcdError } from './errors'

/** Milliseconds between lookups after failures. */
const LOOKUP: BackoffBounds = { first: 1000, most: 15_000 }

export class LateClient implements EtcdCalls {
  #client: EtcdClient | undefined
  #opening: Promise<EtcdClient> | undefined
  #failures = 0
  /** Monotonic milliseconds until which calls fail with the last failure, without another lookup. */
  #failedUntil = 0
  #failure: EtcdError | undefined
  #closed = false

  /** @throws {EtcdError} `etcd-options` */
  constructor(
    private readonly options: EtcdOptions,
    private readonly log?: EtcdLog,
  ) {
    checkEtcdOptions(options)
  }

  get endpoint(): string {
    return this.#client?.endpoint ?? `the DNS domain ${this.options.discoverySrv}`
  }

  call: EtcdCalls['call'] = async (doing, attempt, signal, deadlineMs) =>
    (await this.#open(doing, signal)).call(doing, attempt, signal, deadlineMs)

  openStream: EtcdCalls['openStream'] = async (doing, open, signal, deadlineMs) =>
    (await this.#open(doing, signal)).openStream(doing, open, signal, deadlineMs)

  reconnect(): void {
    this.#client?.reconnect()
    // From another address, another DNS server may be reached.
    this.#failedUntil = 0
  }

  close(): void {
    this.#closed = true
    this.#client?.close()
  }

  /** @throws {EtcdError} `etcd-unreachable` while DNS names no etcd; or the signal's reason */
  async #open(doing: string, signal: AbortSignal): Promise<EtcdClient> {
    signal.throwIfAborted()
    if (this.#client !== undefined) return this.#client
    if (this.#failure !== undefined && performance.now() < this.#failedUntil) throw this.#failure
    this.#opening ??= this.#lookUp()
    // It may fail when nobody waits for it any more: that must not be an unhandled rejection.
    this.#opening.catch(() => undefined)
    const done = new AbortController()
    const late = sleep(CALL_DEADLINE_MS, undefined, { signal: AbortSignal.any([signal, done.signal]) })
    try {
      const client = await Promise.race([this.#opening, late.catch(() => undefined)])
      signal.throwIfAborted()
      if (client !== undefined) return client
    } finally {
      done.abort()
    }
    throw new EtcdError(
      'etcd-unreachable',
      `cannot ${doing}: no answer from DNS within ${CALL_DEADLINE_MS / 1000} s ` +
        `for the endpoints of ${this.options.discoverySrv}`,
      { fix: 'check /etc/resolv.conf and --etcd-discovery-srv' },
    )
  }

  async #lookUp(): Promise<EtcdClient> {
    try {
      const client = await openEtcd(this.options, this.log)
      if (this.#closed) client.close()
      this.#client = client
      return client
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      this.#failures++
      this.#failedUntil = performance.now() + backoffDelay(this.#failures, LOOKUP, Math.random)
      // Bad endpoints from DNS are not a mistake in the operator's options.
      this.#failure =
        error.code === 'etcd-options'
          ? new EtcdError('etcd-unreachable', `DNS names no usable etcd: ${error.message}`, { cause: error })
          : error
      throw this.#failure
    } finally {
      this.#opening = undefined
    }
  }
}
