/**
 * The etcd client library, tamed. As it comes it waits without deadline, notices no dead server, sends a write again after a
 * timeout and picks another member for each call. Here every call has a deadline and an AbortSignal, a call is sent
 * again only when the connection failed, and one member is used until it fails. Certificates that change are taken up while it runs.
 */
import { randomInt } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { Etcd3, IOptions } from 'etcd3'
import { describeError } from '../model/errors'
import {
  type CallOptions,
  callOptions,
  GIVEN_UP,
  intercepted,
  requireLeader,
  withToken,
} from './call-options'
import { discoverEndpoints } from './discover'
import { type Endpoint, parseEndpoints } from './endpoints'
import { EtcdError, toEtcdError } from './errors'
import { type Credentials, checkCredentials, isStaleToken, Login } from './login'
import { checkTlsFiles, type TlsCredentials, type TlsFiles, TlsSource } from './tls'

export interface EtcdOptions {
  /** flannel's comma list of `--etcd-endpoints`; the scheme of each decides on TLS. */
  readonly endpoints: string
  /** Domain whose SRV records name the endpoints instead; empty for none. */
  readonly discoverySrv?: string
  /** Read only when an endpoint is `https://`. */
  readonly tls?: TlsFiles
  /** Two empty texts are none. */
  readonly auth?: Credentials | undefined
  /** Milliseconds between two looks whether the TLS files have changed. */
  readonly tlsLookMs?: number
  readonly meter?: EtcdMeter
  /** Milliseconds between two pings, until a server takes that as too often. */
  readonly pingEveryMs?: number
}

/** Takes what can be counted. What was given up counts for nothing: it says nothing of etcd. */
export interface EtcdMeter {
  /** A call was answered, or failed at last: how long it took, a second try included. */
  called(milliseconds: number): void
  /** A call or a stream failed, each try by itself; the code of its error. */
  failed(code: string): void
}

/** Takes what people should know. */
export interface EtcdLog {
  info(message: string): void
  warn(message: string): void
}

const SILENT: EtcdLog = { info() {}, warn() {} }

const TLS_LOOK_MS = 10_000

/** How long a call may take, in milliseconds, connecting and a second try included. */
export const CALL_DEADLINE_MS = 3000

/** The largest page of leases we ask for is about 7 MB, above gRPC's 4 MB; a replayed burst of events may be more. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024

/**
 * Milliseconds between two pings: a stopped server is noticed after 9 s at most. etcd takes less than 5 s as too often
 * (--grpc-keepalive-min-time).
 */
const PING_EVERY_MS = 6000
/**
 * For a server that takes those as too many. Every server made with grpc-go takes less than five minutes so unless it is told otherwise
 * (internal/transport/defaults.go), and etcd's grpc-proxy is told nothing before etcd 3.5.
 */
const PATIENT_PING_EVERY_MS = 305_000

const CHANNEL_OPTIONS = {
  // etcd cuts clients that ping with no call open, so `keepalive_permit_without_calls` stays off: the watch is a call.
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  // Go's etcd client, and so flannel, ignores http_proxy.
  'grpc.enable_http_proxy': 0,
} as const

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>

/**
 * No retries and no circuit breaker: they would repeat writes and refuse calls for 5 s after etcd is back. And a call that we gave up is no
 * failure of the member: the library would close its connection, and with it the watch.
 */
const PASS_THROUGH: Policy = {
  get _altReturn(): never {
    throw new TypeError('_altReturn exists for the type checker only')
  },
  onSuccess: () => ({ dispose() {} }),
  onFailure: () => ({ dispose() {} }),
  execute: async (task) => {
    try {
      return await task({ signal: new AbortController().signal })
    } catch (error) {
      // Another object, for the library's own says by a symbol that the connection is to blame.
      throw isGivenUp(error) ? new Error(GIVEN_UP, { cause: error }) : error
    }
  },
}

const isGivenUp = (error: unknown): boolean => error instanceof Error && error.message.includes(GIVEN_UP)

interface Member {
  readonly endpoint: Endpoint
  readonly etcd: Etcd3
  readonly pingEveryMs: number
  /** Fires when another connection takes its place. */
  readonly retired: AbortController
}

/**
 * @param tls only for an endpoint that speaks it
 * @param pingEveryMs undefined as the options have it
 */
type Connect = (endpoint: Endpoint, tls: TlsCredentials | undefined, pingEveryMs?: number) => Member

/**
 * Makes a client. Loads the library (130 ms), sends nothing, unless the endpoints are to be found by DNS.
 * @throws {EtcdError} `etcd-options`; `etcd-unreachable` when DNS names no endpoint
 */
export async function openEtcd(options: EtcdOptions, log: EtcdLog = SILENT): Promise<EtcdClient> {
  const { tls = {}, discoverySrv = '', tlsLookMs = TLS_LOOK_MS } = options
  checkTlsFiles(tls)
  const credentials = options.auth && checkCredentials(options.auth)
  const endpoints = parseEndpoints(
    discoverySrv === '' ? options.endpoints : await discoverEndpoints(discoverySrv),
  )
  const source = endpoints.some((endpoint) => endpoint.tls) ? new TlsSource(tls) : undefined
  warnOfPlainText(endpoints, tls, log)
  const { Etcd3 } = await import('etcd3')
  const connect: Connect = (endpoint, certificates, pingEveryMs = options.pingEveryMs ?? PING_EVERY_MS) => ({
    endpoint,
    pingEveryMs,
    retired: new AbortController(),
    etcd: new Etcd3({
      hosts: endpoint.url,
      ...(certificates === undefined ? {} : { credentials: certificates }),
      grpcOptions: { ...CHANNEL_OPTIONS, 'grpc.keepalive_time_ms': pingEveryMs },
      faultHandling: { global: PASS_THROUGH, host: () => PASS_THROUGH },
    }),
  })
  const login = credentials && new Login(credentials)
  const client = new EtcdClient(endpoints, connect, source, login, log, options.meter)
  if (source !== undefined) client.watchTls(tlsLookMs)
  return client
}

/** flannel's own tests have http:// endpoints with TLS flags, so it is no error; and a typing error it may well be. */
function warnOfPlainText(endpoints: readonly Endpoint[], { caFile, certFile }: TlsFiles, log: EtcdLog): void {
  const plain = endpoints.filter(({ tls }) => !tls).map(({ url }) => url)
  if (plain.length === 0 || (!caFile && !certFile)) return
  log.warn(`etcd: ${plain.join(', ')} is spoken to in plain text, the TLS files are not used for it`)
}

export class EtcdClient {
  /** Index of the member in use. */
  #current = 0
  /** In an order by chance: the hosts of a cluster spread over its members, and over those that are left when one of them goes. */
  readonly #members: [Member, ...Member[]]
  #tlsTimer: NodeJS.Timeout | undefined

  constructor(
    endpoints: readonly [Endpoint, ...Endpoint[]],
    private readonly connect: Connect,
    private readonly tls: TlsSource | undefined,
    private readonly login: Login | undefined,
    private readonly log: EtcdLog,
    private readonly meter: EtcdMeter | undefined,
  ) {
    const [first = endpoints[0], ...rest] = shuffled(endpoints)
    this.#members = [this.#connectTo(first), ...rest.map((endpoint) => this.#connectTo(endpoint))]
  }

  /** Looks at the TLS files every so often; when they have changed all connections are made anew. Does not keep the process alive. */
  watchTls(everyMs: number): void {
    this.#tlsTimer ??= setInterval(() => this.#lookAtTls(), everyMs).unref()
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
    const started = performance.now()
    try {
      return await this.#call(doing, attempt, signal, deadlineMs)
    } finally {
      if (!signal.aborted) this.meter?.called(performance.now() - started)
    }
  }

  async #call<T>(
    doing: string,
    attempt: (etcd: Etcd3, options: CallOptions) => Promise<T>,
    signal: AbortSignal,
    deadlineMs: number,
  ): Promise<T> {
    const deadline = Date.now() + deadlineMs
    const attempts = Math.max(2, this.#members.length)
    let again = false
    for (let tried = 1; ; ) {
      signal.throwIfAborted()
      const member = this.#member
      const { options, release } = callOptions(signal, deadline)
      let token: string | undefined
      try {
        token = await this.login?.token(member.etcd, options)
        return await attempt(member.etcd, authorized(options, token))
      } catch (cause) {
        const error = this.#failed(member, doing, cause, token, signal)
        signal.throwIfAborted()
        if (error.code === 'etcd-renewed' && !again) again = true
        else if (error.code !== 'etcd-unreachable' || tried++ === attempts) throw unrenewed(error)
      } finally {
        release()
      }
    }
  }

  /**
   * Opens a stream that requires a leader. It is cancelled when the signal fires; its other failures go to its `error` listeners,
   * and from there to {@link OpenStream.failed}. After `etcd-renewed` it can be opened again at once.
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
    // A stream that ends by itself soon may end on the old connection.
    const ends = deadlineMs === undefined ? AbortSignal.any([signal, member.retired.signal]) : signal
    const { options, release } = callOptions(ends, deadline)
    let token: string | undefined
    try {
      token = await this.login?.token(member.etcd, { ...options, deadline: Date.now() + CALL_DEADLINE_MS })
      const stream = await open(member.etcd, authorized(intercepted(options, requireLeader), token))
      return { stream, release, failed: (cause) => this.#failed(member, doing, cause, token, signal) }
    } catch (cause) {
      release()
      signal.throwIfAborted()
      throw this.#failed(member, doing, cause, token, signal)
    }
  }

  /** Gives up all connections for new ones: those from an address that this host has no more would only end by their deadlines. */
  reconnect(): void {
    this.#renew(() => true)
  }

  /**
   * Closes all connections. Calls under way end at their deadline at the latest; a connection that was never answered keeps the
   * process for another second.
   */
  close(): void {
    clearInterval(this.#tlsTimer)
    for (const { etcd } of this.#members) etcd.close()
  }

  get #member(): Member {
    return this.#members[this.#current] ?? this.#members[0]
  }

  #connectTo(endpoint: Endpoint, pingEveryMs?: number): Member {
    return this.connect(endpoint, endpoint.tls ? this.tls?.credentials : undefined, pingEveryMs)
  }

  /** Words the error, and leaves a member that cannot be talked to, and a token that is no longer taken. */
  #failed(
    member: Member,
    doing: string,
    cause: unknown,
    token: string | undefined,
    signal: AbortSignal,
  ): EtcdError {
    const error = toEtcdError(cause, { doing, endpoint: member.endpoint.url })
    if (!signal.aborted) this.meter?.failed(error.code)
    if (token !== undefined && error.code === 'etcd-refused' && isStaleToken(error.message)) {
      this.login?.drop(token)
      return renewed(error)
    }
    if (member.retired.signal.aborted) return renewed(error)
    if (isPingRefusal(error.message) && member.pingEveryMs < PATIENT_PING_EVERY_MS) {
      this.#pingLessOften(member)
      return renewed(error)
    }
    const unusable = ['etcd-unreachable', 'etcd-timeout', 'etcd-tls'].includes(error.code)
    if (unusable && member === this.#member) this.#current = (this.#current + 1) % this.#members.length
    // Perhaps it is because the certificates were replaced, and why wait then.
    if (unusable && member.endpoint.tls) this.#lookAtTls()
    return error
  }

  #lookAtTls(): void {
    try {
      if (this.tls?.refresh() !== true) return
    } catch (error) {
      this.log.warn(`etcd: ${describeError(error)}; going on with the certificates that were there before`)
      return
    }
    this.log.info('etcd: the TLS files have changed, connecting anew')
    this.#renew(({ endpoint }) => endpoint.tls)
  }

  /** The library would slow down as well, but the next connection begins anew, and so it would go on for ever. */
  #pingLessOften(refused: Member): void {
    const [tooOften, now] = [refused.pingEveryMs, PATIENT_PING_EVERY_MS].map((ms) => `${ms / 1000} s`)
    this.log.warn(
      `etcd: ${refused.endpoint.url} does not take a ping every ${tooOften}; it is sent one every ${now} from now on, and noticed as late ` +
        `when it is away. If it is etcd's grpc-proxy, of etcd 3.5 or later, give it --grpc-keepalive-min-time=5s`,
    )
    this.#renew((member) => member === refused, PATIENT_PING_EVERY_MS)
  }

  #renew(concerned: (member: Member) => boolean, pingEveryMs?: number): void {
    for (const [index, old] of this.#members.entries()) {
      if (!concerned(old)) continue
      this.#members[index] = this.#connectTo(old.endpoint, pingEveryMs ?? old.pingEveryMs)
      old.retired.abort()
      old.etcd.close()
    }
  }
}

const shuffled = <T>(items: readonly T[]): T[] =>
  items
    .map((item) => ({ item, place: randomInt(2 ** 32) }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item)

/** grpc-js's words for HTTP/2's ENHANCE_YOUR_CALM, with which a server ends a connection that pings too often. */
const isPingRefusal = (message: string): boolean =>
  message.endsWith('Bandwidth exhausted or memory limit exceeded')

/** Without a token when etcd asks nobody for one. */
const authorized = (options: CallOptions, token: string | undefined): CallOptions =>
  token === undefined || token === '' ? options : intercepted(options, withToken(token))

const renewed = (error: EtcdError): EtcdError =>
  new EtcdError('etcd-renewed', error.message, { cause: error })

/** Renewed once, and still not good: then it is what it was in the first place. */
const unrenewed = (error: EtcdError): EtcdError =>
  error.code === 'etcd-renewed' && error.cause instanceof EtcdError ? error.cause : error

export interface OpenStream<S> {
  readonly stream: S
  /** Lets go of the signal; to be called when the stream has ended. */
  readonly release: () => void
  /** Words an error of this stream and, when the member is to blame, makes the client use another. */
  readonly failed: (cause: unknown) => EtcdError
}
