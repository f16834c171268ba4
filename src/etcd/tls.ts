/** The certificates for `https://` endpoints: read, checked, and read again when the files change. */
import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createSecureContext, rootCertificates } from 'node:tls'
import { systemErrorCode } from '../model/errors'
import { EtcdError } from './errors'

/** Paths of PEM files, as in flannel's flags; an empty path is the same as none. */
export interface TlsFiles {
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
}

/** What the etcd client wants for an `https://` endpoint. Node speaks TLS 1.2 and above unless it is told otherwise. */
export interface TlsCredentials {
  readonly rootCertificate: Buffer
  readonly certChain?: Buffer
  readonly privateKey?: Buffer
}

/** Where Go, and so flannel, finds the system's roots (crypto/x509/root_linux.go): Debian's and Red Hat's place. */
const SYSTEM_ROOTS = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt']

/**
 * Refuses half a key pair, with which flannel goes on without any TLS.
 * @throws {EtcdError} `etcd-options`
 */
export function checkTlsFiles({ certFile = '', keyFile = '' }: TlsFiles): void {
  if ((certFile === '') === (keyFile === '')) return
  const [given, missing] =
    certFile === '' ? ['--etcd-keyfile', '--etcd-certfile'] : ['--etcd-certfile', '--etcd-keyfile']
  throw new EtcdError('etcd-options', `${given} is given without ${missing}`, {
    fix: `give ${missing} as well, or neither`,
  })
}

/**
 * Reads the files. Without a CA the system's roots count. Unlike flannel, a CA counts without a client certificate too.
 * @throws {EtcdError} `etcd-options` when one cannot be read, or they cannot be used together
 */
export function loadTls(files: TlsFiles): TlsCredentials {
  checkTlsFiles(files)
  const { caFile = '', certFile = '', keyFile = '' } = files
  const rootCertificate = caFile === '' ? systemRoots() : read(caFile)
  const credentials =
    certFile === ''
      ? { rootCertificate }
      : { rootCertificate, certChain: read(certFile), privateKey: read(keyFile) }
  checkUsable(credentials, files)
  return credentials
}

/** The files over time. */
export class TlsSource {
  #state: string

  /** What counts now: the last files that could be used. */
  credentials: TlsCredentials

  /** @throws {EtcdError} `etcd-options`, as {@link loadTls} */
  constructor(private readonly files: TlsFiles) {
    this.#state = this.#look()
    this.credentials = loadTls(files)
  }

  /**
   * Reads the files again if they have changed.
   * @returns whether they had
   * @throws {EtcdError} `etcd-options` when what is there now cannot be used, once: the old ones stay until the files change again
   */
  refresh(): boolean {
    const state = this.#look()
    if (state === this.#state) return false
    this.#state = state
    this.credentials = loadTls(this.files)
    return true
  }

  /** Other text when a file was written, replaced, or a link to it was turned. */
  #look(): string {
    const { caFile, certFile, keyFile } = this.files
    return [caFile, certFile, keyFile]
      .filter((path) => path !== undefined && path !== '')
      .map((path) => {
        try {
          const { dev, ino, size, mtimeNs } = statSync(path ?? '', { bigint: true })
          return `${dev}:${ino}:${size}:${mtimeNs}`
        } catch (error) {
          return String(systemErrorCode(error))
        }
      })
      .join(' ')
  }
}

function systemRoots(): Buffer {
  const own = process.env['SSL_CERT_FILE']
  if (own !== undefined && own !== '') return read(own)
  const found = SYSTEM_ROOTS.find((path) => existsSync(path))
  return found === undefined ? Buffer.from(rootCertificates.join('\n')) : read(found)
}

function read(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new EtcdError('etcd-options', `a TLS file of etcd cannot be read: ${reason}`, { cause })
  }
}

/** Without this a file that is only half written would show as a handshake that fails. */
function checkUsable({ rootCertificate, certChain, privateKey }: TlsCredentials, files: TlsFiles): void {
  const { caFile = '', certFile, keyFile } = files
  const attempt = (what: string, use: () => unknown): void => {
    try {
      use()
    } catch (cause) {
      const reason = systemErrorCode(cause) ?? (cause instanceof Error ? cause.message : String(cause))
      throw new EtcdError('etcd-options', `${what} of etcd cannot be used: ${reason}`, {
        cause,
        fix: 'the files must be PEM, and the key that of the certificate',
      })
    }
  }
  attempt(`the CA file ${caFile || 'of the system'}`, () => new X509Certificate(rootCertificate))
  if (certChain === undefined || privateKey === undefined) return
  attempt(`the certificate ${certFile} with the key ${keyFile}`, () =>
    createSecureContext({ cert: certChain, key: privateKey }),
  )
}
