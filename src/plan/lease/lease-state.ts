/** The states of this host's own lease, and the transitions between them. */
import { formatIp, formatMac } from '../../model/address'
import {
  isReservation,
  type Lease,
  type LeaseValue,
  type Revision,
  sameHost,
  sameLeaseValue,
  type UnreadableLease,
} from '../../model/lease'
import type { Renewal } from '../../model/moment'

/** The kinds are those of `LEASE_STATES` (model/lease). */
export type LeaseState =
  /** `renewal` is the last one that etcd granted; undefined when not known, and for a reservation. */
  | { readonly kind: 'held'; readonly lease: Lease; readonly renewal: Renewal | undefined }
  /** The key is gone from etcd. We are about to create it again. */
  | { readonly kind: 'lost' }
  /** The key holds a value that is not ours. */
  | { readonly kind: 'conflict'; readonly reason: string }
  /**
   * An operator gave the lease back. It is not taken again without a command. `found` is the value of the key
   * since then.
   */
  | { readonly kind: 'drained'; readonly found: Lease | UnreadableLease | undefined }

/** The value of our key in etcd. */
export interface LeaseReport {
  /** `undefined` when the key is not there. */
  readonly found: Lease | UnreadableLease | undefined
  /** The revision of the report; needed only when nothing was found. */
  readonly revision?: Revision | undefined
  /**
   * Whether the report is of another store, or of an older state of the store: then no revision makes it
   * late.
   */
  readonly anew?: boolean
  /** Whether this host has signed what was found, and another value since: somebody has written it again. */
  readonly isFormer?: boolean
}

/**
 * The state after a report of our key. A report that is older than our own last write comes late, and changes
 * nothing: it shows the question whether an owner lives, or the value before that.
 * @param value what this host announces
 */
export function afterReport(state: LeaseState, report: LeaseReport, value: LeaseValue): LeaseState {
  const { found, anew = false, isFormer = false } = report
  const revision = found?.modRevision ?? report.revision
  if (state.kind === 'drained') return { kind: 'drained', found }
  if (state.kind === 'held' && !anew && revision !== undefined && revision < state.lease.modRevision)
    return state
  if (found === undefined) return { kind: 'lost' }
  if (!('value' in found)) return { kind: 'conflict', reason: `${found.key} cannot be read: ${found.reason}` }
  // Our lease as it was before this host announced another value is ours, too.
  const isOutdated = state.kind === 'held' && found.modRevision === state.lease.modRevision
  if (sameHost(found.value, value) || isOutdated || isFormer) return hold(found, state)
  return { kind: 'conflict', reason: `${found.key} now names ${describeOwner(found.value)}` }
}

/** The state with a lease that is ours. The renewal stays with its etcd lease. */
export function hold(lease: Lease, before: LeaseState): LeaseState {
  const isSame = before.kind === 'held' && before.lease.etcdLease === lease.etcdLease
  return { kind: 'held', lease, renewal: isSame ? before.renewal : undefined }
}

/** The state after etcd renewed that lease, which may be another one by now. */
export function afterRenewal(state: LeaseState, { etcdLease }: Lease, renewal: Renewal): LeaseState {
  return state.kind === 'held' && state.lease.etcdLease === etcdLease ? { ...state, renewal } : state
}

/**
 * Whether the lease is to be created, written or renewed at once, and not only when its next renewal is due.
 *
 * A host that doubts that we live writes our key as it is, and checks whether our etcd lease is renewed: each
 * new revision is therefore answered by a renewal. The writer may also have left out a part of our value, as
 * a flanneld and `overlayctl reserve` do.
 * @param value what this host announces
 */
export function needsAttention(before: LeaseState, after: LeaseState, value: LeaseValue): boolean {
  if (after.kind === 'lost') return before.kind !== 'lost'
  if (after.kind !== 'held') return false
  return (
    before.kind !== 'held' ||
    before.lease.modRevision !== after.lease.modRevision ||
    !sameLeaseValue(after.lease.value, value)
  )
}

/**
 * The etcd lease that is to be renewed; `undefined` when there is none: the lease is not held, or a
 * reservation.
 */
export const toRenew = (state: LeaseState): Lease | undefined =>
  state.kind === 'held' && !isReservation(state.lease) ? state.lease : undefined

function describeOwner({ publicIp, publicIpv6, vtep, vtep6 }: LeaseValue): string {
  const mac = (vtep ?? vtep6)?.mac
  const address = formatIp(publicIp || (publicIpv6 ?? publicIp))
  return `${address} with MAC ${mac === undefined ? 'unknown' : formatMac(mac)}`
}
