/** One host goes from flannel to overlayd, back, and forth again, while its containers talk to others. Nobody notices. */
import { readFileSync, statSync } from 'node:fs'
import { FlannelHost } from '../../support/flannel-host'
import { assertHistoryReadable } from '../../support/flannel-reader'
import { holdsPeer, tracesOf } from '../../support/kernel-view'
import { type Container, ETCD_PREFIX, Host, Lab } from '../../support/lab'
import { fakePeer } from '../../support/leases'
import { setSysctl } from '../../support/namespace'
import type { RunningPing } from '../../support/ping'

jest.setTimeout(60_000)

const FAKES = Array.from({ length: 10 }, (_, number) => fakePeer(number))
/** Leaves while nobody looks after the host. */
const LEAVES = fakePeer(50)

let lab: Lab
/** The host that changes hands; the other two stay ours and flannel's. */
let host: Host
let ours: Host
let theirs: FlannelHost
let flannel: FlannelHost

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  host = lab.host(1)
  ours = lab.host(2)
  await lab.putPeers(...FAKES, LEAVES)
  flannel = await FlannelHost.start(lab, host)
  theirs = await FlannelHost.start(lab, lab.host(3))
  for (const { namespace } of [host, theirs.host]) await setSysctl(namespace, 'net/ipv4/ip_forward', '1')
  ours.start()
  await ours.waitConverged(FAKES.length + 3)
  await flannel.learnAll()
  await theirs.learnAll()
  for (const each of lab.hosts) await each.addContainer()
})
afterAll(() => lab?.close())

function containerOf({ containers: [container], name }: Host): Container {
  if (container === undefined) throw new Error(`${name} has no container`)
  return container
}

/** What must be the same before and after, byte for byte. */
async function identity() {
  const [link] = JSON.parse(await host.exec('ip', '-j', 'link', 'show', 'dev', Host.device))
  const { ino, mtimeMs } = statSync(host.subnetFile)
  const { neighbours, fdb, routes } = await host.kernel()
  return {
    device: { index: link.ifindex, mac: link.address, mtu: link.mtu },
    file: { ino, mtimeMs, text: readFileSync(host.subnetFile, 'utf8') },
    kernel: { neighbours, fdb, routes },
    firewall: await host.exec('iptables', '-S'),
  }
}

/** Its key in etcd. */
async function key() {
  const [kv] = (await lab.client.get(flannel.key).exec()).kvs
  return { value: kv?.value.toString(), etcdLease: kv?.lease, revision: kv?.mod_revision }
}

/** The protocol of each of the device's routes. */
async function protocols(): Promise<string[]> {
  const routes: { protocol: string }[] = JSON.parse(
    await host.exec('ip', '-4', '-j', '-d', 'route', 'show', 'dev', Host.device),
  )
  return [...new Set(routes.map(({ protocol }) => protocol))]
}

/** Does something while containers talk from and to the host, and listens to the kernel of the host and of the one that is ours. */
async function during(action: () => Promise<unknown>) {
  const [own, peer] = [await lab.monitor(host), await lab.monitor(ours)]
  const pairs = [
    [host, ours],
    [ours, host],
    [host, theirs.host],
    [theirs.host, host],
  ] as const
  const pings: RunningPing[] = []
  for (const [from, to] of pairs) pings.push(await lab.startPing(containerOf(from), containerOf(to), 5))
  await action()
  const lost = await Promise.all(pings.map(async (ping) => (await ping.stop()).lost))
  const changes = { own: await own.changes(), peer: await peer.changes() }
  await Promise.all([own.stop(), peer.stop()])
  return { lost, ...changes }
}

const NONE_LOST = [0, 0, 0, 0]

async function expectTakenOver(): Promise<void> {
  const before = { ...(await identity()), key: await key() }
  const { lost, own, peer } = await during(async () => {
    host.start()
    await host.waitConverged(FAKES.length + 2)
  })
  expect(lost).toEqual(NONE_LOST)
  expect({ ...(await identity()), key: await key() }).toEqual(before)
  expect(await protocols()).toEqual(['79'])
  // Each route is replaced where it is, none is taken away; and no peer is told anything.
  expect(own.filter((line) => /Deleted/.test(line))).toEqual([])
  expect(peer).toEqual([])
}

test('a peer left while flannel was stopped: overlayd clears it away', async () => {
  await lab.deletePeer(LEAVES)
  await ours.waitForKernel('the peer gone', (view) => tracesOf(view, LEAVES).length === 0)
  expect(holdsPeer({ ...(await host.kernel()), nexthops: [LEAVES.subnet.replace('-24', '')] }, LEAVES)).toBe(
    true,
  )
  host.start()
  await host.waitForKernel('the peer gone', (view) => tracesOf(view, LEAVES).length === 0)
  await host.waitConverged(FAKES.length + 2)
  await host.stop()
  flannel = await FlannelHost.start(lab, host)
})

test('from flannel to overlayd: device, MAC, key, file and every packet are kept', expectTakenOver)

test('the key stays with the etcd lease that flannel gave it, which is kept alive from now on', async () => {
  const { etcdLease } = await key()
  expect(etcdLease).toBe(flannel.etcdLease)
  const { lease } = await host.waitForStatus(
    'the time it has left',
    ({ lease }) => lease?.expiresInSeconds !== undefined,
  )
  expect(lease).toMatchObject({ state: 'held', etcdLease: BigInt(etcdLease ?? 0).toString(16) })
  expect(lease?.expiresInSeconds).toBeGreaterThan(86_000)
})

test('from overlayd to flannel: the device passes its test, its commands replace each route in place, every packet is kept', async () => {
  await host.stop()
  const { file: fileBefore, ...before } = await identity()
  const value = await key()
  const { lost, own, peer } = await during(async () => {
    flannel = await FlannelHost.start(lab, host)
  })
  expect(lost).toEqual(NONE_LOST)
  expect(flannel.adopted).toBe(true)
  const { file, ...after } = await identity()
  expect(after).toEqual(before)
  expect(file.text).toBe(fileBefore.text)
  expect(await key()).toMatchObject({ value: value.value, etcdLease: flannel.etcdLease })
  expect(await protocols()).toEqual(['boot'])
  expect(own.filter((line) => /Deleted/.test(line))).toEqual([])
  expect(peer).toEqual([])
})

test('then flannel looks after peers as if we had never been there', async () => {
  const [peer] = FAKES
  if (peer === undefined) throw new Error('there is no peer')
  const traces = async (of = peer) => tracesOf({ ...(await host.kernel()), nexthops: [] }, of)
  const changed = { ...peer, mac: '02:fa:4e:00:01:00' }
  await flannel.forget(peer)
  expect(await traces()).toEqual([])
  await flannel.learn(changed)
  expect(await traces(changed)).toHaveLength(3)
  await flannel.forget(changed)
  expect(await traces(changed)).toEqual([])
  await flannel.learn(peer)
  expect(await traces()).toHaveLength(3)
})

test('and forth again', expectTakenOver)

test('each host was put only by flannel, and never by us', async () => {
  const history = await assertHistoryReadable(lab.client, ETCD_PREFIX)
  const own = history.filter((write) => write.key === flannel.key)
  expect(new Set(own.map(({ value }) => value)).size).toBe(1)
  // flannel was started three times, and overlayd as often.
  expect(own.map(({ kind }) => kind)).toEqual(['put', 'put', 'put'])
})
