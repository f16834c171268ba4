/** Gets this host its lease: the one it has, or a new one, whoever else is after the same subnet. */
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdError } from '../etcd/errors'
import type { Registry } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { formatIp, type IpAddress } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import {
  formatLeaseSubnet,
  isReservation,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  sameLeaseValue,
} from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import { type HostIdentity, planOwnLease } from '../plan/own-lease'
import type { Logger } from './logger'

/** A race is lost to one host at a time, so as many losses in a row mean something else. */
const MOST_RACES = 10
const BACKOFF: BackoffBounds = { first: 100, most: 5000 }

export interface LeaseRequest {
  readonly config: NetworkConfig
  readonly publicIp: IpAddress
  /** The leases of this host, as they stood when that was found out. */
  readonly claimed?: readonly Lease[]
  /** The key that this host had last, as far as it remembers. */
  readonly preferred?: string | undefined
  readonly previous: HostIdentity['previous']
  readonly value: LeaseValue
}

/**
 * Acquires the lease, as often as it takes: an etcd that does not answer is asked again with backoff.
 * @param first what etcd had when it was last read
 * @throws {OverlayError} `out-of-subnets`, `lease-race`, or the signal's reason
 */
export async function acquireLease(
  registry: Registry,
  first: Snapshot,
  request: LeaseRequest,
  log: Logger,
  signal: AbortSignal,
): Promise<Lease> {
  const refused: LeaseSubnet[] = []
  let snapshot: Snapshot | undefined = first
  for (let failures = 0; ; ) {
    try {
      snapshot ??= await registry.snapshot(signal)
      const lease = await tryOnce(registry, snapshot, request, refused, log, signal)
      if (lease !== undefined) return lease
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      failures++
      log.warn(`lease: ${describeError(error)}; trying again`)
      await sleep(backoffDelay(failures, BACKOFF, Math.random), undefined, { signal })
    }
    snapshot = undefined
    const last = refused.at(-1)
    if (last !== undefined && refused.length >= MOST_RACES) {
      throw new OverlayError(
        'lease-race',
        `${MOST_RACES} subnets in a row were taken by others, last ${formatLeaseSubnet(last)}`,
        'look for keys under the prefix that cannot be read (overlayctl status lists them)',
      )
    }
  }
}

/** @returns the lease, or `undefined` when someone was faster */
async function tryOnce(
  registry: Registry,
  snapshot: Snapshot,
  request: LeaseRequest,
  refused: LeaseSubnet[],
  log: Logger,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const { config, publicIp, previous, preferred, claimed = [], value } = request
  // A claim holds for what was looked at; and what we have written since is ours.
  const isOurs = (lease: Lease): boolean =>
    sameLeaseValue(lease.value, value) ||
    claimed.some(({ key, value: then }) => key === lease.key && sameLeaseValue(lease.value, then))
  const host = { publicIp, previous, preferred, isOurs, refused }
  const leases = withRevisions(snapshot.leases, claimed)
  const plan = planOwnLease(config, leases, host, Math.random)
  if (plan.kind === 'reuse') {
    const result = await registry.updateLease(plan.lease, value, signal)
    if (result.kind === 'changed') return undefined
    const { publicIp: before } = plan.lease.value
    const moved = before === value.publicIp ? '' : `, which was at ${formatIp(before)} before`
    noteTaken(log, 'keeping', result.lease.subnet, moved)
    return result.lease
  }
  await deleteOutgrown(registry, plan.inTheWay, log, signal)
  // A reservation whose subnet goes on under another key, because the network has gained or lost a family, stays one.
  const result = plan.inTheWay.some(isReservation)
    ? await registry.createReservation(plan.subnet, value, signal)
    : await registry.createLease(plan.subnet, value, signal)
  if (result.kind === 'taken') {
    log.info(`lease: ${formatLeaseSubnet(plan.subnet)} was taken by another host, choosing again`)
    refused.push(plan.subnet)
    return undefined
  }
  noteTaken(log, 'acquired', plan.subnet)
  await deleteOutgrown(registry, plan.outgrown, log, signal)
  return result.lease
}

function noteTaken(log: Logger, how: string, subnet: LeaseSubnet, more = ''): void {
  const about = [formatLeaseSubnet(subnet)]
  log.info(`lease: ${how} ${about.join()}${more}`, { kind: 'lease-taken', about })
}

/** The leases as they are since their owners were asked for, which is after they were listed. */
function withRevisions(leases: readonly Lease[], claimed: readonly Lease[]): Lease[] {
  const newer = new Map(claimed.map((lease) => [lease.key, lease]))
  return leases.map((lease) => {
    const asked = newer.get(lease.key)
    return asked !== undefined && asked.modRevision > lease.modRevision ? asked : lease
  })
}

async function deleteOutgrown(
  registry: Registry,
  leases: readonly Lease[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  for (const outgrown of leases) {
    log.info(`lease: deleting ${outgrown.key}, which does not fit the network config`)
    await registry.deleteLease(outgrown, signal)
  }
}
