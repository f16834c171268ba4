/** The cases that start the daemon: cold, with an empty kernel, and warm, with all of it there already. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { Host } from '../../test/support/lab'
import { NotifySocket } from '../../test/support/notify-socket'
import { Pending, sleep, waitFor } from '../../test/support/wait'
import type { Case, Sample, Stage } from './case'
import { cpuSeconds, peakRssMb, routeCount, trieSize } from './proc'
import { measureBatches } from './reference'
import { rpcsSince } from './rpcs'

/** How long after the last peer CPU time and memory are read: what a daemon does late counts too. */
const SETTLE_MS = 1500
const POLL_MS = 2
const TIMEOUT_MS = 120_000

const usageMetrics = [
  {
    key: 'cpuSeconds',
    label: `CPU, s (user + system, from exec to ${SETTLE_MS / 1000} s after the end)`,
    digits: 2,
  },
  { key: 'peakRssMb', label: 'peak RSS, MB', digits: 0 },
  { key: 'rpcs', label: 'RPCs to etcd', digits: 0 },
]

export const coldStart: Case = {
  name: 'cold-start',
  about:
    'From exec of the daemon with an empty kernel and no lease of its own. The routes are counted every 2 ms by the size of the ' +
    "kernel's routing trie (/proc/PID/net/fib_triestat, then an exact count); neighbours and FDB entries, which come first, " +
    'are compared with the leases by iproute2 once subnet.env is there. RPCs: difference of grpc_server_started_total. Batches: the same objects by `ip -batch` and ' +
    '`bridge -batch` on a device made by hand, from files written beforehand, in the same run.',
  metrics: [
    { key: 'subnetEnvSeconds', label: 'exec to subnet.env, s', digits: 3 },
    { key: 'allSeconds', label: 'exec to all routes, neighbours and FDB entries, s', digits: 3 },
    ...usageMetrics,
    { key: 'batchSeconds', label: 'the same objects by batches, s', digits: 3 },
    {
      key: 'plainBatchSeconds',
      label: 'the same with plain routes instead of nexthop objects, s',
      digits: 3,
    },
    { key: 'ratio', label: 'daemon : batches', digits: 1 },
    { key: 'plainRatio', label: 'daemon : batches with plain routes', digits: 1 },
  ],
  async measure(stage) {
    const host = await freshHost(stage)
    const started = await start(stage, host)
    await removeHost(stage, host)
    await stage.quiet()
    const batchSeconds = await measureBatches(stage, 'nexthop')
    const plainBatchSeconds = await measureBatches(stage, 'plain')
    const allSeconds = started['allSeconds'] ?? Number.NaN
    return {
      ...started,
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
    'The daemon is stopped and started again while its kernel state is there. READY=1 (sd_notify) is sent when all peers are known and the kernel is right. Kernel writes: ' +
    'lines of `ip monitor` about links, addresses, routes, neighbours, FDB entries and nexthops from before the stop to the end.',
  metrics: [
    { key: 'readySeconds', label: 'exec to READY=1, s', digits: 3 },
    ...usageMetrics,
    { key: 'kernelWrites', label: 'kernel writes', digits: 0 },
  ],
  async measure(stage) {
    const host = await freshHost(stage)
    await start(stage, host)
    const monitor = await stage.lab.monitor(host)
    const before = await stage.lab.etcd.metrics()
    await host.stop()
    const notify = new NotifySocket(join(stage.lab.directory, `${host.name}-notify`))
    const exec = performance.now()
    const { pid } = host.start({ env: { NOTIFY_SOCKET: notify.path } })
    await notify.waitFor('READY=1', {
      timeoutMs: TIMEOUT_MS,
      intervalMs: POLL_MS,
      context: () => host.daemon.tail(),
    })
    const readySeconds = (performance.now() - exec) / 1000
    notify.close()
    await host.waitConverged(stage.peers.length, TIMEOUT_MS)
    await sleep(SETTLE_MS)
    const usage = {
      cpuSeconds: cpuSeconds(pid),
      peakRssMb: peakRssMb(pid),
      ...rpcsSince(before, await stage.lab.etcd.metrics()),
    }
    const kernelWrites = (await monitor.changes()).length
    await monitor.stop()
    await verify(stage, host)
    await removeHost(stage, host)
    return { readySeconds, ...usage, kernelWrites }
  },
}

/** Starts the daemon on a host and measures until all peers are in the kernel. */
async function start(stage: Stage, host: Host): Promise<Sample> {
  const before = await stage.lab.etcd.metrics()
  const wanted = stage.peers.length
  const execTime = Date.now()
  const exec = performance.now()
  const daemon = host.start()
  const { pid } = daemon
  const routesAt = await waitFor(
    `${wanted} routes`,
    () => {
      const now = performance.now()
      if (!daemon.running) throw new Error(daemon.tail())
      const size = trieSize(pid)
      return size >= wanted && routeCount(pid, Host.device) >= wanted ? now : new Pending(`${size} routes`)
    },
    { timeoutMs: TIMEOUT_MS, intervalMs: POLL_MS, context: () => daemon.tail() },
  )
  // Dumps cost the daemon a core, so they wait until it is ready.
  await host.subnetEnv()
  let allAt = routesAt
  await host.waitForKernel('all neighbours and FDB entries', ({ neighbours, fdb }) => {
    if (neighbours.length === wanted && fdb.length === wanted) return true
    allAt = performance.now()
    return false
  })
  // When it was renamed into place; exact to a tick of the kernel's clock.
  const subnetEnvSeconds = (statSync(host.subnetFile).ctimeMs - execTime) / 1000
  await sleep(SETTLE_MS)
  const usage = { cpuSeconds: cpuSeconds(pid), peakRssMb: peakRssMb(pid) }
  const rpcs = rpcsSince(before, await stage.lab.etcd.metrics())
  await host.waitConverged(wanted)
  await verify(stage, host)
  return { subnetEnvSeconds, allSeconds: (allAt - exec) / 1000, ...usage, ...rpcs }
}

/** Compares the kernel's objects with the leases, one by one. */
async function verify({ peers }: Stage, host: Host): Promise<void> {
  const view = await host.kernel()
  const gateway = (subnet: string) => subnet.replace('-24', '')
  const expected = {
    routes: peers.map(({ subnet }) => `${gateway(subnet)}/24 via ${gateway(subnet)} onlink`),
    neighbours: peers.map(({ subnet, mac }) => `${gateway(subnet)} ${mac}`),
    fdb: peers.map(({ mac, publicIp }) => `${mac} ${publicIp}`),
  }
  for (const kind of ['routes', 'neighbours', 'fdb'] as const) {
    const missing = new Set(expected[kind])
    const strange = view[kind].filter((line) => !missing.delete(line))
    if (missing.size + strange.length > 0) {
      throw new Error(
        `${kind}: ${missing.size} are missing (${[...missing][0]}), ${strange.length} are strange (${strange[0]})`,
      )
    }
  }
}

async function freshHost({ lab, quiet }: Stage): Promise<Host> {
  const [host] = await lab.addHosts(1)
  if (host === undefined) throw new Error('no host was added')
  await quiet()
  return host
}

/** Ends the daemon and takes its lease away, so that the next measurement has the same peers. */
async function removeHost({ lab }: Stage, host: Host): Promise<void> {
  const { subnet } = await host.subnetEnv()
  await host.stop()
  await lab.deletePeer({ subnet: subnet.replace(/\d+\/(\d+)$/, '0-$1') })
}
