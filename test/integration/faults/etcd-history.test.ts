/**
 * etcd comes back with another history, or is emptied. No peer is cut off because of a possible mistake, and
 * in the end the peers are those in etcd.
 */
import { join } from 'node:path'
import { holdsPeer } from '../../lab/kernel-view'
import { ETCD_PREFIX, type Host, type Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer, leaseKey } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { waitForTruth } from '../../support/etcd-truth'
import { GRACE, startSite, underTraffic } from './etcd-site'

jest.setTimeout(patient(120_000))

const PEERS = Array.from({ length: 20 }, (_, number) => fakePeer(number))

let lab: Lab

beforeEach(async () => {
  lab = await startSite({ hosts: 2, peers: PEERS })
})
afterEach(() => lab.close())

/** Waits until a host reports the number of held-back peers, each with a reason in the table. */
async function waitHeld(host: Host, count: number): Promise<void> {
  const status = await host.waitForStatus(
    `${count} peers held back`,
    ({ heldBack, peers }) =>
      heldBack?.peers === count && peers.filter(({ state }) => state === 'held').length === count,
  )
  expect(status.state).toBe('degraded')
  expect(status.problems).toContainEqual(
    expect.stringMatching(`^peers: ${count} disappeared from etcd; kept `),
  )
  const [held] = status.peers.filter(({ state }) => state === 'held')
  expect(held?.reason).toContain('gone from etcd')
}

test('wiped: hosts put their leases again, and other peers are removed after the grace', async () => {
  await underTraffic(lab, async () => {
    await lab.etcd.wipe()
    for (const host of lab.hosts) await waitHeld(host, PEERS.length)
    await lab.putConfig(NETWORK_CONFIG)
    await waitForTruth(lab)
    for (const host of lab.hosts) expect((await host.kernel()).routes).toHaveLength(1)
  })
})

test('wiped, and the peers come back: not one of them is written to the kernel again', async () => {
  await underTraffic(lab, async () => {
    const monitor = await lab.monitor(lab.host(1))
    await lab.etcd.wipe()
    await waitHeld(lab.host(1), PEERS.length)
    await lab.putConfig(NETWORK_CONFIG)
    await lab.putPeers(...PEERS)
    await waitForTruth(lab)
    expect(await monitor.changes()).toEqual([])
  })
})

test('restored from an older backup: newcomers put their leases again, the rest goes later', async () => {
  const [left = fakePeer(0)] = PEERS
  const since = [fakePeer(40), fakePeer(41)]
  const backup = join(lab.directory, 'backup')
  await lab.etcd.save(backup)
  await lab.addHosts(1)
  lab.host(3).start({ flags: { 'peer-removal-grace': `${GRACE}` } })
  await lab.deletePeer(left)
  await lab.putPeers(...since)
  await lab.waitConverged(PEERS.length - 1 + since.length)
  await lab.host(3).addContainer()
  await underTraffic(lab, async () => {
    await lab.etcd.restore(backup)
    await waitHeld(lab.host(1), since.length)
    await waitForTruth(lab)
  })
  for (const host of lab.hosts) expect((await host.kernel()).routes).toHaveLength(PEERS.length + 2)
})

test('emptied by a slip of the hand: the same as wiped, and new peers are taken in meanwhile', async () => {
  const came = fakePeer(50)
  const changed = { ...fakePeer(0), publicIp: '172.16.9.1' }
  // A host with another address and subnet, and with its former MAC.
  const moved = { ...fakePeer(60), mac: fakePeer(1).mac }
  const newcomers = [came, changed, moved]
  await underTraffic(lab, async () => {
    await lab.client.delete().prefix(leaseKey(ETCD_PREFIX, ''))
    for (const host of lab.hosts) await waitHeld(host, PEERS.length)
    await lab.putPeers(...newcomers)
    for (const host of lab.hosts) {
      await host.waitForKernel('the newcomers', (view) => newcomers.every((peer) => holdsPeer(view, peer)))
      await waitHeld(host, PEERS.length - 2)
    }
    await waitForTruth(lab)
    for (const host of lab.hosts) expect((await host.kernel()).routes).toHaveLength(1 + newcomers.length)
  })
})

test('emptied while the hosts were cut off, and filled anew: newcomers need not wait', async () => {
  const moved = { ...fakePeer(60), mac: fakePeer(1).mac }
  await underTraffic(lab, async () => {
    const [cutOff] = lab.hosts
    if (cutOff === undefined) throw new Error('no host')
    await cutOff.exec('ip', 'route', 'add', 'blackhole', '192.168.77.2/32')
    await lab.client.delete().prefix(leaseKey(ETCD_PREFIX, ''))
    await lab.putPeers(moved)
    const { header } = await lab.client.get('anything').exec()
    await lab.client.kv.compact({ revision: header.revision, physical: true })
    await lab.etcd.restart()
    await cutOff.exec('ip', 'route', 'delete', 'blackhole', '192.168.77.2/32')
    await cutOff.waitForKernel('the newcomer', (view) => holdsPeer(view, moved))
    await waitHeld(cutOff, PEERS.length - 1)
    await waitForTruth(lab)
  })
})

test('a restart of overlayd cuts the wait short', async () => {
  const host = lab.host(1)
  await host.stop()
  host.start({ flags: { 'peer-removal-grace': '3600' } })
  await host.waitConverged(PEERS.length + 1)
  await underTraffic(lab, async () => {
    await lab.client.delete().prefix(leaseKey(ETCD_PREFIX, '10.5.1'))
    await waitHeld(host, PEERS.length)
    await host.restart()
    await waitForTruth(lab)
  })
})
