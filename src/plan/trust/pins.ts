/**
 * Pins: identities that the leases of subnets have to prove. Whoever may write to etcd may write a lease, but
 * only the host with the pinned identity can sign one.
 */
import { formatPrefix, type Prefix } from '../../model/address'
import { type HostEntry, type IdentityKey, readableRecord, whyUnreadable } from '../../model/host-record'
import { IdentityVerifier } from '../../model/identity-secret'
import type { LeaseSubnet, SignedLease } from '../../model/lease'

/** How each reason begins for which a lease is refused by a pin. */
const UNPROVEN = 'its host has not proven the identity that is pinned'

/** Whether a lease is refused by a pin, by the reason against it. */
export const isUnproven = (reason: string): boolean => reason.startsWith(UNPROVEN)

/** Proofs of one subnet that are remembered: of the lease in etcd, and of the one that was last valid. */
const MOST_PROOFS = 2

/** The pin of one subnet. */
class Pin {
  readonly #verifier: IdentityVerifier
  /** What was checked last, the newest last: a lease is judged again and again. */
  #proofs: readonly { readonly signed: SignedLease; readonly isGood: boolean }[] = []

  constructor(readonly identity: IdentityKey) {
    this.#verifier = new IdentityVerifier(identity)
  }

  objection(signed: SignedLease | undefined): string | undefined {
    if (signed === undefined) return `${UNPROVEN}: it has signed nothing`
    return this.#isGood(signed) ? undefined : `${UNPROVEN}: its signature is not by ${this.identity}`
  }

  #isGood(signed: SignedLease): boolean {
    const { text, signature } = signed
    const known = this.#proofs.find(
      (proof) => proof.signed.text === text && proof.signed.signature === signature,
    )
    if (known !== undefined) return known.isGood
    const isGood = this.#verifier.isSigned(signed)
    this.#proofs = [...this.#proofs, { signed, isGood }].slice(-MOST_PROOFS)
    return isGood
  }
}

/** What holds for one subnet: an identity, or a record that cannot be read, and so lets nobody in. */
interface Hold {
  readonly prefix: Prefix
  readonly pin: Pin | { readonly reason: string }
}

/** The pins of one network, as a value: a change makes other ones. */
export class Pins {
  static readonly NONE = new Pins(new Map())

  private constructor(private readonly bySubnet: ReadonlyMap<string, Hold>) {}

  /**
   * @param entries the records of hosts; a record without an identity pins nothing
   * @param before the pins until now: what was proven by them is not checked again
   */
  static of(entries: Iterable<HostEntry>, before: Pins = Pins.NONE): Pins {
    const bySubnet = new Map<string, Hold>()
    for (const entry of entries) {
      const reason = whyUnreadable(entry)
      const identity = readableRecord(entry)?.identity
      if (identity === undefined && reason === undefined) continue
      for (const [name, prefix] of namesOf(entry)) {
        const known = before.bySubnet.get(name)
        const isSame = known !== undefined && identityOf(known) === identity
        if (isSame && identity !== undefined) bySubnet.set(name, known)
        else {
          const pin = identity === undefined ? { reason: reason ?? '' } : new Pin(identity)
          bySubnet.set(name, { prefix, pin })
        }
      }
    }
    return new Pins(bySubnet)
  }

  /** How many subnets have a pin. */
  get size(): number {
    return this.bySubnet.size
  }

  /** The subnets whose pin is another one than in the other pins. */
  changesFrom(other: Pins): Prefix[] {
    const changed: Prefix[] = []
    for (const [name, hold] of this.bySubnet) {
      const others = other.bySubnet.get(name)
      if (others === undefined || identityOf(others) !== identityOf(hold)) changed.push(hold.prefix)
    }
    for (const [name, { prefix }] of other.bySubnet) if (!this.bySubnet.has(name)) changed.push(prefix)
    return changed
  }

  /** Why a lease of that subnet is refused; `undefined` if it is not. */
  objection(subnet: Prefix, signed: SignedLease | undefined): string | undefined {
    if (this.size === 0) return undefined
    const pin = this.bySubnet.get(formatPrefix(subnet))?.pin
    if (pin === undefined || pin instanceof Pin) return pin?.objection(signed)
    return `${UNPROVEN}: the record of the host cannot be read (${pin.reason})`
  }

  /** The identities that are pinned for a lease; an unreadable record counts as no identity. */
  identitiesOf(subnet: LeaseSubnet): (IdentityKey | undefined)[] {
    return prefixesOf(subnet).flatMap((prefix) => {
      const hold = this.bySubnet.get(formatPrefix(prefix))
      return hold === undefined ? [] : [identityOf(hold)]
    })
  }
}

const identityOf = ({ pin }: Hold): IdentityKey | undefined => (pin instanceof Pin ? pin.identity : undefined)

/** The subnets of a record with their texts, which take long to make. */
const NAMES = new WeakMap<HostEntry, readonly (readonly [string, Prefix])[]>()

function namesOf(entry: HostEntry): readonly (readonly [string, Prefix])[] {
  const known = NAMES.get(entry)
  if (known !== undefined) return known
  const prefixes = entry.subnet === undefined ? [] : prefixesOf(entry.subnet)
  const names = prefixes.map((prefix) => [formatPrefix(prefix), prefix] as const)
  NAMES.set(entry, names)
  return names
}

const prefixesOf = ({ ipv4, ipv6 }: LeaseSubnet): Prefix[] =>
  [ipv4, ipv6].filter((prefix) => prefix !== undefined)
