/** The certificates for `https://` endpoints: read, checked, and reloaded when the files change. */
import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createSecureContext, rootCertificates } from 'node:tls'
import { systemErrorCode } from '../../model/errors'
import { EtcdError } from './errors'

/** Paths of PEM files, as in flannel's flags. An empty path means none. */
export interface TlsFiles {
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
}

/** Credentials that the etcd client takes for an `https://` endpoint. Node's default is TLS 1.2 and later. */
export interface TlsCredentials {
  readonly rootCertificate: Buffer
  readonly certChain?: Buffer
  readonly privateKey?: Buffer
}

/**
 * Where Go, and so flannel, finds the system's roots (crypto/x509/root_linux.go): paths of Debian and Red
 * Hat.
 */
const SYSTEM_ROOTS = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt']

/**
 * Refuses a certificate without key or the reverse. flannel silently continues without any TLS then.
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
 * Reads the files. Without a CA file the system's roots are used. Unlike in flannel, a CA file is used
 * without a client certificate too.
 * @throws {EtcdError} `etcd-options` if a file cannot be read, or the files do not fit together
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

/** The credentials in use, reloaded from the files. */
export class TlsSource {
  #state: string

  /** Content of the last files that were usable. */
  credentials: TlsCredentials

  /** @throws {EtcdError} `etcd-options`, as {@link loadTls} */
  constructor(private readonly files: TlsFiles) {
    this.#state = this.#fingerprint()
    this.credentials = loadTls(files)
  }

  /**
   * Reloads the files if they have changed.
   * @returns whether they had
   * @throws {EtcdError} `etcd-options`, once, if the new files are unusable: the old ones stay in use until
   *   the files change again
   */
  refresh(): boolean {
    const state = this.#fingerprint()
    if (state === this.#state) return false
    this.#state = state
    this.credentials = loadTls(this.files)
    return true
  }

  /** Text that differs if a file was written or replaced, or a link to it was changed. */
  #fingerprint(): string {
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

/** A certificate from a file that an option names. */
export interface CertificateLife {
  readonly file: 'ca' | 'client'
  readonly subject: string
  /** Seconds since 1970. */
  readonly notAfter: number
}

/** Certificates of one file that are reported: a bundle may have hundreds. */
const MOST_REPORTED = 10

/**
 * Ends of validity of the certificates in the current files: of the first certificate in the client's file,
 * and of each in the CA file, up to a limit. Unreadable files are left out; {@link loadTls} reports them.
 */
export function certificateLives({ caFile = '', certFile = '' }: TlsFiles): readonly CertificateLife[] {
  const of = (file: CertificateLife['file'], path: string, most: number): CertificateLife[] => {
    if (path === '') return []
    try {
      const blocks = readFileSync(path, 'latin1').match(PEM) ?? []
      return blocks.slice(0, most).map((block) => {
        const { subject, validTo } = new X509Certificate(block)
        return { file, subject: subject.replaceAll('\n', ', '), notAfter: Date.parse(validTo) / 1000 }
      })
    } catch {
      return []
    }
  }
  return [...of('client', certFile, 1), ...of('ca', caFile, MOST_REPORTED)]
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

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

/** Checked here so that a half-written file does not show up as a failed handshake. */
function checkUsable({ rootCertificate, certChain, privateKey }: TlsCredentials, files: TlsFiles): void {
  const { caFile = '', certFile, keyFile } = files
  const attempt = (what: string, use: () => unknown): void => {
    try {
      use()
    } catch (cause) {
      const reason = systemErrorCode(cause) ?? (cause instanceof Error ? cause.message : String(cause))
      throw new EtcdError('etcd-options', `${what} of etcd cannot be used: ${reason}`, {
        cause,
        fix: 'the files must be PEM, and the key must belong to the certificate',
      })
    }
  }
  attempt(`the CA file ${caFile || 'of the system'}`, () => new X509Certificate(rootCertificate))
  if (certChain === undefined || privateKey === undefined) return
  attempt(`the certificate ${certFile} with the key ${keyFile}`, () =>
    createSecureContext({ cert: certChain, key: privateKey }),
  )
}
