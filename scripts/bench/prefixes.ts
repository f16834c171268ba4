/** The case of announced prefixes: a start with many of them, and how fast one moves from host to host. */
import { ETCD_PREFIX, type Lab } from '../../test/lab/lab'
import type { FakePeer } from '../../test/lab/leases'
import { sleep } from '../../test/lab/wait'
import type { Case, Sample, Stage } from './case'
import { freshHost, launch, removeHost, verify, waitForRoutes } from './daemon'
import { cpuSeconds, peakRssMb, rssMb } from './proc'
import { measureBatches, type Routed } from './reference'
import { now, RouteMonitor } from './route-monitor'
import { latencies, quantile } from './statistics'

/** Prefixes of each peer, and most of all peers together. */
const OF_PEER = 10
const MOST = 10_000
/** Outside of the network: RFC 2544, with room for 32,768 prefixes of four addresses. */
const RANGE = '198.18.0.0/15'
/** Puts of one transaction: etcd's default limit. */
const AT_ONCE = 128

/** A prefix, and the peer that announces it. */
interface Claim {
  readonly prefix: string
  readonly peer: FakePeer
}

export const prefixes: Case = {
  name: 'prefixes',
  ownOnly: true,
  about:
    `Each peer announces ${OF_PEER} prefixes, ${MOST} at most together. From exec of the daemon, with an empty ` +
    'kernel, until the routes of all peers and prefixes are counted in it, as in cold-start. Batches: the same ' +
    'objects by `ip -batch` and `bridge -batch`. Then prefixes move one after the other: another peer claims ' +
    'one with a higher priority. A move takes from sending the claim to etcd until the kernel of this host ' +
    "reports the other route (`ip -ts monitor`). The reference is the time of etcd's own answer to the same put.",
  skips: (peers) => peers < 2,
  metrics: [
    { key: 'prefixes', label: 'prefixes', digits: 0 },
    { key: 'allSeconds', label: 'exec to all routes, s', digits: 3, plot: 'time with prefixes' },
    { key: 'cpuSeconds', label: 'CPU, s (user + system, from exec until it rests)', digits: 2 },
    { key: 'peakRssMb', label: 'peak RSS, MB', digits: 0 },
    { key: 'rssMb', label: 'RSS at rest, MB', digits: 0 },
    { key: 'batchSeconds', label: 'the same objects by batches, s', digits: 3 },
    { key: 'ratio', label: 'daemon : batches', digits: 1, comparable: true },
    { key: 'moves', label: 'moves', digits: 0 },
    { key: 'moveP50', label: 'move, p50, ms', digits: 1 },
    { key: 'moveP99', label: 'move, p99, ms', digits: 1 },
    { key: 'moveMax', label: 'move, most, ms', digits: 1 },
    { key: 'putP50', label: "etcd's answer, p50, ms", digits: 1 },
    { key: 'moveRatio', label: "move : etcd's answer, p50", digits: 1, comparable: true },
  ],
  async measure(stage) {
    const { lab } = stage
    const before = (await lab.client.get(`${ETCD_PREFIX}/config`).string()) ?? ''
    await lab.putConfig(JSON.stringify({ ...JSON.parse(before), Prefixes: { Allowed: [RANGE] } }))
    try {
      const claims = claimsOf(stage.peers)
      for (let at = 0; at < claims.length; at += AT_ONCE) await putAll(lab, claims.slice(at, at + AT_ONCE))
      return await measureStart(stage, claims)
    } finally {
      await lab.client.delete().prefix(`${ETCD_PREFIX}/overlay/prefixes/`)
      await lab.putConfig(before)
    }
  },
}

function claimsOf(peers: readonly FakePeer[]): readonly Claim[] {
  const wanted = Math.min(peers.length * OF_PEER, MOST)
  return peers
    .flatMap((peer) => Array.from({ length: OF_PEER }, () => peer))
    .slice(0, wanted)
    .map((peer, at) => ({ peer, prefix: `198.${18 + (at >> 14)}.${(at >> 6) & 255}.${(at & 63) * 4}/30` }))
}

const keyOf = ({ prefix, peer }: Claim): string =>
  `${ETCD_PREFIX}/overlay/prefixes/${peer.subnet}/${prefix.replace('/', '-')}`

async function putAll({ client }: Lab, claims: readonly Claim[]): Promise<void> {
  await client.kv.txn({
    success: claims.map((claim) => ({
      request_put: { key: Buffer.from(keyOf(claim)), value: Buffer.from('{"priority":100}') },
    })),
  })
}

const routed = ({ prefix, peer }: Claim): Routed => ({ prefix, gateway: peer.subnet.replace('-24', '') })

async function measureStart(stage: Stage, claims: readonly Claim[]): Promise<Sample> {
  const host = await freshHost(stage)
  const { pid, exec, ready } = launch(stage, host)
  const readiness = ready()
  const all = await waitForRoutes(host, pid, stage.peers.length + claims.length)
  await readiness
  await sleep(stage.effort.settleMs)
  const usage = { cpuSeconds: cpuSeconds(pid), peakRssMb: peakRssMb(pid), rssMb: rssMb(pid) }
  await verify(stage, host, claims.map(routed))
  const monitor = await RouteMonitor.start(host.namespace)
  const moved = new Map(claims.map((claim) => [claim.prefix, claim]))
  const moves: number[] = []
  const puts: number[] = []
  try {
    await sleep(stage.effort.settleMs)
    for (const claim of claims.slice(0, stage.effort.serial)) {
      const at = (stage.peers.indexOf(claim.peer) + 1) % stage.peers.length
      const next = { ...claim, peer: stage.peers[at] ?? claim.peer }
      const sent = now()
      const seen = monitor.times('added', [claim.prefix], sent)
      await stage.lab.client.put(keyOf(next)).value('{"priority":200}')
      puts.push(now() - sent)
      moves.push(((await seen)[0] ?? Number.NaN) - sent)
      moved.set(claim.prefix, next)
    }
  } finally {
    await monitor.stop()
  }
  await verify(stage, host, [...moved.values()].map(routed))
  await removeHost(stage, host)
  await stage.quiet()
  const batchSeconds = await measureBatches(stage, 'nexthop', claims.map(routed))
  const allSeconds = (all - exec) / 1000
  const putP50 = quantile(puts, 0.5)
  return {
    prefixes: claims.length,
    allSeconds,
    ...usage,
    batchSeconds,
    ratio: allSeconds / batchSeconds,
    moves: moves.length,
    ...latencies('move', moves),
    putP50,
    moveRatio: quantile(moves, 0.5) / putP50,
  }
}
