/**
 * The identity of this host, by which it signs its lease. It is opened when the network encrypts, when the
 * host's own subnet has a pin, and when an operator asks for it: any other host has none, and its lease has
 * the bytes of flannel's.
 */
import { encodeLeaseValue, unsignedText } from '../../etcd/codec/lease-codec'
import { readIdentity, writeIdentity } from '../../host/identity-file'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import type { IdentityKey } from '../../model/host-record'
import { IdentitySecret, IdentityVerifier } from '../../model/identity-secret'
import type { Lease, LeaseValue } from '../../model/lease'
import { nextSerial, type Signed } from '../../plan/trust/serial'
import type { Logger } from '../tell/logger'

export class HostIdentity {
  #secret: IdentitySecret | undefined
  #problem: string | undefined
  /** What this host has signed last, as far as it knows. */
  #signed: Signed | undefined

  constructor(
    private readonly directory: string,
    private readonly log: Logger,
  ) {}

  /** The public half; `undefined` until {@link open} has succeeded. */
  get key(): IdentityKey | undefined {
    return this.#secret?.publicKey()
  }

  /** Why this host has no identity although it needs one. */
  get problem(): string | undefined {
    return this.#problem
  }

  /**
   * Reads the identity, or makes one where there is none. A file that others may have read or written is of
   * no use: another identity is made, which an operator has to pin anew.
   * @returns whether there is one; a failure is logged once
   */
  async open(): Promise<boolean> {
    if (this.#secret !== undefined) return true
    try {
      this.#secret = await this.#readOrMake()
      this.#problem = undefined
    } catch (error) {
      if (!isOverlayError(error)) throw error
      const problem = describeError(error)
      if (problem !== this.#problem) this.log.warn(`identity: ${problem}`, { kind: 'identity-problem' })
      this.#problem = problem
    }
    return this.#secret !== undefined
  }

  /**
   * The public half, for an operator who pins it.
   * @throws {OverlayError} `identity-file`
   */
  async demand(): Promise<IdentityKey> {
    await this.open()
    const { key } = this
    if (key !== undefined) return key
    throw new OverlayError('identity-file', `this host has no identity: ${this.#problem}`)
  }

  /**
   * Signs the value of this host's lease, if it announces keys, or has to be signed.
   * @param isPinned whether the subnet of this host has a pin
   */
  sign(value: LeaseValue, isPinned: boolean): LeaseValue {
    const announcesKeys = [value.vtep, value.vtep6].some((vtep) => vtep?.wireguard !== undefined)
    if (this.#secret === undefined || !(announcesKeys || isPinned)) return value
    const bare = bareText(value)
    const serial = nextSerial(this.#signed, bare, Date.now())
    this.#signed = { bare, serial }
    const numbered = { ...value, serial }
    return { ...numbered, signature: this.#secret.sign(unsignedText(numbered)) }
  }

  /** Takes note of a lease that an earlier run may have signed, so that this run goes on above its serial. */
  learn(lease: Lease): void {
    const serial = this.#serialOf(lease)
    if (serial === undefined || (this.#signed !== undefined && serial <= this.#signed.serial)) return
    this.#signed = { bare: bareText(lease.value), serial }
  }

  /** Whether this host has signed that lease, and another one since. */
  isFormer(lease: Lease): boolean {
    const serial = this.#serialOf(lease)
    return serial !== undefined && this.#signed !== undefined && serial < this.#signed.serial
  }

  /** The serial of a lease that this host has signed; 0 for a lease without one. */
  #serialOf({ signed }: Lease): number | undefined {
    const { key } = this
    if (key === undefined || signed === undefined || !new IdentityVerifier(key).isSigned(signed))
      return undefined
    return signed.serial ?? 0
  }

  async #readOrMake(): Promise<IdentitySecret> {
    const found = await readIdentity(this.directory)
    if (found.kind === 'found') return found.secret
    const secret = IdentitySecret.generate()
    await writeIdentity(this.directory, secret)
    const why = found.kind === 'refused' ? `: ${found.reason}` : ''
    const text = `identity: this host has a new identity, ${secret.publicKey()}${why}`
    this.log.log(why === '' ? 'info' : 'warn', text, { kind: 'identity-new' })
    return secret
  }
}

/** A value without what a signature adds to it. */
const bareText = ({ serial, signature, ...value }: LeaseValue): string => encodeLeaseValue(value)
