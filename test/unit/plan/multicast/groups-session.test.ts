import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import type { GroupsEntry, HostGroups } from '../../../../src/model/multicast'
import {
  afterReport,
  FOREIGN_GROUPS,
  type GroupsSession,
  NO_SESSION,
  renewalOf,
  valueInEtcd,
} from '../../../../src/plan/multicast/groups-session'

const rev = (n: number) => BigInt(n) as Revision
const value: HostGroups = { vni: 9, tells: ['IPv4'], groups: [] }
const lease = { etcdLease: '7' as EtcdLeaseId, renewAt: 5000 }
const granted: GroupsSession = { kind: 'granted', ...lease }
/** A session whose value was written at revision 10 and time 1000. */
const written = (isReported: boolean): GroupsSession => ({
  kind: 'written',
  ...lease,
  written: { value, revision: rev(10), at: 1000, isReported },
})
const entry = (revision: number): GroupsEntry => ({ name: 'n', modRevision: rev(revision), value })

test.each<[string, GroupsSession, GroupsEntry | undefined, number, GroupsSession]>([
  ['none stays none', NO_SESSION, entry(10), 1000, NO_SESSION],
  ['granted stays granted', granted, entry(10), 1000, granted],
  ['a write is reported', written(false), entry(10), 1000, written(true)],
  ['a reported write stays', written(true), entry(10), 99_000, written(true)],
  ['a write is awaited while nothing is reported', written(false), undefined, 10_999, written(false)],
  ['a write is awaited after an older report', written(false), entry(9), 10_999, written(false)],
  ['a write that is not reported in time is lost', written(false), undefined, 11_000, granted],
  ['a newer value replaces a write', written(false), entry(11), 1000, granted],
  ['a newer value replaces a reported write', written(true), entry(11), 1000, granted],
  ['a reported write that is gone is lost', written(true), undefined, 1000, granted],
  ['a reported write in a store that went back is lost', written(true), entry(9), 1000, granted],
])('%s', (_what, session, reported, now, after) => {
  expect(afterReport(session, reported, now)).toEqual(after)
})

test.each<[string, GroupsSession, GroupsEntry | undefined, number, HostGroups | undefined]>([
  ['our write, before it is reported', written(false), undefined, 0, value],
  ['nothing', granted, undefined, 0, undefined],
  ['nothing, without a session', NO_SESSION, undefined, 0, undefined],
  ['a foreign value', granted, entry(5), 4, FOREIGN_GROUPS],
  ['a foreign value, without a session', NO_SESSION, entry(5), 4, FOREIGN_GROUPS],
  ['nothing where we deleted the value at that revision', NO_SESSION, entry(5), 5, undefined],
])('etcd has %s', (_what, session, reported, takenBackAt, expected) => {
  expect(valueInEtcd(session, reported, rev(takenBackAt))).toEqual(expected)
})

test('only a session with an etcd lease is renewed', () => {
  expect([NO_SESSION, granted, written(true)].map(renewalOf)).toEqual([Number.POSITIVE_INFINITY, 5000, 5000])
})
