/** A cluster of three members loses one, then the quorum, and gets both back. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Etcd3 } from 'etcd3'
import { type Etcd, startEtcd } from '../../support/etcd'
import { waitForTruth } from '../../support/etcd-truth'
import { ETCD_ADDRESS, ETCD_PREFIX, Lab, NETWORK_CONFIG } from '../../support/lab'
import { type FakePeer, fakePeer, putPeers } from '../../support/leases'
import { Pending, waitFor } from '../../support/wait'
import { underTraffic } from './etcd-site'

jest.setTimeout(120_000)

const PEERS = Array.from({ length: 10 }, (_, number) => fakePeer(number))
const MEMBERS = ['a', 'b', 'c']

let lab: Lab
let members: readonly Etcd[]
const clients: Etcd3[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  members = await startCluster(lab.directory)
  const client = new Etcd3({ hosts: members.map(({ endpoint }) => endpoint) })
  clients.push(client)
  await client.put(`${ETCD_PREFIX}/config`).value(NETWORK_CONFIG)
  await putPeers(client, ETCD_PREFIX, PEERS)
  const endpoints = members.map(({ endpoint }) => endpoint).join(',')
  for (const host of lab.hosts) host.start({ flags: { 'etcd-endpoints': endpoints } })
  await lab.waitConverged(PEERS.length)
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(async () => {
  for (const client of clients) client.close()
  await Promise.all((members ?? []).map((member) => member.stop()))
  await lab?.close()
})

function startCluster(directory: string): Promise<Etcd[]> {
  const peerPort = (index: number): number => 12380 + index
  const cluster = MEMBERS.map((name, index) => `${name}=http://${ETCD_ADDRESS}:${peerPort(index)}`).join(',')
  return Promise.all(
    MEMBERS.map((name, index) => {
      const dataDir = join(directory, `etcd-${name}`)
      mkdirSync(dataDir, { mode: 0o700 })
      return startEtcd({
        netns: 'etcd',
        ip: ETCD_ADDRESS,
        clientPort: 22379 + index,
        peerPort: peerPort(index),
        dataDir,
        flags: ['--name', name, '--initial-cluster', cluster],
      })
    }),
  )
}

const isAway = ({ etcd }: { etcd: { connected: boolean } }) => !etcd.connected

/** Puts a peer by one member, as soon as that takes it: a cluster that has just lost its leader does not. */
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

test('every member is lost once, and then two at a time: nothing is lost, and what changes is followed while there is a quorum', async () => {
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
