/** The prefixes that hosts announce, each bound to the etcd lease of its host. */
import type { Prefix } from '../model/address'
import type { Lease, Revision } from '../model/lease'
import type { Announcement } from '../model/prefixes'
import type { Keys } from './codec/keys'
import { toRevision } from './codec/lease-codec'
import { allPrefixesOf, encodeAnnouncement, prefixKey } from './codec/prefix-codec'
import { revisionOf, type Transactions } from './transactions'

/** What has become of an attempt to claim a prefix that overlaps no other. */
export type Claimed =
  | { readonly kind: 'claimed'; readonly revision: Revision }
  /** Another host has announced something first; the newest of it has that revision. */
  | { readonly kind: 'outrun'; readonly by: Revision }
  /** Our lease has changed, and nothing was written. */
  | { readonly kind: 'lease-changed' }

export class Prefixes {
  constructor(
    private readonly keys: Keys,
    private readonly transactions: Transactions,
  ) {}

  /**
   * Announces a prefix, if the lease of this host is unchanged. The key ends with that lease.
   * @param own our lease as it was last reported
   * @returns the revision; `undefined` when our lease has changed, and nothing was written
   */
  async put(own: Lease, announcement: Announcement, signal: AbortSignal): Promise<Revision | undefined> {
    const request_put = this.#putOf(own, announcement)
    return revisionOf(await this.transactions.guarded('announce a prefix', own, { request_put }, signal))
  }

  /**
   * Announces a prefix, if no host has announced anything since a revision. So whoever has chosen the prefix
   * by all claims of that revision has chosen by all claims that there are. A key for each block would do as
   * well, but every host would need the right to write the blocks of all others.
   * @param known all claims are known up to this revision
   */
  async claim(
    own: Lease,
    announcement: Announcement,
    known: Revision,
    signal: AbortSignal,
  ): Promise<Claimed> {
    const lease = Buffer.from(own.key)
    const { start, end } = allPrefixesOf(this.keys)
    const all = { key: Buffer.from(start), range_end: Buffer.from(end) }
    const since = String(known + 1n)
    const isLease = {
      key: lease,
      target: 'Mod',
      result: 'Equal',
      mod_revision: String(own.modRevision),
    } as const
    // The condition is true of a range without keys: their revisions are 0 then (etcd: applyCompare).
    const isQuiet = { ...all, target: 'Mod', result: 'Less', mod_revision: since } as const
    const answer = await this.transactions.run(
      'claim a prefix',
      {
        compare: [isLease, isQuiet],
        success: [{ request_put: this.#putOf(own, announcement) }],
        failure: [
          { request_range: { key: lease, keys_only: true } },
          { request_range: { ...all, keys_only: true, min_mod_revision: since } },
        ],
      },
      signal,
    )
    const revision = revisionOf(answer)
    if (revision !== undefined) return { kind: 'claimed', revision }
    const [ofLease, news] = answer.responses.map(({ response_range }) =>
      response_range.kvs.map(({ mod_revision }) => toRevision(mod_revision)),
    )
    if (ofLease?.[0] !== own.modRevision) return { kind: 'lease-changed' }
    const [newest = known] = (news ?? []).sort((a, b) => (a > b ? -1 : 1))
    return { kind: 'outrun', by: newest }
  }

  /**
   * Withdraws a prefix.
   * @returns as {@link put}
   */
  async delete(own: Lease, prefix: Prefix, signal: AbortSignal): Promise<Revision | undefined> {
    const request_delete_range = { key: Buffer.from(prefixKey(this.keys, own.subnet, prefix)) }
    const doing = 'withdraw a prefix'
    return revisionOf(await this.transactions.guarded(doing, own, { request_delete_range }, signal))
  }

  #putOf(own: Lease, announcement: Announcement) {
    return {
      key: Buffer.from(prefixKey(this.keys, own.subnet, announcement.prefix)),
      value: Buffer.from(encodeAnnouncement(announcement)),
      lease: own.etcdLease,
    }
  }
}
