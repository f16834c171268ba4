/** What befalls a host of the lab: a reboot, a cut from etcd, a changed state file, a copied machine. */
import { createHash } from 'node:crypto'
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type SavedState, stateFilePath } from '../../src/host/state-file'
import { type Container, ETCD_ADDRESS, ETCD_PREFIX, Host, type Lab } from './lab'
import { leaseKey } from './leases'
import { inNamespace } from './namespace'
import { run } from './process'
import { Pending, waitFor } from './wait'

/** Ends the daemon as a power cut would and takes away what does not outlive one; what stands for docker stays. */
export async function powerCut(host: Host): Promise<void> {
  if (host.running) await host.stop('SIGKILL')
  for (const device of [Host.device, Host.device6]) {
    await run(inNamespace(host.namespace, ['ip', 'link', 'delete', device]))
  }
  await run(inNamespace(host.namespace, ['nft', 'flush', 'ruleset']))
  rmSync(host.subnetFile, { force: true })
  rmSync(host.runDirectory, { recursive: true, force: true })
}

/** Cuts a host off from etcd and from nothing else, whichever way its packets go. */
export async function cutFromEtcd(host: Host): Promise<void> {
  await host.exec('ip', 'route', 'add', 'blackhole', `${ETCD_ADDRESS}/32`)
}

export async function reconnectEtcd(host: Host): Promise<void> {
  await host.exec('ip', 'route', 'delete', 'blackhole', `${ETCD_ADDRESS}/32`)
}

/** The state that a host has saved; waits for one that is as wanted. */
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

/** Waits until what a host would need to come up without etcd is saved. */
export const remembered = (host: Host, peers: number): Promise<SavedState> =>
  savedState(host, (state) => state.own.renewal !== undefined && state.peers.length === peers)

/** Changes what a host has saved, as an earlier run would have written it. The daemon must not run. */
export async function editState(host: Host, change: (state: SavedState) => SavedState): Promise<void> {
  const text = JSON.stringify(change(await savedState(host)))
  const sha256 = createHash('sha256').update(text).digest('hex')
  writeFileSync(stateFilePath(host.stateDirectory), `{"version":1,"sha256":"${sha256}","state":${text}}\n`)
}

/** Makes the lease look as if it was last renewed so long ago that it may have ended. */
export const expired = (state: SavedState): SavedState => ({
  ...state,
  own: { ...state.own, renewal: state.own.renewal && { ...state.own.renewal, ttlSeconds: 30 } },
})

/** Makes one host's disk a copy of another's. */
export function copyDisk(from: Host, to: Host): void {
  cpSync(from.stateDirectory, to.stateDirectory, { recursive: true })
}

/** What etcd has under a host's key, by the subnet that is given or that its file tells. */
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

/** Where a file of the host's is, for commands. */
export const stateFileOf = (host: Host): string => join(host.stateDirectory, 'state.json')

/** Starts etcd again and waits until the host follows it. */
export async function etcdBack(lab: Lab, host: Host): Promise<void> {
  await lab.etcd.start()
  await host.waitForStatus('etcd again', ({ etcd }) => etcd.connected, 30_000)
}
