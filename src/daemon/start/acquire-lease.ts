/** Acquires this host's lease: an existing one or a new one, while other hosts may compete for the subnet. */
import type { EtcdError } from '../../etcd/client/errors'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { NO_GROUPS, type Registry } from '../../etcd/registry'
import { racing } from '../../etcd/transactions'
import { formatIp, type IpAddress } from '../../model/address'
import type { BackoffBounds } from '../../model/backoff'
import type { NetworkConfig } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import {
  formatLeaseSubnet,
  isReservation,
  type Lease,
  type LeaseSubnet,
  type LeaseValue,
  sameLeaseValue,
} from '../../model/lease'
import { type Waiting, waitingFor } from '../../model/waiting'
import { type HostIdentity, planOwnLease } from '../../plan/lease/own-lease'
import { retrying } from '../loop/retrying'
import type { Logger } from '../tell/logger'

/** Another host wins each race that this host loses. So many losses in a row have another reason. */
const MOST_RACES = 10
const BACKOFF: BackoffBounds = { first: 100, most: 5000 }
/** Failures of etcd in one attempt to start. */
const MOST_FAILURES = 3
/**
 * Outgrown leases of this host that are deleted in one attempt, one by one. A host has one or two, unless
 * somebody forges them.
 */
const MOST_DELETED = 100

export interface LeaseRequest {
  readonly config: NetworkConfig
  readonly publicIp: IpAddress
  /** The leases of this host, the best first, as of {@link settleClaims}. */
  readonly claimed?: readonly Lease[]
  readonly previous: HostIdentity['previous']
  readonly avoid?: HostIdentity['avoid']
  readonly value: LeaseValue
}

/**
 * Acquires the lease. While etcd fails, the call is repeated with backoff, {@link MOST_FAILURES} times at
 * most. After that the caller starts anew, because the config and the leases may have changed by then.
 * @param first the listing that the start is based on
 * @param waits called with each reason to wait, and with `undefined` when the wait is over
 * @throws {OverlayError} `out-of-subnets`, `lease-race`; {EtcdError}; the signal's reason
 */
export async function acquireLease(
  registry: Registry,
  first: Snapshot,
  request: LeaseRequest,
  log: Logger,
  signal: AbortSignal,
  waits: (waiting: Waiting | undefined) => void = () => undefined,
): Promise<Lease> {
  const refused: LeaseSubnet[] = []
  const tried: LeaseSubnet[] = []
  let snapshot: Snapshot | undefined = first
  const acquire = async (): Promise<Lease> => {
    const lease = await racing(MOST_RACES, async () => {
      const now = snapshot ?? (await registry.snapshot(signal, NO_GROUPS))
      // After a failure or a lost race, the next attempt lists etcd again.
      snapshot = undefined
      const taken = await tryOnce(registry, now, request, { refused, tried }, log, signal)
      waits(undefined)
      return taken
    })
    if (lease !== undefined) return lease
    const last = refused.at(-1)
    const which = last === undefined ? '' : `, last ${formatLeaseSubnet(last)}`
    throw new OverlayError(
      'lease-race',
      `other hosts were faster ${MOST_RACES} times in a row to take a subnet${which}`,
      'look for keys under the prefix that cannot be read (overlayctl status lists them)',
    )
  }
  const failed = (error: EtcdError): void => waits(waitingFor('lease', error))
  return retrying({ name: 'lease', retry: BACKOFF, most: MOST_FAILURES, failed, log }, acquire, signal)
}

/** State of one acquisition. */
interface Attempts {
  /** Subnets that other hosts took. */
  readonly refused: LeaseSubnet[]
  /** Subnets that we asked for. If etcd's answer was lost, the lease may exist. */
  readonly tried: LeaseSubnet[]
}

const sameSubnet = (a: LeaseSubnet, b: LeaseSubnet): boolean => formatLeaseSubnet(a) === formatLeaseSubnet(b)

/** @returns the lease, or `undefined` if another host was faster */
async function tryOnce(
  registry: Registry,
  snapshot: Snapshot,
  request: LeaseRequest,
  { refused, tried }: Attempts,
  log: Logger,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const { config, publicIp, previous, avoid = [], claimed = [], value } = request
  const preferred = claimed.map(({ key }) => key)
  // A lease is ours if (1) it is one of the claimed leases and unchanged since, or (2) its value is ours and
  // it is claimed or under a key that we tried to write. A lease with our value under any other key is not
  // ours: anybody can write it.
  const claims = new Map(claimed.map((lease) => [lease.key, lease.value]))
  const isOurs = ({ key, subnet, value: is }: Lease): boolean => {
    const then = claims.get(key)
    const isWritten = then !== undefined || tried.some((each) => sameSubnet(each, subnet))
    return isWritten && (sameLeaseValue(is, value) || (then !== undefined && sameLeaseValue(is, then)))
  }
  const host = { publicIp, previous, preferred, avoid, isOurs, refused }
  const leases = withRevisions(snapshot.leases, claimed)
  const plan = planOwnLease(config, leases, host, Math.random)
  if (plan.kind === 'reuse') {
    const result = await registry.leases.update(plan.lease, value, signal)
    if (result.kind === 'changed') return undefined
    const { publicIp: before } = plan.lease.value
    const moved = before === value.publicIp ? '' : `, which was at ${formatIp(before)} before`
    logTaken(log, 'keeping', result.lease.subnet, moved)
    return result.lease
  }
  await deleteOutgrown(registry, plan.inTheWay, log, signal)
  tried.push(plan.subnet)
  // The network may have gained or lost a family, so that the subnet goes on under another key. A reservation
  // stays a reservation then.
  const result = plan.inTheWay.some(isReservation)
    ? await registry.reservations.create(plan.subnet, value, signal)
    : await registry.leases.create(plan.subnet, value, signal)
  if (result.kind === 'taken') {
    log.info(`lease: ${formatLeaseSubnet(plan.subnet)} was taken by another host, choosing again`)
    refused.push(plan.subnet)
    return undefined
  }
  logTaken(log, 'acquired', plan.subnet)
  await deleteOutgrown(registry, plan.outgrown, log, signal)
  return result.lease
}

function logTaken(log: Logger, how: string, subnet: LeaseSubnet, more = ''): void {
  const about = [formatLeaseSubnet(subnet)]
  log.info(`lease: ${how} ${about.join()}${more}`, { kind: 'lease-taken', about })
}

/**
 * The leases of the listing, with those replaced that were read again later, when their owners were asked.
 */
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
  const left = leases.length - MOST_DELETED
  if (left > 0)
    log.warn(`lease: ${left} more leases of this host do not fit the network config, and are left`)
  for (const outgrown of leases.slice(0, MOST_DELETED)) {
    log.info(`lease: deleting ${outgrown.key}, which does not fit the network config`)
    await registry.leases.delete(outgrown, signal)
  }
}
