/**
 * Pins: identities that the leases of subnets have to prove. Whoever may write to etcd may write a lease, but
 * only the host with the pinned identity can sign one.
 */
import { formatPrefix, type Prefix } from '../../model/address'
import { type HostEntry, type IdentityKey, readableRecord, whyUnreadable } from '../../model/host-record'
import { IdentityVerifier } from '../../model/identity-secret'
import type { LeaseSubnet, SignedLease } from '../../model/lease'
import { describeFormer, type SeenSerial } from './serial'

/** How each reason begins for which a lease is refused by a pin. */
const UNPROVEN = 'its host has not proven the identity that is pinned'

/** How the reason begins for which a lease is refused that its host has signed, and later another one. */
const FORMER = 'it is a former lease of its host'

/** Whether a lease is refused by a pin, by the reason against it. */
export const isUnproven = (reason: string): boolean =>
  reason.startsWith(UNPROVEN) || reason.startsWith(FORMER)

/** Proofs of one subnet that are remembered: of the lease in etcd, and of the one that was last valid. */
const MOST_PROOFS = 2

/** The pin of one subnet. */
class Pin {
  readonly #verifier: IdentityVerifier
  /** What was checked last, the newest last: a lease is judged again and again. */
  #proofs: readonly { readonly signed: SignedLease; readonly isGood: boolean }[] = []
  #seen: number

  /** @param seen the greatest serial that an earlier run has seen; 0 for none */
  constructor(
    readonly identity: IdentityKey,
    seen: number,
  ) {
    this.#verifier = new IdentityVerifier(identity)
    this.#seen = seen
  }

  /** The greatest serial of what the identity has signed, as far as it was seen; 0 for none. */
  get seen(): number {
    return this.#seen
  }

  objection(signed: SignedLease | undefined): string | undefined {
    if (signed === undefined) return `${UNPROVEN}: it has signed nothing`
    if (!this.#isGood(signed)) return `${UNPROVEN}: its signature is not by ${this.identity}`
    this.#seen = Math.max(this.#seen, signed.serial ?? 0)
    return undefined
  }

  /** Why a lease is not the last one that the identity has signed. */
  whyFormer({ serial = 0 }: SignedLease): string | undefined {
    return serial < this.#seen ? `${FORMER}: ${describeFormer(serial, this.#seen)}` : undefined
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

/**
 * The pins of one network. A change makes other ones. What was proven, and the greatest serials that were
 * seen, go on with each pin that stays.
 */
export class Pins {
  static readonly NONE = new Pins(new Map())

  private constructor(private readonly bySubnet: ReadonlyMap<string, Hold>) {}

  /**
   * @param entries the records of hosts; a record without an identity pins nothing
   * @param before the pins until now: what was proven by them is not checked again
   * @param seen the greatest serials that an earlier run has seen
   */
  static of(entries: Iterable<HostEntry>, before: Pins = Pins.NONE, seen: readonly SeenSerial[] = []): Pins {
    const bySubnet = new Map<string, Hold>()
    const remembered = new Map(seen.map((each) => [`${each.subnet} ${each.identity}`, each.serial]))
    for (const entry of entries) {
      const reason = whyUnreadable(entry)
      const identity = readableRecord(entry)?.identity
      if (identity === undefined && reason === undefined) continue
      for (const [name, prefix] of namesOf(entry)) {
        const known = before.bySubnet.get(name)
        const isSame = known !== undefined && identityOf(known) === identity
        if (isSame && identity !== undefined) bySubnet.set(name, known)
        else {
          const serial = remembered.get(`${name} ${identity}`) ?? 0
          const pin = identity === undefined ? { reason: reason ?? '' } : new Pin(identity, serial)
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

  /** The greatest serials that were seen. */
  seenSerials(): SeenSerial[] {
    const seen: SeenSerial[] = []
    for (const [subnet, { pin }] of this.bySubnet)
      if (pin instanceof Pin && pin.seen > 0) seen.push({ subnet, identity: pin.identity, serial: pin.seen })
    return seen
  }

  /** Takes note of the serial of a lease in etcd, if the pinned identity has signed the lease. */
  note(subnet: Prefix, signed: SignedLease | undefined): void {
    if (signed?.serial !== undefined) this.objection(subnet, signed)
  }

  /**
   * Why a lease in etcd is refused, as {@link objection}, or because its host has signed another one since.
   * A peer that is kept as it was last valid may be one of before.
   */
  objectionToLease(subnet: Prefix, signed: SignedLease | undefined): string | undefined {
    const objection = this.objection(subnet, signed)
    if (objection !== undefined || this.size === 0 || signed === undefined) return objection
    const pin = this.bySubnet.get(formatPrefix(subnet))?.pin
    return pin instanceof Pin ? pin.whyFormer(signed) : undefined
  }

  /** Why a peer of that subnet is not the pinned one; `undefined` if nothing is against it. */
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
