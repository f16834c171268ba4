/** `overlayctl unenroll`: takes all rights from a host that is dead, stolen or not needed any more. */
import type { Snapshot } from '../../etcd/follow/snapshot'
import { NO_GROUPS } from '../../etcd/registry'
import { print } from '../../host/streams'
import { formatPrefix, type Prefix, samePrefix } from '../../model/address'
import { nameUnderSubnets } from '../../model/commands'
import { OverlayError } from '../../model/errors'
import { type HostEntry, readableRecord, whyUnreadable } from '../../model/host-record'
import { formatLeaseSubnet, type Lease, type LeaseSubnet, type UnreadableLease } from '../../model/lease'
import { printable } from '../../model/printable'
import type { Options } from '../../options/schema'
import { judgeLife, leasesBeside } from '../../plan/lease/evict'
import { auditRecord } from '../ask/audit-record'
import { pingEvidence, pingHost } from '../ask/signs-of-life'
import { withRegistry } from '../ask/with-registry'
import { confirm } from '../show/confirm'
import { hang, screenOf } from '../show/screen'
import { readSubnet } from './reservations'

export interface UnenrollFlags {
  /** Ends the enrolment of a host that lives, too. */
  readonly force: boolean
  readonly dryRun: boolean
  readonly yes: boolean
}

/** Milliseconds for all calls of etcd. */
const DEADLINE = 20_000

/**
 * Ends the enrolment of a host. Its user goes first, so that the host can write no more; then go its role,
 * and its keys. All steps may be repeated.
 * @param text the subnet
 * @throws {OverlayError} `unenroll` for a host that lives, `not-confirmed`; {EtcdError}
 */
export async function runUnenroll(options: Options, text: string, flags: UnenrollFlags): Promise<void> {
  const say = (line: string): void => {
    for (const each of hang('', printable(line), screenOf().width, 0)) print(`${each}\n`)
  }
  const wanted = readSubnet(text)
  const snapshot = await withRegistry(options, (registry, signal) => registry.snapshot(signal, NO_GROUPS))
  const { entry, subnet } = findEnrolled(snapshot, wanted)
  const what = formatLeaseSubnet(subnet)
  const user = readableRecord(entry)?.user
  const unreadable = whyUnreadable(entry)
  const lease = findLease(snapshot, entry)
  if (lease !== undefined && 'value' in lease) await refuseAlive(snapshot.leases, lease, flags.force, say)
  if (unreadable !== undefined) say(`the record of the host cannot be read, so its user stays: ${unreadable}`)
  if (flags.dryRun) {
    say(`would be deleted (--dry-run): the enrolment and the lease of ${what}, the user ${user ?? '(none)'}`)
    return
  }
  await confirm(
    `End the enrolment of ${what}? The other hosts remove their routes to it, ` +
      'and its host can write to etcd no more.',
    flags.yes,
  )
  const record = await auditRecord(options, 'unenroll', `${what}, user ${user ?? '(none)'}`)
  await withRegistry(
    options,
    async (registry, signal) => {
      if (user !== undefined) await registry.users.remove(user, signal)
      // The host may have written its lease until now.
      const current = findLease(await registry.snapshot(signal, NO_GROUPS), entry)
      if (await registry.reservations.endEnrolment(subnet, current, record, signal)) return
      throw new OverlayError(
        'unenroll',
        `the lease of ${what} was changed meanwhile; the user of its host is deleted, its keys are not`,
        'see who writes it: overlayctl peers, then try again',
      )
    },
    DEADLINE,
  )
  say(`ended the enrolment of ${what}${user === undefined ? '' : `, and deleted the user and role ${user}`}`)
}

/** @throws {OverlayError} `unenroll` where no host is enrolled for the subnet */
function findEnrolled(
  { hosts = [] }: Snapshot,
  wanted: Prefix,
): { readonly entry: HostEntry; readonly subnet: LeaseSubnet } {
  for (const entry of hosts) {
    const { subnet } = entry
    const has = [subnet?.ipv4, subnet?.ipv6].some((own) => own !== undefined && samePrefix(own, wanted))
    if (subnet !== undefined && has) return { entry, subnet }
  }
  throw new OverlayError(
    'unenroll',
    `no host is enrolled for ${formatPrefix(wanted)}`,
    'end a reservation with overlayctl release, and delete the lease of a host with overlayctl evict',
  )
}

const findLease = (
  { leases, unreadable }: Snapshot,
  { name }: HostEntry,
): Lease | UnreadableLease | undefined =>
  [...leases, ...unreadable].find(({ key }) => nameUnderSubnets(key) === name)

/** @throws {OverlayError} `unenroll` */
async function refuseAlive(
  all: readonly Lease[],
  lease: Lease,
  force: boolean,
  say: (line: string) => void,
): Promise<void> {
  const answers = await pingHost(lease)
  const signs = { ...answers, isShared: leasesBeside(lease, all).length > 0, isRenewed: false }
  for (const line of pingEvidence(lease, signs, answers.problem)) say(`- ${line}`)
  if (judgeLife(signs) === 'gone' || force) return
  throw new OverlayError(
    'unenroll',
    `the host of ${formatLeaseSubnet(lease.subnet)} lives, or another one has its address; ` +
      'nothing was deleted',
    "stop overlayd there first; or, if the host is stolen or its address is another one's, give --force",
  )
}
