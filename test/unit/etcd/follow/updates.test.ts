import { EtcdError } from '../../../../src/etcd/client/errors'
import { keysUnder } from '../../../../src/etcd/codec/keys'
import type { WatchEvent } from '../../../../src/etcd/codec/wire'
import {
  decodeEvent,
  type RegistryEvent,
  type RegistryUpdate,
  UpdateQueue,
} from '../../../../src/etcd/follow/updates'
import { NO_ETCD_LEASE, type Revision } from '../../../../src/model/lease'

const keys = keysUnder('/p')
const VALUE = '{"PublicIP":"192.168.77.11"}'

function event(type: WatchEvent['type'], key: string | Buffer, value = ''): WatchEvent {
  return {
    type,
    keyValue: {
      key: Buffer.from(key),
      value: Buffer.from(value),
      modRevision: 7n as Revision,
      etcdLease: NO_ETCD_LEASE,
      createRevision: 1n as Revision,
      isNew: true,
    },
  }
}

describe('an event', () => {
  test.each([
    ['Put', '/p/config', '{}', { kind: 'config', text: '{}', modRevision: 7n }],
    ['Delete', '/p/config', '', { kind: 'config', text: undefined, modRevision: 7n }],
    [
      'Put',
      '/p/subnets/10.5.1.0-24',
      VALUE,
      { kind: 'lease', lease: expect.objectContaining({ key: '/p/subnets/10.5.1.0-24' }) },
    ],
    [
      'Put',
      '/p/subnets/10.5.1.0-24',
      'x',
      { kind: 'unreadable', lease: expect.objectContaining({ key: '/p/subnets/10.5.1.0-24' }) },
    ],
    [
      'Put',
      '/p/subnets/x',
      VALUE,
      { kind: 'unreadable', lease: expect.objectContaining({ key: '/p/subnets/x' }) },
    ],
    [
      'Delete',
      '/p/subnets/10.5.1.0-24',
      '',
      { kind: 'removed', key: '/p/subnets/10.5.1.0-24', modRevision: 7n },
    ],
    ['Put', '/p/overlay/x', VALUE, undefined],
    ['Put', '/p/subnets-old/10.5.1.0-24', VALUE, undefined],
    ['Put', '/p/config/x', VALUE, undefined],
  ] as const)('%s %s %s', (type, key, value, expected) =>
    expect(decodeEvent(keys, event(type, key, value))).toEqual(expected),
  )
})

test('two keys that are equal as UTF-8 text stay different', () => {
  const [one, other] = [0xfe, 0xff].map((byte) =>
    Buffer.concat([Buffer.from('/p/subnets/'), Buffer.from([byte])]),
  )
  if (one === undefined || other === undefined) throw new Error('two bytes make two keys')
  expect(one.toString()).toBe(other.toString())
  const put = decodeEvent(keys, event('Put', one, VALUE))
  expect(put).toMatchObject({
    kind: 'unreadable',
    lease: { key: '/p/subnets/\\xfe', misnamed: { isNew: true } },
  })
  expect(decodeEvent(keys, event('Delete', other))).toMatchObject({ key: '/p/subnets/\\xff', misnamed: true })
  const [name] = ['/p/overlay/groups/'].map((start) =>
    Buffer.concat([Buffer.from(start), Buffer.from([0xff])]),
  )
  expect(decodeEvent(keys, event('Delete', name ?? ''))).toMatchObject({
    kind: 'groups-removed',
    name: '\\xff',
  })
  expect(decodeEvent(keys, event('Put', '/p/overlay/groups/10.5.1.0-24', '{}'), false)).toBeUndefined()
})

describe('the queue', () => {
  const config = (text: string): RegistryEvent => ({ kind: 'config', text, modRevision: 1n as Revision })
  const events = (revision: bigint, ...list: RegistryEvent[]): RegistryUpdate => ({
    kind: 'events',
    revision: revision as Revision,
    events: list,
    receivedAt: Number(revision),
  })
  const lost = (message: string): RegistryUpdate => ({
    kind: 'lost',
    error: new EtcdError('etcd-timeout', message),
  })
  const snapshot: RegistryUpdate = {
    kind: 'snapshot',
    snapshot: {
      revision: 5n as Revision,
      config: undefined,
      configRevision: undefined,
      leases: [],
      unreadable: [],
    },
  }
  const taken = async (...updates: RegistryUpdate[]) => {
    const queue = new UpdateQueue(new AbortController().signal)
    for (const update of updates) queue.push(update)
    const end = lost('end')
    queue.push(end)
    const all: (RegistryUpdate | undefined)[] = []
    for (let update = await queue.take(); update !== end; update = await queue.take()) all.push(update)
    return all
  }

  test('joins consecutive events, in order', async () => {
    const [a, b, c] = [config('a'), config('b'), config('c')]
    // The time of reception is that of the first.
    expect(await taken(events(1n, a), events(2n, b, c))).toEqual([{ ...events(2n, a, b, c), receivedAt: 1 }])
  })

  test('does not change its inputs', async () => {
    const first = events(1n, config('a'))
    await taken(first, events(2n, config('b')))
    expect(first).toEqual(events(1n, config('a')))
  })

  test('keeps events before and after a loss apart', async () => {
    const [before, after] = [events(1n, config('a')), events(2n, config('b'))]
    const loss = lost('x')
    expect(await taken(before, loss, after)).toEqual([before, loss, after])
  })

  test('keeps the mark `replaced` of a snapshot that a later one displaces', async () => {
    const replaced = { ...snapshot, replaced: true }
    expect(await taken(replaced, lost('x'), snapshot)).toEqual([replaced])
    expect(await taken(snapshot, snapshot)).toEqual([snapshot])
  })

  test('drops everything before a snapshot', async () => {
    expect(await taken(events(1n, config('a')), lost('x'), snapshot)).toEqual([snapshot])
  })

  test('keeps only the last of consecutive losses', async () => {
    const queue = new UpdateQueue(new AbortController().signal)
    const second = lost('second')
    queue.push(lost('first'))
    queue.push(second)
    expect(await queue.take()).toBe(second)
  })

  test('wakes a waiting consumer, and ends with the signal', async () => {
    const controller = new AbortController()
    const queue = new UpdateQueue(controller.signal)
    const next = queue.take()
    queue.push(snapshot)
    expect(await next).toBe(snapshot)
    const last = queue.take()
    controller.abort()
    expect(await last).toBeUndefined()
    queue.push(snapshot)
    expect(await queue.take()).toBeUndefined()
  })
})
