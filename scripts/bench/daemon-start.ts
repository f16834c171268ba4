/**
 * The cases that start the daemon: a cold start, with an empty kernel, and a warm restart, with all objects
 * still in the kernel.
 */
import { join } from 'node:path'
import { sleep } from '../../test/lab/wait'
import type { Case } from './case'
import { freshHost, launch, measureStart, readStalls, removeHost, verify } from './daemon'
import { loadSince, WATCH_EVENTS } from './etcd-load'
import { cpuSeconds, peakRssMb } from './proc'
import { measureBatches, measureNode } from './reference'

const usageMetrics = [
  { key: 'cpuSeconds', label: 'CPU, s (user + system, from exec until it rests)', digits: 2, plot: 'CPU' },
  { key: 'peakRssMb', label: 'peak RSS, MB', digits: 0, plot: 'peak RSS' },
  { key: 'rpcs', label: 'RPCs to etcd', digits: 0, comparable: true },
  WATCH_EVENTS,
] as const

export const coldStart: Case = {
  name: 'cold-start',
  about:
    'From exec of the daemon, with an empty kernel and no lease of its own. Routes are counted every 2 ms ' +
    "by the size of the kernel's routing trie (/proc/PID/net/fib_triestat), then exactly. Neighbours and " +
    'FDB entries, which are written before the routes, are compared with the leases by iproute2 once ' +
    'subnet.env exists. RPCs: difference of grpc_server_started_total. Batches: the same objects, made by ' +
    '`ip -batch` and `bridge -batch` on a device made by hand, from files written beforehand, in the same ' +
    'run. Bare node: `node -e 0`.',
  metrics: [
    { key: 'subnetEnvSeconds', label: 'exec to subnet.env, s', digits: 3 },
    { key: 'readySeconds', label: 'exec to READY=1, s', digits: 3, plot: 'ready' },
    {
      key: 'allSeconds',
      label: 'exec to all routes, neighbours and FDB entries, s',
      digits: 3,
      plot: 'time',
    },
    ...usageMetrics,
    { key: 'nodeSeconds', label: 'bare node, s', digits: 3 },
    { key: 'nodeRssMb', label: 'bare node, peak RSS, MB', digits: 0 },
    { key: 'batchSeconds', label: 'the same objects by batches, s', digits: 3 },
    {
      key: 'plainBatchSeconds',
      label: 'the same with plain routes instead of nexthop objects, s',
      digits: 3,
    },
    { key: 'readyRatio', label: 'ready : bare node', digits: 1, comparable: true },
    { key: 'rssRatio', label: 'peak RSS : bare node', digits: 2, comparable: true },
    { key: 'ratio', label: 'daemon : batches', digits: 1, comparable: true },
    { key: 'plainRatio', label: 'daemon : batches with plain routes', digits: 1, comparable: true },
  ],
  async measure(stage) {
    const host = await freshHost(stage)
    const started = await measureStart(stage, host)
    await removeHost(stage, host)
    await stage.quiet()
    const node = await measureNode()
    const { readySeconds = Number.NaN, allSeconds = Number.NaN, peakRssMb: rss = Number.NaN } = started
    const compared = {
      ...started,
      ...node,
      readyRatio: readySeconds / node.nodeSeconds,
      rssRatio: rss / node.nodeRssMb,
    }
    if (stage.peers.length === 0) return compared
    const batchSeconds = await measureBatches(stage, 'nexthop')
    const plainBatchSeconds = await measureBatches(stage, 'plain')
    return {
      ...compared,
      batchSeconds,
      plainBatchSeconds,
      ratio: allSeconds / batchSeconds,
      plainRatio: allSeconds / plainBatchSeconds,
    }
  },
}

export const warmRestart: Case = {
  name: 'warm-restart',
  about:
    'The daemon is stopped and started again while its objects are in the kernel. READY=1 (sd_notify) is ' +
    'sent when all peers are known and the kernel is right. Kernel writes: lines of `ip monitor` about ' +
    'links, addresses, routes, neighbours, FDB entries and nexthops, from before the stop to the end.',
  metrics: [
    { key: 'readySeconds', label: 'exec to READY=1, s', digits: 3, plot: 'ready' },
    ...usageMetrics,
    { key: 'kernelWrites', label: 'kernel writes', digits: 0, comparable: true },
  ],
  async measure(stage) {
    const host = await freshHost(stage)
    await measureStart(stage, host)
    const monitor = await stage.lab.monitor(host)
    const before = await stage.lab.etcd.load()
    await host.stop()
    const { pid, ready } = launch(stage, host)
    const readySeconds = await ready()
    await sleep(stage.effort.settleMs)
    const usage = {
      cpuSeconds: cpuSeconds(pid),
      peakRssMb: peakRssMb(pid),
      ...loadSince(before, await stage.lab.etcd.load()),
    }
    const kernelWrites = (await monitor.changes()).length
    await monitor.stop()
    await verify(stage, host)
    await removeHost(stage, host)
    return { readySeconds, ...usage, kernelWrites }
  },
}

export const stalls: Case = {
  name: 'stalls',
  ownOnly: true,
  about:
    'A cold start with a histogram of the event loop in the process (perf_hooks, a timer of 1 ms; ' +
    'scripts/bench/stalls.cjs): how late the timer fired. Loading the program is not counted, because no ' +
    'event can be waiting yet. Processor time that other processes took is included.',
  metrics: [
    { key: 'stallP99', label: 'event loop late by, p99, ms', digits: 1 },
    { key: 'stallMax', label: 'event loop late by, most, ms', digits: 0, plot: 'longest stall' },
  ],
  async measure(stage) {
    const host = await freshHost(stage)
    const [node = process.execPath, ...program] = stage.subject.start.program ?? []
    const file = join(stage.lab.directory, `${host.name}-stalls`)
    await measureStart(stage, host, {
      program: [node, '--require', join(__dirname, 'stalls.cjs'), ...program],
      env: { OVERLAYD_STALLS: file },
    })
    const { p99, max } = await readStalls(host.daemon.pid, file)
    await removeHost(stage, host)
    return { stallP99: p99, stallMax: max }
  },
}
