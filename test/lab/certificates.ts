/**
 * Certificates for tests, made by openssl: a certificate authority and certificates signed by it, as PEM
 * files.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** Elliptic curve keys, because they are generated quickly. */
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']

/** Paths of PEM files. */
export interface SignedFiles {
  readonly caFile: string
  readonly certFile: string
  readonly keyFile: string
}

export class CertificateAuthority {
  readonly caFile: string

  /**
   * Creates `<name>.pem` and `<name>.key` in the directory.
   * @param name also the authority's common name
   */
  constructor(
    private readonly directory: string,
    private readonly name = 'ca',
  ) {
    this.caFile = join(directory, `${name}.pem`)
    this.#openssl([...KEY, '-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', `/CN=${name}`])
  }

  /**
   * Makes `<name>.pem` and `<name>.key`, for servers on 127.0.0.1 and for clients. Overwrites an earlier pair
   * of that name.
   * @param commonName the user name, for an etcd that authenticates by certificates
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
