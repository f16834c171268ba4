/**
 * Finds out which leases are this host's. Where it is in doubt, the owner is asked whether it lives: its key is written as it is, which changes
 * nothing for any peer; an overlayd that holds it sees that and renews its etcd lease at once, which the asking host can read.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdError } from '../etcd/errors'
import type { Registry } from '../etcd/registry'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError } from '../model/errors'
import { formatLeaseSubnet, type Lease } from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { type Evidence, IdentityConflict, judgeClaim } from '../plan/identity'
import { type LifeReading, wasRenewed } from '../plan/lease-life'
import { fitsConfig } from '../plan/own-lease'
import type { Logger } from './logger'

/** All times in milliseconds. etcd tells whole seconds: what is renewed sooner after the first reading looks as if it was not. */
const BEFORE_ASKING = 3000
/** A live owner answers within a watch event and one call. */
const PATIENCE = 2500
const LOOK = 250
const BACKOFF: BackoffBounds = { first: 200, most: 5000 }

/** The leases of this host. */
export interface Claims {
  readonly leases: readonly Lease[]
  /**
   * Those of them that this host knows to be its own. The others it has for want of an owner who answers, so it never takes their MAC: an owner
   * who could only not be reached must see that the value is another's.
   */
  readonly known: readonly Lease[]
}

/**
 * Finds the leases of this host. Nobody is asked when one that is ours beyond doubt fits the config.
 * @throws {IdentityConflict} when another host is alive with our PublicIP
 */
export async function settleClaims(
  registry: Registry,
  config: NetworkConfig,
  leases: readonly Lease[],
  evidence: Evidence,
  log: Logger,
  signal: AbortSignal,
): Promise<Claims> {
  const claims = leases.map((lease) => ({ lease, claim: judgeClaim(lease, evidence) }))
  const ours = claims.filter(({ claim }) => claim === 'ours').map(({ lease }) => lease)
  const inDoubt = claims.filter(({ claim }) => claim === 'doubtful' || claim === 'moved')
  if (ours.some((lease) => fitsConfig(config, lease))) {
    for (const { lease } of inDoubt) log.warn(`lease: ${lease.key} has our address too; it is left alone`)
    return { leases: ours, known: ours }
  }
  const answers = await Promise.all(
    inDoubt.map(async ({ lease, claim }) => {
      const subnet = formatLeaseSubnet(lease.subnet)
      const why =
        claim === 'moved' ? 'which was ours, has another address' : 'which has our address, does not know us'
      log.info(`lease: ${subnet}, ${why}: asking whether its host is alive`)
      return { lease, claim, ...(await askPatiently(registry, lease, log, signal)) }
    }),
  )
  const rival = answers.find(({ claim, alive }) => claim === 'doubtful' && alive)
  if (rival !== undefined) throw new IdentityConflict(rival.lease, evidence.publicIp)
  for (const { lease, alive } of answers) {
    const subnet = formatLeaseSubnet(lease.subnet)
    if (alive) {
      log.warn(
        `lease: ${subnet} is that of a host that is alive at another address: this host is a copy of it, and gets a subnet and a MAC of its own. Give it a machine id and remove the state file from what it was copied from`,
      )
    } else log.info(`lease: nobody answers for ${subnet}: it is ours`)
  }
  const free = answers.flatMap(({ claim, alive, now }) => (alive || now === undefined ? [] : { claim, now }))
  const moved = free.filter(({ claim }) => claim === 'moved')
  const leasesOf = (some: typeof free): Lease[] => some.map(({ now }) => now)
  return { leases: [...ours, ...leasesOf(free)], known: [...ours, ...leasesOf(moved)] }
}

interface Answer {
  readonly alive: boolean
  /** The lease afterwards; undefined when it is gone. */
  readonly now: Lease | undefined
}

/** An etcd that does not answer is asked again. */
async function askPatiently(
  registry: Registry,
  lease: Lease,
  log: Logger,
  signal: AbortSignal,
): Promise<Answer> {
  for (let failures = 1; ; failures++) {
    try {
      return await ask(registry, lease, signal)
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      log.warn(`lease: ${describeError(error)}; trying again`)
      await sleep(backoffDelay(failures, BACKOFF, Math.random), undefined, { signal })
    }
  }
}

async function ask(registry: Registry, lease: Lease, signal: AbortSignal): Promise<Answer> {
  const before = await readLife(registry, lease, signal)
  if (before === undefined) return { alive: false, now: undefined }
  await sleep(BEFORE_ASKING, undefined, { signal })
  const touched = await registry.touchLease(lease, signal)
  // Somebody else writes it, and that is somebody who lives.
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
  const ttlSeconds = await registry.timeToLive(lease.etcdLease, signal)
  return ttlSeconds === undefined ? undefined : { ttlSeconds, askedAt, toldAt: performance.now() }
}
