import type { Registry } from '../../../src/etcd/registry'
import { manyPeers } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Pending, sleep, waitFor } from '../../lab/wait'
import { CONFIG, ever, type Follow, hostValue, PREFIX, peerValue, Site } from './site'
import { TcpProxy } from './tcp-proxy'

jest.setTimeout(patient(40_000))

let site: Site
let registry: Registry

beforeAll(async () => {
  site = await Site.start()
  registry = await site.registry()
})
afterAll(() => site.stop())
beforeEach(() => site.clear())

const keyOf = (subnet: string) => `${PREFIX}/subnets/${subnet}`

/** Puts a key and waits for the event. The event shows that the watch is open. */
async function settle(follow: Follow): Promise<void> {
  await follow.waitFor('snapshot')
  const before = follow.events.length
  await site.put('config', '{}')
  await follow.waitForEvents(before + 1)
}

/** A registry behind a proxy. */
async function behindProxy(): Promise<{ proxy: TcpProxy; registry: Registry }> {
  const proxy = await TcpProxy.start(site.etcd.endpoint)
  site.onStop(() => proxy.close())
  return { proxy, registry: await site.registry({ endpoints: proxy.endpoint }) }
}

describe('a follower', () => {
  test('is told a snapshot, then joins, changes, leaves and configs in order', async () => {
    await site.put('config', CONFIG)
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    const follow = site.follow(registry)
    const { snapshot } = await follow.waitFor('snapshot')
    expect(snapshot).toMatchObject({ config: CONFIG, leases: [{ value: hostValue(1) }] })

    await site.put('subnets/10.5.2.0-24', peerValue(2))
    await site.put('subnets/10.5.2.0-24', peerValue(3))
    await site.put('elsewhere', 'not ours')
    await site.remove('subnets/10.5.1.0-24')
    await site.put('config', '{}')
    await site.remove('config')
    expect(await follow.waitForEvents(5)).toEqual([
      { kind: 'lease', lease: expect.objectContaining({ key: keyOf('10.5.2.0-24'), value: hostValue(2) }) },
      { kind: 'lease', lease: expect.objectContaining({ key: keyOf('10.5.2.0-24'), value: hostValue(3) }) },
      { kind: 'removed', key: keyOf('10.5.1.0-24'), modRevision: snapshot.revision + 4n },
      { kind: 'config', text: '{}', modRevision: snapshot.revision + 5n },
      { kind: 'config', text: undefined, modRevision: snapshot.revision + 6n },
    ])
    expect(follow.updates.filter(({ kind }) => kind !== 'events')).toHaveLength(1)
    await follow.end()
  })

  test('is told what cannot be read, and everything else as if it were not there', async () => {
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.put('subnets/10.5.1.0-24', 'garbage')
    await site.put('subnets/not a subnet', peerValue(2))
    await site.put('subnets/10.5.3.0-24', peerValue(3))
    await site.remove('subnets/not a subnet')
    expect(await follow.waitForEvents(4)).toMatchObject([
      { kind: 'unreadable', lease: { key: keyOf('10.5.1.0-24'), reason: expect.stringContaining('JSON') } },
      {
        kind: 'unreadable',
        lease: { key: keyOf('not a subnet'), reason: expect.stringContaining('not a subnet') },
      },
      { kind: 'lease', lease: { key: keyOf('10.5.3.0-24'), value: hostValue(3) } },
      { kind: 'removed', key: keyOf('not a subnet') },
    ])
    await follow.end()
  })

  test('costs etcd one Range and one Watch, however many events come', async () => {
    const rpcs = await site.rpcsOf(async () => {
      const follow = site.follow(registry)
      await settle(follow)
      await site.putMany(manyPeers(1000).map(({ subnet }) => subnet))
      await follow.waitForEvents(1001)
      await follow.end()
    })
    expect(rpcs).toEqual({ Range: 1, Watch: 1, Put: 1, Txn: 8 })
  })

  test('that is slow is told less often, and no less', async () => {
    const controller = new AbortController()
    const slow = registry.follow(controller.signal)
    expect((await slow.next()).value?.kind).toBe('snapshot')
    const subnets = manyPeers(50).map(({ subnet }) => subnet)
    for (const subnet of subnets) await site.put(`subnets/${subnet}`, peerValue(1))
    const probe = site.follow(registry)
    await probe.waitFor('snapshot')
    await sleep(200)
    const told: string[] = []
    let updates = 0
    while (told.length < subnets.length) {
      const { value } = await slow.next()
      updates += 1
      if (value?.kind !== 'events') throw new Error(`an update of kind ${value?.kind}`)
      for (const event of value.events) told.push(event.kind === 'lease' ? event.lease.key : event.kind)
    }
    expect(told).toEqual(subnets.map(keyOf))
    // One, unless the machine is busy.
    expect(updates).toBeLessThan(subnets.length / 2)
    await probe.end()
    await slow.return()
  })

  test('ends at once, whatever it is doing', async () => {
    const follow = site.follow(registry)
    await settle(follow)
    expect(await follow.end()).toBeLessThan(patient(200))

    const controller = new AbortController()
    controller.abort()
    expect((await registry.follow(controller.signal).next()).done).toBe(true)
  })

  test('that stops asking leaves no watch behind', async () => {
    for await (const update of registry.follow(ever)) {
      expect(update.kind).toBe('snapshot')
      break
    }
    await waitFor('the watch to be gone', async () => {
      const metrics = await (await fetch(`${site.etcd.endpoint}/metrics`)).text()
      const watchers = /^etcd_debugging_mvcc_watcher_total (\d+)/m.exec(metrics)?.[1]
      return watchers === '0' || new Pending(`${watchers} watchers`)
    })
  })

  test('reads everything again from time to time, beside the watch', async () => {
    const careful = await site.registry({ relistMs: 200 })
    const rpcs = await site.rpcsOf(async () => {
      const follow = site.follow(careful)
      await follow.waitFor('snapshot')
      await site.put('subnets/10.5.1.0-24', peerValue(1))
      // The watch or a listing tells it first, and the other one has no news then.
      await waitFor('the lease', () => {
        const told = follow.updates.some((update) =>
          update.kind === 'snapshot'
            ? update.snapshot.leases.length === 1
            : update.kind === 'events' && update.events.some(({ kind }) => kind === 'lease'),
        )
        return told || new Pending(`${follow.updates.length} updates`)
      })
      const { length } = follow.updates
      const { snapshot } = await follow.waitFor('snapshot', { from: length })
      expect(snapshot.leases.map(({ key }) => key)).toEqual([keyOf('10.5.1.0-24')])
      expect(follow.updates.every(({ kind }) => kind !== 'lost')).toBe(true)
      await follow.end()
    })
    expect(rpcs).toMatchObject({ Watch: 1 })
  })
})

describe('when etcd fails', () => {
  test('killed and started again: the loss is told, then what happened meanwhile, once', async () => {
    const follow = site.follow(registry)
    await settle(follow)
    const known = follow.events.length
    await site.etcd.kill()
    expect((await follow.waitFor('lost')).error).toMatchObject({ code: 'etcd-unreachable' })
    await site.etcd.start()
    const back = follow.updates.length
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    await site.put('subnets/10.5.1.0-24', peerValue(2))
    await site.remove('subnets/10.5.1.0-24')
    const events = await follow.waitForEvents(known + 3)
    expect(events.slice(known).map(({ kind }) => kind)).toEqual(['lease', 'lease', 'removed'])
    expect(follow.updates.slice(back).some(({ kind }) => kind === 'snapshot')).toBe(false)
    await follow.end()
  })

  test('back with nothing new: that it is followed again is told all the same', async () => {
    const { proxy, registry } = await behindProxy()
    const follow = site.follow(registry)
    await settle(follow)
    proxy.cut()
    await follow.waitFor('lost')
    await waitFor('the end of the loss', () => follow.last?.kind === 'events' || new Pending('lost'))
    expect(follow.last).toMatchObject({ kind: 'events', events: [] })
    await follow.end()
  })

  test('cut again and again in the middle of 5,000 events: each comes once, in order', async () => {
    const { proxy, registry } = await behindProxy()
    const follow = site.follow(registry)
    await settle(follow)
    const known = follow.events.length
    proxy.open = false
    proxy.cut()
    await follow.waitFor('lost')
    const subnets = manyPeers(5000).map(({ subnet }) => subnet)
    // Each put is one revision: etcd sends at most 1,000 revisions in one batch.
    await Promise.all(subnets.map((subnet) => site.put(`subnets/${subnet}`, peerValue(1))))
    proxy.cutAfter = 400_000
    proxy.open = true
    const events = (await follow.waitForEvents(known + 5000, 20_000)).slice(known)
    const revisions = events.map((event) => (event.kind === 'lease' ? event.lease.modRevision : 0n))
    expect(revisions).toHaveLength(5000)
    expect(
      revisions.every((revision, index) => index === 0 || revision > (revisions[index - 1] ?? revision)),
    ).toBe(true)
    expect(follow.updates.filter(({ kind }) => kind === 'lost').length).toBeGreaterThan(2)
    expect(follow.updates.filter(({ kind }) => kind === 'snapshot')).toHaveLength(1)
    await follow.end()
  })

  test('compacted while the stream was cut: a new snapshot', async () => {
    const { proxy, registry } = await behindProxy()
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    const follow = site.follow(registry)
    await settle(follow)
    proxy.open = false
    proxy.cut()
    await follow.waitFor('lost')
    const from = follow.updates.length
    await site.remove('subnets/10.5.1.0-24')
    await site.put('subnets/10.5.2.0-24', peerValue(2))
    await site.put('subnets/10.5.3.0-24', peerValue(3))
    await site.compact()
    proxy.open = true
    const { snapshot } = await follow.waitFor('snapshot', { from })
    expect(snapshot.leases.map(({ key }) => key)).toEqual([keyOf('10.5.2.0-24'), keyOf('10.5.3.0-24')])
    const losses = follow.updates.flatMap((update) => (update.kind === 'lost' ? update.error.code : []))
    expect(losses).toContain('etcd-compacted')
    await site.put('subnets/10.5.4.0-24', peerValue(4))
    await waitFor('the next event', () => follow.last?.kind === 'events' || new Pending('none'))
    await follow.end()
  })

  test('compacted exactly at a missed delete, of which etcd says nothing: the lease goes', async () => {
    const { proxy, registry } = await behindProxy()
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    const follow = site.follow(registry)
    await settle(follow)
    proxy.open = false
    proxy.cut()
    await follow.waitFor('lost')
    const from = follow.updates.length
    await site.remove('subnets/10.5.1.0-24')
    await site.compact()
    proxy.open = true
    expect((await follow.waitFor('snapshot', { from })).snapshot.leases).toEqual([])
    await follow.end()
  })

  test('stopped with open connections: noticed within 10 s, followed again when it goes on', async () => {
    const follow = site.follow(registry)
    await settle(follow)
    const from = follow.updates.length
    const stopped = performance.now()
    site.etcd.pause()
    try {
      await follow.waitFor('lost', { from, timeoutMs: 12_000 })
      expect(performance.now() - stopped).toBeLessThan(patient(10_000))
    } finally {
      site.etcd.resume()
    }
    const known = follow.events.length
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    await follow.waitForEvents(known + 1)
    await follow.end()
  })

  test('not there at the start: tried again, and told why', async () => {
    const { proxy, registry } = await behindProxy()
    const { endpoint } = proxy
    const { port } = new URL(endpoint)
    proxy.close()
    const follow = site.follow(registry)
    const { error } = await follow.waitFor('lost')
    expect(error).toMatchObject({
      code: 'etcd-unreachable',
      message: `cannot read the leases: etcd at ${endpoint}: nothing listens on port ${port} there (ECONNREFUSED)`,
      fix: expect.stringContaining('--etcd-endpoints'),
    })
    await waitFor('more tries', () => follow.updates.length > 3 || new Pending(`${follow.updates.length}`))
    expect(await follow.end()).toBeLessThan(patient(200))
  })

  test('put up anew with another history: a new snapshot', async () => {
    const first = await Site.start()
    const port = Number(new URL(first.etcd.endpoint).port)
    const follow = site.follow(await site.registry({ endpoints: first.etcd.endpoint }))
    await follow.waitFor('snapshot')
    await first.put('subnets/10.5.1.0-24', peerValue(1))
    await first.put('config', CONFIG)
    await follow.waitForEvents(1)
    const from = follow.updates.length
    await first.stop()
    const second = await Site.start({ clientPort: port })
    try {
      expect(await follow.waitFor('snapshot', { from })).toMatchObject({
        replaced: true,
        snapshot: { leases: [], config: undefined },
      })
      await follow.end()
    } finally {
      await second.stop()
    }
  })
})
