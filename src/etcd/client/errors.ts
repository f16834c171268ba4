/** All failures between us and etcd as one class, with a stable code and a message for people. */
import { OverlayError } from '../../model/errors'
import { certificateTrouble } from './certificate-trouble'

/**
 * - `etcd-options`: the options are unusable; nothing was sent
 * - `etcd-unreachable`: no connection, the connection broke, or the members have no leader
 * - `etcd-timeout`: no answer within the deadline, perhaps not even a connection; a write may have been
 *   applied
 * - `etcd-tls`: the TLS handshake failed
 * - `etcd-refused`: wrong user name, password or rights
 * - `etcd-renewed`: the token or the connection had to be replaced; retry at once
 * - `etcd-full`: the database has reached its quota; etcd accepts no writes
 * - `etcd-compacted`: the requested revision is no longer (or not yet) in the history
 * - `etcd-failed`: any other answer of etcd or the connection
 */
export type EtcdErrorCode =
  | 'etcd-options'
  | 'etcd-unreachable'
  | 'etcd-timeout'
  | 'etcd-tls'
  | 'etcd-refused'
  | 'etcd-renewed'
  | 'etcd-full'
  | 'etcd-compacted'
  | 'etcd-failed'

const FIXES: Record<EtcdErrorCode, string | undefined> = {
  'etcd-options': undefined,
  'etcd-unreachable':
    'check that etcd runs, that --etcd-endpoints names it, and that no firewall is in between',
  'etcd-timeout': 'check that etcd is healthy and not overloaded (etcdctl endpoint status)',
  'etcd-tls': 'check --etcd-cafile, --etcd-certfile and --etcd-keyfile against the certificate of etcd',
  'etcd-refused':
    'check --etcd-username and --etcd-password (or FLANNELD_ETCD_PASSWORD); ' +
    'the client certificate may name the user as well',
  'etcd-renewed': undefined,
  'etcd-full': 'compact and defragment etcd, then clear the alarm (etcdctl alarm disarm)',
  'etcd-compacted': undefined,
  'etcd-failed': undefined,
}

/** A failed exchange with etcd. The message names the endpoint and the action, never a password. */
export class EtcdError extends OverlayError {
  declare readonly code: EtcdErrorCode

  constructor(code: EtcdErrorCode, message: string, options?: ErrorOptions & { fix?: string }) {
    super(code, message, options?.fix ?? FIXES[code], options)
  }
}

/** The fix for a user with the right password but without permission. */
const PERMISSION_FIX =
  'let a role of the user read and write the prefix: ' +
  'etcdctl role grant-permission ROLE readwrite PREFIX/ --prefix (the user is that of --etcd-username)'

/** The action and the endpoint: `{ doing: 'read the leases', endpoint: 'http://192.0.2.1:2379' }`. */
export interface CallContext {
  readonly doing: string
  readonly endpoint: string
}

/** Translates an error of the etcd client library or of gRPC. An {@link EtcdError} is returned unchanged. */
export function toEtcdError(cause: unknown, { doing, endpoint }: CallContext): EtcdError {
  if (cause instanceof EtcdError) return cause
  const { status, details } = readGrpcError(cause)
  const { what, fix } = inWords(details)
  const message = `cannot ${doing}: etcd at ${endpoint}: ${what}`
  return new EtcdError(codeOf(status, details), message, { cause, ...(fix !== undefined && { fix }) })
}

interface Words {
  readonly what: string
  /** Absent if the default fix of the error's code applies. */
  readonly fix?: string | undefined
}

/** pattern of gRPC's and Node's messages -> our message and fix; `$1` is the pattern's first group */
const WORDS: readonly (readonly [RegExp, string, string?])[] = [
  [/permission denied/, '$&', PERMISSION_FIX],
  [
    /connect ECONNREFUSED (\S+?)\.?$/,
    'nothing listens at $1 (ECONNREFUSED)',
    'start etcd, or correct host and port in --etcd-endpoints; see what etcd listens on: ss -ltn',
  ],
  [/(?:connect|read|write) (E[A-Z]+UNREACH)\b.*/, 'there is no route to that host ($1)'],
  [/connect ETIMEDOUT.*/, 'the host does not answer connection attempts (ETIMEDOUT)'],
  [
    /.*(?:Name resolution failed for target|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)) (?:dns:)?([^ :]+).*/s,
    'the name $1 does not resolve',
    'check the name in --etcd-endpoints, and /etc/resolv.conf',
  ],
  [
    /Deadline exceeded after ([\d.]+)s.*(?:LB pick|waiting for|not yet connected|resolv).*/is,
    'no connection within $1 s',
  ],
  [/Deadline exceeded after ([\d.]+)s.*/s, 'no answer within $1 s'],
  [/Waiting for LB pick.*/s, 'no connection'],
  [
    /Received HTTP status code (\d+).*/s,
    'a proxy or another HTTP server answers instead (HTTP $1)',
    'check host and port in --etcd-endpoints; a proxy in front of etcd must pass HTTP/2 on',
  ],
  [/(?:read|write) (?:ECONNRESET|EPIPE).*|socket hang up|Connection dropped.*/, 'it closed the connection'],
  [
    /.*(?:Protocol error|ERR_HTTP2|wrong version number|packet length too long|http request|EPROTO).*/is,
    'the server there is not what the endpoint says: not etcd, or TLS instead of plain text, ' +
      'or plain text instead of TLS',
    'check scheme (http:// or https://), host and port in --etcd-endpoints',
  ],
  [/Received RST_STREAM.*/, 'it ended the call without giving a reason'],
  [/unknown service etcdserverpb.*|.*method.*not implemented.*/i, 'the server there has no etcd v3 API'],
]

function inWords(details: string): Words {
  const certificate = certificateTrouble(details)
  if (certificate !== undefined) return certificate
  for (const [pattern, what, fix] of WORDS) {
    if (pattern.test(details)) return { what: details.replace(pattern, what), fix }
  }
  return { what: details }
}

/** An error that we detect ourselves, in the format of gRPC's errors. */
export const grpcError = (status: 4 | 11 | 14, details: string) => new Error(`${status} NOTICED: ${details}`)

/** The library's error classes have no status, but all keep gRPC's text: `14 UNAVAILABLE: the details`. */
function readGrpcError(cause: unknown): { status: number | undefined; details: string } {
  const text = cause instanceof Error ? cause.message : String(cause)
  const match = /^(\d+) [A-Z_]+: (.*)$/s.exec(text)
  if (match === null) return { status: undefined, details: text }
  const details = match[2] ?? ''
  const refusal = /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/s.exec(details)
  return { status: Number(match[1]), details: refusal?.[1] ?? details }
}

/**
 * Numbers are gRPC's status codes (grpc/doc/statuscodes.md); texts are etcd's (api/v3rpc/rpctypes/error.go).
 */
function codeOf(status: number | undefined, details: string): EtcdErrorCode {
  if (/authentication failed|user name is empty|permission denied|auth token|auth store is old/.test(details))
    return 'etcd-refused'
  if (details.includes('database space exceeded')) return 'etcd-full'
  switch (status) {
    case 4:
      return 'etcd-timeout'
    case 7:
    case 16:
      return 'etcd-refused'
    case 11:
      return 'etcd-compacted'
    case 14:
      return /certificate|\bssl\b|\btls\b/i.test(details) ? 'etcd-tls' : 'etcd-unreachable'
    default:
      return 'etcd-failed'
  }
}
