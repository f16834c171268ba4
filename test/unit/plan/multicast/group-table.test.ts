import type { Revision } from '../../../../src/model/lease'
import type { GroupsEntry } from '../../../../src/model/multicast'
import { GroupTable } from '../../../../src/plan/multicast/group-table'
import { ip } from '../support'

const entry = (name: string): GroupsEntry => ({
  name,
  modRevision: 7n as Revision,
  value: { vni: 9, tells: ['IPv4'], groups: [ip('239.1.2.3')] },
})

test('entries are found by the keys of leases, and unreadable ones are listed', () => {
  const table = new GroupTable()
  const bad: GroupsEntry = { name: '10.5.2.0-24', modRevision: 8n as Revision, reason: 'it is not JSON' }
  table.reset([entry('10.5.1.0-24'), bad])
  expect(table.toldBy('/coreos.com/network/subnets/10.5.1.0-24')).toEqual(entry('').value)
  expect(table.toldBy('/coreos.com/network/subnets/10.5.2.0-24')).toBeUndefined()
  expect(table.unreadable()).toEqual([bad])
  table.put(entry('10.5.2.0-24'))
  table.remove('10.5.1.0-24')
  expect(table.unreadable()).toEqual([])
  expect(table.entryOf('/x/10.5.1.0-24')).toBeUndefined()
  expect(table.entryOf('/x/10.5.2.0-24')?.modRevision).toBe(7n)
})

test('entries are trusted while their keys live, and again some time after etcd has answered', () => {
  const table = new GroupTable()
  expect([table.distrust(0), table.changesAt(0)]).toEqual([undefined, Number.POSITIVE_INFINITY])
  table.lost(1000)
  table.lost(20_000)
  expect(table.distrust(31_000)).toBeUndefined()
  expect(table.changesAt(5000)).toBe(31_001)
  expect(table.distrust(31_001)).toBe('etcd has not answered for 30 s')
  expect(table.changesAt(31_001)).toBe(Number.POSITIVE_INFINITY)
  expect(table.heard(40_000)).toBe(true)
  expect(table.distrust(40_000)).toBe('etcd has only just answered again')
  expect(table.changesAt(40_000)).toBe(55_000)
  expect(table.distrust(54_999)).toBeDefined()
  expect([table.distrust(55_000), table.heard(55_000)]).toEqual([undefined, false])
})

test('a shorter outage changes nothing', () => {
  const table = new GroupTable()
  table.lost(0)
  table.heard(29_000)
  expect(table.distrust(29_000)).toBeUndefined()
})
