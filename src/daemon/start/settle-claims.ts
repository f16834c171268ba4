/**
 * Finds out which leases are this host's. If that is in doubt, the lease's owner is asked whether it is
 * alive: the asking host writes the lease unchanged, which changes nothing for any peer. An overlayd that
 * holds the lease receives that write and renews its etcd lease at once, and the asking host reads the
 * renewed TTL.
 */
import { type Answer, askOwner } from '../../etcd/ask-owner'
import { EtcdError } from '../../etcd/client/errors'
import type { Registry } from '../../etcd/registry'
import { formatIp, type IpAddress } from '../../model/address'
import type { BackoffBounds } from '../../model/backoff'
import type { NetworkConfig } from '../../model/config/network-config'
import { describeError } from '../../model/errors'
import { formatLeaseSubnet, isReservation, type Lease } from '../../model/lease'
import { type Waiting, waitingFor } from '../../model/waiting'
import {
  bestFirst,
  type Claim,
  type Evidence,
  hasMemory,
  IdentityConflict,
  isFree,
  isOfSubnet,
  isRememberedLease,
  judgeClaim,
} from '../../plan/lease/identity'
import { fitsConfig } from '../../plan/lease/own-lease'
import { retrying } from '../loop/retrying'
import type { Logger } from '../tell/logger'

/** Milliseconds between two attempts of one question. */
const BACKOFF: BackoffBounds = { first: 200, most: 5000 }
/** Failures of etcd in one attempt to start. */
const MOST_FAILURES = 3

/** The leases of this host. */
export interface Claims {
  /** The best first, see {@link bestFirst}. */
  readonly leases: readonly Lease[]
  /**
   * Those of `leases` that are this host's beyond doubt. The other leases were taken because their owner did
   * not answer. Never reuse their MAC: an owner that was merely unreachable must notice that the value
   * changed.
   */
  readonly known: readonly Lease[]
  /** The lease that an operator reserved for this host. It precedes the subnet that this host remembers. */
  readonly appointed?: Lease
}

/**
 * Finds the leases of this host. No owner is asked if a lease that is ours beyond doubt fits the config.
 * @param leases leases of all hosts
 * @param waits called with each reason to wait, and with `undefined` when the wait is over
 * @throws {IdentityConflict} when another host is alive with our PublicIP; {EtcdError}
 */
export async function settleClaims(
  registry: Registry,
  config: NetworkConfig,
  leases: readonly Lease[],
  evidence: Evidence,
  log: Logger,
  signal: AbortSignal,
  waits: (waiting: Waiting | undefined) => void = () => undefined,
): Promise<Claims> {
  const claims = leases.map((lease) => ({ lease, claim: judgeClaim(lease, evidence) }))
  const of = (wanted: Claim): Lease[] =>
    claims.filter(({ claim }) => claim === wanted).map(({ lease }) => lease)
  const ours = bestFirst(of('ours'), evidence)
  const named = bestFirst(of('named'), evidence)
  const inDoubt = claims.filter(({ claim }) => claim === 'doubtful' || claim === 'moved')
  const appointed = await findAppointed(registry, config, named, evidence.publicIp, log, signal)
  if (appointed !== undefined) {
    const all = [appointed, ...ours]
    return { leases: all, known: all, appointed }
  }
  if (ours.some((lease) => fitsConfig(config, lease))) {
    logLeftAlone(log, [...inDoubt.map(({ lease }) => lease), ...named], evidence)
    return { leases: ours, known: ours }
  }
  const asked = mostLikely(inDoubt, config)
  const left = inDoubt.length - asked.length
  if (left > 0) {
    log.warn(
      `lease: ${left} more leases have our address; ` +
        `only the owners of ${asked.length} are asked, the others are left alone`,
    )
  }
  const answers = await Promise.all(
    asked.map(async ({ lease, claim }) => {
      const subnet = formatLeaseSubnet(lease.subnet)
      const why =
        claim === 'moved'
          ? 'was ours and now has another address'
          : 'has our address but does not match this host'
      const asking = `${subnet} ${why}: asking whether its host is alive`
      log.info(`lease: ${asking}`)
      waits({ part: 'lease', code: 'asking-owner', reason: asking })
      return { lease, claim, ...(await askPatiently(registry, lease, log, signal, waits)) }
    }),
  )
  waits(undefined)
  const rival = answers.find(({ claim, alive }) => claim === 'doubtful' && alive)
  if (rival !== undefined) throw new IdentityConflict(rival.lease, evidence.publicIp)
  for (const { lease, alive } of answers) {
    const subnet = formatLeaseSubnet(lease.subnet)
    if (alive) {
      log.warn(
        `lease: ${subnet} belongs to a live host at another address: this host is a copy of that host, ` +
          'and gets a subnet and a MAC of its own. Give the copy a machine id of its own, ' +
          'and remove the state file from the image it was made from',
      )
    } else log.info(`lease: nobody answers for ${subnet}: it is ours`)
  }
  const free = answers.flatMap(({ claim, alive, now }) => (alive || now === undefined ? [] : { claim, now }))
  const moved = free.filter(({ claim }) => claim === 'moved')
  const leasesOf = (some: typeof free): Lease[] => some.map(({ now }) => now)
  const settled = { leases: [...ours, ...leasesOf(free)], known: [...ours, ...leasesOf(moved)] }
  const gone = new Set(answers.flatMap(({ lease, now }) => (now === undefined ? lease.key : [])))
  const oursOrNamed = new Set([...settled.leases, ...named].map(({ key }) => key))
  const others = leases.filter(({ key }) => !gone.has(key) && !oursOrNamed.has(key))
  const stays =
    (hasMemory(evidence.subnet) && isFree(evidence.subnet, others)) ||
    settled.leases.some((lease) => isRememberedLease(lease, evidence) && fitsConfig(config, lease))
  if (stays) {
    const isElsewhere = (lease: Lease): boolean =>
      fitsConfig(config, lease) && !isOfSubnet(lease, evidence.subnet) && !isRememberedLease(lease, evidence)
    logLeftAlone(log, [...named, ...settled.leases.filter(isElsewhere)], evidence)
    const kept = settled.leases.filter((lease) => !isElsewhere(lease))
    return { leases: bestFirst(kept, evidence), known: settled.known }
  }
  // No remembered subnet can be used. Like a new host, this one takes any lease or reservation for its
  // address.
  return {
    leases: bestFirst([...settled.leases, ...named], evidence),
    known: [...settled.known, ...named],
  }
}

/** Log lines about leases that are left alone. Whoever may write to etcd can make any number of them. */
const MOST_LINES = 8

function logLeftAlone(log: Logger, leases: readonly Lease[], { publicIp, subnet: own }: Evidence): void {
  const had = hasMemory(own) ? `; this host remembers ${formatLeaseSubnet({ ...NO_SUBNET, ...own })}` : ''
  const flag = typeof publicIp === 'number' ? '--public-ip' : '--public-ipv6'
  for (const { key, subnet } of leases.slice(0, MOST_LINES)) {
    log.warn(
      `lease: ${key} has our address too; it is left alone${had}. Delete it, ` +
        'unless this host is to move there: stop overlayd, delete its own lease, and ' +
        `overlayctl reserve ${flag}=${formatIp(publicIp)} --subnet=${formatLeaseSubnet(subnet)}`,
      { kind: 'lease-left-alone', about: [formatLeaseSubnet(subnet)] },
    )
  }
  const more = leases.length - MOST_LINES
  if (more > 0) log.warn(`lease: ${more} more have our address too, and are left alone`)
}

const NO_SUBNET = { ipv4: undefined, ipv6: undefined }

/**
 * Finds the reservation that an operator made for this host. The reservation itself does not show who made
 * it, because its host may write it. The note beside it can only be written by an operator.
 */
async function findAppointed(
  registry: Registry,
  config: NetworkConfig,
  named: readonly Lease[],
  publicIp: IpAddress,
  log: Logger,
  signal: AbortSignal,
): Promise<Lease | undefined> {
  const candidates = named.filter((lease) => isReservation(lease) && fitsConfig(config, lease))
  if (candidates.length === 0) return undefined
  try {
    const notes = await registry.reservations.reservedFor(signal)
    return candidates.find(({ key }) => {
      const note = notes.get(key)
      return (typeof publicIp === 'number' ? note?.publicIp : note?.publicIpv6) === publicIp
    })
  } catch (error) {
    if (!(error instanceof EtcdError) || error.code !== 'etcd-refused') throw error
    log.warn(`lease: ${describeError(error)}; reservations count for a new host only`)
    return undefined
  }
}

/**
 * Leases in doubt whose owners are asked. Whoever may write to etcd can make any number of such leases, and
 * each question takes some calls.
 */
const MOST_ASKED = 32

interface InDoubt {
  readonly lease: Lease
  readonly claim: Claim
}

/**
 * Picks at most {@link MOST_ASKED}: first remembered leases, then leases that fit the config, then others.
 */
function mostLikely(inDoubt: readonly InDoubt[], config: NetworkConfig): readonly InDoubt[] {
  if (inDoubt.length <= MOST_ASKED) return inDoubt
  const rank = ({ lease, claim }: InDoubt): number =>
    claim === 'moved' ? 0 : fitsConfig(config, lease) ? 1 : 2
  return inDoubt
    .map((each) => ({ each, rank: rank(each) }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, MOST_ASKED)
    .map(({ each }) => each)
}

/** Asks an owner, and repeats the question while etcd fails. */
async function askPatiently(
  registry: Registry,
  lease: Lease,
  log: Logger,
  signal: AbortSignal,
  waits: (waiting: Waiting | undefined) => void = () => undefined,
): Promise<Answer> {
  const failed = (error: EtcdError): void => waits(waitingFor('lease', error))
  const how = { name: 'lease', retry: BACKOFF, most: MOST_FAILURES, failed, log }
  return retrying(how, () => askOwner(registry, lease, signal), signal)
}
