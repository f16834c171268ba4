/**
 * Makes the etcd client library safe to use. By itself the library waits without deadline, does not notice a
 * dead server, repeats a write after a timeout, and picks another member for each call. Here every call has a
 * deadline and an AbortSignal, a call is repeated only if the connection failed, and one member is used until
 * it fails. Certificates are reloaded when they change.
 */
import { randomInt } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Etcd3, IOptions } from 'etcd3'
import { describeError } from '../../model/errors'
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
import { type Speaker, whoSpeaks } from './speaker'
import { checkTlsFiles, type TlsCredentials, type TlsFiles, TlsSource } from './tls'

export interface EtcdOptions {
  /** Comma list of flannel's `--etcd-endpoints`; the scheme of each endpoint decides on TLS. */
  readonly endpoints: string
  /** Domain whose SRV records name the endpoints instead; empty: none. */
  readonly discoverySrv?: string
  /** Read only if an endpoint is `https://`. */
  readonly tls?: TlsFiles
  /** Two empty texts mean no login. */
  readonly auth?: Credentials | undefined
  /** Milliseconds between checks whether the TLS files have changed. */
  readonly tlsLookMs?: number
  readonly meter?: EtcdMeter
  /** Milliseconds between two pings, until a server refuses them as too frequent. */
  readonly pingEveryMs?: number
}

/** Counts calls. Calls that the caller gave up are not counted, because they say nothing about etcd. */
export interface EtcdMeter {
  /** A call was answered or failed for good; the time includes its second attempt. */
  called(milliseconds: number): void
  /** An attempt of a call, or a stream, failed with that error code. */
  failed(code: string): void
}

/** Receives messages for people. */
export interface EtcdLog {
  info(message: string): void
  warn(message: string): void
}

const SILENT: EtcdLog = { info() {}, warn() {} }

const TLS_LOOK_MS = 10_000

/** Milliseconds for a call, including connecting and a second attempt. */
export const CALL_DEADLINE_MS = 3000

/**
 * How often one call is repeated with another token or connection. A token that was asked for before an
 * operator changed a role may arrive after the change, and is refused like its predecessor.
 */
const MOST_RENEWALS = 3

/**
 * Bytes. The largest page of leases is about 7 MB, above gRPC's default of 4 MB; a replayed burst of events
 * may be larger.
 */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024

/**
 * Milliseconds between two pings. A stopped server is noticed after at most 9 s. etcd refuses intervals below
 * 5 s (--grpc-keepalive-min-time).
 */
const PING_EVERY_MS = 6000
/**
 * The interval for a server that refuses the usual one. By default, servers built with grpc-go refuse
 * intervals below five minutes (internal/transport/defaults.go). etcd's grpc-proxy has that default before
 * etcd 3.5.
 */
const PATIENT_PING_EVERY_MS = 305_000

const CHANNEL_OPTIONS = {
  // `keepalive_permit_without_calls` stays off: etcd disconnects clients that ping without an open call. The
  // watch is a call.
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2000,
  // Go's etcd client, and so flannel, does not use http_proxy.
  'grpc.enable_http_proxy': 0,
} as const

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>

/**
 * No retries and no circuit breaker: they would repeat writes, and refuse calls for 5 s after etcd is back. A
 * call that we gave up must not count as a failure of the member: the library would close its connection, and
 * the watch with it.
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
      // A new error object: the library marks its own with a symbol that blames the connection.
      throw isGivenUp(error) ? new Error(GIVEN_UP, { cause: error }) : error
    }
  },
}

const isGivenUp = (error: unknown): boolean => error instanceof Error && error.message.includes(GIVEN_UP)

interface Member {
  readonly endpoint: Endpoint
  readonly etcd: Etcd3
  readonly pingEveryMs: number
  /** Fires when another connection replaces this one. */
  readonly retired: AbortController
  /** Whether a call was ever answered: then the server is etcd, and the scheme and certificates are right. */
  hasAnswered: boolean
  /** The last probe of the server, and its time in monotonic milliseconds. */
  probed?: { readonly at: number; readonly speaker: Promise<Speaker | undefined> }
}

/**
 * Milliseconds that must be left of a deadline for another attempt. Its error would say "no connection within
 * 0.001 s", and hide the error that counts.
 */
const ATTEMPT_LEAST_MS = 100
/**
 * Milliseconds that a call to a server that never answered waits, or until it fails, before the server is
 * probed.
 */
const PROBE_AFTER_MS = 1000
/** Milliseconds that a probe may take. */
const PROBE_DEADLINE_MS = 1800
/** Milliseconds that a failed call waits for the probe at least. */
const PROBE_LEAST_MS = 400
/** Milliseconds for which the result of a probe is reused. */
const PROBE_AGAIN_MS = 15_000

/** Errors whose cause may be a server other than etcd, or a wrong scheme. */
const UNCLEAR: readonly string[] = ['etcd-unreachable', 'etcd-timeout', 'etcd-tls', 'etcd-failed']

/**
 * @param tls only for an endpoint with TLS
 * @param pingEveryMs default: as in the options
 */
type Connect = (endpoint: Endpoint, tls: TlsCredentials | undefined, pingEveryMs?: number) => Member

/**
 * Makes a client. Loads the library (130 ms). Sends nothing, unless the endpoints are to be found by DNS.
 * @throws {EtcdError} `etcd-options`; `etcd-unreachable` if DNS names no endpoint
 */
export async function openEtcd(options: EtcdOptions, log: EtcdLog = SILENT): Promise<EtcdClient> {
  const { tls = {}, discoverySrv = '', tlsLookMs = TLS_LOOK_MS } = options
  const credentials = checkEtcdOptions(options)
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
    hasAnswered: false,
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

/**
 * Checks the options as far as possible before the endpoints are known.
 * @returns the login, if there is one
 * @throws {EtcdError} `etcd-options`
 */
export function checkEtcdOptions({ tls = {}, auth }: EtcdOptions): Credentials | undefined {
  checkTlsFiles(tls)
  return auth && checkCredentials(auth)
}

/**
 * Warns of TLS files for `http://` endpoints. It is no error, because flannel's own tests do it, but it may
 * be a typo.
 */
function warnOfPlainText(endpoints: readonly Endpoint[], { caFile, certFile }: TlsFiles, log: EtcdLog): void {
  const plain = endpoints.filter(({ tls }) => !tls).map(({ url }) => url)
  if (plain.length === 0 || (!caFile && !certFile)) return
  log.warn(`etcd: the connection to ${plain.join(', ')} is plain text; the TLS files are not used for it`)
}

export class EtcdClient {
  /** Index of the member in use. */
  #current = 0
  /**
   * In random order, so that hosts spread over the members of a cluster, also over the remaining ones when
   * one fails.
   */
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

  /**
   * Checks the TLS files regularly. When they change, all connections are renewed. Does not keep the process
   * alive.
   */
  watchTls(everyMs: number): void {
    this.#tlsTimer ??= setInterval(() => this.#checkTls(), everyMs).unref()
  }

  /** The URL of the member in use. */
  get endpoint(): string {
    return this.#member.endpoint.url
  }

  /**
   * One unary call. If the connection fails, the next member (or the same one again, if it is the only one)
   * is tried within the same deadline. So a write may have been applied although its first answer was lost:
   * guard it, and recognize your own write when it comes back.
   * @param doing text that completes "cannot ..."
   * @throws {EtcdError}, or the signal's reason if it fired
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
    let renewals = 0
    for (let tried = 1; ; ) {
      signal.throwIfAborted()
      const member = this.#member
      const { options, release } = callOptions(signal, deadline)
      let token: string | undefined
      const probe = member.hasAnswered
        ? undefined
        : setTimeout(() => this.#probe(member), PROBE_AFTER_MS).unref()
      try {
        token = await this.login?.token(member.etcd, options)
        const answer = await attempt(member.etcd, authorized(options, token))
        member.hasAnswered = true
        return answer
      } catch (cause) {
        const error = this.#failed(member, doing, cause, token, signal)
        signal.throwIfAborted()
        if (error.code === 'etcd-renewed' && renewals < MOST_RENEWALS) renewals += 1
        else if (
          error.code !== 'etcd-unreachable' ||
          tried++ === attempts ||
          deadline - Date.now() < ATTEMPT_LEAST_MS
        )
          throw await this.#explained(unrenewed(error), member, doing, deadline, signal)
      } finally {
        clearTimeout(probe)
        release()
      }
    }
  }

  /**
   * Opens a stream that requires a leader. The signal cancels it. Other failures go to its `error` listeners,
   * which pass them to {@link OpenStream.failed}. After `etcd-renewed` it can be reopened at once.
   * @param deadlineMs life time of the stream; default: unlimited
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
    // A stream with a deadline ends soon anyway, so it may stay on the old connection.
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

  /** Probes what kind of server is at an endpoint; the result is reused for a while. */
  #probe(member: Member): Promise<Speaker | undefined> {
    const now = performance.now()
    if (member.probed === undefined || now - member.probed.at > PROBE_AGAIN_MS) {
      const credentials = member.endpoint.tls ? this.tls?.credentials : undefined
      member.probed = { at: now, speaker: whoSpeaks(member.endpoint, credentials, PROBE_DEADLINE_MS) }
    }
    return member.probed.speaker
  }

  /** Replaces the error by what a probe found, if no call to that server was ever answered. */
  async #explained(
    error: EtcdError,
    member: Member,
    doing: string,
    deadline: number,
    signal: AbortSignal,
  ): Promise<EtcdError> {
    const isEtcds = /etcdserver|authentication/.test(error.message)
    if (member.hasAnswered || isEtcds || !UNCLEAR.includes(error.code)) return error
    const patience = Math.min(PROBE_DEADLINE_MS, Math.max(PROBE_LEAST_MS, deadline - Date.now()))
    const done = new AbortController()
    const late = sleep(patience, undefined, { signal: AbortSignal.any([signal, done.signal]) })
    const speaker = await Promise.race([this.#probe(member), late.catch(() => undefined)])
    done.abort()
    signal.throwIfAborted()
    if (speaker === undefined) return error
    const message = `cannot ${doing}: etcd at ${member.endpoint.url}: ${speaker.what}`
    return new EtcdError(speaker.code, message, { cause: error, fix: speaker.fix })
  }

  /**
   * Replaces all connections. Ones from an address that this host no longer has would fail by their deadlines
   * only.
   */
  reconnect(): void {
    this.#renew(() => true)
  }

  /**
   * Closes all connections. Calls in progress end at their deadline at the latest. A connection that never
   * got an answer keeps the process alive for another second.
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

  /**
   * Words the error. Switches to another member if this one is unusable, and drops a token that is refused.
   */
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
    // The certificates may have been replaced: check now instead of at the next interval.
    if (unusable && member.endpoint.tls) this.#checkTls()
    return error
  }

  #checkTls(): void {
    try {
      if (this.tls?.refresh() !== true) return
    } catch (error) {
      this.log.warn(`etcd: ${describeError(error)}; the previous certificates stay in use`)
      return
    }
    this.log.info('etcd: the TLS files have changed; reconnecting')
    this.#renew(({ endpoint }) => endpoint.tls)
  }

  /**
   * The library slows its pings down too, but starts at the usual rate with each connection, and is cut off
   * each time.
   */
  #pingLessOften(refused: Member): void {
    const [tooOften, now] = [refused.pingEveryMs, PATIENT_PING_EVERY_MS].map((ms) => `${ms / 1000} s`)
    this.log.warn(
      `etcd: ${refused.endpoint.url} does not accept a ping every ${tooOften}; ` +
        `from now on one is sent every ${now}, so it takes that long to notice that the server is away. ` +
        "If it is etcd's grpc-proxy, of etcd 3.5 or later, give it --grpc-keepalive-min-time=5s",
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

/** grpc-js's message for HTTP/2's ENHANCE_YOUR_CALM: the server closes a connection that pings too often. */
const isPingRefusal = (message: string): boolean =>
  message.endsWith('Bandwidth exhausted or memory limit exceeded')

/** Adds the token. An empty token means that the cluster requires no login. */
const authorized = (options: CallOptions, token: string | undefined): CallOptions =>
  token === undefined || token === '' ? options : intercepted(options, withToken(token))

const renewed = (error: EtcdError): EtcdError =>
  new EtcdError('etcd-renewed', error.message, { cause: error })

/** The original error, if a call failed although its connection or token was renewed. */
const unrenewed = (error: EtcdError): EtcdError =>
  error.code === 'etcd-renewed' && error.cause instanceof EtcdError ? error.cause : error

/** The part of a client that the rest of the program uses. */
export type EtcdCalls = Pick<EtcdClient, 'call' | 'openStream' | 'endpoint' | 'reconnect' | 'close'>

export interface OpenStream<S> {
  readonly stream: S
  /** Stops listening to the signal; to be called when the stream has ended. */
  readonly release: () => void
  /** Words an error of this stream. If the member is to blame, the client switches to another. */
  readonly failed: (cause: unknown) => EtcdError
}
