/** Our own lease in etcd: raced for, deleted, taken, reserved. The kernel carries packets in each case. */
import { writeFileSync } from 'node:fs'
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

const PEER = fakePeer(0)
const STRANGER = fakePeer(1)

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 4 })
  await lab.putPeers(PEER)
})
afterAll(() => lab?.close())

/** Value and etcd lease of a host's key. */
async function ownLease(number: number) {
  const { subnet } = await lab.host(number).subnetEnv()
  const key = leaseKey(ETCD_PREFIX, subnet.replace(/\d+\/24$/, '0-24'))
  const [kv] = (await lab.client.get(key).exec()).kvs
  return { key, value: kv?.value.toString(), etcdLease: kv?.lease, modRevision: kv?.mod_revision }
}

test('two hosts that want the same subnet get one each', async () => {
  const [first, second] = [lab.host(1), lab.host(2)]
  for (const host of [first, second]) writeFileSync(host.subnetFile, 'FLANNEL_SUBNET=10.5.77.1/24\n')
  first.start()
  second.start()
  await lab.waitConverged(1)
  const subnets = [(await first.subnetEnv()).subnet, (await second.subnetEnv()).subnet]
  expect(subnets).toContain('10.5.77.1/24')
  expect(new Set(subnets).size).toBe(2)
  await second.stop()
  await lab.client.delete().key((await ownLease(2)).key)
})

test('a key that was deleted is created again, the same, and the kernel is not touched', async () => {
  const host = lab.host(1)
  await host.waitConverged(1)
  const before = { lease: await ownLease(1), kernel: await host.kernel(), link: await host.link() }
  const monitor = await lab.monitor(host)
  await lab.client.delete().key(before.lease.key)
  await host.waitUntil('its key is there again', async () => (await ownLease(1)).value !== undefined)
  const status = await host.waitConverged(1)
  expect(status.lease).toMatchObject({ state: 'held' })
  expect((await ownLease(1)).value).toBe(before.lease.value)
  expect((await ownLease(1)).etcdLease).not.toBe('0')
  expect(await monitor.changes()).toEqual([])
  expect({ kernel: await host.kernel(), link: await host.link() }).toEqual({
    kernel: before.kernel,
    link: before.link,
  })
})

test('an etcd lease that was revoked is replaced', async () => {
  const host = lab.host(1)
  const before = await ownLease(1)
  await lab.client.leaseClient.leaseRevoke({ ID: before.etcdLease ?? '' })
  await host.waitUntil('a new etcd lease', async () => {
    const { etcdLease } = await ownLease(1)
    return etcdLease !== undefined && etcdLease !== before.etcdLease
  })
  await host.waitConverged(1)
})

test('a key that another host took is a logged conflict, is not overwritten, traffic goes on', async () => {
  const host = lab.host(1)
  const before = await ownLease(1)
  const kernel = await host.kernel()
  await lab.client.put(before.key).value(leaseValue(STRANGER))
  const status = await host.waitForStatus(
    'a conflict',
    ({ lease, etcd }) => lease?.state === 'conflict' && etcd.connected,
  )
  expect(status).toMatchObject({ state: 'degraded', problems: [expect.stringContaining(STRANGER.publicIp)] })
  expect(host.daemon.output).toMatch(/error lease: CONFLICT.*overlayctl evict 10\.5\.\d+\.0\/24/)
  const ctl = await host.overlayctl('status')
  expect(ctl.code).toBe(1)
  // Other peers come and go meanwhile.
  const newcomer = fakePeer(2)
  await lab.putPeers(newcomer)
  await host.waitForStatus('the newcomer', ({ peers }) => peers.length === 2)
  await lab.deletePeer(newcomer)
  await host.waitForStatus('the newcomer gone', ({ peers }) => peers.length === 1)
  expect(await host.kernel()).toEqual(kernel)
  expect((await ownLease(1)).value).toBe(leaseValue(STRANGER))

  await lab.client.delete().key(before.key)
  await host.waitConverged(1)
  expect((await ownLease(1)).value).toBe(before.value)
})

/** The subnet that is reserved for the third host, such as `10.5.99.0`. */
let ofThird: string

test('a reservation is used and stays one', async () => {
  const host = lab.host(3)
  ofThird = await lab.freeSubnet()
  const reserved = { subnet: `${ofThird}-24`, publicIp: host.address, mac: '02:00:00:00:99:99' }
  await lab.client.put(leaseKey(ETCD_PREFIX, reserved.subnet)).value(leaseValue(reserved))
  host.start()
  const status = await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(status.lease).toMatchObject({ subnet: `${ofThird}/24`, state: 'held' })
  expect(status.lease?.etcdLease).toBeUndefined()
  expect(await ownLease(3)).toMatchObject({ etcdLease: '0' })
  // The host keeps the MAC of the reservation, so no write was needed.
  expect(await host.link()).toMatchObject({ mac: reserved.mac })
  await host.stop()
})

test('a reservation whose value must change stays one', async () => {
  const host = lab.host(3)
  const { mac } = await host.link()
  const before = await ownLease(3)
  // The device keeps its MAC, so the reservation must name that MAC.
  const reserved = { subnet: `${ofThird}-24`, publicIp: host.address, mac: '02:00:00:00:99:98' }
  await lab.client.put(before.key).value(leaseValue(reserved))
  await host.startByEtcd()
  await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(await host.link()).toMatchObject({ mac })
  expect(await ownLease(3)).toMatchObject({ value: before.value, etcdLease: '0' })
})

test('a reservation goes on, as one, under the key that a network with other families wants', async () => {
  const host = lab.host(3)
  await host.stop()
  const { key, value } = await ownLease(3)
  await host.startByEtcd({}, async () => {
    await lab.client.delete().key(key)
    await lab.client.put(`${key}&fd00:5:0:63::-64`).value(value ?? '')
  })
  const status = await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(status.lease).toMatchObject({ subnet: `${ofThird}/24`, state: 'held' })
  expect(await ownLease(3)).toMatchObject({ key, value, etcdLease: '0' })
  expect(await lab.client.get(`${key}&fd00:5:0:63::-64`).string()).toBeNull()
})

test('a lease that is reserved while the host runs stays reserved, without a kernel write', async () => {
  const host = lab.host(1)
  await host.waitForStatus('its lease', ({ lease }) => lease?.expiresInSeconds !== undefined)
  const before = await ownLease(1)
  const monitor = await lab.monitor(host)
  await lab.client.put(before.key).value(before.value ?? '')
  const reserved = await ownLease(1)
  expect(reserved).toMatchObject({ etcdLease: '0', value: before.value })
  const { lease } = await host.waitForStatus('a reservation', ({ lease }) => lease?.etcdLease === undefined)
  expect(lease).toMatchObject({ state: 'held' })
  expect(lease?.expiresInSeconds).toBeUndefined()
  // The etcd lease ends, as after a day, with all keys that are still bound to the etcd lease.
  await lab.client.leaseClient.leaseRevoke({ ID: before.etcdLease ?? '' })
  // A write to the reservation, as flannel does within milliseconds, would have come before this event.
  await lab.putPeers(fakePeer(3))
  await host.waitForStatus('a newcomer', ({ peers }) =>
    peers.some(({ subnet }) => subnet === '10.5.153.0/24'),
  )
  expect(await ownLease(1)).toEqual(reserved)
  await lab.deletePeer(fakePeer(3))
  await host.waitForStatus('it gone', ({ peers }) => peers.every(({ subnet }) => subnet !== '10.5.153.0/24'))
  expect((await monitor.changes()).filter((line) => !/10\.5\.153\.|02:fa:4e:00:00:03/.test(line))).toEqual([])
  await host.restart()
  await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(await ownLease(1)).toEqual(reserved)
})

test('a key that is bound to another etcd lease, as flannel does it, is kept alive by that one', async () => {
  const host = lab.host(1)
  const { key, value } = await ownLease(1)
  const { ID } = await lab.client.leaseClient.leaseGrant({ TTL: 600 })
  await lab.client
    .put(key)
    .value(value ?? '')
    .lease(ID)
  const { lease } = await host.waitForStatus(
    'the life time of that etcd lease',
    ({ lease }) => lease?.etcdLease === BigInt(ID).toString(16) && lease.expiresInSeconds !== undefined,
  )
  expect(lease?.expiresInSeconds).toBeLessThanOrEqual(600)
  expect(await ownLease(1)).toMatchObject({ etcdLease: ID, value })
})

test('a key that cannot be read takes its subnet from the allocator, and only that', async () => {
  const host = lab.host(4)
  const subnet = await lab.freeSubnet()
  const key = leaseKey(ETCD_PREFIX, `${subnet}-24`)
  await lab.client.put(key).value('garbage')
  writeFileSync(host.subnetFile, `FLANNEL_SUBNET=${subnet.replace(/0$/, '1')}/24\n`)
  host.start()
  const status = await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(status.lease?.subnet).not.toBe(`${subnet}/24`)
  expect(await lab.client.get(key).string()).toBe('garbage')
})
