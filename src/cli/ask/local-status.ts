/** The status without a daemon: from etcd and from the kernel. */

import type { Status } from '../../api/status'
import {
  reportBinding,
  reportDevice,
  reportNetwork,
  reportRejected,
  reportSubnets,
} from '../../api/status-parts'
import { STATUS_SCHEMA } from '../../api/words'
import { demandEtcd, type Knowledge } from '../../client/settings'
import { openEtcd } from '../../etcd/client/client'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { NO_GROUPS, Registry, type RegistryStatus } from '../../etcd/registry'
import { type LastExit, readLastExit } from '../../host/last-exit'
import { type PreviousSubnets, readPreviousSubnets } from '../../host/subnet-env'
import { Kernel } from '../../kernel/kernel'
import { FAMILIES, type Family, formatIp, formatMac, formatPrefix } from '../../model/address'
import { commandsIn } from '../../model/commands'
import { type NetworkConfig, parseNetworkConfig } from '../../model/config/network-config'
import { OverlayError } from '../../model/errors'
import type { ObservedLink } from '../../model/kernel/link'
import type { KernelObjects } from '../../model/kernel/objects'
import { routeKey } from '../../model/kernel/route'
import { type FamilyLease, familyLease, isReservation, type Lease } from '../../model/lease'
import { attempt, describeProblem, type Problem, type Result } from '../../model/result'
import { etcdEndpointNames, etcdOptions } from '../../options/etcd'
import type { Options } from '../../options/schema'
import { readVersion } from '../../options/version'
import { macsOf, ownLease } from '../../plan/lease/find-own'
import { linkName } from '../../plan/reconcile/desired'
import { silenceOfEtcd } from '../show/unknown'
import { withRegistry } from './with-registry'

/** Milliseconds for all of etcd. */
const DEADLINE = 3000
/** Without a config, flannel's default is the best guess. */
const DEFAULT_VNI = 1

interface EtcdView {
  readonly status: RegistryStatus
  readonly snapshot: Snapshot
  readonly config: Result<NetworkConfig>
}

/** One family's device, and the objects on it. */
interface DeviceView {
  readonly family: Family
  readonly link: ObservedLink
  readonly objects: KernelObjects
}

/** Reads the status. An unreadable part is a problem in the document, never an exception. */
export async function readLocalStatus(options: Options & { readonly known?: Knowledge }): Promise<Status> {
  return commandsIn(options.known?.network, await readHost(options))
}

async function readHost(options: Options): Promise<Status> {
  const etcd = await attempt('etcd', () => readEtcd(options))
  const config = etcd.value?.config.value
  const kernel = await attempt('kernel', () => readKernel(config))
  const previous = await attempt('subnet-file', () => readPreviousSubnets(options['subnet-file']))
  const devices = kernel.value ?? []
  const lastExit = await readLastExit(options['run-dir'])
  const evidence = { subnetFile: previous.value, devices: macsOf(devices) }
  const own = ownLease(etcd.value?.snapshot.leases ?? [], evidence)
  const left =
    own === undefined || isReservation(own) ? undefined : await attempt('lease', () => readLife(options, own))
  const problems = [
    isDown(options['run-dir']),
    ...(lastExit === undefined ? [] : [lastExitProblem(lastExit)]),
    ...[
      etcd.problem && silence(endpointNames(options), etcd.problem),
      etcd.value?.config.problem,
      kernel.problem,
      previous.problem,
    ].filter((problem) => problem !== undefined),
  ]
  return {
    schema: STATUS_SCHEMA,
    version: readVersion(),
    state: 'down',
    // Without the titles of a daemon's problems: these are the words of overlayctl.
    problems: problems.map(describeProblem),
    problemDetails: problems,
    daemon: { running: false, phase: 'down' },
    ...(config !== undefined && { network: reportNetwork(config, options['etcd-prefix']) }),
    ...(own !== undefined && { lease: reportLease(own, left?.value) }),
    ...(!etcd.ok && previous.value !== undefined && reportPrevious(previous.value)),
    ...reportDevices(devices),
    etcd: {
      endpoints: etcd.value === undefined ? endpointNames(options) : [etcd.value.status.endpoint],
      connected: etcd.value !== undefined,
      ...(etcd.value !== undefined && {
        latencyMs: etcd.value.status.latencyMs,
        revision: etcd.value.snapshot.revision.toString(),
      }),
      ...(etcd.problem !== undefined && { error: describeProblem(etcd.problem) }),
    },
    convergence: { converged: false, failing: 0, operations: 0 },
    peers: reportPeers(etcd.value?.snapshot, own, devices),
  }
}

const isDown = (runDirectory: string): Problem => ({
  part: 'daemon',
  code: 'daemon-down',
  text:
    `overlayd does not run (no answer at ${runDirectory}): ` +
    'what the kernel has still carries traffic, but follows nothing',
})

/** Why the daemon ended, as the daemon itself wrote it down. */
function lastExitProblem({ at, code, reason, fix, times }: LastExit): Problem {
  const starts = times > 1 ? `, after ${times} starts without being ready once` : ''
  const text = `overlayd ended at ${at}${starts}: ${reason}`
  return { part: 'daemon', code, text, ...(fix !== undefined && { fix }) }
}

/** That etcd gives no answer, as a problem of this host. */
const silence = (endpoints: readonly string[], { part, code, ...words }: Problem): Problem => ({
  part,
  code,
  text: silenceOfEtcd(endpoints, describeProblem(words)),
})

/** None where this user may not know them. */
const endpointNames = (options: Options & { readonly known?: Knowledge }): string[] =>
  options.known?.etcdUnknown === undefined ? etcdEndpointNames(options) : []

async function readEtcd(options: Options): Promise<EtcdView> {
  demandEtcd(options)
  const client = await openEtcd(etcdOptions(options))
  try {
    const registry = new Registry(client, { prefix: options['etcd-prefix'] })
    const signal = AbortSignal.timeout(DEADLINE)
    const status = await registry.status(signal)
    const snapshot = await registry.snapshot(signal, NO_GROUPS)
    const config = await attempt('config', () => {
      if (snapshot.config === undefined)
        throw new OverlayError('no-config', `there is no network config under ${options['etcd-prefix']}`)
      return parseNetworkConfig(snapshot.config)
    })
    return { status, snapshot, config }
  } finally {
    client.close()
  }
}

async function readKernel(config: NetworkConfig | undefined): Promise<DeviceView[]> {
  const networks = { IPv4: config?.ipv4?.network, IPv6: config?.ipv6?.network }
  const kernel = await Kernel.open()
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

/** @returns the seconds that a lease has left; undefined when it has ended meanwhile */
const readLife = (options: Options, { etcdLease }: Lease): Promise<number | undefined> =>
  withRegistry(options, (registry, signal) => registry.etcdLeases.timeToLive(etcdLease, signal))

function reportLease(lease: Lease, secondsLeft: number | undefined): NonNullable<Status['lease']> {
  return {
    ...reportSubnets(lease),
    state: 'unknown',
    ...reportBinding(lease),
    ...(secondsLeft !== undefined && { expiresInSeconds: secondsLeft }),
  }
}

/** The subnets that the host had when subnet.env was written. Only etcd knows whether it still has them. */
function reportPrevious({ ipv4, ipv6 }: PreviousSubnets): { lease?: NonNullable<Status['lease']> } {
  if ((ipv4 ?? ipv6) === undefined) return {}
  return {
    lease: {
      ...(ipv4 !== undefined && { subnet: formatPrefix(ipv4) }),
      ...(ipv6 !== undefined && { ipv6Subnet: formatPrefix(ipv6) }),
      state: 'unknown',
    },
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
  const readable = others.flatMap((lease) =>
    FAMILIES.flatMap((family) => {
      const leased = familyLease(lease, family)
      const objects = devices.find((device) => device.family === family)?.objects
      return leased === undefined ? [] : [reportPeer(leased, objects)]
    }),
  )
  return [...readable, ...unreadable]
}

function reportPeer(
  { subnet, publicIp, vtep }: FamilyLease,
  objects: KernelObjects | undefined,
): Status['peers'][number] {
  const routes = objects?.route.get(routeKey(subnet)) ?? []
  const isDirect = routes.some(({ target }) => target.kind === 'direct')
  const there = isDirect || (routes.length > 0 && objects?.neighbour.get(subnet.address) === vtep?.mac)
  return {
    subnet: formatPrefix(subnet),
    publicIp: publicIp === undefined ? '-' : formatIp(publicIp),
    mac: vtep === undefined ? '-' : formatMac(vtep.mac),
    state: there ? 'ok' : 'pending',
    ...(!there && { reason: 'not in the kernel as etcd has it' }),
  }
}
