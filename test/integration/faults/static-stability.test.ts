/** Hosts start while etcd is away: from what they remember, as long as nothing can have changed hands. */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  containerOf,
  cutFromEtcd,
  editState,
  etcdBack,
  expired,
  keyOf,
  powerCut,
  reconnectEtcd,
  remembered,
} from '../../support/faults'
import { holdsPeer, tracesOf } from '../../support/kernel-view'
import { type Host, Lab, NETWORK_CONFIG } from '../../support/lab'
import { fakePeer, leaseValue } from '../../support/leases'
import { NotifySocket } from '../../support/notify-socket'

jest.setTimeout(90_000)

const FAKES = Array.from({ length: 5 }, (_, number) => fakePeer(number))
const PEERS = FAKES.length + 1

let lab: Lab

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.putPeers(...FAKES)
  for (const host of lab.hosts) host.start()
  await lab.waitConverged(FAKES.length)
  for (const host of lab.hosts) {
    await host.addContainer()
    await remembered(host, PEERS)
  }
})
afterEach(() => lab?.close())

const pingBoth = (intervalMs = 5) =>
  Promise.all([
    lab.startPing(containerOf(lab.host(1)), containerOf(lab.host(2)), intervalMs),
    lab.startPing(containerOf(lab.host(2)), containerOf(lab.host(1)), intervalMs),
  ])

const fromState = (host: Host) =>
  host.waitForStatus(
    'running from its state',
    ({ daemon, stateFile }) => {
      return daemon.phase === 'running' && stateFile?.inUse === true
    },
    30_000,
  )

const waitsForEtcd = (host: Host) =>
  host.waitForStatus('it does not use its state', ({ stateFile }) => stateFile?.problem !== undefined, 30_000)

test('killed and started without etcd it takes up its work, and loses no packet and writes nothing to the kernel', async () => {
  const host = lab.host(1)
  const before = { kernel: await host.kernel(), link: await host.link(), key: await keyOf(lab, host) }
  const notify = new NotifySocket(join(lab.directory, 'notify'))
  const pings = await pingBoth()
  await lab.etcd.kill()
  await host.stop('SIGKILL')
  const monitor = await lab.monitor(host)
  const saved = await remembered(host, PEERS)
  host.start({ env: { NOTIFY_SOCKET: notify.path } })
  const status = await fromState(host)
  expect(status).toMatchObject({
    state: 'degraded',
    problems: expect.arrayContaining([
      expect.stringContaining(`running from what was known at ${saved.savedAt}`),
    ]),
    lease: { state: 'held', expiresInSeconds: expect.any(Number) },
    etcd: { connected: false },
    stateFile: { inUse: true, savedAt: saved.savedAt },
    convergence: { converged: true, revision: saved.revision },
  })
  expect(status.peers.filter(({ state }) => state === 'ok')).toHaveLength(PEERS)
  expect(host.daemon.output).toMatch(
    /warn {2}state: etcd has not answered for 3 s; coming up from what was known at/,
  )
  await notify.waitFor('READY=1')
  expect(await monitor.changes()).toEqual([])

  // It looks after the kernel as ever.
  await host.exec('ip', 'route', 'delete', '10.5.150.0/24')
  await host.waitForKernel('the route again', (view) => FAKES.every((peer) => holdsPeer(view, peer)))
  await monitor.changes()

  await etcdBack(lab, host)
  const healthy = await host.waitConverged(PEERS)
  expect(healthy.stateFile).toMatchObject({ inUse: false })
  expect(await monitor.changes()).toEqual([])
  expect({ kernel: await host.kernel(), link: await host.link(), key: await keyOf(lab, host) }).toEqual(
    before,
  )
  expect((await Promise.all(pings.map((ping) => ping.stop()))).map(({ lost }) => lost)).toEqual([0, 0])
  notify.close()
})

test('after a power cut without etcd all comes back: device, MAC, address, peers, rules, file, and the pings', async () => {
  const host = lab.host(1)
  const before = {
    kernel: await host.kernel(),
    link: await host.link(),
    env: await host.subnetEnv(),
    key: await keyOf(lab, host),
    rules: await host.exec('iptables-save', '-t', 'filter'),
  }
  await lab.etcd.kill()
  await powerCut(host)
  expect((await lab.ping(containerOf(lab.host(2)), containerOf(host))).received).toBe(0)
  host.start()
  await fromState(host)
  expect(await host.kernel()).toEqual(before.kernel)
  expect(await host.link()).toEqual(before.link)
  expect(await host.subnetEnv()).toEqual(before.env)
  const chains = (text: string) =>
    text
      .split('\n')
      .filter((line) => line.startsWith('-A'))
      .sort()
  expect(chains(await host.exec('iptables-save', '-t', 'filter'))).toEqual(chains(before.rules))
  for (const [from, to] of [lab.hosts, [...lab.hosts].reverse()]) {
    if (from === undefined || to === undefined) throw new Error('two hosts are wanted')
    expect(await lab.ping(containerOf(from), containerOf(to))).toMatchObject({ lost: 0 })
  }
  const monitor = await lab.monitor(host)
  await etcdBack(lab, host)
  await host.waitConverged(PEERS)
  expect(await keyOf(lab, host)).toEqual(before.key)
  expect(await monitor.changes()).toEqual([])
})

test('a reboot is known by the boot id, and the wall clock then says whether the lease can live', async () => {
  const host = lab.host(1)
  const uptime = Number((await host.exec('cat', '/proc/uptime')).split(' ')[0])
  const rebooted = (wallSeconds: number) =>
    editState(host, (state) => ({
      ...state,
      own: {
        ...state.own,
        renewal: {
          at: { bootId: 'before', uptimeSeconds: 1e6, wallSeconds },
          ttlSeconds: uptime + 3600,
        },
      },
    }))
  await lab.etcd.kill()
  await powerCut(host)
  // The clock has been set back since: nothing it says is worth anything.
  await rebooted(Date.now() / 1000 + 3600)
  host.start()
  expect((await waitsForEtcd(host)).stateFile?.problem).toMatch(/may have ended: the clock was set back/)
  await host.stop()
  await rebooted(Date.now() / 1000 - uptime - 10)
  host.start()
  await fromState(host)
})

test('what changed meanwhile is put right when etcd is back', async () => {
  const host = lab.host(1)
  const [left, changes] = FAKES
  if (left === undefined || changes === undefined) throw new Error('no peers')
  const changed = { ...changes, mac: '02:fa:4e:00:01:01', publicIp: '172.16.1.2' }
  const came = fakePeer(50)
  await cutFromEtcd(host)
  await powerCut(host)
  host.start()
  await fromState(host)
  expect(holdsPeer(await host.kernel(), left)).toBe(true)
  await lab.deletePeer(left)
  await lab.putPeers(changed, came)
  await lab.putConfig(NETWORK_CONFIG.replace('"vxlan"', '"vxlan","VNI":1'))
  await reconnectEtcd(host)
  const view = await host.waitForKernel('the newcomer', (now) => holdsPeer(now, came), 20_000)
  expect(tracesOf(view, left)).toEqual([])
  expect(holdsPeer(view, changed)).toBe(true)
  const status = await host.waitForStatus(
    'etcd',
    ({ etcd, stateFile }) => etcd.connected && stateFile?.inUse === false,
  )
  expect(status.lease).toMatchObject({ state: 'held' })
})

test('peers that the kernel has and the file has not, or has otherwise, stay as they are until etcd has answered', async () => {
  const host = lab.host(1)
  const [gone, other] = FAKES
  if (gone === undefined || other === undefined) throw new Error('no peers')
  await cutFromEtcd(host)
  await host.stop('SIGKILL')
  // As when it was killed before it could write what it had just learnt.
  await editState(host, (state) => ({
    ...state,
    peers: state.peers
      .filter(([key]) => !key.endsWith(gone.subnet))
      .map(([key, value]) => [
        key,
        key.endsWith(other.subnet) ? value.replace(other.publicIp, '172.16.9.9') : value,
      ]),
  }))
  const monitor = await lab.monitor(host)
  host.start()
  await fromState(host)
  expect(await monitor.changes()).toEqual([])
  await lab.deletePeer(gone)
  await reconnectEtcd(host)
  await host.waitForKernel(
    'the peer gone, now that etcd says so',
    (view) => tracesOf(view, gone).length === 0,
    20_000,
  )
  await host.waitConverged(PEERS - 1)
  expect(holdsPeer(await host.kernel(), other)).toBe(true)
})

test('a lease that may have ended is nobody’s to use: no device is made, and none that is there is touched', async () => {
  const host = lab.host(1)
  await lab.etcd.kill()
  await host.stop('SIGKILL')
  await editState(host, expired)
  const [monitor, pings] = [await lab.monitor(host), await pingBoth()]
  host.start()
  const status = await waitsForEtcd(host)
  expect(status.stateFile).toMatchObject({ inUse: false, problem: expect.stringMatching(/may have ended/) })
  expect(host.daemon.output).toMatch(/waiting for etcd, the kernel keeps everything/)
  expect(await monitor.changes()).toEqual([])
  expect((await Promise.all(pings.map((ping) => ping.stop()))).map(({ lost }) => lost)).toEqual([0, 0])

  await powerCut(host)
  host.start()
  await waitsForEtcd(host)
  await expect(host.link()).rejects.toThrow(/does not exist/)
  await etcdBack(lab, host)
  await host.waitConverged(PEERS)
})

test('a key that someone else took meanwhile is a conflict: it is not written over, and the kernel goes on', async () => {
  const host = lab.host(1)
  const { key } = await keyOf(lab, host)
  const stranger = fakePeer(9)
  await cutFromEtcd(host)
  await powerCut(host)
  host.start()
  await fromState(host)
  const kernel = await host.kernel()
  await lab.client.put(key).value(leaseValue(stranger))
  await reconnectEtcd(host)
  const status = await host.waitForStatus('a conflict', ({ lease }) => lease?.state === 'conflict', 20_000)
  expect(status.lease?.reason).toContain(stranger.publicIp)
  expect(await host.kernel()).toEqual(kernel)
  expect((await keyOf(lab, host)).value).toBe(leaseValue(stranger))
  // From now on it must not come up by itself.
  await lab.etcd.kill()
  await powerCut(host)
  host.start()
  expect((await waitsForEtcd(host)).stateFile?.problem).toMatch(/not held/)
})

test('an etcd that was emptied meanwhile is doubted: the peers stay for a while, and the own key is made again', async () => {
  const host = lab.host(1)
  const { key, value } = await keyOf(lab, host)
  await lab.etcd.kill()
  await powerCut(host)
  host.start()
  await fromState(host)
  const kernel = await host.kernel()
  for (const name of readdirSync(lab.etcd.dataDir)) rmSync(join(lab.etcd.dataDir, name), { recursive: true })
  await lab.etcd.start()
  const status = await host.waitForStatus('peers held back', ({ heldBack }) => heldBack !== undefined, 30_000)
  // The other host's key may be there again already.
  expect(status.heldBack?.peers).toBeGreaterThanOrEqual(FAKES.length)
  expect(await host.kernel()).toEqual(kernel)
  await host.waitUntil('its key again', async () => (await keyOf(lab, host)).value === value, 30_000)
  expect((await keyOf(lab, host)).key).toBe(key)
})

test('a reservation does not end: a host that has one comes up however long etcd was away', async () => {
  const host = lab.host(1)
  const { key, value } = await keyOf(lab, host)
  await lab.client.put(key).value(value ?? '')
  await host.waitForStatus('a reservation', ({ lease }) => lease?.etcdLease === undefined)
  await lab.etcd.kill()
  await host.stop()
  await powerCut(host)
  host.start()
  expect((await fromState(host)).lease).toMatchObject({ state: 'held' })
})

test('the daemon ends at once while it runs from its state, and comes up from the same again', async () => {
  const host = lab.host(1)
  await lab.etcd.kill()
  await powerCut(host)
  host.start()
  const first = await fromState(host)
  expect(await host.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  await powerCut(host)
  host.start()
  expect((await fromState(host)).stateFile).toEqual(first.stateFile)
})
