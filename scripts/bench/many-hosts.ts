/**
 * The cases of many real hosts: a daemon per host, in namespaces of their own, with one etcd, directly or
 * through etcd's grpc-proxy.
 */
import { existsSync, statSync } from 'node:fs'
import { powerCut } from '../../test/lab/faults'
import type { FakePeer } from '../../test/lab/leases'
import { Pending, sleep, waitFor } from '../../test/lab/wait'
import type { FleetCase, FleetStage, Metric, Sample } from './case'
import { grant, persistently, putPeer } from './churn'
import { prefixOf } from './daemon'
import { Fleet } from './many-hosts-fleet'
import { pssMb, rssMb } from './proc'
import { now } from './route-monitor'
import { latencies, quantile, spread } from './statistics'

/** For the slowest phase with the most hosts, on a busy machine. */
const TIMEOUT_MS = 600_000
/**
 * Between two hosts that boot after a power cut: about the time that a start takes on two cores, so that
 * starts do not queue up.
 */
const RAMP_MS = 250
const ETCD_DOWN_MS = 5000
/** Makes hosts renew at least once a minute: the flag is in minutes before the end of a lease of a day. */
const MINUTELY = { 'subnet-lease-renew-margin': '1439' }

const metrics: readonly Metric[] = [
  { key: 'stormMeshSeconds', label: 'all started at once: full mesh, s', digits: 1 },
  { key: 'stormSubnetP50', label: '... exec to subnet.env, p50, s', digits: 1 },
  { key: 'stormSubnetMax', label: '... exec to subnet.env, most, s', digits: 1 },
  { key: 'stormRpcsPerHost', label: '... RPCs to etcd for each host', digits: 2 },
  { key: 'stormRacesLost', label: '... races for a subnet that were lost', digits: 0 },
  { key: 'stormWatchEvents', label: '... watch events that etcd sent', digits: 0 },
  { key: 'stormSentMb', label: '... what etcd sent, MB', digits: 2 },
  { key: 'stormEtcdCpuSeconds', label: '... CPU of etcd, s', digits: 2 },
  { key: 'stormProxyCpuSeconds', label: '... CPU of the grpc-proxy, s', digits: 2 },
  { key: 'stormDaemonCpuMedian', label: '... CPU of a daemon, median, s', digits: 2 },
  { key: 'stormDaemonCpuMax', label: '... CPU of a daemon, most, s', digits: 2 },
  { key: 'stormDaemonCpuSum', label: '... CPU of all daemons, s', digits: 1 },
  { key: 'rssMedianMb', label: 'RSS of a daemon at rest, median, MB', digits: 0 },
  { key: 'rssMaxMb', label: 'RSS of a daemon at rest, most, MB', digits: 0 },
  { key: 'pssSumMb', label: 'memory of all daemons (PSS), MB', digits: 0 },
  { key: 'etcdRssMb', label: 'RSS of etcd, MB', digits: 0 },
  { key: 'proxyRssMb', label: 'RSS of the grpc-proxy, MB', digits: 0 },
  {
    key: 'rollingRpcsPerHost',
    label: 'restart of all in turn: RPCs to etcd for each host',
    digits: 2,
    comparable: true,
  },
  { key: 'rollingWrites', label: '... kernel writes on all hosts', digits: 0, comparable: true },
  { key: 'rollingReadyP50', label: '... exec to READY=1, p50, s', digits: 2 },
  { key: 'rollingReadyMax', label: '... exec to READY=1, most, s', digits: 2 },
  { key: 'fanJoinP50', label: 'a peer joins: until a host has it, p50, ms', digits: 1 },
  { key: 'fanJoinMax', label: '... until a host has it, most, ms', digits: 1 },
  { key: 'fanLeaveP50', label: 'a peer leaves: until a host has let it go, p50, ms', digits: 1 },
  { key: 'fanLeaveMax', label: '... until a host has let it go, most, ms', digits: 1 },
  { key: 'fanEventsPerChange', label: '... events that etcd sent for each', digits: 1 },
  { key: 'fanEtcdCpuMs', label: '... CPU of etcd meanwhile for each, ms', digits: 2 },
  { key: 'fanDaemonCpuMs', label: '... CPU of all daemons meanwhile for each, ms', digits: 1 },
  { key: 'fanReads', label: '... RPCs of the hosts for all of them', digits: 0, comparable: true },
  {
    key: 'revokedP50',
    label: 'the lease of a host revoked: until another has let it go, p50, ms',
    digits: 1,
  },
  { key: 'revokedMax', label: '... until another has let it go, most, ms', digits: 1 },
  { key: 'returnSeconds', label: 'a host joins: exec until all others have it, s', digits: 2 },
  { key: 'returnSpreadMs', label: '... from the first of them to the last, ms', digits: 1 },
  {
    key: 'etcdBackP50',
    label: 'etcd killed, back after 5 s: answers, until a host follows, p50, s',
    digits: 2,
  },
  { key: 'etcdBackMax', label: '... until a host follows, most, s', digits: 2 },
  { key: 'etcdBackRpcWatch', label: '... watches', digits: 0 },
  { key: 'etcdBackMostAtOnce', label: '... watches in the busiest tenth of a second', digits: 0 },
  { key: 'etcdBackRpcRange', label: '... listings', digits: 0 },
  { key: 'etcdBackWrites', label: '... kernel writes on all hosts', digits: 0, comparable: true },
  { key: 'proxyBackMax', label: 'the grpc-proxy killed and back: until a host follows, most, s', digits: 2 },
  { key: 'proxyBackRpcRange', label: '... RPCs of Range at etcd', digits: 0 },
  { key: 'herdReadySeconds', label: 'restart of all at once: until all are ready, s', digits: 1 },
  { key: 'herdRpcsPerHost', label: '... RPCs to etcd for each host', digits: 2, comparable: true },
  { key: 'herdWrites', label: '... kernel writes on all hosts', digits: 0, comparable: true },
  { key: 'renewalsPerHost', label: 'renewals of a host in an hour', digits: 2 },
  {
    key: 'renewalsMostInASecond',
    label: '... in the busiest second of a minute in which all renew',
    digits: 0,
  },
  { key: 'idleReads', label: 'other RPCs meanwhile', digits: 0, comparable: true },
  { key: 'idleDaemonCpuPercent', label: 'CPU of all daemons meanwhile, % of one', digits: 1 },
  { key: 'idleEtcdCpuPercent', label: 'CPU of etcd meanwhile, % of one', digits: 1 },
  { key: 'pings', label: 'pings from container to container in all these phases', digits: 0 },
  { key: 'pingsLost', label: '... lost', digits: 0, comparable: true },
  {
    key: 'rampMeshP50',
    label: 'power cut, back one after the other: exec until a host has all, p50, s',
    digits: 2,
  },
  { key: 'rampMeshMax', label: '... exec until a host has all, most, s', digits: 2 },
  { key: 'rampRpcsPerHost', label: '... RPCs to etcd for each host', digits: 2, comparable: true },
]

const about =
  'N is the number of hosts, each with a daemon of its own, in a network of 223 subnets. All start at ' +
  'once, with no state. Then a container of the first host pings one of the second every 5 ms, until the ' +
  'power cut. The kernels report all times of routes (`ip -ts monitor` over all hosts). After the first ' +
  'and the last phase, every object on every host is compared with the leases. Hosts that were restarted ' +
  'at once renew every minute instead of every hour, to show how their renewals spread. All hosts probe, ' +
  "and all their neighbours are in the one table of the machine's kernel: 100 hosts need " +
  '`sysctl net.ipv4.neigh.default.gc_thresh3=65536` there.'

export const manyHosts: FleetCase = {
  name: 'many-hosts',
  about,
  metrics,
  measure: (stage) => measure(stage, 'direct'),
}

export const manyHostsByProxy: FleetCase = {
  name: 'many-hosts-proxy',
  about: 'The same with an `etcd grpc-proxy` between the hosts and etcd. RPCs are those that reach etcd.',
  metrics,
  measure: (stage) => measure(stage, 'proxy'),
}

async function measure(stage: FleetStage, way: 'direct' | 'proxy'): Promise<Sample> {
  const fleet = await Fleet.create(stage, way)
  try {
    const load = await fleet.loadOf('storm', () => storm(fleet))
    // A start that loses no race for its subnet needs one transaction.
    const booted = { ...load, stormRacesLost: (load['stormRpcTxn'] ?? 0) - fleet.hosts.length }
    const resting = await memory(fleet)
    await fleet.verify()
    const ping = await fleet.startPing()
    const phases: Sample[] = [
      await fleet.loadOf('rolling', () => restartInTurn(fleet)),
      await fanOut(fleet),
      await revoke(fleet),
      await fleet.loadOf('etcdBack', () => restartEtcd(fleet)),
      ...(way === 'proxy' ? [await fleet.loadOf('proxyBack', () => restartProxy(fleet))] : []),
      await fleet.loadOf('herd', () => restartAtOnce(fleet)),
      await renewals(fleet),
    ]
    const { sent, lost } = await ping.stop()
    const ramped = await fleet.loadOf('ramp', () => comeBack(fleet))
    await fleet.verify()
    return Object.assign({ ...booted, ...resting }, ...phases, { pings: sent, pingsLost: lost, ...ramped })
  } finally {
    await fleet.close()
  }
}

async function storm(fleet: Fleet): Promise<Sample> {
  const { hosts, monitor } = fleet
  const execs = hosts.map((host) => fleet.start(host))
  const meshed = await monitor.waitForMesh(hosts.length - 1, TIMEOUT_MS)
  for (const { name, subnetFile } of hosts) {
    const written = () => existsSync(subnetFile) || new Pending('no file yet')
    await waitFor(`subnet.env of ${name}`, written, { timeoutMs: TIMEOUT_MS })
  }
  const subnets = hosts.map(({ subnetFile }, i) => (statSync(subnetFile).ctimeMs - (execs[i] ?? 0)) / 1000)
  return {
    meshSeconds: (Math.max(...meshed) - Math.min(...execs)) / 1000,
    subnetP50: quantile(subnets, 0.5),
    subnetMax: Math.max(...subnets),
  }
}

async function memory({ hosts, lab, proxy }: Fleet): Promise<Sample> {
  const pids = hosts.map((host) => host.daemon.pid)
  const { median, max } = spread(pids.map(rssMb))
  const etcdRssMb = rssMb(lab.etcd.pid)
  const pssSumMb = pids.reduce((sum, pid) => sum + pssMb(pid), 0)
  return {
    rssMedianMb: median,
    rssMaxMb: max,
    pssSumMb,
    etcdRssMb,
    ...(proxy && { proxyRssMb: rssMb(proxy.pid) }),
  }
}

async function restartInTurn(fleet: Fleet): Promise<Sample> {
  await fleet.monitor.writes()
  const seconds: number[] = []
  for (const host of fleet.hosts) {
    await host.stop()
    seconds.push(await fleet.startAndWait(host))
  }
  return { ...latencies('ready', seconds), ...(await writes(fleet)) }
}

/** Peers that do not exist join and leave, so that the time of each change is known exactly. */
async function fanOut(fleet: Fleet): Promise<Sample> {
  const { hosts, monitor, lab } = fleet
  // At most a fifth of the hosts: a daemon doubts etcd if too many peers disappear within a short time.
  const peers = Array.from({ length: Math.min(20, Math.max(1, Math.floor(hosts.length / 5))) }, (_, i) =>
    fleet.spare(i),
  )
  const [join, leave]: [number[], number[]] = [[], []]
  const lease = await grant(lab)
  const load = await fleet.loadOf('fan', async () => {
    for (const peer of peers) {
      const put = now()
      await putPeer(lab, peer, lease)
      join.push(...(await since(put, monitor.times('added', prefixOf(peer), hosts, put))))
      const gone = now()
      await lab.deletePeer(peer)
      leave.push(...(await since(gone, monitor.times('deleted', prefixOf(peer), hosts, gone))))
    }
    return {}
  })
  const changes = peers.length * 2
  const each = (key: string): number => (load[key] ?? Number.NaN) / changes
  return {
    ...load,
    ...latencies('fanJoin', join),
    ...latencies('fanLeave', leave),
    fanEventsPerChange: each('fanWatchEvents'),
    fanEtcdCpuMs: each('fanEtcdCpuSeconds') * 1000,
    fanDaemonCpuMs: each('fanDaemonCpuSum') * 1000,
    fanReads: readsIn(load, 'fan'),
  }
}

/** The last host is stopped and its lease revoked; then it is started again. */
async function revoke(fleet: Fleet): Promise<Sample> {
  const { hosts, monitor, lab } = fleet
  const leaver = hosts.at(-1)
  if (leaver === undefined) throw new Error('there is no host')
  const others = hosts.slice(0, -1)
  const { subnet, etcdLease } = await fleet.leaseOf(leaver)
  await leaver.stop()
  const revoked = now()
  await lab.client.leaseClient.leaseRevoke({ ID: etcdLease })
  const gone = await since(revoked, monitor.times('deleted', subnet, others, revoked))
  const exec = now()
  await fleet.startAndWait(leaver)
  const again = await fleet.leaseOf(leaver)
  const back = await monitor.times('added', again.subnet, others, exec)
  return {
    ...latencies('revoked', gone),
    returnSeconds: (Math.max(...back) - exec) / 1000,
    returnSpreadMs: Math.max(...back) - Math.min(...back),
  }
}

async function restartEtcd(fleet: Fleet): Promise<Sample> {
  const { lab } = fleet
  await fleet.monitor.writes()
  await lab.etcd.kill()
  await sleep(ETCD_DOWN_MS)
  const watches = fleet.sample('Watch', 50)
  await lab.etcd.start()
  const { seconds, ...rest } = await untilAllFollow(fleet)
  // The counters of a restarted etcd begin at 0.
  const most = mostWithin([[Number.NEGATIVE_INFINITY, 0], ...(await watches.stop())], 100)
  return { p50: quantile(seconds, 0.5), max: Math.max(...seconds), mostAtOnce: most, ...rest }
}

async function restartProxy(fleet: Fleet): Promise<Sample> {
  await fleet.monitor.writes()
  await fleet.proxy?.restart()
  const { seconds, ...rest } = await untilAllFollow(fleet)
  return { p50: quantile(seconds, 0.5), max: Math.max(...seconds), ...rest }
}

/**
 * Waits until all hosts follow etcd again: only those see a peer that joins now.
 * @returns the seconds that took on each host
 */
async function untilAllFollow(fleet: Fleet) {
  const { hosts, monitor, lab } = fleet
  const peer = fleet.spare(0)
  const back = now()
  await persistently(() => lab.putPeers(peer))
  const seconds = (await since(back, monitor.times('added', prefixOf(peer), hosts, back))).map(
    (ms) => ms / 1000,
  )
  const gone = now()
  await lab.deletePeer(peer)
  await monitor.times('deleted', prefixOf(peer), hosts, gone)
  return { seconds, ...(await writes(fleet, peer)) }
}

/** All hosts restart at once, as in an upgrade of all hosts. From then on they renew every minute. */
async function restartAtOnce(fleet: Fleet): Promise<Sample> {
  const { hosts, monitor } = fleet
  await monitor.writes()
  await Promise.all(hosts.map((host) => host.stop()))
  const exec = now()
  await Promise.all(
    hosts.map((host) => fleet.startAndWait(host, MINUTELY, { intervalMs: 50, timeoutMs: TIMEOUT_MS })),
  )
  return { readySeconds: (now() - exec) / 1000, ...(await writes(fleet)) }
}

async function renewals(fleet: Fleet): Promise<Sample> {
  const seconds = fleet.effort.idleSeconds
  const load = await fleet.loadOf(
    'idle',
    async () => {
      const renewed = fleet.sample('LeaseKeepAlive', 100)
      await sleep(seconds * 1000)
      return { mostInASecond: mostWithin(await renewed.stop(), 1000) }
    },
    0,
  )
  const { idleRpcLeaseKeepAlive = 0, idleMostInASecond = Number.NaN } = load
  const percent = (key: string): number => ((load[key] ?? Number.NaN) / seconds) * 100
  return {
    ...load,
    // With MINUTELY, a minute stands for an hour.
    renewalsPerHost: (idleRpcLeaseKeepAlive / fleet.hosts.length) * (60 / seconds),
    renewalsMostInASecond: idleMostInASecond,
    idleReads: readsIn(load, 'idle'),
    idleDaemonCpuPercent: percent('idleDaemonCpuSum'),
    idleEtcdCpuPercent: percent('idleEtcdCpuSeconds'),
  }
}

/** All hosts lose power and boot one after the other; their leases are still in etcd. */
async function comeBack(fleet: Fleet): Promise<Sample> {
  const { hosts, monitor } = fleet
  await Promise.all(hosts.map(powerCut))
  await monitor.forget()
  const execs: number[] = []
  for (const host of hosts) {
    execs.push(fleet.start(host))
    await sleep(RAMP_MS)
  }
  const meshed = await monitor.waitForMesh(hosts.length - 1, TIMEOUT_MS)
  return latencies(
    'mesh',
    meshed.map((at, i) => (at - (execs[i] ?? 0)) / 1000),
  )
}

const since = async (start: number, times: Promise<number[]>): Promise<number[]> =>
  (await times).map((time) => time - start)

/**
 * Counts the changes on any host, except those for `peer`. There should be none, so the first few are
 * printed.
 */
async function writes({ monitor, say }: Fleet, peer?: FakePeer): Promise<{ readonly writes: number }> {
  const traces = peer === undefined ? [] : [peer.subnet.replace(/-\d+$/, ''), peer.mac]
  const all = (await monitor.writes()).filter((line) => !traces.some((text) => line.includes(text)))
  for (const line of all.slice(0, 5)) say(`written: ${line}`)
  return { writes: all.length }
}

/** RPCs by methods that only hosts use here; RPCs by other methods are the benchmark's own. */
const readsIn = (load: Sample, name: string): number =>
  ['Range', 'LeaseTimeToLive', 'Watch'].reduce((sum, method) => sum + (load[`${name}Rpc${method}`] ?? 0), 0)

/**
 * The largest growth of a count within a time span, or between two samples that are further apart.
 * @param counts [milliseconds, count], in order
 */
function mostWithin(counts: readonly (readonly [number, number])[], milliseconds: number): number {
  let most = 0
  let first = 0
  for (const [time, count] of counts) {
    while ((counts[first + 1]?.[0] ?? time) <= time - milliseconds) first += 1
    most = Math.max(most, count - (counts[first]?.[1] ?? count))
  }
  return most
}
