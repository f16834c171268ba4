import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Lease, Revision, UnreadableLease } from '../model/lease'
import type { GroupsEntry } from '../model/multicast'
import type { EtcdClient } from './client'
import { EtcdError, toEtcdError } from './errors'
import { decodeGroups } from './groups-codec'
import type { Keys } from './keys'
import { decodeLease, isReadable } from './lease-codec'
import { rangeBytes } from './raw-calls'
import { type KeyValue, RangeAnswer } from './wire'

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
  /** What hosts say of multicast groups; absent where that was not read. */
  readonly groups?: readonly GroupsEntry[]
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
/** Keys read at a time, so that whoever waits for the event loop waits for a few milliseconds at the most. */
const SLICE = 500
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
  let page = pageKeys
  for (let attempt = 1; ; attempt++) {
    try {
      return await readPages(client, keys, signal, page)
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      // A page of hosts that want hundreds of multicast groups each.
      const isTooLarge = error.message.includes(TOO_LARGE) && page > 1
      if (isTooLarge) page = Math.ceil(page / SHRINK)
      else if (error.code !== 'etcd-compacted' || attempt === ATTEMPTS) throw error
    }
  }
}

/** grpc-js's words for an answer above the limit that we set. */
const TOO_LARGE = 'Received message larger than max'
const SHRINK = 8

async function readPages(
  client: EtcdClient,
  keys: Keys,
  signal: AbortSignal,
  pageKeys: number,
): Promise<ReadSnapshot> {
  const end = Buffer.from(keys.range.end)
  const readPage = async (key: Buffer, revision: Revision): Promise<RangeAnswer> => {
    const request = { key, range_end: end, limit: pageKeys, revision: String(revision) }
    return client.call(
      DOING,
      async (etcd, options) => new RangeAnswer(await rangeBytes(etcd, request, options)),
      signal,
      PAGE_DEADLINE_MS,
    )
  }
  const builder = new SnapshotBuilder(keys)
  const first = await readPage(Buffer.from(keys.range.start), NEWEST)
  let last = await addAll(builder, first, client.endpoint, signal)
  const { revision, clusterId } = first.header
  for (let page = first; page.more && last !== undefined; ) {
    // The next possible key: the last one with a null byte appended.
    page = await readPage(Buffer.from(`${last}\0`), revision)
    last = await addAll(builder, page, client.endpoint, signal)
  }
  return { snapshot: builder.build(revision, clusterId), clusterId }
}

const DOING = 'read the leases'
const NEWEST = 0n as Revision

/**
 * Takes in a page, in slices: events of the kernel, timers and requests have their turn between two of them.
 * @returns the last key
 */
async function addAll(
  builder: SnapshotBuilder,
  page: RangeAnswer,
  endpoint: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  let last: string | undefined
  let count = 0
  try {
    for (const keyValue of page.keyValues()) {
      builder.add(keyValue)
      last = keyValue.key
      count += 1
      if (count % SLICE > 0) continue
      await nextTurn()
      signal.throwIfAborted()
    }
  } catch (cause) {
    signal.throwIfAborted()
    throw toEtcdError(cause, { doing: DOING, endpoint })
  }
  return last
}

class SnapshotBuilder {
  #config: KeyValue | undefined
  readonly #leases: Lease[] = []
  readonly #unreadable: UnreadableLease[] = []
  readonly #groups: GroupsEntry[] = []

  constructor(private readonly keys: Keys) {}

  add(kv: KeyValue): void {
    const { key } = kv
    if (key === this.keys.config) {
      this.#config = kv
    } else if (key.startsWith(this.keys.subnets)) {
      const lease = decodeLease(this.keys, kv)
      if (isReadable(lease)) this.#leases.push(lease)
      else this.#unreadable.push(lease)
    } else if (key.startsWith(this.keys.groups)) {
      this.#groups.push(decodeGroups(this.keys, kv))
    }
  }

  build(revision: Revision, clusterId: string): Snapshot {
    return {
      revision,
      clusterId,
      config: this.#config?.value,
      configRevision: this.#config?.modRevision,
      leases: this.#leases,
      unreadable: this.#unreadable,
      groups: this.#groups,
    }
  }
}
