/** Faults of a host of the lab: power cut, cut off from etcd, changed state file, copied disk. */
import { createHash } from 'node:crypto'
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type SavedState, stateFilePath } from '../../src/host/state-file'
import { type Container, ETCD_ADDRESS, ETCD_PREFIX, Host, type Lab } from './lab'
import { leaseKey } from './leases'
import { inNamespace } from './namespace'
import { run } from './process'
import { Pending, waitFor } from './wait'

/**
 * Kills the daemon and removes all that a power cut would remove: devices, nftables, subnet.env and the run
 * directory. The bridge and containers of the lab stay.
 */
export async function powerCut(host: Host): Promise<void> {
  if (host.running) await host.stop('SIGKILL')
  for (const device of [Host.device, Host.device6]) {
    await run(inNamespace(host.namespace, ['ip', 'link', 'delete', device]))
  }
  await run(inNamespace(host.namespace, ['nft', 'flush', 'ruleset']))
  rmSync(host.subnetFile, { force: true })
  rmSync(host.runDirectory, { recursive: true, force: true })
}

/** Cuts a host off from etcd only. The /32 route is more specific than any other route to etcd. */
export async function cutFromEtcd(host: Host): Promise<void> {
  await host.exec('ip', 'route', 'add', 'blackhole', `${ETCD_ADDRESS}/32`)
}

export async function reconnectEtcd(host: Host): Promise<void> {
  await host.exec('ip', 'route', 'delete', 'blackhole', `${ETCD_ADDRESS}/32`)
}

/** Waits until `wanted` holds for the state that a host has saved. */
export function savedState(
  host: Host,
  wanted: (state: SavedState) => boolean = () => true,
  timeoutMs = 15_000,
): Promise<SavedState> {
  return waitFor(
    `the state file of ${host.name}`,
    () => {
      try {
        const { state } = JSON.parse(readFileSync(stateFilePath(host.stateDirectory), 'utf8'))
        return wanted(state) ? state : new Pending(JSON.stringify(state))
      } catch (error) {
        return new Pending(String(error))
      }
    },
    { timeoutMs, context: () => host.daemon.tail() },
  )
}

/** Waits until a host has saved all it needs to start without etcd: a renewed own lease and all peers. */
export const remembered = (host: Host, peers: number): Promise<SavedState> =>
  savedState(host, (state) => state.own.renewal !== undefined && state.peers.length === peers)

/** Changes a host's state file, with a valid checksum. The daemon must not be running. */
export async function editState(host: Host, change: (state: SavedState) => SavedState): Promise<void> {
  const text = JSON.stringify(change(await savedState(host)))
  const sha256 = createHash('sha256').update(text).digest('hex')
  writeFileSync(stateFilePath(host.stateDirectory), `{"version":1,"sha256":"${sha256}","state":${text}}\n`)
}

/** For {@link editState}: makes the last renewal of the lease so old that the lease may have expired. */
export const expired = (state: SavedState): SavedState => ({
  ...state,
  own: { ...state.own, renewal: state.own.renewal && { ...state.own.renewal, ttlSeconds: 30 } },
})

/** Copies one host's state directory to another host, as a copied machine would have it. */
export function copyDisk(from: Host, to: Host): void {
  // The new file of a write is renamed or removed meanwhile.
  const filter = (source: string): boolean => !basename(source).startsWith('.')
  cpSync(from.stateDirectory, to.stateDirectory, { recursive: true, filter })
}

/**
 * Reads a host's key from etcd.
 * @param subnet of the key, as `10.5.7.1/24`; by default that of the host's subnet.env
 */
export async function keyOf(lab: Lab, host: Host, subnet?: string) {
  const own = subnet ?? (await host.subnetEnv()).subnet
  const key = leaseKey(ETCD_PREFIX, own.replace(/\d+\/24$/, '0-24'))
  const [kv] = (await lab.client.get(key).exec()).kvs
  return { key, value: kv?.value.toString(), etcdLease: kv?.lease, modRevision: kv?.mod_revision }
}

export function containerOf(host: Host): Container {
  const [container] = host.containers
  if (container === undefined) throw new Error(`${host.name} has no container`)
  return container
}

/** Path of the host's state file. */
export const stateFileOf = (host: Host): string => join(host.stateDirectory, 'state.json')

/** Starts etcd again and waits until the host follows it. */
export async function etcdBack(lab: Lab, host: Host): Promise<void> {
  await lab.etcd.start()
  await host.waitForStatus('connected to etcd again', ({ etcd }) => etcd.connected, 30_000)
}
