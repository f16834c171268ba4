/** Certificates for tests, made by openssl: an authority and what it signs, as PEM files in a directory. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** Small keys: they are made in no time. */
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']

/** Paths, as the etcd client takes them. */
export interface SignedFiles {
  readonly caFile: string
  readonly certFile: string
  readonly keyFile: string
}

export class CertificateAuthority {
  readonly caFile: string

  /** @param name of its files in the directory, and in the certificates */
  constructor(
    private readonly directory: string,
    private readonly name = 'ca',
  ) {
    this.caFile = join(directory, `${name}.pem`)
    this.#openssl([...KEY, '-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', `/CN=${name}`])
  }

  /**
   * Makes `<name>.pem` and `<name>.key`, for servers on 127.0.0.1 and for clients; an earlier pair of that name is overwritten.
   * @param commonName which etcd takes for the name of a user
   */
  sign(name: string, commonName = name): SignedFiles {
    const signer = ['-CA', `${this.name}.pem`, '-CAkey', `${this.name}.key`]
    const subject = ['-subj', `/CN=${commonName}`, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
    this.#openssl([...KEY, ...signer, '-keyout', `${name}.key`, '-out', `${name}.pem`, ...subject])
    return {
      caFile: this.caFile,
      certFile: join(this.directory, `${name}.pem`),
      keyFile: join(this.directory, `${name}.key`),
    }
  }

  #openssl(args: readonly string[]): void {
    execFileSync('openssl', ['req', '-x509', ...args], { cwd: this.directory, stdio: 'pipe' })
  }
}
