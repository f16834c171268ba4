import type { IRangeResponse } from 'etcd3'
import type { Lease, Revision, UnreadableLease } from '../model/lease'
import type { EtcdClient } from './client'
import { EtcdError } from './errors'
import type { Keys } from './keys'
import { decodeLease, isReadable, type KeyValue, toRevision } from './lease-codec'

/** All that etcd holds of one network, at one revision. */
export interface Snapshot {
  readonly revision: Revision
  /** The cluster it is of, by its own id; undefined where that is not known. */
  readonly clusterId?: string
  /** The network config's JSON text; undefined when there is none. */
  readonly config: string | undefined
  readonly configRevision: Revision | undefined
  /** In key order. */
  readonly leases: readonly Lease[]
  readonly unreadable: readonly UnreadableLease[]
}

/** The snapshot and the cluster it is of. */
export interface ReadSnapshot {
  readonly snapshot: Snapshot
  readonly clusterId: string
}

/** Keys to a page: 10,000 leases are one RPC, and 16,384 about 7 MB. */
const PAGE_KEYS = 16_384
/** For a page of that size on a slow link. */
const PAGE_DEADLINE_MS = 5000
/** Compactions a reading may meet before it gives up; they are minutes apart, a page takes milliseconds. */
const ATTEMPTS = 3

/**
 * Reads everything under the prefix: one linearizable Range, more of the same revision when there are more keys than fit a page.
 * @throws {EtcdError}, or the signal's reason
 */
export async function readSnapshot(
  client: EtcdClient,
  keys: Keys,
  signal: AbortSignal,
  pageKeys = PAGE_KEYS,
): Promise<ReadSnapshot> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readPages(client, keys, signal, pageKeys)
    } catch (error) {
      const compacted = error instanceof EtcdError && error.code === 'etcd-compacted'
      if (!compacted || attempt === ATTEMPTS) throw error
    }
  }
}

async function readPages(
  client: EtcdClient,
  keys: Keys,
  signal: AbortSignal,
  pageKeys: number,
): Promise<ReadSnapshot> {
  const end = Buffer.from(keys.range.end)
  const readPage = (key: Buffer, revision: string): Promise<IRangeResponse> =>
    client.call(
      'read the leases',
      (etcd, options) => etcd.kv.range({ key, range_end: end, limit: pageKeys, revision }, options),
      signal,
      PAGE_DEADLINE_MS,
    )
  const first = await readPage(Buffer.from(keys.range.start), '0')
  const { revision, cluster_id: clusterId } = first.header
  const builder = new SnapshotBuilder(keys)
  for (let page = first; ; ) {
    for (const kv of page.kvs) builder.add(kv)
    const last = page.kvs.at(-1)
    if (!page.more || last === undefined) break
    // The next possible key: the last one with a null byte appended.
    page = await readPage(Buffer.concat([last.key, Buffer.alloc(1)]), revision)
  }
  return { snapshot: builder.build(toRevision(revision), clusterId), clusterId }
}

class SnapshotBuilder {
  #config: KeyValue | undefined
  readonly #leases: Lease[] = []
  readonly #unreadable: UnreadableLease[] = []

  constructor(private readonly keys: Keys) {}

  add(kv: KeyValue): void {
    const key = kv.key.toString()
    if (key === this.keys.config) {
      this.#config = kv
    } else if (key.startsWith(this.keys.subnets)) {
      const lease = decodeLease(this.keys, kv)
      if (isReadable(lease)) this.#leases.push(lease)
      else this.#unreadable.push(lease)
    }
  }

  build(revision: Revision, clusterId: string): Snapshot {
    return {
      revision,
      clusterId,
      config: this.#config?.value.toString(),
      configRevision: this.#config && toRevision(this.#config.mod_revision),
      leases: this.#leases,
      unreadable: this.#unreadable,
    }
  }
}
