/**
 * What this host is to announce, and what of it is under way: decides what has to be done about each key in
 * etcd. An order of an operator and a pass of the daemon may be about one key at the same time, and the watch
 * may report what either has done before etcd has answered it.
 */
import { type EtcdLeaseId, isReservation, type Lease, type Revision } from '../../model/lease'
import { type Announcement, type PrefixClaim, prefixName, sameAnnouncement } from '../../model/prefixes'

/**
 * `put`: write the key. `claim`: write the key of a further subnet, unless another host has announced
 * anything in it. `delete`: take the key back.
 */
export type Step = 'none' | 'put' | 'claim' | 'delete'

/** What is known of one prefix now. */
export interface Sight {
  /** This host's key in etcd, as the watch has reported it. */
  readonly claim: PrefixClaim | undefined
  /** Up to which revision the watch has reported. */
  readonly revision: Revision
  /** This host's lease. */
  readonly lease: Lease
  /** Whether packets to the prefix have a way on this host, so that others may hear of it. */
  readonly hasWay: boolean
}

export class ClaimLedger {
  /** Name of the prefix -> what this host announces. */
  readonly #wanted: Map<string, Announcement>
  /** Name of the prefix -> number of orders that are about it now. */
  readonly #orders = new Map<string, number>()
  /** Name of the prefix -> revision of our last write or deletion. */
  readonly #done = new Map<string, Revision>()

  constructor(remembered: Iterable<Announcement>) {
    this.#wanted = new Map(Array.from(remembered, (each) => [prefixName(each.prefix), each]))
  }

  /** By name of the prefix. */
  get wanted(): ReadonlyMap<string, Announcement> {
    return this.#wanted
  }

  want(announcement: Announcement): void {
    this.#wanted.set(prefixName(announcement.prefix), announcement)
  }

  unwant(name: string): void {
    this.#wanted.delete(name)
  }

  /**
   * Keeps the passes off a prefix while an order changes its key, and what is wanted of it. Several orders
   * may be about one prefix.
   */
  async ordering<T>(name: string, obey: () => Promise<T>): Promise<T> {
    this.#orders.set(name, (this.#orders.get(name) ?? 0) + 1)
    try {
      return await obey()
    } finally {
      const left = (this.#orders.get(name) ?? 1) - 1
      if (left === 0) this.#orders.delete(name)
      else this.#orders.set(name, left)
    }
  }

  /** Notes that etcd has answered a write or a deletion of ours. */
  noted(name: string, revision: Revision): void {
    this.#done.set(name, revision)
  }

  /** What a pass has to do about the key of a prefix. Asked right before, for it changes with each answer. */
  step(name: string, { claim, revision, lease, hasWay }: Sight): Step {
    if (this.#orders.has(name) || (this.#done.get(name) ?? 0n) > revision) return 'none'
    const announcement = hasWay ? this.#wanted.get(name) : undefined
    // Without an etcd lease it may be an operator's, for good.
    if (announcement === undefined)
      return claim !== undefined && isBoundTo(claim.etcdLease, lease) ? 'delete' : 'none'
    if (claim === undefined) return announcement.further === true ? 'claim' : 'put'
    const isWritten =
      sameAnnouncement(claim.announcement, announcement) && claim.etcdLease === lease.etcdLease
    return isWritten ? 'none' : 'put'
  }
}

/** Whether a key ends with the lease of this host, so that this host has written it. */
export const isBoundTo = (etcdLease: EtcdLeaseId, lease: Lease): boolean =>
  etcdLease === lease.etcdLease && !isReservation(lease)
