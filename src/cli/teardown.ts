/** `overlayctl teardown`: takes away what overlayd made of this host, when it is stopped for good. What others made stays. */
import { rm, stat } from 'node:fs/promises'
import { controlSocketPath } from '../daemon/control-socket'
import { DeviceLocks } from '../daemon/device-lock'
import { instanceId, type Options } from '../daemon/options'
import type { Snapshot } from '../etcd/snapshot'
import { Iptables } from '../firewall/iptables'
import { Nftables } from '../firewall/nftables'
import { findProcesses } from '../host/procfs'
import { stateFilePath } from '../host/state-file'
import { readPreviousSubnets, readSubnetVariables } from '../host/subnet-env'
import { Kernel } from '../kernel/kernel'
import { MulticastKernel } from '../kernel/multicast'
import { FAMILIES, type Prefix, parseIpv4Prefix, parseIpv6Prefix } from '../model/address'
import { describeRoute } from '../model/describe-operation'
import { describeError, OverlayError } from '../model/errors'
import type { HostNetwork } from '../model/kernel'
import { formatLeaseSubnet, isReservation, type Lease } from '../model/lease'
import { parseNetworkConfig } from '../model/network-config'
import { multicastLinkName } from '../plan/desired'
import { desiredIptables, desiredTable } from '../plan/firewall'
import { diffIptables } from '../plan/firewall-iptables'
import { diffTable } from '../plan/firewall-nftables'
import { bridgesInChains, restoreRouters } from '../plan/multicast-rules'
import {
  describeIptablesInput,
  deviceNames,
  type KnownNetwork,
  namesThisHost,
  noFirewall,
  type OwnLink,
  ownLinks,
  ownRoutes,
} from '../plan/teardown'
import { confirm } from './confirm'
import { readDaemon } from './daemon-socket'
import { EXIT } from './exit'
import { findOwn } from './local-status'
import { renderTeardown } from './render-teardown'
import { screenOf } from './screen'
import { withRegistry } from './with-registry'

export interface TeardownFlags {
  /** Gives the lease back too. */
  readonly lease: boolean
  /** Only shows what would go. */
  readonly dryRun: boolean
  readonly yes: boolean
}

/** Something to take away. */
export interface Removal {
  /** In words; several for what goes in one step. */
  readonly what: readonly string[]
  readonly remove: () => Promise<void>
}

/** What is to be done, and what the operator should know beside it. */
export interface TeardownPlan {
  readonly removals: readonly Removal[]
  readonly notes: readonly string[]
}

/** flannel's default, for a host of which nothing is known any more. */
const DEFAULT_VNI = 1
/** Milliseconds for a listing or a change of the firewall. */
const FIREWALL_DEADLINE = 15_000

/**
 * Removes it, and says what; answers the exit code.
 * @throws {OverlayError} `daemon-runs`, `already-running`, `not-confirmed`, `no-net-admin`
 */
export async function runTeardown(options: Options, flags: TeardownFlags): Promise<number> {
  await refuseWhileInUse(options)
  const locks = new DeviceLocks()
  const kernel = await Kernel.open({ report: () => undefined, readOnly: flags.dryRun })
  try {
    const plan = await planTeardown(options, kernel, locks, flags)
    process.stdout.write(renderTeardown(plan, flags.dryRun, screenOf()))
    if (plan.removals.length === 0 || flags.dryRun) return EXIT.healthy
    await confirm('Remove all of that?', flags.yes)
    return (await removeAll(plan.removals)) ? EXIT.healthy : EXIT.degraded
  } finally {
    kernel.close()
  }
}

/** @returns whether all of it is gone */
async function removeAll(removals: readonly Removal[]): Promise<boolean> {
  let failures = 0
  for (const { what, remove } of removals) {
    try {
      await remove()
      for (const each of what) process.stdout.write(`removed ${each}\n`)
    } catch (error) {
      failures++
      process.stderr.write(`overlayctl: not removed: ${what.join(', ')}: ${describeError(error)}\n`)
    }
  }
  return failures === 0
}

/** @throws {OverlayError} while a daemon would put back what is taken away */
async function refuseWhileInUse(options: Options): Promise<void> {
  if ((await readDaemon(options['run-dir'], '/status')) !== undefined) {
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
  kernel: Kernel,
  locks: DeviceLocks,
  flags: TeardownFlags,
): Promise<TeardownPlan> {
  const etcd = await readEtcd(options)
  const known: KnownNetwork = {
    config: configOf(etcd.snapshot),
    networks: await readNetworks(options['subnet-file']),
    fallbackVni: instanceId(options) === undefined ? DEFAULT_VNI : undefined,
  }
  const host = await kernel.hostNetwork()
  const devices = ownLinks(known, host.links, host.addresses)
  const names = [...new Set([...deviceNames(known), ...devices.map(({ link }) => link.name)])]
  for (const name of names) await lock(locks, name)
  const lease = await planLease(options, etcd, devices, host, flags.lease)
  return {
    removals: [
      ...lease.removals,
      ...planMulticast(kernel, host, devices),
      ...(await planLinks(kernel, devices)),
      ...(await planRoutes(kernel, known, devices)),
      ...(await planFirewall(options, names)),
      ...(await planFiles(options)),
    ],
    notes: [...lease.notes, ...foreignNames(host, names)],
  }
}

/** What carries containers' multicast beside our devices. */
function planMulticast(kernel: Kernel, { links }: HostNetwork, devices: readonly OwnLink[]): Removal[] {
  const names = new Set(devices.flatMap(({ link: { vxlan } }) => vxlan && multicastLinkName(vxlan.vni)))
  return links.flatMap(({ name, index, vxlan }): Removal[] => {
    if (vxlan === undefined || !names.has(name)) return []
    const what = [`the device ${name} with its rules for containers' multicast`]
    return [{ what, remove: () => removeMulticast(kernel, name, index) }]
  })
}

async function removeMulticast(kernel: Kernel, name: string, index: number): Promise<void> {
  const ignore = (): void => undefined
  const multicast = await MulticastKernel.open(kernel, () => name, ignore, ignore)
  try {
    const chains = (await multicast.readTable(name)).flatMap(({ chain }) => chain ?? [])
    const [failure] = await multicast.apply(
      restoreRouters(bridgesInChains(chains), await multicast.bridges()),
    )
    await multicast.deleteTable(name)
    await kernel.applyLink({ kind: 'delete-link', index, name })
    if (failure !== undefined) throw failure.error
  } finally {
    multicast.close()
  }
}

interface EtcdAnswer {
  readonly snapshot?: Snapshot
  readonly problem?: string
}

async function readEtcd(options: Options): Promise<EtcdAnswer> {
  try {
    return { snapshot: await withRegistry(options, (registry, signal) => registry.snapshot(signal)) }
  } catch (error) {
    return { problem: describeError(error) }
  }
}

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

/** No daemon starts on it from here on. */
async function lock(locks: DeviceLocks, name: string): Promise<void> {
  try {
    await locks.take(name)
  } catch (error) {
    if (!(error instanceof OverlayError && error.code === 'already-running')) throw error
    throw new OverlayError('already-running', error.message, 'stop it first: systemctl stop overlayd')
  }
}

async function planLease(
  options: Options,
  { snapshot, problem }: EtcdAnswer,
  devices: readonly OwnLink[],
  { addresses }: HostNetwork,
  wanted: boolean,
): Promise<TeardownPlan> {
  const told = problem === undefined ? [] : [`etcd could not be asked: ${problem}`]
  const previous = await readPreviousSubnets(options['subnet-file'])
  const own = findOwn(snapshot, devices, previous.ipv4 ?? previous.ipv6)
  if (own === undefined) return { removals: [], notes: told }
  const subnet = formatLeaseSubnet(own.subnet)
  if (isReservation(own)) {
    return {
      removals: [],
      notes: [
        `${subnet} stays reserved for this host; to end that: overlayctl release ${subnet.split(' ')[0]}`,
      ],
    }
  }
  if (!namesThisHost(own, devices, addresses)) {
    return { removals: [], notes: [`the lease of ${subnet} is another host's now, and stays`] }
  }
  if (!wanted) {
    return {
      removals: [],
      notes: [
        `the lease of ${subnet} stays in etcd until it ends, within a day, and the others send to this host until then; with --lease it goes now`,
      ],
    }
  }
  return {
    removals: [{ what: [`lease ${own.key} in etcd`], remove: () => giveBack(options, own) }],
    notes: [],
  }
}

async function giveBack(options: Options, lease: Lease): Promise<void> {
  const found = await withRegistry(options, (registry, signal) => registry.deleteLease(lease, signal))
  if (found === undefined) return
  throw new OverlayError('teardown', `${lease.key} was changed meanwhile`, 'run overlayctl teardown again')
}

async function planLinks(kernel: Kernel, devices: readonly OwnLink[]): Promise<Removal[]> {
  const removals: Removal[] = []
  for (const { family, link } of devices) {
    const { neighbours, fdb, nexthops, routes } = await kernel.observe(family, link.index)
    const counts = [
      [routes.size, 'routes'],
      [nexthops.size, 'nexthops'],
      [neighbours.size, 'neighbours'],
      [fdb.size, 'FDB entries'],
    ] as const
    const on = counts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`)
    const { index, name } = link
    removals.push({
      what: [`device ${name}${on.length === 0 ? '' : `, and with it ${on.join(', ')}`}`],
      remove: () => kernel.applyLink({ kind: 'delete-link', index, name }),
    })
  }
  return removals
}

async function planRoutes(
  kernel: Kernel,
  known: KnownNetwork,
  devices: readonly OwnLink[],
): Promise<Removal[]> {
  const links = devices.map(({ link }) => link.index)
  const routes = []
  for (const family of FAMILIES) routes.push(...(await kernel.ownRoutes(family, links)))
  return ownRoutes(known, routes).map((route): Removal => {
    return {
      what: [`route ${describeRoute(route)}`],
      remove: async () => {
        const [failure] = await kernel.apply(0, [{ kind: 'delete-route', route }])
        if (failure !== undefined) throw failure.error
      },
    }
  })
}

async function planFirewall(options: Options, names: readonly string[]): Promise<Removal[]> {
  const request = noFirewall(names, instanceId(options))
  const removals: Removal[] = []
  const signal = (): AbortSignal => AbortSignal.timeout(FIREWALL_DEADLINE)
  const nft = await Nftables.find()
  for (const family of FAMILIES) {
    const iptables = await Iptables.find(family)
    const input =
      iptables && diffIptables(desiredIptables(request, family), names, await iptables.list(signal()))
    if (iptables !== undefined && input !== undefined) {
      removals.push({
        what: describeIptablesInput(family, input),
        remove: () => iptables.apply(input, signal()),
      })
    }
    const table = desiredTable(request, family)
    const change = nft && diffTable(table, await nft.list(table.name, signal()))
    if (nft !== undefined && change !== undefined) {
      removals.push({ what: [`nft table ${table.name}`], remove: () => nft.apply(change, signal()) })
    }
  }
  return removals
}

async function planFiles(options: Options): Promise<Removal[]> {
  const paths = [
    options['subnet-file'],
    stateFilePath(options['state-dir']),
    controlSocketPath(options['run-dir']),
  ]
  const removals: Removal[] = []
  for (const path of paths) {
    const isThere = await stat(path).then(
      () => true,
      () => false,
    )
    if (isThere) removals.push({ what: [path], remove: () => rm(path, { force: true }) })
  }
  return removals
}

/** What has a name of ours, and is not. */
const foreignNames = ({ links }: HostNetwork, names: readonly string[]): string[] =>
  links
    .filter(({ name, vxlan }) => names.includes(name) && vxlan === undefined)
    .map(({ name, kind }) => `the interface ${name} is no VXLAN device (${kind ?? 'hardware'}), and stays`)
