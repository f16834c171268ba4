/** Gathers the doctor's facts: everything is asked at once, each with a deadline, and nothing is changed. */
import { X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { etcdOptions, type Options } from '../../daemon/options'
import { type EtcdClient, openEtcd } from '../../etcd/client'
import { endpointAddresses } from '../../etcd/endpoints'
import { type Greeting, greet } from '../../etcd/greeting'
import { Registry } from '../../etcd/registry'
import { Iptables } from '../../firewall/iptables'
import { Nftables } from '../../firewall/nftables'
import { findProcesses, readConntrack, readNumber, readReversePathFilters } from '../../host/procfs'
import { readPreviousSubnets, readSubnetVariables } from '../../host/subnet-env'
import { Kernel } from '../../kernel/kernel'
import { MulticastKernel } from '../../kernel/multicast'
import { looksInto, type TableObject } from '../../kernel/netfilter-objects'
import { bridgeNetfilter, readIpForward } from '../../kernel/sysctl'
import { FAMILIES, type Family, type IpAddress } from '../../model/address'
import { describeError, OverlayError } from '../../model/errors'
import type { IptablesListing } from '../../model/firewall'
import type { ObservedLink, RouteLookup } from '../../model/kernel'
import { isReservation } from '../../model/lease'
import { type Destination, EVERY_GROUP } from '../../model/multicast'
import { multicastLinkName } from '../../plan/desired'
import type {
  CertificateFact,
  DeviceFacts,
  EtcdFacts,
  Fact,
  Facts,
  FirewallFacts,
  HostFacts,
  KernelFacts,
  MulticastFacts,
  PeerFact,
  ProbeFact,
  SubnetFileFacts,
} from '../../plan/doctor/facts'
import {
  configOf,
  deviceName,
  ownLease,
  peersOf,
  rangeOf,
  sampleAddress,
  vniOf,
} from '../../plan/doctor/overlay'
import { wantedSets } from '../../plan/multicast-rules'
import { readDaemonStatus } from '../daemon-status'
import { probePeers } from './probe'

/** Milliseconds. A call to etcd is given up by its client after 3000, and so says why. */
const ETCD_DEADLINE = 4000
const GREETING_DEADLINE = 2000
const FIREWALL_DEADLINE = 4000
/** Reads whose fastest tells etcd's latency: one alone may have met a busy moment of this process. */
const LATENCY_READS = 3

export interface Wanted {
  /** The peers to probe, out of all. */
  readonly peers: (all: readonly PeerFact[]) => readonly PeerFact[]
  readonly probes: boolean
}

export async function gatherFacts(options: Options, wanted: Wanted): Promise<Facts> {
  const opened = await attempt(() => openEtcd(etcdOptions(options)))
  const kernel = await attempt(() => Kernel.open({ report: () => undefined, readOnly: true }))
  try {
    return await gather(options, wanted, opened, kernel)
  } finally {
    opened.value?.close()
    kernel.value?.close()
  }
}

async function gather(
  options: Options,
  wanted: Wanted,
  client: Fact<EtcdClient>,
  kernel: Fact<Kernel>,
): Promise<Facts> {
  const registry = and(client, (open) => new Registry(open, { prefix: options['etcd-prefix'] }))
  const [daemon, etcd, greeting, host, firewall, subnetFile, files] = await Promise.all([
    attempt(() => readDaemon(options['run-dir'])),
    chain(registry, readEtcd),
    attempt(() => greetEtcd(options)),
    readHost(),
    attempt(readFirewall),
    attempt(() => readSubnetFile(options['subnet-file'])),
    attempt(() => readCertificates(options)),
  ])
  const early: Facts = {
    now: Date.now(),
    etcdPrefix: options['etcd-prefix'],
    runDirectory: options['run-dir'],
    etcdAddresses: addressesOf(options),
    daemon,
    etcd,
    certificates: certificatesOf(files, greeting),
    clock: clockOf(greeting),
    kernel: { missing: 'not read yet' },
    host,
    firewall,
    subnetFile,
    ways: new Map(),
    probes: { missing: 'they were not asked for' },
  }
  const withKernel: Facts = { ...early, kernel: await chain(kernel, (open) => readKernel(open, early)) }
  const all = peersOf(withKernel)
  const probed = wanted.peers(all)
  const [timeToLive, ways, probes] = await Promise.all([
    readTimeToLive(withKernel, registry.value),
    kernel.value === undefined ? new Map() : readWays(kernel.value, all),
    wanted.probes ? attempt(() => probePeers(withKernel, probed)) : withKernel.probes,
  ])
  return {
    ...withKernel,
    etcd: and(etcd, (value) => ({ ...value, timeToLive })),
    ways,
    probes: probes as Fact<readonly ProbeFact[]>,
  }
}

/** What was thrown is the reason. */
async function attempt<T>(read: () => Promise<T>): Promise<Fact<T>> {
  try {
    return { value: await read() }
  } catch (error) {
    if (!(error instanceof OverlayError)) return { missing: describeError(error) }
    const { code, message, fix } = error
    return { missing: message, code, ...(fix !== undefined && { fix }) }
  }
}

const and = <A, B>(fact: Fact<A>, use: (value: A) => B): Fact<B> =>
  fact.missing === undefined ? { value: use(fact.value) } : fact

const chain = async <A, B>(fact: Fact<A>, use: (value: A) => Promise<B>): Promise<Fact<B>> =>
  fact.missing === undefined ? attempt(() => use(fact.value)) : fact

async function readDaemon(runDirectory: string) {
  const status = await readDaemonStatus(runDirectory, false)
  if (status !== undefined) return status
  throw new OverlayError('daemon-down', `nobody answers at ${runDirectory}/overlayd.sock`)
}

async function readEtcd(registry: Registry): Promise<EtcdFacts> {
  const signal = AbortSignal.timeout(ETCD_DEADLINE)
  const { endpoint, latencyMs } = await registry.status(signal)
  const { config, leases, unreadable, groups } = await registry.snapshot(signal)
  let fastest = latencyMs
  for (let read = 1; read < LATENCY_READS; read++) {
    fastest = Math.min(fastest, (await registry.status(signal)).latencyMs)
  }
  return { endpoint, latencyMs: fastest, config, leases, unreadable, groups, timeToLive: new Map() }
}

async function readTimeToLive(facts: Facts, registry: Registry | undefined): Promise<Map<string, number>> {
  const own = ownLease(facts)
  if (registry === undefined || own === undefined || isReservation(own)) return new Map()
  const left = await attempt(() => registry.timeToLive(own.etcdLease, AbortSignal.timeout(ETCD_DEADLINE)))
  return new Map(left.value === undefined ? [] : [[own.etcdLease, left.value]])
}

/** Without a name service nothing is to be asked. */
async function greetEtcd(options: Options): Promise<Greeting> {
  if (options['etcd-discovery-srv'] !== '') throw new Error('the endpoints are found by DNS')
  return greet(options['etcd-endpoints'], etcdOptions(options).tls ?? {}, GREETING_DEADLINE)
}

function addressesOf(options: Options): IpAddress[] {
  try {
    return options['etcd-discovery-srv'] === '' ? endpointAddresses(options['etcd-endpoints']) : []
  } catch {
    return []
  }
}

function clockOf(greeting: Fact<Greeting>): Facts['clock'] {
  if (greeting.value === undefined) return { missing: `etcd tells no time: ${greeting.missing}` }
  const { endpoint, aheadSeconds } = greeting.value
  return aheadSeconds === undefined
    ? { missing: `${endpoint} tells no time` }
    : { value: { endpoint, aheadSeconds } }
}

async function readCertificates(options: Options): Promise<CertificateFact[]> {
  if (!options['etcd-endpoints'].includes('https://')) return []
  const files = [
    ['the CA of etcd', options['etcd-cafile']],
    ['the client certificate for etcd', options['etcd-certfile']],
  ] as const
  return Promise.all(
    files
      .filter(([, path]) => path !== '')
      .map(async ([name, path]) => {
        const { validTo } = new X509Certificate(await readFile(path))
        return { name, path, notAfter: Date.parse(validTo) }
      }),
  )
}

function certificatesOf(files: Facts['certificates'], greeting: Fact<Greeting>): Facts['certificates'] {
  const { endpoint, certificateEnds } = greeting.value ?? {}
  if (endpoint === undefined || certificateEnds === undefined) return files
  return and(files, (own) => [
    ...own,
    { name: "etcd's certificate", path: endpoint, notAfter: certificateEnds },
  ])
}

async function readHost(): Promise<HostFacts> {
  const [ipForward, ipv6Forward, rpFilter, conntrack, netfilter, dockerd] = await Promise.all([
    attempt(readIpForward),
    readNumber('ipv6/conf/all/forwarding'),
    readReversePathFilters(),
    readConntrack(),
    attempt(bridgeNetfilter),
    attempt(() => findProcesses('dockerd')),
  ])
  return {
    ipForward: ipForward.value,
    ipv6Forward: ipv6Forward === undefined ? undefined : ipv6Forward !== 0,
    rpFilter,
    conntrack,
    bridgeNetfilter: netfilter.value,
    dockerd: dockerd.value ?? [],
  }
}

/** Listing makes nothing: neither iptables-save nor nft makes a table that is not there. */
async function readFirewall(): Promise<FirewallFacts> {
  const signal = AbortSignal.timeout(FIREWALL_DEADLINE)
  const list = async (family: Family): Promise<IptablesListing | undefined> =>
    (await Iptables.find(family))?.list(signal)
  const [ruleset, ...listings] = await Promise.all([
    attempt(async () => (await Nftables.find())?.ruleset(signal)),
    ...FAMILIES.map((family) => attempt(() => list(family))),
  ])
  const iptables = new Map<Family, IptablesListing>()
  for (const [index, family] of FAMILIES.entries()) {
    const listing = listings[index]?.value
    if (listing !== undefined) iptables.set(family, listing)
  }
  if (iptables.size === 0 && ruleset.value === undefined) {
    throw new Error(ruleset.missing ?? listings[0]?.missing ?? 'neither nft nor iptables is installed')
  }
  return { ruleset: ruleset.value, iptables }
}

async function readSubnetFile(path: string): Promise<SubnetFileFacts> {
  const { mtimeMs } = await stat(path)
  const [{ ipv4, ipv6 }, variables] = await Promise.all([
    readPreviousSubnets(path),
    readSubnetVariables(path),
  ])
  const mtu = Number(variables['FLANNEL_MTU'])
  return { path, ipv4, ipv6, mtu: mtu > 0 ? mtu : undefined, writtenAt: mtimeMs }
}

async function readKernel(kernel: Kernel, facts: Facts): Promise<KernelFacts> {
  const { links, addresses, defaultRoutes } = await kernel.hostNetwork()
  const config = configOf(facts).value
  const routes = []
  const devices: DeviceFacts[] = []
  for (const family of FAMILIES) {
    routes.push(...(await kernel.underlayRoutes(family)))
    const link = links.find(({ name }) => name === deviceName(facts, family))
    if (link === undefined) continue
    const elsewhere = { network: rangeOf(config, family)?.network, routes: true, links: [] }
    devices.push({ family, link, objects: await kernel.observe(family, link.index, elsewhere) })
  }
  const multicast =
    config?.backend.multicast === undefined ? undefined : await readMulticast(kernel, facts, links)
  return { links, addresses, defaultRoutes, routes, devices, ...(multicast !== undefined && { multicast }) }
}

async function readMulticast(
  kernel: Kernel,
  facts: Facts,
  links: readonly ObservedLink[],
): Promise<MulticastFacts | undefined> {
  const name = multicastLinkName(vniOf(facts))
  const link = links.find((each) => each.name === name)
  if (link === undefined) return undefined
  const ignore = (): void => undefined
  const multicast = await MulticastKernel.open(kernel, () => name, ignore, ignore)
  try {
    const table = await attempt(() => multicast.readTable(name))
    const destinations = await multicast.destinations(link.index)
    const isForAll = ({ mac }: Destination): boolean => mac === EVERY_GROUP
    return {
      link,
      destinations: destinations.filter(isForAll).map(({ address }) => address),
      lists: destinations.filter((each) => !isForAll(each)),
      wanted: await readWanted(multicast, name, table.value ?? []),
      chains: table.value?.flatMap(({ chain }) => chain ?? []),
      bridges: await multicast.bridges(),
    }
  } finally {
    multicast.close()
  }
}

/** The sets that rules look into; one that cannot be read is left out. */
async function readWanted(multicast: MulticastKernel, table: string, objects: readonly TableObject[]) {
  const used = wantedSets().filter(({ name }) => looksInto(objects, name))
  const sets = await attempt(() => multicast.readSets(table, used))
  return Object.fromEntries((sets.value ?? []).map(({ family, addresses }) => [family, addresses]))
}

async function readWays(
  kernel: Kernel,
  peers: readonly PeerFact[],
): Promise<ReadonlyMap<IpAddress, RouteLookup | undefined>> {
  const addresses = new Set(peers.flatMap((peer) => [peer.publicIp, sampleAddress(peer.subnet)]))
  const ways = await Promise.all(
    [...addresses].map(async (address) => [address, await attempt(() => kernel.lookUp(address))] as const),
  )
  return new Map(
    ways.flatMap(([address, way]) => (way.missing === undefined ? [[address, way.value] as const] : [])),
  )
}
