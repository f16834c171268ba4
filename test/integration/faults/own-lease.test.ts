/**
 * Faults of a host's own lease. The host makes the lease again if the key is free, and leaves a taken key
 * alone. The data plane stays in each case.
 */

import { containerOf, cutFromEtcd, keyOf, reconnectEtcd, remembered } from '../../lab/faults'
import type { KernelView } from '../../lab/kernel-view'
import { Lab } from '../../lab/lab'
import { fakePeer, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

const STRANGER = fakePeer(1)

let lab: Lab
let kernel: KernelView

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
  for (const host of lab.hosts) {
    await host.addContainer()
    await remembered(host, 1)
  }
  kernel = await lab.host(1).kernel()
})
afterEach(() => lab?.close())

const conflict = () =>
  lab
    .host(1)
    .waitForStatus('a conflict', ({ lease, etcd }) => lease?.state === 'conflict' && etcd.connected, 20_000)
const held = (etcdLease?: string) =>
  lab
    .host(1)
    .waitForStatus(
      'held, with the time it has left',
      ({ state, lease }) =>
        state === 'healthy' &&
        lease?.state === 'held' &&
        lease.etcdLease !== etcdLease &&
        lease.expiresInSeconds !== undefined,
      20_000,
    )

/** Another host takes the key, under an etcd lease of its own. */
async function takeAway(key: string): Promise<string> {
  const { ID } = await lab.client.leaseClient.leaseGrant({ TTL: 600 })
  await lab.client.put(key).value(leaseValue(STRANGER)).lease(ID)
  return ID
}

const hex = (id: string | undefined): string => BigInt(id ?? 0).toString(16)

test('its etcd lease revoked: made again under a new one, with the same value', async () => {
  const before = await keyOf(lab, lab.host(1))
  await lab.client.leaseClient.leaseRevoke({ ID: before.etcdLease ?? '' })
  const { lease } = await held(hex(before.etcdLease))
  const after = await keyOf(lab, lab.host(1))
  expect(after.value).toBe(before.value)
  expect(lease).toMatchObject({ etcdLease: hex(after.etcdLease) })
  expect(lease?.expiresInSeconds).toBeGreaterThan(86_000)
  expect(lease?.reason).toBeUndefined()
})

test('revoked, and then taken: a conflict that is not overwritten, and resolves itself', async () => {
  const host = lab.host(1)
  const before = await keyOf(lab, host)
  await cutFromEtcd(host)
  await lab.client.leaseClient.leaseRevoke({ ID: before.etcdLease ?? '' })
  const foreign = await takeAway(before.key)
  await reconnectEtcd(host)
  const status = await conflict()
  expect(status).toMatchObject({
    state: 'degraded',
    problems: [expect.stringContaining(STRANGER.publicIp)],
    lease: {
      reason: expect.stringMatching(/stop the other host, then here: overlayctl evict 10\.5\.\d+\.0\/24/),
    },
  })
  expect(status.lease?.expiresInSeconds).toBeUndefined()
  expect(await keyOf(lab, host)).toMatchObject({ value: leaseValue(STRANGER), etcdLease: foreign })
  expect(await host.kernel()).toEqual(kernel)
  // The other host goes, and its lease ends.
  await lab.client.leaseClient.leaseRevoke({ ID: foreign })
  await held()
  expect((await keyOf(lab, host)).value).toBe(before.value)
  expect(host.daemon.output).toMatch(/is ours again/)
})

test('expired while the host was cut off, and free: made again when it is back', async () => {
  const host = lab.host(1)
  const before = await keyOf(lab, host)
  await cutFromEtcd(host)
  await lab.client.leaseClient.leaseRevoke({ ID: before.etcdLease ?? '' })
  await lab.host(2).waitForKernel('without the host', ({ routes }) => routes.length === 0)
  await reconnectEtcd(host)
  await held(hex(before.etcdLease))
  expect((await keyOf(lab, host)).value).toBe(before.value)
  expect(await host.kernel()).toEqual(kernel)
  await lab.waitConverged()
  expect(await lab.ping(containerOf(lab.host(2)), containerOf(host))).toMatchObject({ lost: 0 })
})

test('written over: a conflict until the value is as it was', async () => {
  const host = lab.host(1)
  const before = await keyOf(lab, host)
  const foreign = await takeAway(before.key)
  await conflict()
  expect((await keyOf(lab, host)).etcdLease).toBe(foreign)
  await lab.client
    .put(before.key)
    .value(before.value ?? '')
    .lease(before.etcdLease ?? '')
  await held()
  expect(await host.kernel()).toEqual(kernel)
})

test('written over with something that cannot be read: a conflict with the reason', async () => {
  const { key } = await keyOf(lab, lab.host(1))
  await lab.client.put(key).value('garbage')
  const { lease } = await conflict()
  expect(lease?.reason).toMatch(/cannot be read/)
  expect(await lab.client.get(key).string()).toBe('garbage')
  await lab.client.delete().key(key)
  await held()
  expect(await lab.host(1).kernel()).toEqual(kernel)
})

test('an etcd that takes no writes: said so with what to do, and made again as soon as it does', async () => {
  const host = lab.host(1)
  const before = await keyOf(lab, host)
  const alarm = { memberID: '0', alarm: 1 as const }
  const { member_id: memberID } = (await lab.client.get('anything').exec()).header
  await lab.client.maintenance.alarm({ ...alarm, memberID, action: 1 as never, alarm: 1 as never })
  await lab.client.leaseClient.leaseRevoke({ ID: before.etcdLease ?? '' })
  const status = await host.waitForStatus(
    'why it is not made again',
    ({ lease }) => lease?.state === 'lost' && lease.reason?.includes('space') === true,
  )
  expect(status.problems.join()).toMatch(
    /key is gone from etcd; it is being created again: .*space exceeded.*alarm disarm/,
  )
  expect(await host.kernel()).toEqual(kernel)
  await lab.client.maintenance.alarm({ ...alarm, memberID, action: 2 as never, alarm: 1 as never })
  await held(hex(before.etcdLease))
  expect((await keyOf(lab, host)).value).toBe(before.value)
})

test('two hosts never own one subnet: of all that try to make a key again exactly one has it', async () => {
  const [first, second] = [lab.host(1), lab.host(2)]
  const before = await keyOf(lab, first)
  const other = await keyOf(lab, second)
  // Both keys get another owner while both hosts are cut off.
  await Promise.all([cutFromEtcd(first), cutFromEtcd(second)])
  for (const { etcdLease } of [before, other])
    await lab.client.leaseClient.leaseRevoke({ ID: etcdLease ?? '' })
  await lab.client.put(before.key).value(other.value ?? '')
  await Promise.all([reconnectEtcd(first), reconnectEtcd(second)])
  await conflict()
  await second.waitForStatus(
    'its own again',
    ({ lease }) => lease?.state === 'held' && lease.expiresInSeconds !== undefined,
    20_000,
  )
  expect((await keyOf(lab, first)).value).toBe(other.value)
  expect((await keyOf(lab, second)).value).toBe(other.value)
  await lab.client.delete().key(before.key)
  await held()
  expect((await keyOf(lab, first)).value).toBe(before.value)
})
