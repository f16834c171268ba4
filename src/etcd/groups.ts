/** The multicast groups that hosts want, each bound to a short etcd lease of its own. */
import type { EtcdLeaseId, Lease, Revision } from '../model/lease'
import { GROUPS_TTL_SECONDS, type HostGroups } from '../model/multicast'
import { encodeGroups } from './codec/groups-codec'
import { formatSubnetName, type Keys } from './codec/keys'
import { type EtcdLeases, newEtcdLeaseId } from './etcd-leases'
import { revisionOf, type Transactions } from './transactions'

export class Groups {
  constructor(
    private readonly keys: Keys,
    private readonly transactions: Transactions,
    private readonly etcdLeases: EtcdLeases,
  ) {}

  /**
   * Gets an etcd lease for the groups of this host.
   * @throws {EtcdError}; an etcd lease whose id is lost by that ends by itself
   */
  async grant(signal: AbortSignal): Promise<EtcdLeaseId> {
    const id = newEtcdLeaseId()
    await this.etcdLeases.grant(id, signal, GROUPS_TTL_SECONDS)
    return id
  }

  /**
   * Writes the groups that this host wants, if its lease is unchanged. A value that is there already is
   * overwritten: an earlier run wrote it, or a program that had no right to.
   * @param own our lease as it was last reported
   * @returns the revision; `undefined` when our lease has changed, and nothing was written
   */
  async put(
    own: Lease,
    groups: HostGroups,
    etcdLease: EtcdLeaseId,
    signal: AbortSignal,
  ): Promise<Revision | undefined> {
    const request_put = {
      key: this.#groupsKey(own),
      value: Buffer.from(encodeGroups(groups)),
      lease: etcdLease,
    }
    return revisionOf(
      await this.transactions.guarded('say which groups are wanted', own, { request_put }, signal),
    )
  }

  /**
   * Deletes the groups of this host, also those that an earlier run wrote.
   * @returns as {@link putGroups}
   */
  async delete(own: Lease, signal: AbortSignal): Promise<Revision | undefined> {
    const request_delete_range = { key: this.#groupsKey(own) }
    const doing = 'take back which groups are wanted'
    return revisionOf(await this.transactions.guarded(doing, own, { request_delete_range }, signal))
  }

  #groupsKey({ subnet }: Lease): Buffer {
    return Buffer.from(this.keys.groups + formatSubnetName(subnet))
  }
}
