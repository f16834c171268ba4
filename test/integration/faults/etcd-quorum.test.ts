/** A cluster of three members loses one, then the quorum, and gets both back. */
import { Etcd3 } from 'etcd3'
import type { Etcd } from '../../lab/etcd'
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { type FakePeer, fakePeer, putPeers } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { waitForTruth } from '../../support/etcd-truth'
import { underTraffic } from './etcd-site'

jest.setTimeout(patient(120_000))

const PEERS = Array.from({ length: 10 }, (_, number) => fakePeer(number))

let lab: Lab
const clients: Etcd3[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, members: 3 })
  await lab.putPeers(...PEERS)
  for (const host of lab.hosts) host.start()
  await lab.waitConverged(PEERS.length)
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(async () => {
  for (const client of clients) client.close()
  await lab?.close()
})

const isAway = ({ etcd }: { etcd: { connected: boolean } }) => !etcd.connected

/** Puts a peer by one member, as soon as the member accepts. A cluster without a leader does not. */
async function joinBy(member: Etcd, peer: FakePeer): Promise<Etcd3> {
  const client = new Etcd3({ hosts: member.endpoint })
  clients.push(client)
  await waitFor('a write', async () => {
    try {
      await putPeers(client, ETCD_PREFIX, [peer])
      return true
    } catch (error) {
      return new Pending(String(error))
    }
  })
  return client
}

test('loss of each member, then of two: no packet is lost; changes are followed with a quorum', async () => {
  const { members } = lab
  await underTraffic(lab, async () => {
    for (const [index, member] of members.entries()) {
      await member.kill()
      const other = members[(index + 1) % members.length] ?? member
      await waitForTruth(lab, await joinBy(other, fakePeer(20 + index)))
      await member.start()
    }
    const [a, b, c] = members
    if (a === undefined || b === undefined || c === undefined) throw new Error('no cluster')
    await Promise.all([a.kill(), b.kill()])
    for (const host of lab.hosts) await host.waitForStatus('etcd away', isAway, 20_000)
    await Promise.all([a.start(), b.start()])
    await waitForTruth(lab, await joinBy(c, fakePeer(30)))
  })
})
