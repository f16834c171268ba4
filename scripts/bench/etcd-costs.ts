/**
 * The case that measures what each action of a host costs etcd: the figures that SCALE.md calculates with.
 */
import { setMaxListeners } from 'node:events'
import { type EtcdClient, openEtcd } from '../../src/etcd/client/client'
import { keysUnder } from '../../src/etcd/codec/keys'
import type { WatchAnswer } from '../../src/etcd/codec/wire'
import { readSnapshot } from '../../src/etcd/follow/listing'
import { watch } from '../../src/etcd/follow/watch'
import { Registry } from '../../src/etcd/registry'
import { networkOf, parseIpv4, parseMac } from '../../src/model/address'
import type { EtcdLeaseId, LeaseSubnet, LeaseValue, Revision } from '../../src/model/lease'
import { ETCD_PREFIX, type Lab } from '../../test/lab/lab'
import { type FakePeer, leaseValue } from '../../test/lab/leases'
import { Pending, waitFor } from '../../test/lab/wait'
import type { Case, Stage } from './case'
import { grant, putPeer } from './churn'
import { cpuSeconds, rssMb } from './proc'

const KEYS = keysUnder(ETCD_PREFIX)
/**
 * The CPU time of a process has a resolution of 10 ms, so each action is repeated until it takes some tenths
 * of a second.
 */
const LEASES_LISTED = 200_000
const CALLS = 500
const WATCHERS = 100
const EVENTS = 100
const ever = new AbortController().signal

export const etcdCosts: Case = {
  name: 'etcd-costs',
  ownOnly: true,
  skips: (peers) => peers === 0,
  about:
    'CPU time of etcd alone, by /proc, and the bytes that it sent, by its metrics. N leases are in etcd. ' +
    'Listings, renewals and watches are made by the code of the daemon; each watch has a connection of its ' +
    'own.',
  metrics: [
    { key: 'listMs', label: 'CPU for a listing, ms', digits: 2 },
    { key: 'listMicroseconds', label: '... for each lease in it, us', digits: 2 },
    { key: 'bytesPerLease', label: '... sent for each lease, bytes', digits: 0 },
    { key: 'acquireMs', label: 'CPU for a lease granted and its key created, ms', digits: 3 },
    { key: 'keepAliveMs', label: 'CPU for a renewal, ms', digits: 3 },
    { key: 'watchMs', label: 'CPU for a watch opened, with its connection, ms', digits: 3 },
    { key: 'eventMicroseconds', label: 'CPU for an event sent to a watch, us', digits: 1 },
    { key: 'bytesPerEvent', label: '... sent for it, bytes', digits: 0 },
    { key: 'etcdRssMb', label: 'RSS of etcd, MB', digits: 0 },
  ],
  measure: async ({ lab, peers, spare }: Stage) => {
    const client = await openEtcd({ endpoints: lab.etcd.endpoint })
    const watchers: EtcdClient[] = []
    const stop = new AbortController()
    setMaxListeners(0, stop.signal)
    try {
      const registry = new Registry(client, { prefix: ETCD_PREFIX })
      const listings = Math.ceil(Math.max(4, Math.min(CALLS, LEASES_LISTED / peers.length)))
      const list = await costOf(lab, listings, () => readSnapshot(client, KEYS, ever))
      const lease = await grant(lab)
      const renew = await costOf(lab, CALLS, () => registry.etcdLeases.keepAlive(lease as EtcdLeaseId, ever))
      const acquired = spare.slice(0, CALLS)
      const left = acquired.values()
      const acquire = await costOf(lab, acquired.length, async () => {
        const peer = left.next().value
        if (peer !== undefined) await registry.leases.create(subnetOf(peer), leaseValueOf(peer), ever)
      })
      for (const peer of acquired) await lab.deletePeer(peer)

      const { snapshot } = await readSnapshot(client, KEYS, ever)
      let [standing, seen] = [0, 0]
      const open = await costOf(lab, WATCHERS, async () => {
        const own = await openEtcd({ endpoints: lab.etcd.endpoint })
        watchers.push(own)
        const handlers = {
          created: () => {
            standing += 1
          },
          answer: ({ events }: WatchAnswer) => {
            seen += events.length
          },
        }
        watch(own, KEYS, (snapshot.revision + 1n) as Revision, handlers, stop.signal).catch(() => {})
        const wanted = watchers.length
        await waitFor('the watch', () => standing === wanted || new Pending(`${standing} are open`))
      })
      const [peer] = spare
      if (peer === undefined) throw new Error('there is no peer to put')
      const elsewhere = { key: Buffer.from('/elsewhere'), value: Buffer.from(leaseValue(peer)), lease }
      const put = await costOf(lab, EVENTS, () => lab.client.kv.put(elsewhere))
      const deliver = await costOf(lab, EVENTS, async () => {
        const wanted = seen + WATCHERS
        await putPeer(lab, peer, lease)
        await waitFor('the events', () => seen >= wanted || new Pending(`${seen} of ${wanted}`), {
          intervalMs: 1,
        })
      })
      await lab.deletePeer(peer)
      return {
        listMs: list.ms,
        listMicroseconds: (list.ms * 1000) / peers.length,
        bytesPerLease: list.bytes / peers.length,
        acquireMs: acquire.ms,
        keepAliveMs: renew.ms,
        watchMs: open.ms,
        eventMicroseconds: ((deliver.ms - put.ms) * 1000) / WATCHERS,
        bytesPerEvent: (deliver.bytes - put.bytes) / WATCHERS,
        etcdRssMb: rssMb(lab.etcd.pid),
      }
    } finally {
      stop.abort()
      for (const each of [client, ...watchers]) each.close()
    }
  },
}

/** CPU milliseconds and sent bytes of etcd per call, over many calls one after the other. */
async function costOf(
  { etcd }: Lab,
  times: number,
  call: () => Promise<unknown>,
): Promise<{ readonly ms: number; readonly bytes: number }> {
  const spent = async () => {
    const metrics = await (await fetch(`${etcd.endpoint}/metrics`)).text()
    const bytes = Number(/^etcd_network_client_grpc_sent_bytes_total (\S+)$/m.exec(metrics)?.[1])
    return { ms: cpuSeconds(etcd.pid) * 1000, bytes }
  }
  const before = await spent()
  for (let i = 0; i < times; i += 1) await call()
  const after = await spent()
  return { ms: (after.ms - before.ms) / times, bytes: (after.bytes - before.bytes) / times }
}

function subnetOf({ subnet }: FakePeer): LeaseSubnet {
  const [address = '', length] = subnet.split('-')
  return { ipv4: networkOf(addressOf(address), Number(length)), ipv6: undefined }
}

const leaseValueOf = (peer: FakePeer): LeaseValue => ({
  publicIp: addressOf(peer.publicIp),
  publicIpv6: undefined,
  backendType: 'vxlan',
  vtep: { vni: 1, mac: macOf(peer.mac) },
  vtep6: undefined,
})

function addressOf(text: string) {
  const address = parseIpv4(text)
  if (address === undefined) throw new Error(`${text} is no address`)
  return address
}

function macOf(text: string) {
  const address = parseMac(text)
  if (address === undefined) throw new Error(`${text} is no MAC`)
  return address
}
