/**
 * The state of this host's groups in etcd: the etcd lease that they are bound to, and the value that we
 * wrote. A write of ours counts before the watch reports it, and no longer once the watch has reported
 * another value in its place.
 */
import type { EtcdLeaseId, Revision } from '../../model/lease'
import type { GroupsEntry, HostGroups } from '../../model/multicast'

/** Milliseconds within which the watch reports a write of ours, if the written value is still there. */
const REPORTED_WITHIN = 10_000

/** A value that we wrote. */
export interface WrittenGroups {
  readonly value: HostGroups
  readonly revision: Revision
  /** When it was written; monotonic milliseconds. */
  readonly at: number
  /** Whether the watch has reported it. */
  readonly isReported: boolean
}

interface Granted {
  readonly etcdLease: EtcdLeaseId
  /** When the etcd lease is to be renewed; monotonic milliseconds. */
  readonly renewAt: number
}

export type GroupsSession =
  | { readonly kind: 'none' }
  | ({ readonly kind: 'granted' } & Granted)
  | ({ readonly kind: 'written'; readonly written: WrittenGroups } & Granted)

export const NO_SESSION: GroupsSession = { kind: 'none' }

/**
 * Stands for a value in our place that another program or an earlier run wrote: it is not bound to our etcd
 * lease. It equals no value of ours.
 */
export const FOREIGN_GROUPS: HostGroups = { vni: 0, tells: [], groups: [] }

/**
 * The session after the watch's last report.
 * @param reported the value in our place, as the watch reported it last; `undefined` for none
 * @param now monotonic milliseconds
 */
export function afterReport(
  session: GroupsSession,
  reported: GroupsEntry | undefined,
  now: number,
): GroupsSession {
  if (session.kind !== 'written') return session
  const { written, etcdLease, renewAt } = session
  if (reported?.modRevision === written.revision) {
    return written.isReported ? session : { ...session, written: { ...written, isReported: true } }
  }
  const isOlder = reported === undefined || reported.modRevision < written.revision
  const isAwaited = isOlder && !written.isReported && now - written.at < REPORTED_WITHIN
  return isAwaited ? session : { kind: 'granted', etcdLease, renewAt }
}

/**
 * The value that etcd has in our place, as far as this host can know.
 * @param session as of {@link afterReport}
 * @param takenBackAt the revision at which we last deleted our value: an older report shows the value from
 * before
 */
export function valueInEtcd(
  session: GroupsSession,
  reported: GroupsEntry | undefined,
  takenBackAt: Revision,
): HostGroups | undefined {
  if (session.kind === 'written') return session.written.value
  return reported === undefined || reported.modRevision <= takenBackAt ? undefined : FOREIGN_GROUPS
}

/** When the etcd lease is to be renewed; Infinity without one. */
export const renewalOf = (session: GroupsSession): number =>
  session.kind === 'none' ? Number.POSITIVE_INFINITY : session.renewAt
