/** The announced prefixes as etcd has them, with their revision, and those that are held back. */
import { EventEmitter, once } from 'node:events'
import { familyOf, type Prefix, prefixesOverlap } from '../../model/address'
import type { Revision } from '../../model/lease'
import { isClaim, type PrefixClaim, type PrefixEntry, sameAnnouncement } from '../../model/prefixes'
import { ClaimTable } from '../../plan/prefixes/claim-table'
import type { PrefixEvent } from '../node/sort-update'

/** Entries that are taken in one turn of the event loop: a few milliseconds in a young process. */
const PIECE = 256

/** A listing of etcd, or of a state file. */
export interface PrefixListing {
  readonly entries: readonly PrefixEntry[]
  /** Entries that are not kept, for there are too many. */
  readonly more: number
  /** `undefined` where the entries are those of a state file. */
  readonly revision: Revision | undefined
}

export class EntryBook {
  /** The readable entries. */
  readonly claims = new ClaimTable()
  /** Name -> entry. */
  readonly #entries = new Map<string, PrefixEntry>()
  /** Names that are gone from etcd together with the leases of their hosts, which are held back. */
  readonly #kept = new Set<string>()
  #more = 0
  #revision: Revision | undefined
  #generation = 0
  /** Tells of each change of the revision. */
  readonly #progress = new EventEmitter()
  #isHeld = (_host: string): boolean => false

  /** Up to which revision the entries are known; `undefined` until etcd has listed them. */
  get revision(): Revision | undefined {
    return this.#revision
  }

  /** A number that grows with every change of an entry. */
  get generation(): number {
    return this.#generation
  }

  /** Number of entries. */
  get size(): number {
    return this.#entries.size
  }

  /** Entries that are not kept, for there are too many. */
  get more(): number {
    return this.#more
  }

  /** Entries that cannot be read. */
  get unreadable(): readonly PrefixEntry[] {
    return [...this.#entries.values()].filter(({ reason }) => reason !== undefined)
  }

  /** @param isHeld whether the peer of a host is held back though its lease is gone from etcd */
  holdWith(isHeld: (host: string) => boolean): void {
    this.#isHeld = isHeld
  }

  /**
   * Takes a listing, in pieces of a few milliseconds. What has gone is left out after all that has come is
   * there: a review between two pieces finds no prefix without its next host.
   */
  *listing({ entries, more, revision }: PrefixListing): Generator<void, void> {
    const listed = new Set<string>()
    let taken = 0
    for (const entry of entries) {
      listed.add(entry.name)
      this.#kept.delete(entry.name)
      if (!isSame(this.#entries.get(entry.name), entry)) this.#set(entry)
      taken += 1
      if (taken % PIECE === 0) yield
    }
    for (const name of this.#entries.keys()) {
      if (listed.has(name)) continue
      this.#remove(name)
      taken += 1
      if (taken % PIECE === 0) yield
    }
    this.#more = more
    this.#progressTo(revision)
  }

  /** Takes events of etcd, all of them in one turn. */
  apply(events: readonly PrefixEvent[], revision: Revision): void {
    for (const event of events) {
      if (event.kind === 'prefix-removed') this.#remove(event.name)
      else {
        this.#kept.delete(event.prefix.name)
        this.#set(event.prefix)
      }
    }
    this.#progressTo(revision)
  }

  /** Leaves out what was held back together with hosts that are held back no more. */
  letGo(): void {
    for (const name of this.#kept) if (!this.#isHeldName(name)) this.#remove(name)
  }

  /** Waits until everything up to a revision of etcd is known. @throws the signal's reason */
  async reached(revision: Revision, signal: AbortSignal): Promise<void> {
    while ((this.#revision ?? 0n) < revision) await once(this.#progress, 'revision', { signal })
  }

  /** The claim of a host but this one to a further subnet that overlaps a prefix. */
  rivalOf(prefix: Prefix, ownName: string): PrefixClaim | undefined {
    for (const claim of this.claims.all()) {
      const { further, prefix: other } = claim.announcement
      if (further !== true || claim.host === ownName) continue
      if (familyOf(other.address) === familyOf(prefix.address) && prefixesOverlap(other, prefix)) return claim
    }
    return undefined
  }

  #set(entry: PrefixEntry): void {
    this.#generation += 1
    this.#entries.set(entry.name, entry)
    if (isClaim(entry)) this.claims.set(entry)
    else this.claims.delete(entry.name)
  }

  /** Takes an entry out that etcd has no more, or holds it back. */
  #remove(name: string): void {
    if (!this.#entries.has(name)) return
    if (this.#isHeldName(name)) {
      this.#kept.add(name)
      return
    }
    this.#generation += 1
    this.#kept.delete(name)
    this.#entries.delete(name)
    this.claims.delete(name)
  }

  #isHeldName(name: string): boolean {
    return this.#isHeld(name.slice(0, name.indexOf('/')))
  }

  #progressTo(revision: Revision | undefined): void {
    this.#revision = revision
    this.#progress.emit('revision')
  }
}

/** An etcd that was replaced may have another entry of the same revision. */
function isSame(a: PrefixEntry | undefined, b: PrefixEntry): boolean {
  if (a === undefined || a.modRevision !== b.modRevision) return false
  if (!isClaim(a) || !isClaim(b)) return a.reason === b.reason
  const { announcement, claimedAt, etcdLease } = a
  return (
    claimedAt === b.claimedAt && etcdLease === b.etcdLease && sameAnnouncement(announcement, b.announcement)
  )
}
