/**
 * Asks the owner of a lease whether it lives. The asking host writes the key with the same value, which
 * changes nothing for any peer. An overlayd that holds the lease notices the write and renews its etcd lease
 * at once. The asking host reads that from the life time of the etcd lease.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Lease } from '../model/lease'
import { type LifeReading, wasRenewed } from '../model/lease-life'
import type { Registry } from './registry'

/**
 * All times in milliseconds. etcd reports whole seconds: a renewal sooner after the first reading could not
 * be seen.
 */
const BEFORE_ASKING = 3000
/** A live owner answers within a watch event and one call. */
const PATIENCE = 2500
const LOOK = 250

export interface Answer {
  readonly alive: boolean
  /** The lease afterwards; undefined when it is gone. */
  readonly now: Lease | undefined
}

/**
 * Asks the owner of a lease whether it lives, once. It takes up to {@link BEFORE_ASKING} and {@link
 * PATIENCE}.
 * @throws {EtcdError}; the signal's reason
 */
export async function askOwner(registry: Registry, lease: Lease, signal: AbortSignal): Promise<Answer> {
  const before = await readLife(registry, lease, signal)
  if (before === undefined) return { alive: false, now: undefined }
  await sleep(BEFORE_ASKING, undefined, { signal })
  const touched = await registry.leases.touch(lease, signal)
  // Another program has just written the key: its owner lives.
  if (touched.kind === 'changed') return { alive: touched.now !== undefined, now: undefined }
  const deadline = performance.now() + PATIENCE
  do {
    await sleep(LOOK, undefined, { signal })
    const after = await readLife(registry, lease, signal)
    if (after === undefined) return { alive: false, now: undefined }
    if (wasRenewed(before, after)) return { alive: true, now: touched.lease }
  } while (performance.now() < deadline)
  return { alive: false, now: touched.lease }
}

async function readLife(
  registry: Registry,
  lease: Lease,
  signal: AbortSignal,
): Promise<LifeReading | undefined> {
  const askedAt = performance.now()
  const ttlSeconds = await registry.etcdLeases.timeToLive(lease.etcdLease, signal)
  return ttlSeconds === undefined ? undefined : { ttlSeconds, askedAt, answeredAt: performance.now() }
}
