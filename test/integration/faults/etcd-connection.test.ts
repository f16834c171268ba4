/** The connection to etcd is slow, breaks in the middle of a burst, or breaks every second. */

import type { Lab } from '../../lab/lab'
import { ETCD_PREFIX } from '../../lab/lab'
import { fakePeer, manyPeers, putPeers } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Pending, sleep, waitFor } from '../../lab/wait'
import { waitForTruth } from '../../support/etcd-truth'
import { TcpProxy } from '../etcd/tcp-proxy'
import { LARGE_CONFIG, startSite, underTraffic } from './etcd-site'

/** Seconds during which the connection breaks every second. A soak run may take minutes. */
const RESET_SECONDS = Number(process.env['OVERLAYD_RESET_SECONDS'] ?? '20')

jest.setTimeout(patient(120_000 + RESET_SECONDS * 1000))

const PEERS = Array.from({ length: 10 }, (_, number) => fakePeer(number))

let lab: Lab
let proxy: TcpProxy

beforeEach(async () => {
  lab = await startSite({
    hosts: 2,
    peers: PEERS,
    config: LARGE_CONFIG,
    flags: () => ({ 'etcd-endpoints': proxy.endpoint }),
    prepare: async (made) => {
      proxy = await TcpProxy.start(made.etcd.endpoint, undefined, '192.168.77.1')
    },
  })
})
afterEach(async () => {
  proxy?.close()
  await lab?.close()
})

test('slow: each answer takes longer than half a second', async () => {
  await underTraffic(lab, async () => {
    proxy.delayMs = 300
    await lab.putPeers(fakePeer(20), fakePeer(21))
    await lab.deletePeer(fakePeer(0))
    await lab
      .host(1)
      .waitForKernel('the later peer', ({ routes }) => routes.some((route) => route.startsWith('10.5.171.')))
    // A start reads, grants and writes in turn.
    await lab.host(2).restart()
    await waitForTruth(lab)
  })
})

test('cut again and again in the middle of 5,000 events', async () => {
  const many = manyPeers(5000)
  await underTraffic(lab, async () => {
    proxy.cutAfter = 400_000
    // Each put is one revision, so that each put is one event.
    for (let start = 0; start < many.length; start += 500) {
      await Promise.all(
        many.slice(start, start + 500).map((peer) => putPeers(lab.client, ETCD_PREFIX, [peer])),
      )
    }
    await waitForTruth(lab, lab.client, 60_000)
  })
  expect(proxy.connections).toBeGreaterThan(4)
})

test(`reset every second for ${RESET_SECONDS} s`, async () => {
  await underTraffic(lab, async () => {
    for (let second = 0; second < RESET_SECONDS; second++) {
      proxy.reset()
      const peer = fakePeer(20 + (second % 60))
      if (second % 3 === 2) await lab.deletePeer(fakePeer(20 + ((second - 1) % 60)))
      else await lab.putPeers(peer)
      await sleep(1000)
    }
    await waitForTruth(lab)
  })
  await waitFor('as many connections', () => proxy.connections >= RESET_SECONDS || new Pending('fewer'))
})
