/**
 * Gathers what the daemon judges of its bridge and of the way in. Each part is read again when the kernel
 * says that it may have changed, and by a slow period. Programs run for firewall rules alone.
 */
import { existsSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { readPacketFilter } from '../../firewall/packet-filter'
import { isCniConfigured } from '../../host/cni'
import { readLinkSwitches, readNumber } from '../../host/procfs'
import type { DeviceFacts } from '../../judge/facts'
import { sampleAddress } from '../../judge/overlay'
import type { SampledPeer, WayInView } from '../../judge/way-in'
import type { KernelChange } from '../../kernel/kernel'
import { readIpForward } from '../../kernel/sysctl'
import type { IpAddress } from '../../model/address'
import { formatPrefix, networkOf } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { HostNetwork } from '../../model/kernel/link'
import type { RouteLookup, UnderlayRoute } from '../../model/kernel/route'
import type { Peer } from '../../model/lease'
import type { PacketFilter } from '../../model/packet-filter'
import { attempt, type Result } from '../../model/result'
import type { Edges } from '../edges'
import type { NodeView } from '../node/parts'

/** Milliseconds after which a part is read again, whatever the kernel has said. */
const OLDEST = { network: 60_000, routes: 600_000, rules: 600_000 } as const
type Part = keyof typeof OLDEST
/** The same for rules whose changes nobody tells of: those of iptables-legacy. */
const OLDEST_LEGACY = 30_000
/** Made by the kernel's modules of iptables-legacy (net/ipv4/netfilter/ip_tables.c). */
const LEGACY = ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names']
/** Milliseconds between two readings of all rules; and at most this share of the time is spent on them. */
const RULES_SPACING = 5000
const RULES_SHARE = 1 / 50
/** Milliseconds for one reading. */
const RULES_DEADLINE = 9000
/** Rules that are judged in one turn of the event loop. */
const MOST_RULES = 20_000
/** Peers of each family that are always in the sample, and those that take turns. */
const FIXED = 4
const IN_TURN = 8

interface Read<T> {
  readonly at: number
  readonly value: T
  /** Milliseconds that it took. */
  readonly took: number
}

interface Parts {
  network?: Read<HostNetwork>
  routes?: Read<readonly UnderlayRoute[]>
  rules?: Read<Result<PacketFilter>>
}

export class WayInSource {
  readonly #stale = new Set<Part>()
  readonly #read: Parts = {}
  #turn = 0
  /** Whether the kernel tells of changes of nf_tables. */
  isToldOfRules = false

  constructor(private readonly edges: Edges) {}

  /** @returns whether the change may matter */
  note(change: KernelChange): boolean {
    const parts = partsOf(change)
    for (const part of parts) this.#stale.add(part)
    return parts.length > 0 || change.kind === 'settings'
  }

  noteRules(): void {
    this.#stale.add('rules')
  }

  /** Whether rules may have changed since they were read last. */
  get areRulesOutdated(): boolean {
    const last = this.#read.rules?.value
    const hasLegacy =
      last?.ok === true && last.value.chains.some(({ program }) => program === 'iptables-legacy')
    return this.#stale.has('rules') || !this.isToldOfRules || hasLegacy
  }

  get #isToldOfAllRules(): boolean {
    return this.isToldOfRules && !LEGACY.some((path) => existsSync(path))
  }

  /** When rules that have changed may be read again, in monotonic milliseconds; undefined: nothing waits. */
  get rulesDue(): number | undefined {
    return this.#stale.has('rules') ? this.#rulesEarliest : undefined
  }

  get #rulesEarliest(): number {
    const { rules } = this.#read
    return rules === undefined ? 0 : rules.at + Math.max(RULES_SPACING, rules.took / RULES_SHARE)
  }

  /**
   * @param suspects peers, by subnet, that have to be in the sample
   * @throws {OverlayError} what the kernel refuses
   */
  async view(node: NodeView, suspects: ReadonlySet<string>, signal: AbortSignal): Promise<WayInView> {
    const { options, kernel } = this.edges
    const { plan, lease, overlays, announcer } = node
    const network = await this.#part('network', () => kernel.hostNetwork({}, signal))
    const routes = await this.#part('routes', () => this.#readRoutes(node, signal))
    const firewall = await this.#rules(signal)
    const peers = this.#sample(node, routes, suspects)
    const devices = overlays.flatMap(({ spec: { family }, reconciler }): DeviceFacts[] => {
      const { link } = reconciler
      const some = peers.flatMap((each) => (each.family === family ? each.peer : []))
      return link === undefined ? [] : [{ family, link, objects: reconciler.desiredObjectsOf(some) }]
    })
    const { state, own, announced } = lease
    return {
      now: Date.now(),
      etcdPrefix: options['etcd-prefix'],
      runDirectory: options['run-dir'],
      config: plan.inputs.config,
      further: announcer.further ?? [],
      own: state.kind === 'held' ? state.lease : { ...own, value: announced },
      peers,
      links: network.links,
      addresses: network.addresses,
      routes,
      devices,
      ways: await this.#readWays(node, peers, signal),
      forwarding: {
        ipv4: (await attempt('forwarding', readIpForward)).value,
        ipv6: await readFlag('ipv6/conf/all/forwarding'),
      },
      // A host with many containers has an interface for each: only these two kinds count.
      switches: await readLinkSwitches(
        network.links.flatMap(({ name, kind }) => (kind === 'bridge' || kind === 'vxlan' ? name : [])),
      ),
      firewall,
      subnetFile: {
        path: options['subnet-file'],
        ipv4: plan.subnetFile.ipv4?.subnet,
        ipv6: plan.subnetFile.ipv6?.subnet,
        mtu: plan.subnetFile.mtu,
      },
      cni: await isCniConfigured(),
    }
  }

  /** A part as it was read last, or read again where it may have changed. A failure leaves it stale. */
  async #part<P extends 'network' | 'routes'>(
    part: P,
    read: () => Promise<NonNullable<Parts[P]>['value']>,
  ): Promise<NonNullable<Parts[P]>['value']> {
    const before = this.#read[part]
    const began = performance.now()
    if (before !== undefined && !this.#stale.has(part) && began - before.at < OLDEST[part])
      return before.value
    this.#stale.delete(part)
    try {
      const value = await read()
      this.#read[part] = { at: began, value, took: performance.now() - began } as Parts[P]
      return value
    } catch (error) {
      this.#stale.add(part)
      throw error
    }
  }

  async #rules(signal: AbortSignal): Promise<Result<PacketFilter>> {
    const before = this.#read.rules
    const began = performance.now()
    const oldest = this.#isToldOfAllRules ? OLDEST.rules : OLDEST_LEGACY
    const isFresh = before !== undefined && !this.#stale.has('rules') && began - before.at < oldest
    if (before !== undefined && (isFresh || began < this.#rulesEarliest)) return before.value
    this.#stale.delete('rules')
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(RULES_DEADLINE)])
    const value = await attempt('firewall', async () => bounded(await readPacketFilter(deadline)))
    this.#read.rules = { at: began, value, took: performance.now() - began }
    return value
  }

  async #readRoutes({ overlays }: NodeView, signal: AbortSignal): Promise<readonly UnderlayRoute[]> {
    const routes: UnderlayRoute[] = []
    for (const { spec } of overlays)
      routes.push(...(await this.edges.kernel.underlayRoutes(spec.family, signal, spec.range.network)))
    return routes
  }

  /** The first peers, some in turn, the suspects, and all into whose subnets another route leads. */
  #sample(
    { overlays, encryption }: NodeView,
    routes: readonly UnderlayRoute[],
    suspects: ReadonlySet<string>,
  ): SampledPeer[] {
    this.#turn += IN_TURN
    return overlays.flatMap(({ spec: { family, range }, peers }) => {
      const all = [...peers.peers()]
      const inTurn = all.length === 0 ? [] : [...all, ...all].slice(this.#turn % all.length).slice(0, IN_TURN)
      const wanted = new Set(suspects)
      for (const { destination } of routes)
        if (destination.length >= range.subnetLength)
          wanted.add(formatPrefix(networkOf(destination.address, range.subnetLength)))
      const named = wanted.size === 0 ? [] : all.filter(({ subnet }) => wanted.has(formatPrefix(subnet)))
      const fixed = new Set(all.slice(0, FIXED))
      const chosen = new Set<Peer>([...fixed, ...inTurn, ...named])
      return [...chosen].map((peer) => ({
        family,
        peer,
        encryption: encryption.encryptionOf(peer)?.word,
        isFixed: fixed.has(peer),
      }))
    })
  }

  /** None while the kernel is being programmed: a route of ours that is on its way leads nobody astray. */
  async #readWays(
    { overlays }: NodeView,
    peers: readonly SampledPeer[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<IpAddress, RouteLookup | undefined>> {
    const ways = new Map<IpAddress, RouteLookup | undefined>()
    if (!overlays.every(({ reconciler }) => reconciler.convergence.converged)) return ways
    for (const { peer } of peers) {
      const address = sampleAddress(peer.subnet)
      const way = await attempt('ways', () => this.edges.kernel.lookUp(address, signal))
      signal.throwIfAborted()
      if (way.ok) ways.set(address, way.value)
    }
    return ways
  }
}

/** @throws {OverlayError} for so many rules that the daemon would stand still while it judges them */
function bounded(filter: PacketFilter): PacketFilter {
  const rules = filter.chains.reduce((sum, chain) => sum + chain.rules.length, 0)
  if (rules <= MOST_RULES) return filter
  throw new OverlayError(
    'too-many-rules',
    `there are ${rules} firewall rules`,
    'overlayctl doctor reads them',
  )
}

function partsOf(change: KernelChange): readonly Part[] {
  switch (change.kind) {
    case 'overrun':
      return ['network', 'routes']
    case 'link':
    case 'address':
      return ['network']
    case 'route':
      return change.inOurPlace === true ? ['routes'] : []
    default:
      return []
  }
}

async function readFlag(name: string): Promise<boolean | undefined> {
  const value = await readNumber(name)
  return value === undefined ? undefined : value !== 0
}
