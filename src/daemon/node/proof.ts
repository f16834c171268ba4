/** The proof of this host's identity: whether its subnet has a pin, and the signature of its lease. */
import type { IdentityKey } from '../../model/host-record'
import { formatLeaseSubnet, type Lease, type LeaseSubnet, type LeaseValue } from '../../model/lease'
import type { HostBook } from '../../plan/trust/host-book'
import type { HostIdentity } from '../encryption/host-identity'
import type { Logger } from '../tell/logger'

export class Proof {
  /** The identities that the subnet was last known to be pinned to, as text. */
  #pinned = ''

  readonly #subnet: LeaseSubnet
  /** Whether the lease had a signature when this host started. */
  readonly #wasSigned: boolean

  /** @param own the lease of this host, as it was at the start */
  constructor(
    readonly hosts: HostBook,
    private readonly identity: HostIdentity,
    { subnet, value }: Pick<Lease, 'subnet' | 'value'>,
    private readonly log: Logger,
  ) {
    this.#subnet = subnet
    this.#wasSigned = value.signature !== undefined
  }

  /** The identity of this host; `undefined` if it has none. */
  get key(): IdentityKey | undefined {
    return this.identity.key
  }

  /** Whether the subnet of this host is pinned, and whether to the identity of this host. */
  get pin(): 'none' | 'own' | 'other' {
    const identities = this.#identities()
    if (identities.length === 0) return 'none'
    return identities.every((each) => each !== undefined && each === this.key) ? 'own' : 'other'
  }

  /** Why other hosts refuse this host; `undefined` if they do not. */
  get problem(): string | undefined {
    if (this.pin !== 'other') return undefined
    const { key } = this
    const has =
      key === undefined ? `this host has none: ${this.identity.problem ?? ''}` : `that of this host is ${key}`
    return `the subnet of this host is pinned to another identity, and other hosts refuse its lease; ${has}`
  }

  /** Looks whether the subnet has another pin now, and opens the identity of this host if it has one. */
  async renew(): Promise<void> {
    const identities = this.#identities()
    if (this.#mustSign) await this.identity.open()
    const pinned = identities.map(String).join(' and ')
    if (pinned === this.#pinned) return
    this.#pinned = pinned
    const { problem } = this
    const about = [formatLeaseSubnet(this.#subnet)]
    if (problem !== undefined) this.log.error(`identity: ${problem}`, { kind: 'identity-problem', about })
    else {
      const what = this.pin === 'own' ? 'is pinned to the identity of this host' : 'has no pin any more'
      this.log.info(`identity: ${about.join()} ${what}`, { kind: 'identity-pinned', about })
    }
  }

  /** The value of this host's lease with its signature, where it needs one. */
  signed(value: LeaseValue): LeaseValue {
    return this.identity.sign(value, this.#mustSign)
  }

  /** Until etcd has told what is pinned, a lease that was signed stays so: it would be written twice. */
  get #mustSign(): boolean {
    return this.hosts.isKnown ? this.hosts.isPinned(this.#subnet) : this.#wasSigned
  }

  #identities(): (IdentityKey | undefined)[] {
    return this.hosts.pins.identitiesOf(this.#subnet)
  }
}
