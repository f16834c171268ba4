/** The prefixes that hosts announce, each bound to the etcd lease of its host. */
import type { Prefix } from '../model/address'
import type { Lease, Revision } from '../model/lease'
import type { Announcement } from '../model/prefixes'
import type { Keys } from './codec/keys'
import { encodeAnnouncement, prefixKey } from './codec/prefix-codec'
import { revisionOf, type Transactions } from './transactions'

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
    const request_put = {
      key: Buffer.from(prefixKey(this.keys, own.subnet, announcement.prefix)),
      value: Buffer.from(encodeAnnouncement(announcement)),
      lease: own.etcdLease,
    }
    return revisionOf(await this.transactions.guarded('announce a prefix', own, { request_put }, signal))
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
}
