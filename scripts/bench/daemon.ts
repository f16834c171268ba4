/** A host with the daemon under test: start, measurement and end. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { StartOptions } from '../../test/lab/host'
import { Host } from '../../test/lab/lab'
import type { FakePeer } from '../../test/lab/leases'
import { NotifySocket } from '../../test/lab/notify-socket'
import { Pending, sleep, type WaitOptions, waitFor } from '../../test/lab/wait'
import type { Running, Sample, Stage } from './case'
import { loadSince } from './etcd-load'
import { cpuSeconds, peakRssMb, routeCount, trieSize } from './proc'
import type { Routed } from './reference'

const POLL_MS = 2
const TIMEOUT_MS = 120_000

/** `10.5.12.0/24` of a peer. */
export const prefixOf = ({ subnet }: FakePeer): string => subnet.replace('-', '/')

export async function freshHost({ lab, quiet }: Stage): Promise<Host> {
  const [host] = await lab.addHosts(1)
  if (host === undefined) throw new Error('no host was added')
  await quiet()
  return host
}

/** Starts the daemon on a host, with a socket that receives its sd_notify messages. */
export function launch(
  { lab, subject }: Pick<Stage, 'lab' | 'subject'>,
  host: Host,
  more: Pick<StartOptions, 'env' | 'flags' | 'program'> = {},
): { readonly pid: number; readonly exec: number; readonly ready: (wait?: WaitOptions) => Promise<number> } {
  const notify = new NotifySocket(join(lab.directory, `${host.name}-notify`))
  const exec = performance.now()
  const options = {
    ...subject.start,
    ...more,
    flags: { ...subject.start.flags, ...more.flags },
    env: { NOTIFY_SOCKET: notify.path, ...more.env },
  }
  const { pid } = host.start(options)
  /** @returns seconds from exec to READY=1 */
  const ready = async (wait: WaitOptions = {}): Promise<number> => {
    const context = () => host.daemon.tail()
    await notify.waitFor('READY=1', { timeoutMs: TIMEOUT_MS, intervalMs: POLL_MS, ...wait, context })
    notify.close()
    return (performance.now() - exec) / 1000
  }
  return { pid, exec, ready }
}

/** Starts the daemon on a host and measures until all peers are in the kernel. */
export async function measureStart(
  stage: Stage,
  host: Host,
  more: Pick<StartOptions, 'env' | 'program'> = {},
): Promise<Sample> {
  const before = await stage.lab.etcd.load()
  const wanted = stage.peers.length
  const execTime = Date.now()
  const { pid, exec, ready } = launch(stage, host, more)
  const readiness = ready()
  const routesAt = await waitForRoutes(host, pid, wanted)
  // Dumps by iproute2 take a core from the daemon, so they wait until it is ready.
  await host.subnetEnv()
  const readySeconds = await readiness
  let allAt = routesAt
  await host.waitForKernel(
    'all neighbours and FDB entries',
    ({ neighbours, fdb }) => {
      if (neighbours.length === wanted && fdb.length === wanted) return true
      allAt = performance.now()
      return false
    },
    TIMEOUT_MS,
  )
  // The time at which the file was renamed into place; exact to one tick of the kernel's clock.
  const subnetEnvSeconds = (statSync(host.subnetFile).ctimeMs - execTime) / 1000
  await sleep(stage.effort.settleMs)
  const usage = { cpuSeconds: cpuSeconds(pid), peakRssMb: peakRssMb(pid) }
  const rpcs = loadSince(before, await stage.lab.etcd.load())
  await verify(stage, host)
  return {
    subnetEnvSeconds,
    readySeconds,
    allSeconds: wanted === 0 ? Number.NaN : (allAt - exec) / 1000,
    ...usage,
    ...rpcs,
  }
}

/** @returns when all wanted routes were present, by performance.now() */
export function waitForRoutes(host: Host, pid: number, wanted: number): Promise<number> {
  const { daemon } = host
  return waitFor(
    `${wanted} routes`,
    () => {
      const now = performance.now()
      if (!daemon.running) throw new Error(daemon.tail())
      const size = trieSize(pid)
      return size >= wanted && routeCount(pid, Host.device) >= wanted ? now : new Pending(`${size} routes`)
    },
    { timeoutMs: TIMEOUT_MS, intervalMs: POLL_MS, context: () => daemon.tail() },
  )
}

/** Runs something on a host whose daemon has all peers and is at rest, and cleans up afterwards. */
export async function onRunning<T>(stage: Stage, run: (running: Running) => Promise<T>): Promise<T> {
  const host = await freshHost(stage)
  const { pid, ready } = launch(stage, host)
  await ready()
  await waitForRoutes(host, pid, stage.peers.length)
  await sleep(stage.effort.settleMs)
  const result = await run({ ...stage, host, pid })
  await verify(stage, host)
  await removeHost(stage, host)
  return result
}

/**
 * Compares the kernel's objects with the leases, one by one.
 * @param prefixes routes besides those to the peers' subnets
 */
export async function verify(
  { peers }: Pick<Stage, 'peers'>,
  host: Host,
  prefixes: readonly Routed[] = [],
): Promise<void> {
  const view = await host.kernel()
  const gateway = (subnet: string) => subnet.replace('-24', '')
  const expected = {
    routes: [
      ...peers.map(({ subnet }) => ({ prefix: `${gateway(subnet)}/24`, gateway: gateway(subnet) })),
      ...prefixes,
    ].map((each) => `${each.prefix} via ${each.gateway} onlink`),
    neighbours: peers.map(({ subnet, mac }) => `${gateway(subnet)} ${mac}`),
    fdb: peers.map(({ mac, publicIp }) => `${mac} ${publicIp}`),
  }
  for (const kind of ['routes', 'neighbours', 'fdb'] as const) {
    const missing = new Set(expected[kind])
    const strange = view[kind].filter((line) => !missing.delete(line))
    if (missing.size + strange.length > 0) {
      const [first] = missing
      throw new Error(
        `${kind}: ${missing.size} are missing (${first}), ${strange.length} are unexpected (${strange[0]})`,
      )
    }
  }
}

/** Ends the daemon and takes its lease away, so that the next measurement has the same peers. */
export async function removeHost({ lab }: Stage, host: Host): Promise<void> {
  const { subnet } = await host.subnetEnv()
  await host.stop()
  await lab.deletePeer({ subnet: subnet.replace(/\d+\/(\d+)$/, '0-$1') })
}

/** The measurements of stalls.cjs since its start or since the last call, in milliseconds. */
export async function readStalls(pid: number, file: string): Promise<{ p99: number; max: number }> {
  process.kill(pid, 'SIGUSR2')
  return waitFor(file, () =>
    existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : new Pending('no file yet'),
  )
}
