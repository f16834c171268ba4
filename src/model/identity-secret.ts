/**
 * The identity of a host: an Ed25519 key (RFC 8032) whose private half never leaves the host, and by which
 * the host signs its lease.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'
import type { IdentityKey } from './host-record'
import type { LeaseSignature, SignedLease } from './lease'

/** What precedes the 32 bytes of an Ed25519 public key in SPKI (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/** Sets these signatures apart from any others of the same key. */
const CONTEXT = 'overlayd lease 1\n'

const signedBytes = (text: string): Buffer => Buffer.from(CONTEXT + text)

/** The private half. Neither a log nor a document shows it. */
export class IdentitySecret {
  readonly #key: KeyObject

  private constructor(key: KeyObject) {
    this.#key = key
  }

  static generate(): IdentitySecret {
    return new IdentitySecret(generateKeyPairSync('ed25519').privateKey)
  }

  /** Reads the text that {@link text} writes; `undefined` for any other text. */
  static fromText(pem: string): IdentitySecret | undefined {
    try {
      const key = createPrivateKey(pem)
      return key.asymmetricKeyType === 'ed25519' ? new IdentitySecret(key) : undefined
    } catch {
      return undefined
    }
  }

  /** PKCS #8 in PEM, for the file of the key. The caller keeps it from everything else. */
  text(): string {
    return this.#key.export({ type: 'pkcs8', format: 'pem' }).toString()
  }

  publicKey(): IdentityKey {
    const spki = createPublicKey(this.#key).export({ type: 'spki', format: 'der' })
    return spki.subarray(SPKI_PREFIX.length).toString('base64') as IdentityKey
  }

  /** @param text the value of a lease, without its signature */
  sign(text: string): LeaseSignature {
    return sign(null, signedBytes(text), this.#key).toString('base64') as LeaseSignature
  }
}

/** Checks signatures by one identity. */
export class IdentityVerifier {
  #key: KeyObject | undefined

  constructor(readonly identity: IdentityKey) {}

  /** Takes about 0.1 ms of an idle core, and the first time twice as long. */
  isSigned({ text, signature }: SignedLease): boolean {
    this.#key ??= createPublicKey({
      key: Buffer.concat([SPKI_PREFIX, Buffer.from(this.identity, 'base64')]),
      format: 'der',
      type: 'spki',
    })
    return verify(null, signedBytes(text), this.#key, Buffer.from(signature, 'base64'))
  }
}
