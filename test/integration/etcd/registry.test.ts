import { keysUnder } from '../../../src/etcd/codec/keys'
import { readSnapshot } from '../../../src/etcd/follow/listing'
import type { Snapshot } from '../../../src/etcd/follow/snapshot'
import type { Registry } from '../../../src/etcd/registry'
import { ipv4, parseIpv6Prefix } from '../../../src/model/address'
import type { Lease } from '../../../src/model/lease'
import { type EtcdLeaseId, NO_ETCD_LEASE } from '../../../src/model/lease'
import type { HostGroups } from '../../../src/model/multicast'
import { manyPeers } from '../../lab/leases'
import { patient, patientSeconds } from '../../lab/patience'
import { runOk } from '../../lab/process'
import { CONFIG, ever, hostValue, PREFIX, peerValue, recordOf, Site, subnetOf } from './site'
import { TcpProxy } from './tcp-proxy'

jest.setTimeout(patient(60_000))

const WRITE = { record: recordOf('reserve'), isNoted: false }

let site: Site
let registry: Registry

beforeAll(async () => {
  site = await Site.start()
  registry = await site.registry()
})
afterAll(() => site.stop())
beforeEach(() => site.clear())

const textOf = async (key: string) => site.others.get(`${PREFIX}/${key}`).string()
const etcdLeases = async () => (await site.others.leaseClient.leaseLeases()).leases.map(({ ID }) => ID)

async function create(address: string, host: number): Promise<Lease> {
  const result = await registry.leases.create(subnetOf(address), hostValue(host), ever)
  if (result.kind !== 'created') throw new Error(`${address} is taken`)
  return result.lease
}

describe('a reservation', () => {
  const key = 'subnets/10.5.1.0-24'

  test('is a key without an etcd lease, created only where nothing is', async () => {
    const result = await registry.reservations.create(subnetOf('10.5.1.0'), hostValue(1), ever)
    expect(result).toMatchObject({ kind: 'created', lease: { etcdLease: NO_ETCD_LEASE } })
    expect(await textOf(key)).toBe(peerValue(1))
    expect((await registry.snapshot(ever)).leases).toEqual([result.kind === 'created' && result.lease])
    expect(await registry.reservations.create(subnetOf('10.5.1.0'), hostValue(2), ever)).toMatchObject({
      kind: 'taken',
      by: { value: hostValue(1) },
    })
    // A second attempt after the answer to the first was lost.
    expect(await registry.reservations.create(subnetOf('10.5.1.0'), hostValue(1), ever)).toEqual(result)
  })

  test('is made of a lease without a change of bytes; the key outlives its etcd lease', async () => {
    const lease = await create('10.5.1.0', 1)
    const result = await registry.reservations.reserve(lease, WRITE, ever)
    expect(result).toMatchObject({ kind: 'updated', lease: { etcdLease: NO_ETCD_LEASE } })
    expect(await etcdLeases()).not.toContain(lease.etcdLease)
    expect(await textOf(key)).toBe(peerValue(1))
    expect(await registry.reservations.reserve(lease, WRITE, ever)).toEqual(result)
  })

  test('is not made of a lease that was changed or is gone', async () => {
    const lease = await create('10.5.1.0', 1)
    await site.put(key, peerValue(2))
    expect(await registry.reservations.reserve(lease, WRITE, ever)).toMatchObject({
      kind: 'changed',
      now: { value: hostValue(2) },
    })
    expect(await textOf(key)).toBe(peerValue(2))
    await site.remove(key)
    expect(await registry.reservations.reserve(lease, WRITE, ever)).toEqual({
      kind: 'changed',
      now: undefined,
    })
    expect(await textOf(key)).toBeNull()
  })

  test('stays one when its value changes', async () => {
    const { lease } = (await registry.reservations.create(subnetOf('10.5.1.0'), hostValue(1), ever)) as {
      lease: Lease
    }
    expect(await registry.leases.update(lease, hostValue(2), ever)).toMatchObject({
      kind: 'updated',
      lease: { etcdLease: NO_ETCD_LEASE },
    })
    expect((await registry.snapshot(ever)).leases).toMatchObject([
      { value: hostValue(2), etcdLease: NO_ETCD_LEASE },
    ])
  })
})

describe('a snapshot', () => {
  test('of nothing is empty', async () => {
    const { leases, unreadable, config, configRevision } = await registry.snapshot(ever)
    expect({ leases, unreadable, config, configRevision }).toEqual({
      leases: [],
      unreadable: [],
      config: undefined,
      configRevision: undefined,
    })
  })

  test('has the config, good leases and bad ones, and nothing else', async () => {
    await site.put('config', CONFIG)
    await site.put('subnets/10.5.2.0-24', peerValue(2))
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    await site.put('subnets/10.5.3.0-24', 'garbage')
    await site.put('subnets/10.5.4.9-24', peerValue(4))
    await site.put('subnets-old/10.5.5.0-24', peerValue(5))
    await site.put('overlay/x', 'y')
    await site.others.put('/coreos.com/network2/config').value('{}')

    const snapshot = await registry.snapshot(ever)
    expect(snapshot).toMatchObject({
      config: CONFIG,
      leases: [
        {
          key: `${PREFIX}/subnets/10.5.1.0-24`,
          subnet: subnetOf('10.5.1.0'),
          value: hostValue(1),
          etcdLease: NO_ETCD_LEASE,
        },
        { key: `${PREFIX}/subnets/10.5.2.0-24`, value: hostValue(2) },
      ],
      unreadable: [
        { key: `${PREFIX}/subnets/10.5.3.0-24`, reason: expect.stringContaining('not a JSON object') },
        { key: `${PREFIX}/subnets/10.5.4.9-24`, reason: expect.stringContaining('not the first address') },
      ],
    })
    expect(snapshot.configRevision).toBe(snapshot.revision - 7n)
  })

  test('of 10,001 leases is one Range', async () => {
    await site.put('config', CONFIG)
    await site.putMany(manyPeers(10_001).map(({ subnet }) => subnet))
    const rpcs = await site.rpcsOf(async () => {
      expect((await registry.snapshot(ever)).leases).toHaveLength(10_001)
    })
    expect(rpcs).toEqual({ Range: 1 })
  })

  test('of many pages is of one revision, whatever happens between them', async () => {
    const subnets = manyPeers(100)
      .map(({ subnet }) => subnet)
      .sort()
    await site.putMany(subnets)
    const client = await site.client()
    let calls = 0
    const call = client.call.bind(client)
    client.call = async (...args) => {
      // In the part that is not listed yet, one lease vanishes and another lease appears.
      if (++calls === 3) {
        await site.remove(`subnets/${subnets[99]}`)
        await site.put('subnets/10.250.0.0-24', peerValue(1))
      }
      return call(...args)
    }
    const { snapshot } = await readSnapshot(client, keysUnder(PREFIX), ever, { pageKeys: 10 })
    expect(snapshot.leases.map(({ key }) => key)).toEqual(
      subnets.map((subnet) => `${PREFIX}/subnets/${subnet}`),
    )
    expect(calls).toBe(10)
  })

  test('begins anew when its revision is compacted between two pages', async () => {
    await site.putMany(manyPeers(30).map(({ subnet }) => subnet))
    const client = await site.client()
    let calls = 0
    const call = client.call.bind(client)
    client.call = async (...args) => {
      if (++calls === 2) {
        await site.put('subnets/10.5.1.0-24', peerValue(1))
        await site.compact()
      }
      return call(...args)
    }
    const { snapshot } = await readSnapshot(client, keysUnder(PREFIX), ever, { pageKeys: 10 })
    expect(snapshot.leases).toHaveLength(31)
  })
})

describe('keys that are no text', () => {
  const raw = (...name: number[]) => Buffer.concat([Buffer.from(`${PREFIX}/subnets/`), Buffer.from(name)])
  const putRaw = async (keys: readonly Buffer[]) => {
    for (let start = 0; start < keys.length; start += 128) {
      const success = keys.slice(start, start + 128).map((key) => ({
        request_put: { key, value: Buffer.from(peerValue(1)) },
      }))
      await site.others.kv.txn({ success })
    }
  }

  test('end no page before its end, and are told apart in a listing and by the watch', async () => {
    const bad = Array.from({ length: 100 }, (_, i) => raw(0xff, 0x80 + i))
    await putRaw(bad)
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    const { snapshot } = await readSnapshot(await site.client(), keysUnder(PREFIX), ever, { pageKeys: 7 })
    expect(snapshot.leases.map(({ key }) => key)).toEqual([`${PREFIX}/subnets/10.5.1.0-24`])
    expect(new Set(snapshot.unreadable.map(({ key }) => key)).size).toBe(100)
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.others.kv.deleteRange({ key: bad[3] as Buffer })
    const [gone] = await follow.waitForEvents(1)
    expect(gone).toMatchObject({ kind: 'removed', key: `${PREFIX}/subnets/\\xff\\x83`, misnamed: true })
    await follow.end()
  })
})

describe('creating a lease', () => {
  test('writes what flannel would, bound to a new etcd lease of a day', async () => {
    const lease = await create('10.5.1.0', 11)
    expect(await textOf('subnets/10.5.1.0-24')).toBe(
      '{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:0b"}}',
    )
    expect((await registry.snapshot(ever)).leases).toEqual([lease])
    expect(await registry.etcdLeases.timeToLive(lease.etcdLease, ever)).toBeGreaterThan(86_390)
  })

  test('is two RPCs', async () => {
    expect(await site.rpcsOf(() => create('10.5.1.0', 11))).toEqual({ LeaseGrant: 1, Txn: 1 })
  })

  test('of one subnet by twenty hosts succeeds once, and leaves no etcd lease behind', async () => {
    for (const id of await etcdLeases()) await registry.etcdLeases.revoke(id as EtcdLeaseId, ever)
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, host) =>
        registry.leases.create(subnetOf('10.5.1.0'), hostValue(host + 1), ever),
      ),
    )
    const [winner, ...more] = results.filter((result) => result.kind === 'created')
    expect(more).toEqual([])
    const { leases } = await registry.snapshot(ever)
    expect(leases).toEqual([winner?.lease])
    expect(results.filter((result) => result.kind === 'taken').map(({ by }) => by)).toEqual(
      Array(19).fill(leases[0]),
    )
    expect(await etcdLeases()).toEqual([winner?.lease.etcdLease])
    expect((await site.etcd.etcdctl('lease', 'list')).trim().split('\n')).toHaveLength(2)
  })

  test('of one IPv4 subnet with other IPv6 ones beside it succeeds once', async () => {
    const ipv6 = (number: number) => parseIpv6Prefix(`fd00:5:0:${number}::/64`)
    for (const id of await etcdLeases()) await registry.etcdLeases.revoke(id as EtcdLeaseId, ever)
    const results = await Promise.all(
      [undefined, 1, 2, 3].map((number, host) => {
        const subnet = { ...subnetOf('10.5.1.0'), ipv6: number === undefined ? undefined : ipv6(number) }
        return registry.leases.create(subnet, hostValue(host + 1), ever)
      }),
    )
    const [winner, ...more] = results.filter(({ kind }) => kind === 'created')
    expect(more).toEqual([])
    const { leases } = await registry.snapshot(ever)
    expect(leases).toEqual([winner?.kind === 'created' && winner.lease])
    expect(results.filter((result) => result.kind === 'taken').map(({ by }) => by)).toEqual(
      Array(3).fill(leases[0]),
    )
    expect(await etcdLeases()).toHaveLength(1)
    // The neighbours of the subnet are free, also the neighbour whose name has the same beginning.
    expect((await create('10.5.10.0', 7)).key).toMatch('10.5.10.0-24')
    const wanted = { ...subnetOf('10.5.1.0'), ipv6: ipv6(9) }
    expect(await registry.reservations.create(wanted, hostValue(9), ever)).toMatchObject({ kind: 'taken' })
  })

  test('says what is there when it cannot be read', async () => {
    await site.put('subnets/10.5.1.0-24', 'garbage')
    expect(await registry.leases.create(subnetOf('10.5.1.0'), hostValue(11), ever)).toMatchObject({
      kind: 'taken',
      by: { key: `${PREFIX}/subnets/10.5.1.0-24`, reason: expect.any(String) },
    })
  })

  test('knows its own when the answer to the first try is lost', async () => {
    const proxy = await TcpProxy.start(site.etcd.endpoint)
    site.onStop(() => proxy.close())
    const shaky = await site.registry({ endpoints: proxy.endpoint })
    await shaky.status(ever)
    proxy.loseAnswerTo = '"PublicIP"'
    const rpcs = await site.rpcsOf(async () => {
      const result = await shaky.leases.create(subnetOf('10.5.1.0'), hostValue(11), ever)
      expect(result.kind).toBe('created')
      expect((await registry.snapshot(ever)).leases).toEqual([result.kind === 'created' && result.lease])
    })
    expect(rpcs).toMatchObject({ Txn: 2, LeaseGrant: 1 })
  })

  test('given up leaves nothing behind', async () => {
    for (const id of await etcdLeases()) await registry.etcdLeases.revoke(id as EtcdLeaseId, ever)
    const proxy = await TcpProxy.start(site.etcd.endpoint)
    site.onStop(() => proxy.close())
    const shaky = await site.registry({ endpoints: proxy.endpoint })
    await shaky.status(ever)
    const controller = new AbortController()
    proxy.loseAnswerTo = '"PublicIP"'
    const creating = shaky.leases.create(subnetOf('10.5.1.0'), hostValue(11), controller.signal)
    setTimeout(() => controller.abort(), 50)
    await expect(creating).rejects.toMatchObject({ name: 'AbortError' })
    expect(await etcdLeases()).toEqual([])
    expect(await textOf('subnets/10.5.1.0-24')).toBeNull()
  })
})

describe('updating a lease', () => {
  test('keeps the etcd lease', async () => {
    const lease = await create('10.5.1.0', 11)
    const result = await registry.leases.update(lease, hostValue(12), ever)
    const { leases } = await registry.snapshot(ever)
    expect(result).toEqual({ kind: 'updated', lease: leases[0] })
    expect(leases[0]).toMatchObject({ value: hostValue(12), etcdLease: lease.etcdLease })
  })

  test('leaves a reservation one', async () => {
    await site.put('subnets/10.5.1.0-24', peerValue(11))
    const [reservation] = (await registry.snapshot(ever)).leases
    if (reservation === undefined) throw new Error('no reservation')
    expect(await registry.leases.update(reservation, hostValue(12), ever)).toMatchObject({
      kind: 'updated',
      lease: { value: hostValue(12), etcdLease: NO_ETCD_LEASE },
    })
    expect((await registry.snapshot(ever)).leases[0]?.etcdLease).toBe(NO_ETCD_LEASE)
  })

  test('with the same value does not trouble etcd', async () => {
    const lease = await create('10.5.1.0', 11)
    const rpcs = await site.rpcsOf(async () => {
      expect(await registry.leases.update(lease, hostValue(11), ever)).toEqual({ kind: 'updated', lease })
    })
    expect(rpcs).toEqual({})
  })

  test('that someone else has changed touches nothing', async () => {
    const lease = await create('10.5.1.0', 11)
    await site.put('subnets/10.5.1.0-24', peerValue(99))
    expect(await registry.leases.update(lease, hostValue(12), ever)).toMatchObject({
      kind: 'changed',
      now: { value: hostValue(99), etcdLease: NO_ETCD_LEASE },
    })
    expect(await textOf('subnets/10.5.1.0-24')).toBe(peerValue(99))
  })

  test('that is gone does not bring it back', async () => {
    const lease = await create('10.5.1.0', 11)
    await registry.etcdLeases.revoke(lease.etcdLease, ever)
    expect(await registry.leases.update(lease, hostValue(12), ever)).toEqual({
      kind: 'changed',
      now: undefined,
    })
    expect(await textOf('subnets/10.5.1.0-24')).toBeNull()
  })

  test('knows its own when the answer to the first try is lost', async () => {
    const lease = await create('10.5.1.0', 11)
    const proxy = await TcpProxy.start(site.etcd.endpoint)
    site.onStop(() => proxy.close())
    const shaky = await site.registry({ endpoints: proxy.endpoint })
    await shaky.status(ever)
    proxy.loseAnswerTo = '"PublicIP"'
    const result = await shaky.leases.update(lease, hostValue(12), ever)
    expect(result).toEqual({ kind: 'updated', lease: (await registry.snapshot(ever)).leases[0] })
  })
})

describe('deleting a lease', () => {
  test('takes the etcd lease along', async () => {
    const lease = await create('10.5.1.0', 11)
    expect(await registry.leases.delete(lease, ever)).toBeUndefined()
    expect(await textOf('subnets/10.5.1.0-24')).toBeNull()
    expect(await etcdLeases()).not.toContain(lease.etcdLease)
  })

  test("leaves someone else's alone", async () => {
    const lease = await create('10.5.1.0', 11)
    await site.put('subnets/10.5.1.0-24', peerValue(99))
    expect(await registry.leases.delete(lease, ever)).toMatchObject({ value: hostValue(99) })
    expect(await textOf('subnets/10.5.1.0-24')).toBe(peerValue(99))
  })

  test('that is gone already is fine', async () => {
    const lease = await create('10.5.1.0', 11)
    await registry.etcdLeases.revoke(lease.etcdLease, ever)
    expect(await registry.leases.delete(lease, ever)).toBeUndefined()
  })
})

describe('an etcd lease', () => {
  test('is renewed by one RPC, which nobody sees', async () => {
    const lease = await create('10.5.1.0', 11)
    const { revision } = await registry.status(ever)
    const rpcs = await site.rpcsOf(async () => {
      expect(await registry.etcdLeases.keepAlive(lease.etcdLease, ever)).toEqual({ ttlSeconds: 86_400 })
    })
    expect(rpcs).toEqual({ LeaseKeepAlive: 1 })
    expect((await registry.status(ever)).revision).toBe(revision)
  })

  test('that is gone is expired', async () => {
    const { ID } = await site.others.leaseClient.leaseGrant({ TTL: 60 })
    const id = ID as EtcdLeaseId
    expect(await registry.etcdLeases.keepAlive(id, ever)).toEqual({ ttlSeconds: 60 })
    await registry.etcdLeases.revoke(id, ever)
    expect(await registry.etcdLeases.keepAlive(id, ever)).toBe('expired')
    expect(await registry.etcdLeases.timeToLive(id, ever)).toBeUndefined()
    await registry.etcdLeases.revoke(id, ever)
  })

  test('that was let run out is expired', async () => {
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    const { ID } = await site.others.leaseClient.leaseGrant({ TTL: patientSeconds(1) })
    await site.others.put(`${PREFIX}/subnets/10.5.1.0-24`).value(peerValue(1)).lease(ID)
    const [, gone] = await follow.waitForEvents(2, 20_000)
    expect(gone).toMatchObject({ kind: 'removed', key: `${PREFIX}/subnets/10.5.1.0-24` })
    expect(await registry.etcdLeases.keepAlive(ID as EtcdLeaseId, ever)).toBe('expired')
    await follow.end()
  })
})

test('etcd is the first one in PATH, and so the newer one where scripts/test asks for it', async () => {
  const version = await runOk(['etcd', '--version'])
  const { etcdserver } = (await (await fetch(`${site.etcd.endpoint}/version`)).json()) as {
    etcdserver: string
  }
  expect(version).toContain(`etcd Version: ${etcdserver}\n`)
})

test('the status names the member, and is one RPC', async () => {
  const latencies: number[] = []
  const rpcs = await site.rpcsOf(async () => {
    for (let i = 0; i < 3; i++) {
      const { endpoint, latencyMs } = await registry.status(ever)
      expect(endpoint).toBe(site.etcd.endpoint)
      latencies.push(latencyMs)
    }
  })
  expect(rpcs).toEqual({ Range: 3 })
  expect(Math.min(...latencies)).toBeLessThan(patient(100))
})

describe('the groups that hosts want', () => {
  const WANTED: HostGroups = { vni: 7, tells: ['IPv4'], groups: [ipv4(0xef010203)] }
  const KEY = 'overlay/groups/10.5.1.0-24'
  const TEXT = '{"vni":7,"families":["IPv4"],"groups":["239.1.2.3"]}'

  test('are a key bound to a lease of its own, which takes it along', async () => {
    const own = await create('10.5.1.0', 1)
    const etcdLease = await registry.groups.grant(ever)
    const revision = await registry.groups.put(own, WANTED, etcdLease, ever)
    expect(await textOf(KEY)).toBe(TEXT)
    expect(await registry.etcdLeases.timeToLive(etcdLease, ever)).toBeLessThanOrEqual(30)
    expect((await registry.snapshot(ever)).groups).toEqual([
      { name: '10.5.1.0-24', modRevision: revision, value: WANTED },
    ])
    await registry.etcdLeases.revoke(etcdLease, ever)
    expect(await textOf(KEY)).toBeNull()
    expect(await textOf('subnets/10.5.1.0-24')).toBe(peerValue(1))
  })

  test('are said only by who has the subnet, whatever is there', async () => {
    const own = await create('10.5.1.0', 1)
    const etcdLease = await registry.groups.grant(ever)
    await site.put(KEY, 'of an earlier run')
    expect(await registry.groups.put(own, WANTED, etcdLease, ever)).toBeDefined()
    await site.put('subnets/10.5.1.0-24', peerValue(2))
    expect(await registry.groups.put(own, { ...WANTED, groups: [] }, etcdLease, ever)).toBeUndefined()
    expect(await registry.groups.delete(own, ever)).toBeUndefined()
    expect(await textOf(KEY)).toBe(TEXT)
  })

  test('are taken back, also those of an earlier run', async () => {
    const own = await create('10.5.1.0', 1)
    await site.put(KEY, 'of an earlier run')
    expect(await registry.groups.delete(own, ever)).toBeDefined()
    expect(await textOf(KEY)).toBeNull()
  })

  test('come with the call that lists leases and by the same watch; a bad key hurts no other', async () => {
    await site.put('overlay/groups/garbage', TEXT)
    await site.put('overlay/groups/10.5.2.0-24', '{')
    await site.put(KEY, TEXT)
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    let snapshot: Snapshot | undefined
    const calls = await site.rpcsOf(async () => {
      snapshot = await registry.snapshot(ever)
    })
    expect(calls).toEqual({ Range: 1 })
    const { groups = [], leases = [], unreadable = [] } = snapshot ?? {}
    expect([leases.length, unreadable.length]).toEqual([1, 0])
    expect(groups.map(({ name, value, reason }) => [name, value ?? typeof reason])).toEqual([
      ['10.5.1.0-24', WANTED],
      ['10.5.2.0-24', 'string'],
      ['garbage', 'string'],
    ])
    const follow = site.follow(registry)
    await follow.waitFor('snapshot')
    await site.put(KEY, TEXT.replace('239.1.2.3', '239.1.2.4'))
    await site.remove(KEY)
    expect(await follow.waitForEvents(2)).toEqual([
      {
        kind: 'groups',
        groups: expect.objectContaining({ value: { ...WANTED, groups: [ipv4(0xef010204)] } }),
      },
      { kind: 'groups-removed', name: '10.5.1.0-24', modRevision: expect.anything() },
    ])
  })

  test('are read in smaller pages where they are too large for one', async () => {
    // More than the 64 MB of an answer, and so small that a page of few keys comes in time.
    const large = 'x'.repeat(350_000)
    for (let n = 0; n < 200; n++) await site.put(`overlay/groups/10.6.${n}.0-24`, large)
    await site.put('subnets/10.5.1.0-24', peerValue(1))
    const { groups = [], leases } = await registry.snapshot(ever)
    expect([groups.length, leases.length]).toEqual([200, 1])
  })
})
