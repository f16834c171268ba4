/**
 * The etcd client library, tamed. As it comes it waits without deadline, notices no dead server, sends a write again after a
 * timeout and picks another member for each call. Here every call has a deadline and an AbortSignal, a call is sent
 * again only when the connection failed, and one member is used until it fails.
 */
import { randomInt } from 'node:crypto'
import type { Etcd3, IOptions } from 'etcd3'
import { type CallOptions, callOptions, requireLeader } from './call-options'
import { type Endpoint, parseEndpoints } from './endpoints'
import { type EtcdError, toEtcdError } from './errors'
import { loadTls, type TlsFiles } from './tls'

export interface EtcdOptions {
  /** flannel's comma list of `--etcd-endpoints`; the scheme of each decides on TLS. */
  readonly endpoints: string
  /** Read only when an endpoint is `https://`. */
  readonly tls?: TlsFiles
  readonly auth?: { readonly username: string; readonly password: string } | undefined
}

/** How long a call may take, in milliseconds, connecting and a second try included. */
export const CALL_DEADLINE_MS = 3000

/** The largest page of leases we ask for is about 7 MB, above gRPC's 4 MB; a replayed burst of events may be more. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024

const CHANNEL_OPTIONS = {
  // A stopped server is noticed after 9 s at most. etcd takes 5 s as too often (--grpc-keepalive-min-time), and cuts clients that
  // ping with no call open, so `keepalive_permit_without_calls` stays off: the watch is a call.
  'grpc.keepalive_time_ms': 6000,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  // Go's etcd client, and so flannel, ignores http_proxy.
  'grpc.enable_http_proxy': 0,
} as const

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>

/** No retries and no circuit breaker: they would repeat writes and refuse calls for 5 s after etcd is back. */
const PASS_THROUGH: Policy = {
  get _altReturn(): never {
    throw new TypeError('_altReturn exists for the type checker only')
  },
  onSuccess: () => ({ dispose() {} }),
  onFailure: () => ({ dispose() {} }),
  execute: async (task) => task({ signal: new AbortController().signal }),
}

interface Member {
  readonly endpoint: Endpoint
  readonly etcd: Etcd3
}

/**
 * Makes a client. Loads the library (130 ms), sends nothing.
 * @throws {EtcdError} `etcd-options`
 */
export async function openEtcd(options: EtcdOptions): Promise<EtcdClient> {
  const endpoints = parseEndpoints(options.endpoints)
  const tls = endpoints.some((endpoint) => endpoint.tls) ? loadTls(options.tls ?? {}) : undefined
  const { Etcd3 } = await import('etcd3')
  const member = (endpoint: Endpoint): Member => ({
    endpoint,
    etcd: new Etcd3({
      hosts: endpoint.url,
      ...(endpoint.tls && tls !== undefined ? { credentials: tls } : {}),
      ...(options.auth === undefined ? {} : { auth: options.auth }),
      grpcOptions: CHANNEL_OPTIONS,
      // Ours name a deadline each; this one is for the token exchange, which the library does by itself.
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + CALL_DEADLINE_MS }),
      faultHandling: { global: PASS_THROUGH, host: () => PASS_THROUGH },
    }),
  })
  const [first, ...rest] = endpoints
  return new EtcdClient([member(first), ...rest.map(member)])
}

export class EtcdClient {
  /** Index of the member in use; by chance at first, so that the hosts of a cluster spread over its members. */
  #current: number

  constructor(private readonly members: readonly [Member, ...Member[]]) {
    this.#current = randomInt(members.length)
  }

  /** The URL of the member in use. */
  get endpoint(): string {
    return this.#member.endpoint.url
  }

  /**
   * One unary call. When the connection fails the next member is tried, or the same one once more, within the one deadline; so
   * a write may have been applied although its first answer was lost: guard it, and know your own when it comes back.
   * @param doing completes "cannot ..."
   * @throws {EtcdError}, or the signal's reason when it has fired
   */
  async call<T>(
    doing: string,
    attempt: (etcd: Etcd3, options: CallOptions) => Promise<T>,
    signal: AbortSignal,
    deadlineMs = CALL_DEADLINE_MS,
  ): Promise<T> {
    const deadline = Date.now() + deadlineMs
    const attempts = Math.max(2, this.members.length)
    for (let tried = 1; ; tried++) {
      signal.throwIfAborted()
      const member = this.#member
      const { options, release } = callOptions(signal, deadline)
      try {
        return await attempt(member.etcd, options)
      } catch (cause) {
        const error = this.#failed(member, doing, cause)
        signal.throwIfAborted()
        if (error.code !== 'etcd-unreachable' || tried === attempts) throw error
      } finally {
        release()
      }
    }
  }

  /**
   * Opens a stream that requires a leader. It is cancelled when the signal fires; its other failures go to its `error` listeners,
   * and from there to {@link OpenStream.failed}.
   * @param deadlineMs life time of the stream; without one it may live for ever
   */
  async openStream<S>(
    doing: string,
    open: (etcd: Etcd3, options: CallOptions) => Promise<S>,
    signal: AbortSignal,
    deadlineMs?: number,
  ): Promise<OpenStream<S>> {
    signal.throwIfAborted()
    const member = this.#member
    const deadline = deadlineMs === undefined ? undefined : Date.now() + deadlineMs
    const { options, release } = callOptions(signal, deadline)
    const interceptors = [requireLeader, ...(options.interceptors ?? [])]
    try {
      const stream = await open(member.etcd, { ...options, interceptors })
      return { stream, release, failed: (cause) => this.#failed(member, doing, cause) }
    } catch (cause) {
      release()
      signal.throwIfAborted()
      throw this.#failed(member, doing, cause)
    }
  }

  /**
   * Closes all connections. Calls under way end at their deadline at the latest; a connection that was never answered keeps the
   * process for another second.
   */
  close(): void {
    for (const { etcd } of this.members) etcd.close()
  }

  get #member(): Member {
    return this.members[this.#current] ?? this.members[0]
  }

  /** Words the error, and leaves a member that cannot be talked to. */
  #failed(member: Member, doing: string, cause: unknown): EtcdError {
    const error = toEtcdError(cause, { doing, endpoint: member.endpoint.url })
    const unusable = ['etcd-unreachable', 'etcd-timeout', 'etcd-tls'].includes(error.code)
    if (unusable && member === this.#member) this.#current = (this.#current + 1) % this.members.length
    return error
  }
}

export interface OpenStream<S> {
  readonly stream: S
  /** Lets go of the signal; to be called when the stream has ended. */
  readonly release: () => void
  /** Words an error of this stream and, when the member is to blame, makes the client use another. */
  readonly failed: (cause: unknown) => EtcdError
}
