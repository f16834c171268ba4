/** Hosts start while etcd is away: from their state files, as long as no lease can have another owner. */
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
  savedState,
} from '../../lab/faults'
import { holdsPeer, tracesOf } from '../../lab/kernel-view'
import { type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer, leaseValue } from '../../lab/leases'
import { NotifySocket } from '../../lab/notify-socket'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(90_000))

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

test('a start without etcd after a kill loses no packet and writes nothing to the kernel', async () => {
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

  // The daemon repairs the kernel as always.
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

test('a power cut without etcd: device, MAC, address, peers, rules, file and pings come back', async () => {
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

test('the boot id tells a reboot, after which the wall clock says whether the lease can live', async () => {
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
  // The clock has been set back since. So the time of the clock proves nothing.
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
  // Objects are made before others are removed, so the newcomer alone does not show that all is right.
  const view = await host.waitForKernel(
    'the newcomer, and no trace of the peer that left',
    (now) => holdsPeer(now, came) && tracesOf(now, left).length === 0,
    20_000,
  )
  expect(holdsPeer(view, changed)).toBe(true)
  const status = await host.waitForStatus(
    'etcd',
    ({ etcd, stateFile }) => etcd.connected && stateFile?.inUse === false,
  )
  expect(status.lease).toMatchObject({ state: 'held' })
})

test('peers of the kernel that the file lacks or contradicts stay until etcd has answered', async () => {
  const host = lab.host(1)
  const [gone, other] = FAKES
  if (gone === undefined || other === undefined) throw new Error('no peers')
  await cutFromEtcd(host)
  await host.stop('SIGKILL')
  // The state is as after a kill before the daemon could write its last news.
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

test('devices that an earlier config left stay until etcd has answered', async () => {
  const host = lab.host(1)
  const leave = async (vni: number, address: string) => {
    const type = ['type', 'vxlan', 'id', `${vni}`, 'dev', 'eth0', 'dstport', '8472', 'nolearning']
    await host.exec('ip', 'link', 'add', `flannel.${vni}`, ...type)
    await host.exec('ip', 'address', 'add', address, 'dev', `flannel.${vni}`)
  }
  const devices = async () =>
    (await host.exec('ip', '-br', 'link', 'show', 'type', 'vxlan')).match(/^[^ ]+/gm)
  await cutFromEtcd(host)
  await host.stop('SIGKILL')
  await leave(7, `${(await host.subnetEnv()).subnet.replace(/1\/24$/, '0')}/32`)
  // That of another network.
  await leave(8, '10.6.9.0/32')
  const pings = await pingBoth()
  host.start()
  await fromState(host)
  expect(await devices()).toEqual(['flannel.1', 'flannel.7', 'flannel.8'])
  await reconnectEtcd(host)
  await host.waitUntil(
    'the former device is gone',
    async () => !(await devices())?.includes('flannel.7'),
    20_000,
  )
  expect(await devices()).toEqual(['flannel.1', 'flannel.8'])
  await host.waitConverged(PEERS)
  expect((await Promise.all(pings.map((ping) => ping.stop()))).map(({ lost }) => lost)).toEqual([0, 0])
})

test('with a lease that may have ended, no device is made, and no present device is touched', async () => {
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

test('a key that another host took meanwhile is a conflict and stays, and traffic goes on', async () => {
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
  // From now on the host must not start by itself.
  await savedState(host, ({ own }) => own.state === 'conflict')
  await lab.etcd.kill()
  await powerCut(host)
  host.start()
  expect((await waitsForEtcd(host)).stateFile?.problem).toMatch(/not held/)
})

test('an etcd that was emptied meanwhile is doubted: peers stay a while, our key is put again', async () => {
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

test('without an underlay it waits for one, and comes up from its state then', async () => {
  const host = lab.host(1)
  const address = [`${host.address}/24`, 'dev', 'eth0']
  await lab.etcd.kill()
  await powerCut(host)
  await host.exec('ip', 'address', 'delete', ...address)
  host.start()
  await host.waitForStatus(
    'it waits for its underlay',
    ({ daemon, problems }) => daemon.phase === 'starting' && problems.join().includes('underlay: '),
    30_000,
  )
  await host.exec('ip', 'address', 'add', ...address)
  const status = await fromState(host)
  expect(status.lease).toMatchObject({ state: 'held' })
  expect(host.daemon.output).toMatch(/error underlay: .*waiting for the underlay/)
})
