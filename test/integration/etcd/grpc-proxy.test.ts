/** etcd's own grpc-proxy between hosts and etcd, as large clusters have it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EtcdLeaseId } from '../../../src/model/lease'
import { GrpcProxy } from '../../lab/etcd-proxy'
import { patient } from '../../lab/patience'
import { Pending, sleep, waitFor } from '../../lab/wait'
import { ever, hostValue, peerValue, Site, subnetOf } from './site'

jest.setTimeout(patient(60_000))

let site: Site
let proxy: GrpcProxy
let directory: string

beforeAll(async () => {
  site = await Site.start()
  directory = mkdtempSync(join(tmpdir(), 'overlayd-proxy-'))
  proxy = await GrpcProxy.start(site.etcd, { ip: '127.0.0.1', port: 23_790, directory })
})
afterAll(async () => {
  await proxy?.stop()
  await site?.stop()
  rmSync(directory, { recursive: true, force: true })
})
beforeEach(() => site.clear())

test('a lease is taken, guarded, renewed and given back', async () => {
  const registry = await site.registry({ endpoints: proxy.endpoint })
  const subnet = subnetOf('10.5.1.0')
  const created = await registry.leases.create(subnet, hostValue(11), ever)
  if (created.kind !== 'created') throw new Error('someone has it')
  expect(await registry.leases.create(subnet, hostValue(12), ever)).toMatchObject({ kind: 'taken' })
  expect((await registry.snapshot(ever)).leases).toEqual([created.lease])
  const { etcdLease } = created.lease
  expect(await registry.etcdLeases.keepAlive(etcdLease, ever)).toEqual({ ttlSeconds: 86_400 })
  expect(await registry.etcdLeases.keepAlive('4711' as EtcdLeaseId, ever)).toBe('expired')
  const updated = await registry.leases.update(created.lease, hostValue(13), ever)
  expect(updated).toMatchObject({ kind: 'updated' })
  expect(await registry.leases.update(created.lease, hostValue(14), ever)).toMatchObject({ kind: 'changed' })
  await registry.etcdLeases.revoke(etcdLease, ever)
  expect((await registry.snapshot(ever)).leases).toEqual([])
})

test('equal watches of many hosts are one for etcd', async () => {
  const registries = await Promise.all(
    Array.from({ length: 5 }, () => site.registry({ endpoints: proxy.endpoint })),
  )
  const follows = registries.map((registry) => site.follow(registry))
  for (const follow of follows) await follow.waitFor('snapshot')
  const eventsSent = async (): Promise<number> => {
    const metrics = await (await fetch(`${site.etcd.endpoint}/metrics`)).text()
    return Number(/^etcd_debugging_mvcc_events_total (\d+)$/m.exec(metrics)?.[1])
  }
  // The proxy merges watches once an event has brought all of them to one revision.
  await site.put('subnets/10.5.1.0-24', peerValue(1))
  for (const follow of follows) await follow.waitForEvents(1)
  await waitFor('the watches to be one', async () => {
    const before = await eventsSent()
    const seen = follows.map(({ events }) => events.length)
    await site.put('subnets/10.5.2.0-24', peerValue(2))
    await Promise.all(follows.map((follow, i) => follow.waitForEvents((seen[i] ?? 0) + 1)))
    const sent = (await eventsSent()) - before
    return sent === 1 || new Pending(`${sent} events for one change`)
  })
  expect(follows.flatMap(({ updates }) => updates).filter(({ kind }) => kind === 'lost')).toEqual([])
})

test('pings that are too many for it become fewer: logged once, no loss, no new listing', async () => {
  const warnings: string[] = []
  const log = { info() {}, warn: (message: string) => warnings.push(message) }
  const registry = await site.registry({ endpoints: proxy.endpoint, pingEveryMs: 300 }, log)
  const follow = site.follow(registry)
  await follow.waitFor('snapshot')
  await waitFor('the pings to be refused', () => warnings.length > 0 || new Pending('no warning'))
  await site.put('subnets/10.5.1.0-24', peerValue(1))
  await follow.waitForEvents(1)
  expect(follow.updates.map(({ kind }) => kind)).toEqual(['snapshot', 'events'])
  expect(warnings).toEqual([
    expect.stringMatching(
      /does not accept a ping every 0\.3 s; .*every 305 s, .*--grpc-keepalive-min-time=5s/,
    ),
  ])
})

test('killed and started again, with etcd: each change comes once, without a new listing', async () => {
  const registry = await site.registry({ endpoints: proxy.endpoint })
  const follow = site.follow(registry)
  await follow.waitFor('snapshot')
  await site.put('subnets/10.5.1.0-24', peerValue(1))
  await follow.waitForEvents(1)
  await proxy.stop()
  await follow.waitFor('lost')
  await site.put('subnets/10.5.2.0-24', peerValue(2))
  await proxy.start()
  await follow.waitForEvents(2)
  await site.etcd.restart()
  await waitFor('etcd to take a put', () =>
    site.put('subnets/10.5.3.0-24', peerValue(3)).then(
      () => true as const,
      (error: unknown) => new Pending(String(error)),
    ),
  )
  await follow.waitForEvents(3)
  expect(follow.updates.filter(({ kind }) => kind === 'snapshot')).toHaveLength(1)
  expect(follow.events).toHaveLength(3)
})

test('killed, and the history compacted: a silent watch is noticed and replaced', async () => {
  const others = await Promise.all(
    Array.from({ length: 8 }, () => site.registry({ endpoints: proxy.endpoint })),
  )
  const follows = others.map((registry) => site.follow(registry))
  for (const follow of follows) await follow.waitFor('snapshot')
  await site.put('subnets/10.5.1.0-24', peerValue(1))
  for (const follow of follows) await follow.waitForEvents(1)
  await proxy.stop()
  for (const follow of follows) await follow.waitFor('lost')
  await site.put('subnets/10.5.2.0-24', peerValue(2))
  await site.remove('subnets/10.5.1.0-24')
  await site.compact()
  await proxy.start()
  await sleep(1000)
  // By now etcd may have cancelled a watch of the proxy, because of the compaction. The proxy may have added
  // one of the others to that watch, and adds every newcomer.
  const follow = site.follow(await site.registry({ endpoints: proxy.endpoint, relistMs: 1000 }))
  await follow.waitFor('snapshot')
  let puts = 0
  // An event comes from a watch, and not from a listing.
  await waitFor(
    'a watch to tell of a put',
    async () => {
      puts += 1
      const subnet = `10.5.${2 + puts}.0-24`
      await site.put(`subnets/${subnet}`, peerValue(2 + puts))
      await sleep(500)
      const isTold = follow.events.some((event) => event.kind === 'lease' && event.lease.key.endsWith(subnet))
      return isTold || new Pending(follow.updates.map(({ kind }) => kind).join(' '))
    },
    { timeoutMs: 30_000 },
  )
})
