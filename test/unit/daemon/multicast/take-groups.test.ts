import { takeGroups } from '../../../../src/daemon/multicast/take-groups'
import { type SortedUpdate, sortUpdate } from '../../../../src/daemon/node/sort-update'
import { EtcdError } from '../../../../src/etcd/client/errors'
import type { Snapshot } from '../../../../src/etcd/follow/snapshot'
import type { RegistryEvent } from '../../../../src/etcd/follow/updates'
import type { Revision } from '../../../../src/model/lease'
import type { GroupsEntry } from '../../../../src/model/multicast'
import { GroupTable } from '../../../../src/plan/multicast/group-table'

const revision = 7n as Revision
const entry: GroupsEntry = {
  name: '10.5.1.0-24',
  modRevision: revision,
  value: { vni: 9, tells: ['IPv4'], groups: [] },
}
const events = (...some: readonly RegistryEvent[]): SortedUpdate =>
  sortUpdate({ kind: 'events', revision, events: some, receivedAt: 0 })
const snapshot = (groups: readonly GroupsEntry[], replaced = false): SortedUpdate => {
  const all: Snapshot = {
    revision,
    config: undefined,
    configRevision: revision,
    leases: [],
    unreadable: [],
    groups,
  }
  return { kind: 'snapshot', snapshot: all, ...(replaced && { replaced }) }
}
const lost: SortedUpdate = { kind: 'lost', error: new EtcdError('etcd-timeout', 'x') }

test('announced groups come with listings and events; other events are no news', () => {
  const table = new GroupTable()
  expect(takeGroups(table, snapshot([entry]), 0)).toBe(true)
  expect(table.entryOf('x/10.5.1.0-24')).toEqual(entry)
  expect(takeGroups(table, events({ kind: 'config', text: '{}', modRevision: revision }), 0)).toBe(false)
  const gone: RegistryEvent = { kind: 'groups-removed', name: entry.name, modRevision: revision }
  expect(takeGroups(table, events(gone), 0)).toBe(true)
  expect(table.entryOf('x/10.5.1.0-24')).toBeUndefined()
  expect(takeGroups(table, events(gone, { kind: 'groups', groups: entry }), 0)).toBe(true)
  expect(table.entryOf('x/10.5.1.0-24')).toEqual(entry)
  takeGroups(table, snapshot([]), 0)
  expect(table.entryOf('x/10.5.1.0-24')).toBeUndefined()
})

test('a loss of etcd, and its end, are news', () => {
  const table = new GroupTable()
  expect(takeGroups(table, lost, 0)).toBe(true)
  expect(table.distrust(30_001)).toBeDefined()
  expect(takeGroups(table, events(), 30_001)).toBe(true)
  expect(table.distrust(30_001)).toBeDefined()
  expect(table.distrust(45_001)).toBeUndefined()
})

test('groups of a replaced store are distrusted at first', () => {
  const table = new GroupTable()
  takeGroups(table, snapshot([entry]), 0)
  expect(table.distrust(0)).toBeUndefined()
  takeGroups(table, snapshot([entry], true), 1)
  expect(table.distrust(1)).toBeDefined()
})
