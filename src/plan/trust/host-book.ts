/** The records of enrolled hosts as etcd has them now, and the pins that follow from them. */
import type { HostEntry } from '../../model/host-record'
import type { LeaseSubnet } from '../../model/lease'
import { Pins } from './pins'
import type { SeenSerial } from './serial'

/** A change of one record. */
export type HostChange =
  | { readonly kind: 'host'; readonly host: HostEntry }
  | { readonly kind: 'host-removed'; readonly name: string }

export class HostBook {
  #entries: Map<string, HostEntry>
  #pins: Pins
  #isKnown: boolean

  /**
   * @param entries `undefined` while etcd has not been asked: nothing is pinned then
   * @param remembered the greatest serials that an earlier run has seen
   */
  constructor(
    entries: readonly HostEntry[] | undefined,
    private readonly remembered: readonly SeenSerial[] = [],
  ) {
    this.#isKnown = entries !== undefined
    this.#entries = byName(entries ?? [])
    this.#pins = Pins.of(entries ?? [], Pins.NONE, remembered)
  }

  /** Whether etcd has been asked. */
  get isKnown(): boolean {
    return this.#isKnown
  }

  get pins(): Pins {
    return this.#pins
  }

  /** The greatest serials that were seen of the subnets that are pinned. */
  seenSerials(): readonly SeenSerial[] {
    return this.#isKnown ? this.#pins.seenSerials() : this.remembered
  }

  /** Whether the lease of that subnet has to be signed. */
  isPinned(subnet: LeaseSubnet): boolean {
    return this.#pins.identitiesOf(subnet).length > 0
  }

  /** Takes a listing; what is not in it is gone. @returns whether other identities are pinned now */
  replace(entries: readonly HostEntry[]): boolean {
    this.#isKnown = true
    this.#entries = byName(entries)
    return this.#renew()
  }

  /** Takes changes. @returns whether other identities are pinned now */
  apply(changes: readonly HostChange[]): boolean {
    if (changes.length === 0) return false
    for (const change of changes)
      if (change.kind === 'host') this.#entries.set(change.host.name, change.host)
      else this.#entries.delete(change.name)
    return this.#renew()
  }

  #renew(): boolean {
    const before = this.#pins
    // What an earlier run has seen is not older than what a pin that comes again would begin with.
    this.#pins = Pins.of(this.#entries.values(), before, this.remembered)
    return this.#pins.changesFrom(before).length > 0
  }
}

const byName = (entries: readonly HostEntry[]): Map<string, HostEntry> =>
  new Map(entries.map((entry) => [entry.name, entry]))
