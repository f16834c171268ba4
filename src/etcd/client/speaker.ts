/**
 * Finds out what kind of server is at an endpoint where gRPC gets no understandable answer: tries a
 * connection, a TLS handshake, and a request for etcd's version in HTTP/1.1, which etcd answers on its client
 * port. Nothing secret is sent.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { TLSSocket } from 'node:tls'
import { systemErrorCode } from '../../model/errors'
import { printable } from '../../model/printable'
import { type CertificateTrouble, certificateTrouble, NO_CLIENT_CERTIFICATE } from './certificate-trouble'
import type { Endpoint } from './endpoints'
import type { EtcdErrorCode } from './errors'
import type { TlsCredentials } from './tls'

/** The texts follow "etcd at http://192.0.2.1:2379: ". */
export interface Speaker {
  readonly code: EtcdErrorCode
  readonly what: string
  readonly fix: string
}

/** Most bytes read of an answer. */
const MOST_READ = 64 * 1024

/**
 * Probes the server.
 * @param credentials those of the endpoint, if it uses TLS
 * @param deadlineMs for the whole probe
 * @returns undefined if the probe found nothing that gRPC does not report itself
 */
export async function whoSpeaks(
  endpoint: Endpoint,
  credentials: TlsCredentials | undefined,
  deadlineMs: number,
): Promise<Speaker | undefined> {
  const signal = AbortSignal.timeout(deadlineMs)
  const place = placeOf(endpoint)
  const unreached = await tryToConnect(place, signal)
  if (unreached !== undefined) return unreached
  // Plain text and TLS in parallel, because one of them may get no answer.
  const [plain, secret] = await Promise.all([
    requestVersion(endpoint, undefined, signal),
    requestVersion(endpoint, credentials ?? {}, signal),
  ])
  const right = endpoint.tls ? secret : plain
  const other = endpoint.tls ? plain : secret
  if (right.kind === 'answer') return judgeAnswer(endpoint, right)
  const isWrongScheme = other.kind === 'answer' || (other.kind === 'handshake' && !endpoint.tls)
  if (isWrongScheme && !(endpoint.tls && secret.kind === 'handshake')) return otherScheme(endpoint, other)
  if (right.kind === 'handshake') return { code: 'etcd-tls', ...right.refusal }
  if (right.kind === 'silence') {
    return {
      code: 'etcd-timeout',
      what: 'it accepts the connection and does not answer',
      fix: 'check whether that is etcd, and whether it hangs (its log, its disk)',
    }
  }
  return {
    code: 'etcd-failed',
    what: 'the server there is not etcd: it accepts the connection and closes it without an answer',
    fix: 'check the port in --etcd-endpoints (etcd has 2379 for clients), and what listens there',
  }
}

interface Place {
  readonly host: string
  readonly port: number
}

function placeOf({ address }: Endpoint): Place {
  const at = address.lastIndexOf(':')
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) }
}

/** Why no connection can be made; undefined if one can. */
function tryToConnect({ host, port }: Place, signal: AbortSignal): Promise<Speaker | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal })
    socket.on('connect', () => {
      socket.destroy()
      resolve(undefined)
    })
    socket.on('error', (error) => resolve(unreachable(host, port, systemErrorCode(error))))
  })
}

export function unreachable(host: string, port: number, code: string | undefined): Speaker {
  const of = (what: string, fix: string): Speaker => ({ code: 'etcd-unreachable', what, fix })
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return of(
        `the name ${host} does not resolve (${code})`,
        code === 'EAI_AGAIN'
          ? 'check that the DNS server in /etc/resolv.conf answers'
          : 'check the name in --etcd-endpoints, and /etc/resolv.conf',
      )
    case 'ECONNREFUSED':
      return of(
        `nothing listens on port ${port} there (ECONNREFUSED)`,
        'start etcd, or correct the port in --etcd-endpoints; see what etcd listens on: ss -ltn',
      )
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return of(
        `there is no route to that host (${code})`,
        `check the address in --etcd-endpoints, that the host is up, and the route: ip route get ${host}`,
      )
    default:
      return of(
        'the host does not answer connection attempts',
        'check the address in --etcd-endpoints, that the host is up, and that no firewall drops the packets',
      )
  }
}

type Answer =
  | { readonly kind: 'answer'; readonly status: number; readonly server: string; readonly body: string }
  /** It is TLS, and one side refuses the other's certificate. */
  | { readonly kind: 'handshake'; readonly refusal: CertificateTrouble }
  | { readonly kind: 'silence' }
  | { readonly kind: 'nonsense' }

/** @param credentials undefined for plain text; without a CA the server's certificate is not verified */
function requestVersion(
  endpoint: Endpoint,
  credentials: Partial<TlsCredentials> | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const { host, port } = placeOf(endpoint)
  const common = {
    host,
    port,
    path: '/version',
    signal,
    agent: false as const,
    headers: { connection: 'close' },
  }
  return new Promise((resolve) => {
    const take = (response: IncomingMessage): void => {
      const { socket } = response
      const doubt =
        socket instanceof TLSSocket && credentials?.rootCertificate !== undefined && !socket.authorized
          ? certificateTrouble(String(socket.authorizationError ?? ''))
          : undefined
      const chunks: Buffer[] = []
      let size = 0
      const done = (): void => {
        response.destroy()
        resolve(
          doubt === undefined
            ? {
                kind: 'answer',
                status: response.statusCode ?? 0,
                server: String(response.headers['server'] ?? ''),
                body: Buffer.concat(chunks).toString(),
              }
            : { kind: 'handshake', refusal: doubt },
        )
      }
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > MOST_READ) done()
        else chunks.push(chunk)
      })
      response.on('end', done)
      response.on('error', done)
    }
    const asked =
      credentials === undefined
        ? httpRequest(common, take)
        : httpsRequest(
            {
              ...common,
              ca: credentials.rootCertificate,
              cert: credentials.certChain,
              key: credentials.privateKey,
              rejectUnauthorized: false,
            },
            take,
          )
    let isShaken = false
    asked.on('socket', (socket) =>
      socket.on('secureConnect', () => {
        isShaken = true
      }),
    )
    asked.on('error', (error) => {
      // With TLS 1.3 the server asks for a client certificate only after the client's handshake has
      // succeeded.
      const isUnshown = isShaken && credentials !== undefined && credentials.certChain === undefined
      const refusal =
        certificateTrouble(`${systemErrorCode(error) ?? ''} ${error.message}`) ??
        (isUnshown ? NO_CLIENT_CERTIFICATE : undefined)
      if (signal.aborted) resolve({ kind: 'silence' })
      else resolve(refusal === undefined ? { kind: 'nonsense' } : { kind: 'handshake', refusal })
    })
    asked.end()
  })
}

function otherScheme({ url, tls }: Endpoint, found: Answer): Speaker {
  const [now, right] = tls ? ['https://', 'http://'] : ['http://', 'https://']
  const corrected = url.replace(now, right)
  const isEtcd = found.kind === 'answer' && versionIn(found.body) !== undefined
  const who = isEtcd ? 'etcd' : 'what listens there'
  return {
    code: tls ? 'etcd-tls' : 'etcd-failed',
    what: tls
      ? `${who} speaks plain text there, not TLS`
      : `${who} speaks TLS there, but the endpoint says plain text`,
    fix:
      `write ${corrected} in --etcd-endpoints` +
      (tls ? '' : ', with --etcd-cafile for the CA that signed its certificate'),
  }
}

/** etcd's answer to /version: `{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}`. */
const versionIn = (body: string): string | undefined =>
  /"etcdserver"\s*:\s*"([\d.]+[\w.+-]*)"/.exec(body.slice(0, 1000))?.[1]

function judgeAnswer(
  endpoint: Endpoint,
  { status, server, body }: Extract<Answer, { kind: 'answer' }>,
): Speaker | undefined {
  const version = versionIn(body)
  if (version === undefined) {
    if (/client sent an HTTP request to an HTTPS server/i.test(body))
      return otherScheme(endpoint, { kind: 'nonsense' })
    const name = server === '' ? '' : ` (${printable(server).slice(0, 80)})`
    const isBusy = status === 502 || status === 503 || status === 504
    return {
      code: 'etcd-failed',
      what: isBusy
        ? `a proxy${name} answers there and does not reach etcd (HTTP ${status})`
        : `the server there is not etcd, but another HTTP server${name}`,
      fix: isBusy
        ? 'check the proxy and the etcd behind it'
        : 'check host and port in --etcd-endpoints (etcd has 2379 for clients); ' +
          'a proxy in front of etcd must pass HTTP/2 on',
    }
  }
  if (/^[0-2]\./.test(version)) {
    return {
      code: 'etcd-failed',
      what: `it is etcd ${version}, which has no v3 API`,
      fix: 'upgrade etcd to 3.3 or later',
    }
  }
  return undefined
}
