/** The cases in which peers join, leave and renew, and in which the kernel or etcd misbehaves. */

import type { EtcdLoad } from '../../test/lab/etcd'
import { ETCD_PREFIX, Host, type Lab } from '../../test/lab/lab'
import type { FakePeer } from '../../test/lab/leases'
import { leaseKey, leaseValue } from '../../test/lab/leases'
import { sleep } from '../../test/lab/wait'
import type { Case, Running, Sample, Stage } from './case'
import { onRunning, prefixOf } from './daemon'
import { loadSince, WATCH_EVENTS } from './etcd-load'
import { cpuSeconds, rssMb } from './proc'
import { now, RouteMonitor } from './route-monitor'
import { latencies, quantile } from './statistics'

const AT_ONCE = 64
const TTL_SECONDS = 86_400

export const joins: Case = {
  name: 'joins',
  about:
    'Peers join one after the other, each after the route of the previous one. A join takes from sending ' +
    'the lease to etcd until the kernel reports the route, the last object of the peer (`ip -ts monitor`). ' +
    "The reference is the time of etcd's own answer to the same put.",
  metrics: [
    { key: 'joinP50', label: 'join, p50, ms', digits: 1, plot: 'join p50' },
    { key: 'joinP99', label: 'join, p99, ms', digits: 1 },
    { key: 'joinMax', label: 'join, most, ms', digits: 1 },
    { key: 'leaveP50', label: 'leave, p50, ms', digits: 1 },
    { key: 'leaveP99', label: 'leave, p99, ms', digits: 1 },
    { key: 'leaveMax', label: 'leave, most, ms', digits: 1 },
    { key: 'putP50', label: "etcd's answer, p50, ms", digits: 1 },
    { key: 'joinRatio', label: "join : etcd's answer, p50", digits: 1, comparable: true },
    { key: 'rpcs', label: 'RPCs of the daemon', digits: 0, comparable: true },
    WATCH_EVENTS,
  ],
  measure: (stage) =>
    onRunning(stage, async (running) => {
      const { lab, spare, effort } = running
      const some = spare.slice(0, effort.serial)
      return watching(running, async (monitor) => {
        const lease = await grant(lab)
        const [put, join, leave]: [number[], number[], number[]] = [[], [], []]
        for (const peer of some) {
          const sent = now()
          const seen = monitor.times('added', [prefixOf(peer)], sent)
          await putPeer(lab, peer, lease)
          put.push(now() - sent)
          join.push(((await seen)[0] ?? Number.NaN) - sent)
        }
        for (const peer of some) {
          const sent = now()
          const seen = monitor.times('deleted', [prefixOf(peer)], sent)
          await lab.deletePeer(peer)
          leave.push(((await seen)[0] ?? Number.NaN) - sent)
        }
        const putP50 = quantile(put, 0.5)
        return {
          ...latencies('join', join),
          ...latencies('leave', leave),
          putP50,
          joinRatio: quantile(join, 0.5) / putP50,
        }
      })
    }),
}

export const bursts: Case = {
  name: 'bursts',
  about:
    'Many peers join at once, and then leave at once: from the first put, with 64 puts under way at a ' +
    'time, until the kernel reports the last route.',
  metrics: [
    { key: 'peers', label: 'peers that come and go', digits: 0 },
    { key: 'joinSeconds', label: 'all joined, s', digits: 3, plot: 'burst of joins' },
    { key: 'joinPutSeconds', label: 'of which etcd takes for the puts, s', digits: 3 },
    { key: 'leaveSeconds', label: 'all gone, s', digits: 3 },
    { key: 'joinCpuSeconds', label: 'CPU for the joins, s', digits: 2 },
    { key: 'leaveCpuSeconds', label: 'CPU for the leaves, s', digits: 2 },
    { key: 'joinRatio', label: 'joins : puts', digits: 2, comparable: true },
    { key: 'rpcs', label: 'RPCs of the daemon', digits: 0, comparable: true },
    WATCH_EVENTS,
  ],
  measure: (stage) =>
    onRunning(stage, async (running) => {
      const { lab, spare, effort, pid } = running
      const some = spare.slice(0, effort.burst)
      const prefixes = some.map(prefixOf)
      return watching(running, async (monitor) => {
        const lease = await grant(lab)
        const cpu = cpuSeconds(pid)
        const sent = now()
        await atOnce(some, (peer) => putPeer(lab, peer, lease))
        const put = now() - sent
        const joined = Math.max(...(await monitor.times('added', prefixes, sent))) - sent
        await sleep(effort.settleMs)
        const cpuJoined = cpuSeconds(pid)
        const removed = now()
        await atOnce(some, (peer) => lab.deletePeer(peer))
        const left = Math.max(...(await monitor.times('deleted', prefixes, removed))) - removed
        await sleep(effort.settleMs)
        return {
          peers: some.length,
          joinSeconds: joined / 1000,
          joinPutSeconds: put / 1000,
          leaveSeconds: left / 1000,
          joinCpuSeconds: cpuJoined - cpu,
          leaveCpuSeconds: cpuSeconds(pid) - cpuJoined,
          joinRatio: joined / put,
        }
      })
    }),
}

export const renewals: Case = {
  name: 'renewals',
  skips: (peers) => peers === 0,
  about:
    'Peers renew as flannel does once a day: a new etcd lease, and the same value put again, bound to it. ' +
    'Measures the cost for a host with these peers. Kernel writes are counted by `ip monitor`.',
  metrics: [
    { key: 'renewals', label: 'renewals', digits: 0 },
    { key: 'cpuSeconds', label: 'CPU, s', digits: 2 },
    { key: 'rpcs', label: 'RPCs of the daemon', digits: 0, comparable: true },
    WATCH_EVENTS,
    { key: 'kernelWrites', label: 'kernel writes', digits: 0, comparable: true },
  ],
  measure: (stage) =>
    onRunning(stage, async ({ lab, peers, effort, pid, host }) => {
      const some = peers.slice(0, effort.burst)
      const monitor = await lab.monitor(host)
      const cpu = cpuSeconds(pid)
      const before = await lab.etcd.load()
      await atOnce(some, async (peer) => putPeer(lab, peer, await grant(lab)))
      await sleep(effort.settleMs)
      const load = ownLoad(before, await lab.etcd.load())
      const kernelWrites = (await monitor.changes()).length
      await monitor.stop()
      return { renewals: some.length, cpuSeconds: cpuSeconds(pid) - cpu, ...load, kernelWrites }
    }),
}

export const reconnect: Case = {
  name: 'reconnect',
  about:
    'etcd is killed and started again on its data, and a peer joins as soon as etcd answers. The time is ' +
    'from that answer to the route of the peer. RPCs are those of the restarted etcd.',
  metrics: [
    { key: 'seconds', label: 'etcd answers, to the next join in the kernel, s', digits: 2 },
    { key: 'cpuSeconds', label: 'CPU, s', digits: 2 },
    { key: 'kernelWrites', label: 'kernel writes beyond that one peer', digits: 0, comparable: true },
  ],
  measure: (stage) =>
    onRunning(stage, async (running) => {
      const { lab, spare, effort, pid, host } = running
      const [peer] = spare
      if (peer === undefined) throw new Error('there is no peer to join')
      const all = await lab.monitor(host)
      const cpu = cpuSeconds(pid)
      const sample = await watching(running, async (monitor) => {
        await lab.etcd.restart()
        const back = now()
        const seen = monitor.times('added', [prefixOf(peer)], back)
        await persistently(async () => putPeer(lab, peer, await grant(lab)))
        const seconds = (((await seen)[0] ?? Number.NaN) - back) / 1000
        await sleep(effort.settleMs)
        return { seconds, cpuSeconds: cpuSeconds(pid) - cpu }
      })
      const foreign = (line: string): boolean => !concerns(line, peer)
      const kernelWrites = (await all.changes()).filter(foreign).length
      await all.stop()
      await withdraw(running, [peer])
      return { ...sample, kernelWrites }
    }),
}

export const resync: Case = {
  name: 'resync',
  skips: (peers) => peers === 0,
  about:
    'The daemon is stopped (SIGSTOP). Meanwhile etcd is killed and started again, a peer joins, and the ' +
    'history is compacted up to it. After SIGCONT no watch can deliver what was missed, so the daemon ' +
    'lists everything again (one watch is refused, the next one is accepted) and compares the listing with ' +
    'its state. The time is from SIGCONT to the route of that peer.',
  metrics: [
    { key: 'seconds', label: 'everything listed and compared, s', digits: 3, plot: 'listing again' },
    { key: 'cpuSeconds', label: 'CPU, s', digits: 2 },
    { key: 'rssMb', label: 'RSS after it, MB', digits: 0 },
    { key: 'rpcs', label: 'RPCs of the daemon', digits: 0, comparable: true },
    WATCH_EVENTS,
    { key: 'kernelWrites', label: 'kernel writes beyond that one peer', digits: 0, comparable: true },
  ],
  measure: (stage) =>
    onRunning(stage, async (running) => {
      const { lab, spare, effort, pid, host } = running
      const [peer] = spare
      if (peer === undefined) throw new Error('there is no peer to join')
      const all = await lab.monitor(host)
      const monitor = await RouteMonitor.start(host.namespace)
      process.kill(pid, 'SIGSTOP')
      const cpu = cpuSeconds(pid)
      let before: EtcdLoad
      try {
        await lab.etcd.restart()
        await persistently(async () => putPeer(lab, peer, await grant(lab)))
        const { header } = await lab.client.kv.range({ key: Buffer.from(leaseKey(ETCD_PREFIX, peer.subnet)) })
        await lab.client.kv.compact({ revision: header.revision, physical: true })
        before = await lab.etcd.load()
      } finally {
        process.kill(pid, 'SIGCONT')
      }
      const resumed = now()
      const seconds =
        (((await monitor.times('added', [prefixOf(peer)], resumed))[0] ?? Number.NaN) - resumed) / 1000
      await sleep(effort.settleMs)
      const sample = {
        seconds,
        cpuSeconds: cpuSeconds(pid) - cpu,
        rssMb: rssMb(pid),
        ...ownLoad(before, await lab.etcd.load()),
      }
      await monitor.stop()
      const kernelWrites = (await all.changes()).filter((line) => !concerns(line, peer)).length
      await all.stop()
      await withdraw(running, [peer])
      return { ...sample, kernelWrites }
    }),
}

export const drift: Case = {
  name: 'drift',
  ownOnly: true,
  skips: (peers) => peers === 0,
  about:
    'Routes are deleted by hand, one after the other, and the daemon restores them: the time is between ' +
    "the kernel's reports of the deletion and of the new route. Then the device is set down and up, which " +
    'removes all routes: the time is until the last route is back.',
  metrics: [
    { key: 'repairP50', label: 'one route repaired, p50, ms', digits: 0 },
    { key: 'repairMax', label: 'one route repaired, most, ms', digits: 0 },
    { key: 'resyncSeconds', label: 'all routes after the device was down, s', digits: 3, plot: 'resync' },
  ],
  measure: (stage) =>
    onRunning(stage, async (running) => {
      const { peers, effort, host } = running
      return watching(running, async (monitor) => {
        const repairs: number[] = []
        for (const peer of peers.slice(0, Math.min(effort.serial, 20))) {
          const from = now()
          await host.exec('ip', 'route', 'delete', prefixOf(peer))
          const [[deleted = 0], [added = Number.NaN]] = [
            await monitor.times('deleted', [prefixOf(peer)], from),
            await monitor.times('added', [prefixOf(peer)], from),
          ]
          repairs.push(added - deleted)
          await sleep(100)
        }
        await host.exec('ip', 'link', 'set', Host.device, 'down')
        const up = now()
        await host.exec('ip', 'link', 'set', Host.device, 'up')
        const back = Math.max(...(await monitor.times('added', peers.map(prefixOf), up)))
        await sleep(effort.settleMs)
        return { ...latencies('repair', repairs), resyncSeconds: (back - up) / 1000 }
      })
    }),
}

export const memory: Case = {
  name: 'memory',
  about:
    'Peers join and leave in rounds, --events times in all. Growth is the difference of the resident set ' +
    'between the end of the first tenth of the events and the end of all.',
  metrics: [
    { key: 'events', label: 'joins and leaves', digits: 0 },
    { key: 'rssFirstMb', label: 'RSS after a tenth of them, MB', digits: 0 },
    { key: 'rssMb', label: 'RSS at the end, MB', digits: 0, plot: 'RSS after events' },
    { key: 'growthMb', label: 'growth, MB', digits: 1 },
    { key: 'microseconds', label: 'CPU for each event, us', digits: 0 },
  ],
  measure: (stage) =>
    onRunning(stage, async (running) => {
      const { lab, spare, effort, pid } = running
      const some = spare.slice(0, Math.min(effort.burst, Math.ceil(effort.events / 20)))
      const rounds = Math.max(10, Math.ceil(effort.events / 2 / some.length))
      const lease = await grant(lab)
      const cpu = cpuSeconds(pid)
      let first = 0
      await watching(running, async (monitor) => {
        for (let round = 1; round <= rounds; round += 1) {
          const from = now()
          await atOnce(some, (peer) => putPeer(lab, peer, lease))
          await monitor.times('added', some.map(prefixOf), from)
          const then = now()
          await atOnce(some, (peer) => lab.deletePeer(peer))
          await monitor.times('deleted', some.map(prefixOf), then)
          if (round === Math.ceil(rounds / 10)) first = rssMb(pid)
        }
        return {}
      })
      await sleep(effort.settleMs)
      const [events, end] = [rounds * some.length * 2, rssMb(pid)]
      const microseconds = ((cpuSeconds(pid) - cpu) * 1e6) / events
      return { events, rssFirstMb: first, rssMb: end, growthMb: end - first, microseconds }
    }),
}

/** Runs something with a route monitor, and adds the RPCs that the daemon sent meanwhile. */
async function watching(
  { lab, host }: Running,
  run: (monitor: RouteMonitor) => Promise<Sample>,
): Promise<Sample> {
  const monitor = await RouteMonitor.start(host.namespace)
  const before = await lab.etcd.load()
  try {
    const sample = await run(monitor)
    return { ...ownLoad(before, await lab.etcd.load()), ...sample }
  } finally {
    await monitor.stop()
  }
}

/** RPCs by methods that only the daemon uses here; RPCs by other methods are the benchmark's own. */
function ownLoad(before: EtcdLoad, after: EtcdLoad): Sample {
  const { rpcRange = 0, rpcLeaseTimeToLive = 0, rpcWatch = 0, watchEvents = 0 } = loadSince(before, after)
  return { rpcs: rpcRange + rpcLeaseTimeToLive + rpcWatch, watchEvents }
}

export const grant = async ({ client }: Lab): Promise<string> =>
  (await client.leaseClient.leaseGrant({ TTL: TTL_SECONDS })).ID

export async function putPeer({ client }: Lab, peer: FakePeer, lease: string): Promise<void> {
  const key = Buffer.from(leaseKey(ETCD_PREFIX, peer.subnet))
  await client.kv.put({ key, value: Buffer.from(leaseValue(peer)), lease })
}

async function atOnce<T>(items: readonly T[], run: (item: T) => Promise<unknown>): Promise<void> {
  const left = items[Symbol.iterator]()
  const worker = async (): Promise<void> => {
    for (const item of left) await run(item)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

/** Tries up to 1000 times, 10 ms apart: the lab's own client loses its connection to a killed etcd too. */
export async function persistently(run: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run()
    } catch (error) {
      if (attempt === 1000) throw error
      await sleep(10)
    }
  }
}

/** Whether a line of `ip monitor` is about a peer. */
const concerns = (line: string, { subnet, mac, publicIp }: FakePeer): boolean =>
  [subnet.replace(/-\d+$/, ''), mac, publicIp].some((text) => line.includes(text))

async function withdraw(running: Stage & Running, peers: readonly FakePeer[]): Promise<void> {
  await watching(running, async (monitor) => {
    const from = now()
    for (const peer of peers) await running.lab.deletePeer(peer)
    await monitor.times('deleted', peers.map(prefixOf), from)
    return {}
  })
}
