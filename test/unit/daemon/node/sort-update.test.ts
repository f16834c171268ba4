import { keyOf, sortEvents } from '../../../../src/daemon/node/sort-update'
import type { RegistryEvent } from '../../../../src/etcd/follow/updates'
import type { Revision } from '../../../../src/model/lease'

const modRevision = 5n as Revision
const removed = (key: string): RegistryEvent => ({ kind: 'removed', key, modRevision })
const bad = (key: string, reason: string): RegistryEvent => ({
  kind: 'unreadable',
  lease: { key, reason, modRevision },
})

test('of each lease key the last event counts, in the order of the last events', () => {
  const { leases } = sortEvents([bad('a', '1'), removed('b'), bad('a', '2'), removed('c')])
  expect([...leases.keys()]).toEqual(['b', 'a', 'c'])
  expect(leases.get('a')).toEqual(bad('a', '2'))
})

test('all events of one key are kept, in etcd’s order', () => {
  const events = [bad('own', '1'), removed('other'), removed('own'), bad('own', '2')]
  const { ofKey } = sortEvents(events)
  expect(ofKey('own')).toEqual([events[0], events[2], events[3]])
  expect(ofKey('nobody')).toEqual([])
})

test('config and groups are kept apart from leases; of the config the last event counts', () => {
  const { config, groups, leases } = sortEvents([
    { kind: 'config', text: 'a', modRevision },
    { kind: 'groups-removed', name: 'x', modRevision },
    { kind: 'config', text: undefined, modRevision },
  ])
  expect(config).toEqual({ kind: 'config', text: undefined, modRevision })
  expect(groups).toEqual([{ kind: 'groups-removed', name: 'x', modRevision }])
  expect(leases.size).toBe(0)
})

test('the key of an event is found in each kind of event', () => {
  expect([removed('a'), bad('b', 'x')].map((event) => keyOf(event as Parameters<typeof keyOf>[0]))).toEqual([
    'a',
    'b',
  ])
})
