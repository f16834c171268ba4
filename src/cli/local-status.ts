/** The status without a daemon: what etcd and the kernel say, and that nobody looks after it. */
import { etcdOptions, type Options } from '../daemon/options'
import { STATUS_SCHEMA, type Status } from '../daemon/status'
import { formatEtcdLease, reportNetwork, reportRejected } from '../daemon/status-report'
import { readVersion } from '../daemon/version'
import { openEtcd } from '../etcd/client'
import { Registry, type RegistryStatus } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { readPreviousSubnet } from '../host/subnet-env'
import { Kernel } from '../kernel/kernel'
import { formatIpv4, formatMac, formatPrefix, samePrefix } from '../model/address'
import { describeError } from '../model/errors'
import type { KernelObjects, ObservedLink } from '../model/kernel'
import { type Lease, NO_ETCD_LEASE } from '../model/lease'
import { type NetworkConfig, parseNetworkConfig } from '../model/network-config'
import { linkName } from '../plan/desired'

/** Milliseconds for all of etcd. */
const DEADLINE = 3000

/** Either what was asked for, or why it is not to be had. */
type Answer<T> =
  | { readonly value: T; readonly problem?: never }
  | { readonly value?: never; readonly problem: string }

interface EtcdView {
  readonly status: RegistryStatus
  readonly snapshot: Snapshot
  readonly config: Answer<NetworkConfig>
}

interface KernelView {
  readonly link: ObservedLink | undefined
  readonly objects: KernelObjects | undefined
}

/** Reads it; whatever cannot be read is a problem in the document, never an exception. */
export async function readLocalStatus(options: Options): Promise<Status> {
  const etcd = await attempt(() => readEtcd(options))
  const config = etcd.value?.config.value
  // Without a config the usual name is the best guess.
  const kernel = await attempt(() => readKernel(config === undefined ? 'flannel.1' : linkName(config)))
  const previous = await attempt(() => readPreviousSubnet(options['subnet-file']))
  const { link, objects } = kernel.value ?? {}
  const own = findOwn(etcd.value?.snapshot, link, previous.value?.subnet)
  return {
    schema: STATUS_SCHEMA,
    version: readVersion(),
    state: 'degraded',
    problems: [
      `overlayd does not run (no answer at ${options['run-dir']}): what the kernel has still carries traffic, but follows nothing`,
      ...[etcd.problem, etcd.value?.config.problem, kernel.problem, previous.problem].filter(
        (problem) => problem !== undefined,
      ),
    ],
    daemon: { running: false, phase: 'down' },
    ...(config !== undefined && { network: reportNetwork(config, options['etcd-prefix']) }),
    ...(own !== undefined && { lease: reportLease(own) }),
    ...(link !== undefined && { device: reportDevice(link) }),
    etcd: {
      endpoints:
        etcd.value === undefined ? options['etcd-endpoints'].split(',') : [etcd.value.status.endpoint],
      connected: etcd.value !== undefined,
      ...(etcd.value !== undefined && {
        latencyMs: etcd.value.status.latencyMs,
        revision: etcd.value.snapshot.revision.toString(),
      }),
      ...(etcd.problem !== undefined && { error: etcd.problem }),
    },
    convergence: { converged: false, failing: 0, operations: 0 },
    peers: reportPeers(etcd.value?.snapshot, own, objects),
  }
}

async function attempt<T>(read: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await read() }
  } catch (error) {
    return { problem: describeError(error) }
  }
}

async function readEtcd(options: Options): Promise<EtcdView> {
  const client = await openEtcd(etcdOptions(options))
  try {
    const registry = new Registry(client, { prefix: options['etcd-prefix'] })
    const signal = AbortSignal.timeout(DEADLINE)
    const status = await registry.status(signal)
    const snapshot = await registry.snapshot(signal)
    const config = await attempt(async () => {
      if (snapshot.config === undefined)
        throw new Error(`there is no network config under ${options['etcd-prefix']}`)
      return parseNetworkConfig(snapshot.config)
    })
    return { status, snapshot, config }
  } finally {
    client.close()
  }
}

async function readKernel(name: string): Promise<KernelView> {
  const kernel = await Kernel.open({ report: () => undefined })
  try {
    const link = await kernel.link(name)
    return { link, objects: link === undefined ? undefined : await kernel.observe(link.index) }
  } finally {
    kernel.close()
  }
}

/** Our lease is the one with the device's MAC, else the one of subnet.env. */
function findOwn(
  snapshot: Snapshot | undefined,
  link: ObservedLink | undefined,
  previous: Lease['subnet']['ipv4'] | undefined,
): Lease | undefined {
  const leases = snapshot?.leases ?? []
  return (
    leases.find((lease) => link !== undefined && lease.value.vtep?.mac === link.mac) ??
    leases.find((lease) => previous !== undefined && samePrefix(lease.subnet.ipv4, previous))
  )
}

function reportLease({ subnet, value, etcdLease }: Lease): NonNullable<Status['lease']> {
  return {
    subnet: formatPrefix(subnet.ipv4),
    publicIp: formatIpv4(value.publicIp),
    state: 'unknown',
    ...(etcdLease !== NO_ETCD_LEASE && { etcdLease: formatEtcdLease(etcdLease) }),
  }
}

function reportDevice({ name, index, mac, mtu, up, vxlan }: ObservedLink): NonNullable<Status['device']> {
  return {
    name,
    index,
    mac: formatMac(mac),
    mtu,
    up,
    ...(vxlan?.local !== undefined && { local: formatIpv4(vxlan.local) }),
  }
}

function reportPeers(
  snapshot: Snapshot | undefined,
  own: Lease | undefined,
  objects: KernelObjects | undefined,
): Status['peers'] {
  const others = (snapshot?.leases ?? []).filter((lease) => lease.key !== own?.key)
  const unreadable = (snapshot?.unreadable ?? []).map(({ key, reason }) =>
    reportRejected({ key, reason, keepsLastGood: false }),
  )
  const peers = others.map(({ subnet, value }): Status['peers'][number] => {
    const mac = value.vtep?.mac
    const there = mac !== undefined && objects?.neighbours.get(subnet.ipv4.address) === mac
    return {
      subnet: formatPrefix(subnet.ipv4),
      publicIp: formatIpv4(value.publicIp),
      mac: mac === undefined ? '-' : formatMac(mac),
      state: there ? 'ok' : 'pending',
      ...(!there && { reason: 'not in the kernel as etcd has it' }),
    }
  })
  return [...peers, ...unreadable]
}
