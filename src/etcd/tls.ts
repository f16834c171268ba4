import { existsSync, readFileSync } from 'node:fs'
import { rootCertificates } from 'node:tls'
import { EtcdError } from './errors'

/** Paths of PEM files, as in flannel's flags; an empty path is the same as none. */
export interface TlsFiles {
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
}

/** What the etcd client wants for an `https://` endpoint. */
export interface TlsCredentials {
  readonly rootCertificate: Buffer
  readonly certChain?: Buffer
  readonly privateKey?: Buffer
}

/** Where Go, and so flannel, finds the system's roots (crypto/x509/root_linux.go): Debian's and Red Hat's place. */
const SYSTEM_ROOTS = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt']

/**
 * Reads the files once, at start, as flannel does. Without a CA the system's roots count. Unlike flannel, a CA counts without a
 * client certificate too.
 * @throws {EtcdError} `etcd-options`
 */
export function loadTls(files: TlsFiles): TlsCredentials {
  const { caFile = '', certFile = '', keyFile = '' } = files
  if ((certFile === '') !== (keyFile === '')) {
    throw new EtcdError('etcd-options', 'only one of the client certificate and its key is given', {
      fix: 'give both --etcd-certfile and --etcd-keyfile, or neither',
    })
  }
  const rootCertificate = caFile === '' ? systemRoots() : read(caFile)
  return certFile === ''
    ? { rootCertificate }
    : { rootCertificate, certChain: read(certFile), privateKey: read(keyFile) }
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
