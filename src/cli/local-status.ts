/** The status without a daemon: what etcd and the kernel say, and that nobody looks after it. */
import { etcdEndpointNames, etcdOptions, type Options } from '../daemon/options'
import { STATUS_SCHEMA, type Status } from '../daemon/status'
import {
  reportBinding,
  reportDevice,
  reportNetwork,
  reportRejected,
  reportSubnets,
} from '../daemon/status-report'
import { readVersion } from '../daemon/version'
import { openEtcd } from '../etcd/client'
import { Registry, type RegistryStatus } from '../etcd/registry'
import type { Snapshot } from '../etcd/snapshot'
import { readPreviousSubnets } from '../host/subnet-env'
import { Kernel } from '../kernel/kernel'
import {
  FAMILIES,
  type Family,
  formatIp,
  formatMac,
  formatPrefix,
  type Prefix,
  samePrefix,
} from '../model/address'
import { describeError } from '../model/errors'
import { type KernelObjects, type ObservedLink, routeKey } from '../model/kernel'
import { isReservation, type Lease, type LeaseHalf, leaseHalf } from '../model/lease'
import { type NetworkConfig, parseNetworkConfig } from '../model/network-config'
import { linkName } from '../plan/desired'
import { withRegistry } from './with-registry'

/** Milliseconds for all of etcd. */
const DEADLINE = 3000
/** Without a config flannel's default is the best guess. */
const DEFAULT_VNI = 1

/** Either what was asked for, or why it is not to be had. */
type Answer<T> =
  | { readonly value: T; readonly problem?: never }
  | { readonly value?: never; readonly problem: string }

interface EtcdView {
  readonly status: RegistryStatus
  readonly snapshot: Snapshot
  readonly config: Answer<NetworkConfig>
}

/** One family's device and what is on it. */
interface DeviceView {
  readonly family: Family
  readonly link: ObservedLink
  readonly objects: KernelObjects
}

/** Reads it; whatever cannot be read is a problem in the document, never an exception. */
export async function readLocalStatus(options: Options): Promise<Status> {
  const etcd = await attempt(() => readEtcd(options))
  const config = etcd.value?.config.value
  const kernel = await attempt(() => readKernel(config))
  const previous = await attempt(() => readPreviousSubnets(options['subnet-file']))
  const devices = kernel.value ?? []
  const own = findOwn(etcd.value?.snapshot, devices, previous.value?.ipv4 ?? previous.value?.ipv6)
  const left =
    own === undefined || isReservation(own) ? undefined : await attempt(() => readLife(options, own))
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
    ...(own !== undefined && { lease: reportLease(own, left?.value) }),
    ...reportDevices(devices),
    etcd: {
      endpoints: etcd.value === undefined ? etcdEndpointNames(options) : [etcd.value.status.endpoint],
      connected: etcd.value !== undefined,
      ...(etcd.value !== undefined && {
        latencyMs: etcd.value.status.latencyMs,
        revision: etcd.value.snapshot.revision.toString(),
      }),
      ...(etcd.problem !== undefined && { error: etcd.problem }),
    },
    convergence: { converged: false, failing: 0, operations: 0 },
    peers: reportPeers(etcd.value?.snapshot, own, devices),
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

async function readKernel(config: NetworkConfig | undefined): Promise<DeviceView[]> {
  const networks = { IPv4: config?.ipv4?.network, IPv6: config?.ipv6?.network }
  const kernel = await Kernel.open({ report: () => undefined })
  try {
    const devices: DeviceView[] = []
    for (const family of FAMILIES) {
      const link = await kernel.link(linkName(family, config?.backend.vni ?? DEFAULT_VNI))
      if (link === undefined) continue
      const elsewhere = { network: networks[family], routes: true, links: [] }
      devices.push({ family, link, objects: await kernel.observe(family, link.index, elsewhere) })
    }
    return devices
  } finally {
    kernel.close()
  }
}

/** Our lease is the one with a device's MAC, else the one of subnet.env. */
export function findOwn(
  snapshot: Snapshot | undefined,
  devices: readonly Pick<DeviceView, 'family' | 'link'>[],
  previous: Prefix | undefined,
): Lease | undefined {
  const leases = snapshot?.leases ?? []
  const hasMac = (lease: Lease, { family, link }: (typeof devices)[number]): boolean =>
    leaseHalf(lease, family)?.vtep?.mac === link.mac
  const hasSubnet = (lease: Lease, subnet: Prefix): boolean =>
    [lease.subnet.ipv4, lease.subnet.ipv6].some((half) => half !== undefined && samePrefix(half, subnet))
  return (
    leases.find((lease) => devices.some((device) => hasMac(lease, device))) ??
    leases.find((lease) => previous !== undefined && hasSubnet(lease, previous))
  )
}

/** @returns the seconds it has left; undefined when etcd has let it end meanwhile */
const readLife = (options: Options, { etcdLease }: Lease): Promise<number | undefined> =>
  withRegistry(options, (registry, signal) => registry.timeToLive(etcdLease, signal))

function reportLease(lease: Lease, secondsLeft: number | undefined): NonNullable<Status['lease']> {
  return {
    ...reportSubnets(lease),
    state: 'unknown',
    ...reportBinding(lease),
    ...(secondsLeft !== undefined && { expiresInSeconds: secondsLeft }),
  }
}

function reportDevices(devices: readonly DeviceView[]): Pick<Status, 'device' | 'ipv6Device'> {
  return Object.fromEntries(
    devices.map(({ family, link }) => [family === 'IPv4' ? 'device' : 'ipv6Device', reportDevice(link)]),
  )
}

function reportPeers(
  snapshot: Snapshot | undefined,
  own: Lease | undefined,
  devices: readonly DeviceView[],
): Status['peers'] {
  const others = (snapshot?.leases ?? []).filter((lease) => lease.key !== own?.key)
  const unreadable = (snapshot?.unreadable ?? []).map(({ key, reason }) =>
    reportRejected({ key, reason, keepsLastGood: false }),
  )
  const halves = others.flatMap((lease) =>
    FAMILIES.flatMap((family) => {
      const half = leaseHalf(lease, family)
      const objects = devices.find((device) => device.family === family)?.objects
      return half === undefined ? [] : [reportPeer(half, objects)]
    }),
  )
  return [...halves, ...unreadable]
}

function reportPeer(
  { subnet, publicIp, vtep }: LeaseHalf,
  objects: KernelObjects | undefined,
): Status['peers'][number] {
  const routes = objects?.routes.get(routeKey(subnet)) ?? []
  const isDirect = routes.some(({ target }) => target.kind === 'direct')
  const there = isDirect || (routes.length > 0 && objects?.neighbours.get(subnet.address) === vtep?.mac)
  return {
    subnet: formatPrefix(subnet),
    publicIp: publicIp === undefined ? '-' : formatIp(publicIp),
    mac: vtep === undefined ? '-' : formatMac(vtep.mac),
    state: there ? 'ok' : 'pending',
    ...(!there && { reason: 'not in the kernel as etcd has it' }),
  }
}
