/**
 * `overlayctl teardown`: removes what overlayd made on this host, after it is stopped for good. Nothing of
 * other programs is removed.
 */
import { lstat } from 'node:fs/promises'
import { controlSocketPath, statusSocketPath } from '../../api/requests'
import { daemonRuns } from '../../client/daemon-socket'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { NO_GROUPS } from '../../etcd/registry'
import { Iptables } from '../../firewall/iptables'
import { Nftables } from '../../firewall/nftables'
import { removeFile } from '../../host/atomic-file'
import { identityPath } from '../../host/identity-file'
import { findProcesses } from '../../host/procfs'
import { stateFilePath } from '../../host/state-file'
import { complain, print } from '../../host/streams'
import { readPreviousSubnets, readSubnetVariables } from '../../host/subnet-env'
import { hostKeysPath } from '../../host/wireguard-keys'
import { MulticastDevice } from '../../kernel/bridges/multicast'
import { DeviceLocks } from '../../kernel/device-lock'
import { Kernel, type KernelReader } from '../../kernel/kernel'
import { FAMILIES, type Family, type Prefix, parseIpv4Prefix, parseIpv6Prefix } from '../../model/address'
import { releaseLease } from '../../model/commands'
import { parseNetworkConfig } from '../../model/config/network-config'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import type { HostNetwork } from '../../model/kernel/link'
import { KINDS_REVERSED, type ObjectOperation, proxyKey } from '../../model/kernel/objects'
import { routeKey } from '../../model/kernel/route'
import { describeProxy, describeRoute, pluralOf } from '../../model/kernel/words'
import { formatLeaseSubnet, isReservation, type Lease } from '../../model/lease'
import { attempt, describeProblem, type Result } from '../../model/result'
import { instanceId } from '../../options/instance'
import type { Options } from '../../options/schema'
import { desiredIptables, desiredMark, desiredSource, desiredTable } from '../../plan/firewall/firewall'
import { diffIptables } from '../../plan/firewall/iptables'
import { diffTable } from '../../plan/firewall/nftables'
import {
  describeIptablesInput,
  deviceNames,
  type KnownNetwork,
  namesThisHost,
  noFirewall,
  type OwnLink,
  ownLinks,
  ownProxies,
  ownRoutes,
  wireguardVnis,
} from '../../plan/host/teardown'
import { macsOf, ownLease } from '../../plan/lease/find-own'
import { bridgesInChains, restoreRouters } from '../../plan/multicast/rules'
import { multicastLinkName } from '../../plan/reconcile/desired'
import { findEncryption } from '../ask/encryption-remains'
import { withRegistry } from '../ask/with-registry'
import { EXIT } from '../exit'
import { confirm } from '../show/confirm'
import { renderTeardown } from '../show/render-teardown'
import { screenOf } from '../show/screen'
import type { Removal, TeardownPlan } from '../show/teardown-plan'

export interface TeardownFlags {
  /** Gives the lease back too. */
  readonly lease: boolean
  /** Only shows what would be removed. */
  readonly dryRun: boolean
  readonly yes: boolean
}

/** flannel's default, for a host whose network is unknown. */
const DEFAULT_VNI = 1
/** Milliseconds for a listing or a change of the firewall. */
const FIREWALL_DEADLINE = 15_000

/**
 * Shows what there is to remove, asks, and removes it.
 * @returns the exit code
 * @throws {OverlayError} `daemon-runs`, `already-running`, `not-confirmed`, `no-net-admin`
 */
export async function runTeardown(options: Options, flags: TeardownFlags): Promise<number> {
  await refuseWhileInUse(options)
  const locks = new DeviceLocks()
  // Opened first: without the rights, the operator is not asked.
  const writer = flags.dryRun ? undefined : await Kernel.openWriter({ report: () => undefined })
  const kernel = writer ?? (await Kernel.open())
  try {
    const plan = await planTeardown(options, kernel, locks, flags)
    print(renderTeardown(plan, flags.dryRun, screenOf()))
    if (plan.removals.length === 0 || writer === undefined) return EXIT.healthy
    await confirm('Remove all of that?', flags.yes)
    return (await removeAll(plan.removals, writer)) ? EXIT.healthy : EXIT.degraded
  } finally {
    kernel.close()
  }
}

/** @returns whether everything was removed */
async function removeAll(removals: readonly Removal[], kernel: Kernel): Promise<boolean> {
  let failures = 0
  for (const { what, remove } of removals) {
    try {
      await remove(kernel)
      for (const each of what) print(`removed ${each}\n`)
    } catch (error) {
      failures++
      complain(`overlayctl: not removed: ${what.join(', ')}: ${describeError(error)}`)
    }
  }
  return failures === 0
}

/** @throws {OverlayError} while a daemon runs that would restore what is removed */
async function refuseWhileInUse(options: Options): Promise<void> {
  if (await daemonRuns(options['run-dir'])) {
    throw new OverlayError(
      'daemon-runs',
      `overlayd runs (it answers at ${controlSocketPath(options['run-dir'])})`,
      'stop it first: systemctl stop overlayd',
    )
  }
  const [flanneld] = await findProcesses('flanneld')
  if (flanneld === undefined) return
  throw new OverlayError(
    'daemon-runs',
    `flanneld runs (process ${flanneld.pid}), and uses the same device and rules`,
    'stop it first: systemctl stop flanneld',
  )
}

async function planTeardown(
  options: Options,
  kernel: KernelReader,
  locks: DeviceLocks,
  flags: TeardownFlags,
): Promise<TeardownPlan> {
  const etcd = await readEtcd(options)
  const known: KnownNetwork = {
    config: configOf(etcd.value),
    networks: await readNetworks(options['subnet-file']),
    fallbackVni: instanceId(options) === undefined ? DEFAULT_VNI : undefined,
  }
  const host = await kernel.hostNetwork()
  const devices = ownLinks(known, host.links, host.addresses)
  const names = [...new Set([...deviceNames(known), ...devices.map(({ link }) => link.name)])]
  for (const name of names) await lock(locks, name)
  const lease = await planLease(options, etcd, devices, host, flags.lease)
  const vnis = wireguardVnis(known, devices, host.links, host.addresses)
  const encryption = await findEncryption(kernel, vnis, host.links)
  return {
    removals: [
      ...lease.removals,
      ...planMulticast(host, devices),
      ...(await planLinks(kernel, devices)),
      ...encryption.removals,
      ...(await planRoutes(kernel, known, devices)),
      ...(await planFirewall(options, names)),
      ...(await planFiles(options)),
    ],
    notes: [...lease.notes, ...foreignNames(host, names), ...encryption.notes],
  }
}

/** Removes the devices for containers' multicast. */
function planMulticast({ links }: HostNetwork, devices: readonly OwnLink[]): Removal[] {
  const names = new Set(devices.flatMap(({ link: { vxlan } }) => vxlan && multicastLinkName(vxlan.vni)))
  return links.flatMap(({ name, index, vxlan }): Removal[] => {
    if (vxlan === undefined || !names.has(name)) return []
    const what = [`the device ${name} with its rules for containers' multicast`]
    return [{ what, remove: (kernel) => removeMulticast(kernel, name, index) }]
  })
}

async function removeMulticast(kernel: Kernel, name: string, index: number): Promise<void> {
  const ignore = (): void => undefined
  const multicast = await MulticastDevice.open(kernel, () => name, ignore, ignore)
  const table = { family: 'netdev', name } as const
  try {
    const chains = (await multicast.tables.read(table)).flatMap(({ chain }) => chain ?? [])
    const [failure] = await multicast.apply(
      restoreRouters(bridgesInChains(chains), await multicast.bridges()),
    )
    await multicast.tables.delete(table)
    await kernel.applyLink({ kind: 'delete-link', index, name })
    if (failure !== undefined) throw failure.error
  } finally {
    multicast.close()
  }
}

const readEtcd = (options: Options): Promise<Result<Snapshot>> =>
  attempt('etcd', () => withRegistry(options, (registry, signal) => registry.snapshot(signal, NO_GROUPS)))

function configOf(snapshot: Snapshot | undefined): KnownNetwork['config'] {
  try {
    return snapshot?.config === undefined ? undefined : parseNetworkConfig(snapshot.config)
  } catch {
    return undefined
  }
}

async function readNetworks(subnetFile: string): Promise<Prefix[]> {
  const { FLANNEL_NETWORK: four = '', FLANNEL_IPV6_NETWORK: six = '' } = await readSubnetVariables(subnetFile)
  return [parseIpv4Prefix(four), parseIpv6Prefix(six)].filter((network) => network !== undefined)
}

/** Locks a device name, so that no daemon starts on it from here on. */
async function lock(locks: DeviceLocks, name: string): Promise<void> {
  try {
    await locks.take(name)
  } catch (error) {
    if (!(isOverlayError(error) && error.code === 'already-running')) throw error
    throw new OverlayError('already-running', error.message, 'stop it first: systemctl stop overlayd')
  }
}

async function planLease(
  options: Options,
  { value: snapshot, problem }: Result<Snapshot>,
  devices: readonly OwnLink[],
  { addresses }: HostNetwork,
  wanted: boolean,
): Promise<TeardownPlan> {
  const doubts = problem === undefined ? [] : [`etcd could not be asked: ${describeProblem(problem)}`]
  const previous = await readPreviousSubnets(options['subnet-file'])
  const own = ownLease(snapshot?.leases ?? [], { subnetFile: previous, devices: macsOf(devices) })
  if (own === undefined) return { removals: [], notes: doubts }
  const subnet = formatLeaseSubnet(own.subnet)
  if (isReservation(own)) {
    return {
      removals: [],
      notes: [`${subnet} stays reserved for this host; to end that: ${releaseLease(own.subnet)}`],
    }
  }
  if (!namesThisHost(own, devices, addresses)) {
    return { removals: [], notes: [`the lease of ${subnet} belongs to another host now, and stays`] }
  }
  if (!wanted) {
    return {
      removals: [],
      notes: [
        `the lease of ${subnet} stays in etcd until it ends, within a day; ` +
          'the other hosts send to this host until then; with --lease it is deleted now',
      ],
    }
  }
  return {
    removals: [{ what: [`lease ${own.key} in etcd`], remove: () => giveBack(options, own) }],
    notes: [],
  }
}

async function giveBack(options: Options, lease: Lease): Promise<void> {
  const found = await withRegistry(options, (registry, signal) => registry.leases.delete(lease, signal))
  if (found === undefined) return
  throw new OverlayError('teardown', `${lease.key} was changed meanwhile`, 'run overlayctl teardown again')
}

async function planLinks(kernel: KernelReader, devices: readonly OwnLink[]): Promise<Removal[]> {
  const removals: Removal[] = []
  for (const { family, link } of devices) {
    const objects = await kernel.observe(family, link.index)
    const on = KINDS_REVERSED.filter((kind) => objects[kind].size > 0).map(
      (kind) => `${objects[kind].size} ${pluralOf(kind)}`,
    )
    const { index, name } = link
    removals.push({
      what: [`device ${name}${on.length === 0 ? '' : `, and with it ${on.join(', ')}`}`],
      remove: (writer) => writer.applyLink({ kind: 'delete-link', index, name }),
    })
  }
  return removals
}

async function planRoutes(
  kernel: KernelReader,
  known: KnownNetwork,
  devices: readonly OwnLink[],
): Promise<Removal[]> {
  const links = devices.map(({ link }) => link.index)
  const routes = []
  const proxies = []
  for (const family of FAMILIES) {
    routes.push(...(await kernel.ownRoutes(family, links)))
    proxies.push(...(await kernel.proxies(family)))
  }
  return [
    ...ownRoutes(known, routes).map((value) =>
      removalOf(`route ${describeRoute(value)}`, {
        do: 'delete',
        kind: 'route',
        key: routeKey(value.destination),
        value,
      }),
    ),
    ...ownProxies(known, proxies).map((value) => {
      const key = proxyKey(value)
      return removalOf(`proxy neighbour ${describeProxy(key)}`, { do: 'delete', kind: 'proxy', key, value })
    }),
  ]
}

const removalOf = (what: string, operation: ObjectOperation): Removal => ({
  what: [what],
  remove: async (writer) => {
    const [failure] = await writer.apply(0, [operation])
    if (failure !== undefined) throw failure.error
  },
})

/** iptables in the variant in use, and in the other one, which may have rules of ours too. */
async function variantsOf(family: Family, signal: () => AbortSignal): Promise<Iptables[]> {
  const iptables = await Iptables.find(family)
  const other = await iptables?.other(family, signal())
  return [iptables, other].filter((each) => each !== undefined)
}

async function planFirewall(options: Options, names: readonly string[]): Promise<Removal[]> {
  const request = noFirewall(names, instanceId(options))
  const removals: Removal[] = []
  const signal = (): AbortSignal => AbortSignal.timeout(FIREWALL_DEADLINE)
  const nft = await Nftables.find()
  for (const family of FAMILIES) {
    for (const iptables of await variantsOf(family, signal)) {
      const input = diffIptables(desiredIptables(request, family), names, await iptables.list(signal()))
      if (input === undefined) continue
      removals.push({
        what: describeIptablesInput(family, input),
        remove: () => iptables.apply(input, signal()),
      })
    }
    for (const desired of [desiredTable, desiredMark, desiredSource]) {
      const table = desired(request, family)
      const change = nft && diffTable(table, await nft.list(table.name, signal()))
      if (nft !== undefined && change !== undefined)
        removals.push({ what: [`nft table ${table.name}`], remove: () => nft.apply(change, signal()) })
    }
  }
  return removals
}

async function planFiles(options: Options): Promise<Removal[]> {
  const paths = [
    options['subnet-file'],
    stateFilePath(options['state-dir']),
    hostKeysPath(options['state-dir']),
    identityPath(options['state-dir']),
    controlSocketPath(options['run-dir']),
    statusSocketPath(options['run-dir']),
  ]
  const removals: Removal[] = []
  for (const path of paths) {
    const isThere = await lstat(path).then(
      () => true,
      () => false,
    )
    if (isThere) removals.push({ what: [path], remove: () => removeUnused(options, path) })
  }
  return removals
}

/** A daemon that was started meanwhile keeps its files. */
async function removeUnused(options: Options, path: string): Promise<void> {
  if (await daemonRuns(options['run-dir'])) {
    throw new OverlayError(
      'daemon-runs',
      `overlayd was started meanwhile (it answers at ${controlSocketPath(options['run-dir'])})`,
      'stop it, then run overlayctl teardown again',
    )
  }
  await removeFile(path)
}

/** Notes about interfaces with a name of ours that are not ours. */
const foreignNames = ({ links }: HostNetwork, names: readonly string[]): string[] =>
  links
    .filter(({ name, vxlan }) => names.includes(name) && vxlan === undefined)
    .map(({ name, kind }) => `the interface ${name} is not a VXLAN device (${kind ?? 'hardware'}), and stays`)
