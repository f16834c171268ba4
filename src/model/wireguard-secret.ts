/** Private keys of WireGuard devices, in a form that no log, document or error shows. */
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { parseWireguardKey, WIREGUARD_KEY_SIZE, type WireguardKey, wireguardKey } from './kernel/wireguard'

/** What precedes the 32 bytes of an X25519 private key in PKCS #8, and of a public one in SPKI (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex')
const SPKI_PREFIX_SIZE = 12

const HIDDEN = '[private key]'

/** A Curve25519 private key. */
export class PrivateKey {
  readonly #bytes: Buffer

  private constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  static generate(): PrivateKey {
    return new PrivateKey(clamp(randomBytes(WIREGUARD_KEY_SIZE)))
  }

  /**
   * Reads the text that `wg genkey` prints: canonical base64 of 32 bytes.
   * @returns undefined for any other text, and for the null key
   */
  static fromText(text: string): PrivateKey | undefined {
    return parseWireguardKey(text) === undefined
      ? undefined
      : new PrivateKey(clamp(Buffer.from(text, 'base64')))
  }

  publicKey(): WireguardKey {
    const der = Buffer.concat([PKCS8_PREFIX, this.#bytes])
    try {
      const key = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }))
      return wireguardKey(key.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX_SIZE))
    } finally {
      der.fill(0)
    }
  }

  /** The key in base64, for its file. The caller keeps it from everything else. */
  text(): string {
    return this.#bytes.toString('base64')
  }

  /** A copy of the 32 bytes, to be overwritten by the caller after use. */
  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }

  toString(): string {
    return HIDDEN
  }

  toJSON(): string {
    return HIDDEN
  }

  [inspect.custom](): string {
    return HIDDEN
  }
}

/**
 * Sets the bits that every key has (RFC 7748, 5). The kernel does so too: it would take a key without them
 * for another one than its own, and derive everything anew.
 */
function clamp(bytes: Buffer): Buffer {
  bytes.writeUInt8(bytes.readUInt8(0) & 0xf8, 0)
  bytes.writeUInt8((bytes.readUInt8(WIREGUARD_KEY_SIZE - 1) & 0x7f) | 0x40, WIREGUARD_KEY_SIZE - 1)
  return bytes
}
