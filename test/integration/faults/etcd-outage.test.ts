/**
 * etcd dies, freezes or forgets its history. No packet is lost meanwhile, and the hosts catch up with every
 * missed change.
 */

import type { Lab } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { waitForTruth } from '../../support/etcd-truth'
import { startSite, underTraffic } from './etcd-site'

jest.setTimeout(patient(120_000))

const PEERS = Array.from({ length: 20 }, (_, number) => fakePeer(number))
const LATER = Array.from({ length: 5 }, (_, number) => fakePeer(30 + number))

let lab: Lab

beforeAll(async () => {
  lab = await startSite({ hosts: 2, peers: PEERS })
})
afterAll(() => lab?.close())
afterEach(async () => {
  for (const peer of LATER) await lab.deletePeer(peer)
  await lab.putPeers(...PEERS)
  await waitForTruth(lab)
})

const isAway = ({ etcd }: { etcd: { connected: boolean } }) => !etcd.connected

/** A few peers come, one peer changes, one peer goes. */
async function changeSome(): Promise<void> {
  const [first = fakePeer(0), second = fakePeer(1)] = PEERS
  await lab.putPeers(...LATER, { ...first, publicIp: '172.16.9.1' })
  await lab.deletePeer(second)
}

test('killed and started again', async () => {
  await underTraffic(lab, async () => {
    await lab.etcd.kill()
    for (const host of lab.hosts) await host.waitForStatus('etcd away', isAway)
    await lab.etcd.start()
    await changeSome()
    await waitForTruth(lab)
  })
})

test('frozen until every host has given up on it', async () => {
  await underTraffic(lab, async () => {
    const from = lab.hosts.map(({ daemon }) => daemon.output.length)
    lab.etcd.pause()
    try {
      for (const [index, { daemon }] of lab.hosts.entries()) {
        await daemon.waitForOutput(/etcd: .* the kernel keeps everything/, {
          ...(from[index] !== undefined && { from: from[index] }),
          timeoutMs: 20_000,
        })
      }
    } finally {
      lab.etcd.resume()
    }
    await changeSome()
    await waitForTruth(lab)
  })
})

test('compacted behind the watch of a host that is cut off', async () => {
  await underTraffic(lab, async () => {
    const [cutOff] = lab.hosts
    if (cutOff === undefined) throw new Error('no host')
    await cutOff.exec('ip', 'route', 'add', 'blackhole', '192.168.77.2/32')
    await changeSome()
    const { header } = await lab.client.get('anything').exec()
    await lab.client.kv.compact({ revision: header.revision, physical: true })
    // A restart breaks the connection. Without a restart the connection would only be slow.
    await lab.etcd.restart()
    await cutOff.exec('ip', 'route', 'delete', 'blackhole', '192.168.77.2/32')
    await waitForTruth(lab)
  })
})
