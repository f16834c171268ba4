import type { EtcdLeaseId, Lease, Revision, UnreadableLease } from '../../../../src/model/lease'
import { LEASE_STATES, NO_ETCD_LEASE } from '../../../../src/model/lease'
import type { Renewal } from '../../../../src/model/moment'
import {
  afterRenewal,
  afterReport,
  hold,
  type LeaseReport,
  type LeaseState,
  needsAttention,
  toRenew,
} from '../../../../src/plan/lease/lease-state'
import { lease } from '../support'

const rev = (n: number) => BigInt(n) as Revision
const renewal: Renewal = { at: { bootId: 'b', uptimeSeconds: 1, wallSeconds: 2 }, ttlSeconds: 86_400 }

/** Our lease, written at the given revision. */
const ours = (revision: number, fields: Partial<Lease> = {}): Lease => ({
  ...lease('10.5.2.0/24', { revision, multicast: 7 }),
  ...fields,
})
const { value } = ours(1)
const foreign = (revision: number): Lease => lease('10.5.2.0/24', { revision, publicIp: '192.168.77.66' })
/** Our lease as a flanneld on this host writes it: without the fields that it does not know. */
const poorer = (revision: number): Lease => lease('10.5.2.0/24', { revision })
const rebound = (revision: number): Lease => ours(revision, { etcdLease: '8' as EtcdLeaseId })
const reserved = (revision: number): Lease => ours(revision, { etcdLease: NO_ETCD_LEASE })
const unreadable = (revision: number): UnreadableLease => ({
  key: ours(1).key,
  reason: 'it is no JSON',
  modRevision: rev(revision),
})

const held = (of: Lease): LeaseState => ({ kind: 'held', lease: of, renewal })
const unrenewed = (of: Lease): LeaseState => ({ kind: 'held', lease: of, renewal: undefined })
const lost: LeaseState = { kind: 'lost' }
const conflict: LeaseState = { kind: 'conflict', reason: 'x' }
const drained = (found?: Lease): LeaseState => ({ kind: 'drained', found })

const CLASH = {
  kind: 'conflict',
  reason: `${ours(1).key} now names 192.168.77.66 with MAC 02:00:00:00:00:02`,
} as const
const UNREADABLE = { kind: 'conflict', reason: `${ours(1).key} cannot be read: it is no JSON` } as const

test.each<[string, LeaseState, LeaseReport, LeaseState]>([
  ['held: a new revision', held(ours(5)), { found: ours(6) }, held(ours(6))],
  ['held: a value that leaves something out', held(ours(5)), { found: poorer(6) }, held(poorer(6))],
  ['held: another etcd lease', held(ours(5)), { found: rebound(6) }, unrenewed(rebound(6))],
  ['held: reserved', held(ours(5)), { found: reserved(6) }, unrenewed(reserved(6))],
  ['held: gone', held(ours(5)), { found: undefined, revision: rev(6) }, lost],
  ['held: gone, at an unknown revision', held(ours(5)), { found: undefined }, lost],
  ['held: a late report of another value', held(ours(5)), { found: foreign(4) }, held(ours(5))],
  [
    'held: a late report that it is gone',
    held(ours(5)),
    { found: undefined, revision: rev(4) },
    held(ours(5)),
  ],
  ['held: gone in another store', held(ours(5)), { found: undefined, revision: rev(4), anew: true }, lost],
  ['held: another host in another store', held(ours(5)), { found: foreign(4), anew: true }, CLASH],
  ['held: another host', held(ours(5)), { found: foreign(6) }, CLASH],
  [
    'held: a former lease of this host',
    held(ours(5)),
    { found: foreign(6), isFormer: true },
    held(foreign(6)),
  ],
  [
    'conflict: a former lease of this host',
    conflict,
    { found: foreign(6), isFormer: true },
    unrenewed(foreign(6)),
  ],
  ['held: our value from before the announcement', held(foreign(5)), { found: foreign(5) }, held(foreign(5))],
  ['held: unreadable', held(ours(5)), { found: unreadable(6) }, UNREADABLE],
  ['lost: ours', lost, { found: ours(6) }, unrenewed(ours(6))],
  ['lost: another host', lost, { found: foreign(6) }, CLASH],
  ['lost: still gone', lost, { found: undefined, revision: rev(9) }, lost],
  ['conflict: ours', conflict, { found: ours(6) }, unrenewed(ours(6))],
  ['conflict: gone', conflict, { found: undefined, revision: rev(6) }, lost],
  ['drained: ours', drained(), { found: ours(6) }, drained(ours(6))],
  ['drained: gone', drained(ours(5)), { found: undefined, revision: rev(6) }, drained()],
  ['drained: another host', drained(), { found: foreign(6) }, drained(foreign(6))],
])('%s', (_what, before, report, after) => {
  expect(afterReport(before, report, value)).toEqual(after)
})

test('a late report is distinguished from one with the same content', () => {
  const before = held(ours(5))
  expect(afterReport(before, { found: foreign(4) }, value)).toBe(before)
  expect(afterReport(before, { found: ours(5) }, value)).not.toBe(before)
})

test.each<[string, LeaseState, LeaseState, boolean]>([
  ['a lease that is gone', held(ours(5)), lost, true],
  ['a lease that is gone, out of a conflict', conflict, lost, true],
  ['a lease that is still gone', lost, lost, false],
  ['a lease that is ours again', lost, unrenewed(ours(6)), true],
  ['a lease that is ours again, out of a conflict', conflict, unrenewed(ours(6)), true],
  ["a new revision, which may be another host's question", held(ours(5)), held(ours(6)), true],
  ['a value without some field, at the same revision', held(poorer(5)), held(poorer(5)), true],
  ['the same', held(ours(5)), held(ours(5)), false],
  ['a conflict', held(ours(5)), conflict, false],
  ['a drained lease', held(ours(5)), drained(), false],
])('%s needs attention, or does not', (_what, before, after, expected) => {
  expect(needsAttention(before, after, value)).toBe(expected)
})

test('a renewal belongs to the etcd lease that was renewed', () => {
  expect(afterRenewal(unrenewed(ours(5)), ours(5), renewal)).toEqual(held(ours(5)))
  expect(afterRenewal(unrenewed(ours(6)), ours(5), renewal)).toEqual(held(ours(6)))
  expect(afterRenewal(unrenewed(rebound(6)), ours(5), renewal)).toEqual(unrenewed(rebound(6)))
  expect(afterRenewal(lost, ours(5), renewal)).toBe(lost)
  expect(hold(ours(6), held(ours(5)))).toEqual(held(ours(6)))
  expect(hold(rebound(6), held(ours(5)))).toEqual(unrenewed(rebound(6)))
})

test('only a lease that is held and no reservation is renewed', () => {
  expect(toRenew(held(ours(5)))).toEqual(ours(5))
  for (const state of [held(reserved(5)), lost, conflict, drained(ours(5))])
    expect(toRenew(state)).toBeUndefined()
})

test('the list of state names has each state', () => {
  const kinds: Record<LeaseState['kind'], true> = { held: true, lost: true, conflict: true, drained: true }
  expect([...LEASE_STATES].sort()).toEqual(Object.keys(kinds).sort())
})
