/** etcd goes and comes back. Traffic goes on meanwhile, and the hosts catch up with missed changes. */
import { remembered } from '../../lab/faults'
import { holdsPeer, tracesOf } from '../../lab/kernel-view'
import { Lab } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(90_000))

const FAKES = Array.from({ length: 5 }, (_, number) => fakePeer(number))

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.putPeers(...FAKES)
  for (const host of lab.hosts.slice(0, 2)) host.start()
  await lab.waitConverged(FAKES.length)
  for (const host of lab.hosts.slice(0, 2)) await host.addContainer()
})
afterEach(async () => {
  if (!lab.etcd.running) await lab.etcd.start()
})
afterAll(() => lab?.close())

async function startPing() {
  const [here] = lab.host(1).containers
  const [there] = lab.host(2).containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  return lab.startPing(here, there, 5)
}

const isDisconnected = ({ etcd }: { etcd: { connected: boolean } }) => !etcd.connected

test('a restart of etcd costs no packet and no kernel write; joins and leaves are followed', async () => {
  const host = lab.host(1)
  const [left] = FAKES
  const came = fakePeer(60)
  if (left === undefined) throw new Error('no peer to leave')
  const monitor = await lab.monitor(host)
  const running = await startPing()

  await lab.etcd.kill()
  const without = await host.waitForStatus('etcd away', isDisconnected)
  expect(without).toMatchObject({ state: 'degraded', etcd: { error: expect.stringMatching(/./) } })
  expect(without.peers.filter(({ state }) => state === 'ok')).toHaveLength(FAKES.length + 1)
  await lab.etcd.start()
  await host.waitConverged(FAKES.length + 1, 20_000)
  expect(await monitor.changes()).toEqual([])

  await lab.putPeers(came)
  await host.waitForKernel('the peer that joined afterwards', (view) => holdsPeer(view, came))
  await lab.deletePeer(left)
  await host.waitForKernel('no trace of the peer that left', (view) => tracesOf(view, left).length === 0)
  expect(await running.stop()).toMatchObject({ lost: 0 })
  await lab.waitConverged(FAKES.length)
})

test('frozen for a while, etcd is noticed, and followed again', async () => {
  const host = lab.host(1)
  const came = fakePeer(61)
  lab.etcd.pause()
  try {
    await host.waitForStatus('etcd away', isDisconnected, 30_000)
  } finally {
    lab.etcd.resume()
  }
  await lab.putPeers(came)
  await host.waitForKernel('the peer that joined afterwards', (view) => holdsPeer(view, came), 20_000)
  await lab.deletePeer(came)
  await lab.waitConverged(FAKES.length)
})

test('compacted while this host was cut off, etcd is listed afresh: leaves are not missed', async () => {
  const host = lab.host(1)
  const gone = fakePeer(62)
  await lab.putPeers(gone)
  await lab.waitConverged(FAKES.length + 1)
  await host.exec('ip', 'route', 'add', 'blackhole', '192.168.77.2/32')
  await lab.deletePeer(gone)
  const { header } = await lab.client.get('anything').exec()
  await lab.client.kv.compact({ revision: header.revision, physical: true })
  await lab.etcd.restart()
  await host.exec('ip', 'route', 'delete', 'blackhole', '192.168.77.2/32')
  await host.waitForKernel('no trace of the peer', (view) => tracesOf(view, gone).length === 0, 30_000)
  await host.waitConverged(FAKES.length + 1)
})

test('a host that starts while etcd is away waits for it, says so, and joins when it is back', async () => {
  const host = lab.host(3)
  await lab.etcd.kill()
  host.start()
  const waiting = await host.waitForStatus('etcd away', isDisconnected)
  expect(waiting.state).toBe('degraded')
  expect(host.running).toBe(true)
  await lab.etcd.start()
  await lab.waitConverged(FAKES.length, 30_000)
})

test('a daemon that restarts without etcd leaves the kernel as it is, and goes on with etcd', async () => {
  const host = lab.host(1)
  const before = await host.kernel()
  const monitor = await lab.monitor(host)
  const running = await startPing()
  // The state file is up to 5 s late, and a killed daemon does not write it.
  await remembered(host, FAKES.length + 2)
  await lab.etcd.kill()
  await host.restart('SIGKILL')
  await host.waitForStatus('etcd away', isDisconnected)
  expect(await monitor.changes()).toEqual([])
  await lab.etcd.start()
  await host.waitConverged(FAKES.length + 2, 30_000)
  expect(await monitor.changes()).toEqual([])
  expect(await host.kernel()).toEqual(before)
  expect(await running.stop()).toMatchObject({ lost: 0 })
})

test('SIGTERM ends the daemon at once while etcd is away', async () => {
  const host = lab.host(3)
  await lab.etcd.kill()
  const start = performance.now()
  expect(await host.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  expect(performance.now() - start).toBeLessThan(patient(1000))
})
