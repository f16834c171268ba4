/** The daemon ends and starts again, in every way, without a lost packet. */
import { setTimeout as pause } from 'node:timers/promises'
import { holdsPeer, tracesOf } from '../../lab/kernel-view'
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { fakePeer, leaseKey } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

const FAKES = Array.from({ length: 20 }, (_, number) => fakePeer(number))

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.putPeers(...FAKES)
  for (const host of lab.hosts) host.start()
  await lab.waitConverged(FAKES.length)
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(() => lab?.close())

/** Pings between the two containers every 5 ms during an action. */
async function pingDuring(action: () => Promise<unknown>) {
  const [here] = lab.host(1).containers
  const [there] = lab.host(2).containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  const running = await lab.startPing(here, there, 5)
  await action()
  return running.stop()
}

async function ownKey(): Promise<string> {
  const { subnet } = await lab.host(1).subnetEnv()
  return leaseKey(ETCD_PREFIX, subnet.replace(/\d+\/24$/, '0-24'))
}

test('SIGTERM ends it within a second with exit code 0 and removes nothing', async () => {
  const host = lab.host(1)
  const before = { kernel: await host.kernel(), env: await host.subnetEnv(), link: await host.link() }
  const monitor = await lab.monitor(host)
  const start = performance.now()
  expect(await host.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  expect(performance.now() - start).toBeLessThan(patient(1000))
  expect(await monitor.changes()).toEqual([])
  expect({ kernel: await host.kernel(), env: await host.subnetEnv(), link: await host.link() }).toEqual(
    before,
  )
  expect(await lab.client.get(await ownKey()).string()).toContain(host.address)
  host.start()
  await lab.waitConverged(FAKES.length)
})

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'ended by %s and started again, it keeps subnet and MAC, writes nothing to the kernel and loses no packet',
  async (signal) => {
    const host = lab.host(1)
    const before = { env: await host.subnetEnv(), link: await host.link(), kernel: await host.kernel() }
    const lease = (await lab.client.get(await ownKey()).exec()).kvs[0]
    const monitor = await lab.monitor(host)
    const pings = await pingDuring(async () => {
      await host.restart(signal)
      await host.waitConverged(FAKES.length + 1)
      // A late write would be a write, too.
      await pause(500)
    })
    expect(await monitor.changes()).toEqual([])
    expect(pings).toMatchObject({ lost: 0 })
    expect(pings.sent).toBeGreaterThan(100)
    expect({ env: await host.subnetEnv(), link: await host.link(), kernel: await host.kernel() }).toEqual(
      before,
    )
    // The peers got no event: the etcd lease is the same, and there was no Put.
    expect((await lab.client.get(await ownKey()).exec()).kvs[0]).toMatchObject({
      mod_revision: lease?.mod_revision,
      lease: lease?.lease,
    })
  },
)

test('changes of peers while the daemon was down are applied at its start, others untouched', async () => {
  const host = lab.host(1)
  const [left, changes] = [fakePeer(0), fakePeer(1)]
  const changed = { ...changes, mac: '02:fa:4e:00:01:01', publicIp: '172.16.1.2' }
  const came = fakePeer(50)
  await host.stop('SIGKILL')
  await lab.deletePeer(left)
  await lab.putPeers(changed, came)
  const monitor = await lab.monitor(host)
  const pings = await pingDuring(async () => {
    host.start()
    await host.waitConverged(FAKES.length + 1)
  })
  expect(pings).toMatchObject({ lost: 0 })
  const view = await host.kernel()
  expect(tracesOf(view, left)).toEqual([])
  expect(holdsPeer(view, changed)).toBe(true)
  expect(tracesOf(view, changes).filter((line) => line.includes(changes.mac))).toEqual([])
  expect(holdsPeer(view, came)).toBe(true)
  const concerns = [left, changed, came].map(({ subnet }) => subnet.replace(/\.0-24$/, '.'))
  const macs = [left, changes, changed, came].map(({ mac }) => mac)
  const others = (await monitor.changes()).filter(
    (line) => ![...concerns, ...macs].some((mark) => line.includes(mark)),
  )
  expect(others).toEqual([])
})

test('a second daemon on the same run directory gives up and leaves the first alone', async () => {
  const host = lab.host(2)
  const second = host.spawn()
  expect(await second.waitForExit()).toEqual({ code: 1, signal: null })
  expect(second.output).toContain(host.runDirectory)
  await host.waitConverged(FAKES.length + 1)
})
