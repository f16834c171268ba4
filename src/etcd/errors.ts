/** Whatever goes wrong between us and etcd, as one class with a stable code and words for people. */
import { OverlayError } from '../model/errors'

/**
 * - `etcd-options`: the options cannot be used, nothing was sent
 * - `etcd-unreachable`: no connection, it broke, or the members have no leader
 * - `etcd-timeout`: connected perhaps, and no answer within the deadline; a write may have been applied
 * - `etcd-tls`: the TLS handshake failed
 * - `etcd-refused`: user name, password or rights
 * - `etcd-renewed`: the token or the certificates had to be replaced; going on at once is right
 * - `etcd-full`: the database has reached its quota, etcd takes no writes
 * - `etcd-compacted`: the wanted revision is no longer (or not yet) in the history
 * - `etcd-failed`: anything else etcd or the connection answered
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
  'etcd-unreachable': 'check that etcd runs, that --etcd-endpoints names it, and that no firewall is between',
  'etcd-timeout': 'check that etcd is healthy and not overloaded (etcdctl endpoint status)',
  'etcd-tls': 'check --etcd-cafile, --etcd-certfile and --etcd-keyfile against the certificate of etcd',
  'etcd-refused':
    'check --etcd-username and --etcd-password (or FLANNELD_ETCD_PASSWORD); the client certificate may name the user as well',
  'etcd-renewed': undefined,
  'etcd-full': 'compact and defragment etcd, then clear the alarm (etcdctl alarm disarm)',
  'etcd-compacted': undefined,
  'etcd-failed': undefined,
}

/** A failed exchange with etcd; the message names the endpoint and what was being done, never a password. */
export class EtcdError extends OverlayError {
  declare readonly code: EtcdErrorCode

  constructor(code: EtcdErrorCode, message: string, options?: ErrorOptions & { fix?: string }) {
    super(code, message, options?.fix ?? FIXES[code], options)
  }
}

/** What was being done, and where: `{ doing: 'read the leases', endpoint: 'http://192.0.2.1:2379' }`. */
export interface CallContext {
  readonly doing: string
  readonly endpoint: string
}

/** Says an error of the etcd client library or of gRPC in our words. An {@link EtcdError} passes unchanged. */
export function toEtcdError(cause: unknown, { doing, endpoint }: CallContext): EtcdError {
  if (cause instanceof EtcdError) return cause
  const { status, details } = readGrpcError(cause)
  const fix = /permission denied/.test(details) ? PERMISSION_FIX : undefined
  const message = `cannot ${doing}: etcd at ${endpoint}: ${details}`
  return new EtcdError(codeOf(status, details), message, { cause, ...(fix !== undefined && { fix }) })
}

/** The password was right. */
const PERMISSION_FIX =
  'let a role of the user read and write the prefix: etcdctl role grant-permission ROLE readwrite PREFIX/ --prefix (--etcd-username and --etcd-password say who it is)'

/** A failure that we notice ourselves, in the form that gRPC's have. */
export const grpcError = (status: 4 | 11 | 14, details: string) => new Error(`${status} NOTICED: ${details}`)

/** The library's error classes carry no status, but all keep gRPC's text: `14 UNAVAILABLE: the details`. */
function readGrpcError(cause: unknown): { status: number | undefined; details: string } {
  const text = cause instanceof Error ? cause.message : String(cause)
  const match = /^(\d+) [A-Z_]+: (.*)$/s.exec(text)
  if (match === null) return { status: undefined, details: text }
  const details = match[2] ?? ''
  const refusal = /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/s.exec(details)
  return { status: Number(match[1]), details: refusal?.[1] ?? details }
}

/** Numbers are gRPC's status codes (grpc/doc/statuscodes.md); texts are etcd's (api/v3rpc/rpctypes/error.go). */
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
