/** What several checks derive from the facts: this host's lease and device, and its peers. */
import { readFurtherSubnets, readNetwork, readSubnets } from '../api/status-parts'
import {
  addressAfter,
  addressBits,
  FAMILIES,
  type Family,
  familyOf,
  formatPrefix,
  type IpAddress,
  mac,
  networkOf,
  type Prefix,
} from '../model/address'
import { nameUnderSubnets } from '../model/commands'
import { type NetworkConfig, parseNetworkConfig, type SubnetRange } from '../model/config/network-config'
import { describeError, OverlayError } from '../model/errors'
import { ofFamily } from '../model/family'
import { type ObservedLink, VXLAN_OVERHEAD, WIREGUARD_OVERHEAD } from '../model/kernel/link'
import type { KernelObjects } from '../model/kernel/objects'
import { ROUTE_PROTOCOL, type RouteTarget, routeKey } from '../model/kernel/route'
import { familyLease, type Lease, slotOf, type WireguardAnnouncement } from '../model/lease'
import { ownSubnets, subnetWith } from '../plan/host/own-subnets'
import { ownLease as findOwnLease, macsOf } from '../plan/lease/find-own'
import { PeerTable } from '../plan/peers/peer-table'
import { linkName } from '../plan/reconcile/desired'
import { Pins } from '../plan/trust/pins'
import type { DeviceFacts, EtcdFacts, Facts, Given, PeerFact, PeerWord } from './facts'

/** flannel's default, and so the best guess without a config. */
const DEFAULT_VNI = 1

/** The facts that the helpers below read: a check that calls one of them declares these. */
export const OVERLAY = ['daemon', 'etcd', 'config', 'kernel', 'subnetFile'] as const
export type OverlayFacts = Given & Pick<Facts, (typeof OVERLAY)[number]>

/** How messages and findings name a peer: by its subnet. */
export const peerKey = ({ subnet }: { readonly subnet: Prefix }): string => formatPrefix(subnet)

/**
 * The config in etcd.
 * @throws {OverlayError} `config-missing`, `config-invalid`
 */
export function readConfig({ config }: Pick<EtcdFacts, 'config'>, etcdPrefix: string): NetworkConfig {
  if (config === undefined)
    throw new OverlayError('config-missing', `there is no network config under ${etcdPrefix}`)
  try {
    return parseNetworkConfig(config)
  } catch (error) {
    throw new OverlayError('config-invalid', describeError(error))
  }
}

/** The VNI this host uses. */
export const vniOf = (facts: Pick<Facts, 'daemon' | 'config'>): number =>
  facts.daemon.value?.network?.vni ?? facts.config.value?.backend.vni ?? DEFAULT_VNI

export const rangeOf = (config: NetworkConfig | undefined, family: Family): SubnetRange | undefined =>
  ofFamily(config ?? {}, family)

/** The families that this host takes part in, as far as the facts tell. */
export function familiesOf(facts: Pick<Facts, 'daemon' | 'config' | 'kernel'>): Family[] {
  const config = facts.config.value
  const network = facts.daemon.value?.network
  const has = (family: Family): boolean =>
    config !== undefined
      ? rangeOf(config, family) !== undefined
      : network !== undefined
        ? (family === 'IPv4' ? network.network : network.ipv6Network) !== undefined
        : deviceOf(facts, family) !== undefined
  const found = FAMILIES.filter(has)
  return found.length === 0 ? ['IPv4'] : found
}

export const deviceName = (facts: Pick<Facts, 'daemon' | 'config'>, family: Family): string =>
  linkName(family, vniOf(facts))

export const deviceOf = (facts: Pick<Facts, 'kernel'>, family: Family): DeviceFacts | undefined =>
  facts.kernel.value?.devices.find((device) => device.family === family)

/** The subnet that this host takes for its own: the daemon's, else the one in subnet.env. */
export function claimedSubnet(
  { daemon, subnetFile }: Pick<Facts, 'daemon' | 'subnetFile'>,
  family: Family,
): Prefix | undefined {
  return ofFamily(readSubnets(daemon.value?.lease), family) ?? ofFamily(subnetFile.value ?? {}, family)
}

/** The lease under this host's key, whichever host it names. */
export const ownLease = (facts: OverlayFacts): Lease | undefined =>
  findOwnLease(facts.etcd.value?.leases ?? [], {
    daemon: readSubnets(facts.daemon.value?.lease),
    subnetFile: facts.subnetFile.value,
    devices: macsOf(facts.kernel.value?.devices ?? []),
  })

export function ownSubnet(facts: OverlayFacts, family: Family): Prefix | undefined {
  const own = ownLease(facts)
  return claimedSubnet(facts, family) ?? (own && familyLease(own, family)?.subnet)
}

/** All subnets of this host of one family: that of its lease first. */
export const subnetsOf = (facts: OverlayFacts, family: Family): readonly Prefix[] => {
  const leased = ownSubnet(facts, family)
  const all = readFurtherSubnets(facts.daemon.value?.lease?.further)
  const further = all.filter(({ address }) => familyOf(address) === family)
  return ownSubnets(leased === undefined ? [] : [leased], further)
}

/** Whether any of the subnets lies in a subnet of this host. */
export function isInOverlay(facts: OverlayFacts, subnets: readonly Prefix[]): boolean {
  const own = FAMILIES.flatMap((family) => subnetsOf(facts, family))
  return subnets.some(({ address }) => subnetWith(own, address) !== undefined)
}

/** The ports of a bridge: of containers that run. */
export function portsOf(facts: Pick<Facts, 'kernel'>, bridge: string): readonly ObservedLink[] {
  const links = facts.kernel.value?.links ?? []
  const index = links.find(({ name }) => name === bridge)?.index
  return index === undefined ? [] : links.filter(({ master }) => master === index)
}

/** The range that leases must fit: the daemon's, where it does not follow a config that was changed. */
function rangeInUse(
  facts: OverlayFacts,
  config: NetworkConfig | undefined,
  family: Family,
): SubnetRange | undefined {
  const range = rangeOf(config, family)
  const used = facts.daemon.value?.network
  if (range === undefined || used === undefined) return range
  const network = readNetwork(used, family)
  const length = family === 'IPv4' ? used.subnetLength : used.ipv6SubnetLength
  return { ...range, network: network ?? range.network, subnetLength: length ?? range.subnetLength }
}

/** The peers of one family; and for each lease that is no peer the reason. */
export function peerTable(facts: OverlayFacts, family: Family): PeerTable | undefined {
  const config = facts.config.value
  const range = rangeInUse(facts, config, family)
  const { etcd } = facts
  if (config === undefined || range === undefined || etcd.value === undefined) return undefined
  const own = ownLease(facts)
  const half = own && familyLease(own, family)
  const device = deviceOf(facts, family)
  const table = new PeerTable(
    { range, vni: vniOf(facts) },
    {
      key: own?.key ?? '',
      subnet: ownSubnet(facts, family) ?? networkOf(range.subnetMin, 32),
      publicIp: half?.publicIp ?? device?.link.vxlan?.local ?? range.subnetMin,
      mac: device?.link.mac ?? half?.vtep?.mac ?? mac(0),
    },
  )
  table.pin(Pins.of(etcd.value.hosts ?? []))
  table.reset(etcd.value.leases, etcd.value.unreadable)
  return table
}

/** How overlayd judges the peers. */
class DaemonsView {
  /** subnet -> the report on it, of peers that are programmed */
  readonly #followed = new Map<string, PeerWord>()
  /** name below `subnets/` -> why it is rejected; of a host with both families, for each */
  readonly #rejected = new Map<string, string>()

  constructor({ daemon }: Pick<Facts, 'daemon'>) {
    for (const word of daemon.value?.peers ?? []) {
      const { key = word.subnet, state, reason = 'overlayd does not say why', subnet } = word
      if (state !== 'rejected') this.#followed.set(subnet, word)
      else {
        const before = this.#rejected.get(key)
        const isTold = before === undefined || before === reason
        this.#rejected.set(key, isTold ? reason : `${before}; ${reason}`)
      }
    }
  }

  /**
   * The report on a peer that overlayd programs; `undefined` where it does not run, or does not know the
   * peer.
   */
  on(subnet: Prefix | undefined): PeerWord | undefined {
    return subnet === undefined ? undefined : this.#followed.get(formatPrefix(subnet))
  }

  /** Why overlayd does not follow a lease; `undefined` when it does, or does not know the lease. */
  against(key: string, subnet: Prefix | undefined): string | undefined {
    return this.on(subnet) === undefined ? this.#rejected.get(nameUnderSubnets(key)) : undefined
  }
}

const VIEWS = new WeakMap<Facts['daemon'], DaemonsView>()

/** Read once from each status document. */
function daemonsView(facts: Pick<Facts, 'daemon'>): DaemonsView {
  const view = VIEWS.get(facts.daemon) ?? new DaemonsView(facts)
  VIEWS.set(facts.daemon, view)
  return view
}

/** overlayd's report on the peers that it programs. */
export function daemonsWord(
  facts: Pick<Facts, 'daemon'>,
): (peer: Pick<PeerFact, 'subnet'>) => PeerWord | undefined {
  const view = daemonsView(facts)
  return ({ subnet }) => view.on(subnet)
}

/** A lease that is not followed. */
export interface Rejection {
  readonly key: string
  readonly reason: string
  readonly subnet: Prefix | undefined
  /** Whether the peer is kept as it was when its lease was last valid. */
  readonly isKept: boolean
}

/**
 * Leases that are not followed. overlayd's reason counts more than etcd's, for overlayd knows this host
 * better.
 */
export function rejectionsOf(facts: OverlayFacts, family: Family): Rejection[] {
  const table = peerTable(facts, family)
  if (table === undefined) return []
  const view = daemonsView(facts)
  const subnets = new Map(
    facts.etcd.value?.leases.map((each) => [each.key, familyLease(each, family)?.subnet]),
  )
  const rejected = [...table.rejected()].flatMap(({ key, reason }): Rejection[] => {
    const subnet = subnets.get(key)
    const followed = view.on(subnet)
    if (followed !== undefined && followed.reason === undefined) return []
    const isKept = followed !== undefined
    return [{ key, subnet, isKept, reason: followed?.reason ?? view.against(key, subnet) ?? reason }]
  })
  const accepted = [...table.peers()].flatMap(({ key, subnet }): Rejection[] => {
    const reason = view.against(key, subnet)
    return reason === undefined ? [] : [{ key, subnet, reason, isKept: false }]
  })
  return [...rejected, ...accepted]
}

/** The peers in etcd that overlayd does not reject; without etcd, the peers that the kernel has. */
export function peersOf(facts: OverlayFacts): PeerFact[] {
  const view = daemonsView(facts)
  return FAMILIES.flatMap((family): PeerFact[] => {
    const table = peerTable(facts, family)
    if (table !== undefined) {
      return [...table.peers()]
        .filter(({ key, subnet }) => view.against(key, subnet) === undefined)
        .map(({ subnet, publicIp, mac, wireguard }) => {
          return { family, subnet, publicIp, mac, ...(wireguard !== undefined && { wireguard }) }
        })
    }
    const device = facts.etcd.value === undefined ? deviceOf(facts, family) : undefined
    return device === undefined ? [] : kernelPeers(device)
  })
}

function kernelPeers({ family, objects }: DeviceFacts): PeerFact[] {
  return [...objects.route.values()].flatMap(([route]) => {
    if (route === undefined) return []
    const subnet = route.destination
    const mac = objects.neighbour.get(subnet.address)
    const publicIp = mac === undefined ? undefined : objects.fdb.get(mac)?.[0]?.address
    return mac === undefined || publicIp === undefined ? [] : [{ family, subnet, publicIp, mac }]
  })
}

/** Where forwarding entries and lists of multicast send to: the source of the peer's VXLAN packets. */
export const vxlanAddress = ({ publicIp, wireguard }: Pick<PeerFact, 'publicIp' | 'wireguard'>): IpAddress =>
  wireguard?.source ?? publicIp

/** Bytes that VXLAN, and encryption where the network has it, put around a packet of the device. */
export function outerOverhead(facts: Pick<Facts, 'config' | 'daemon' | 'kernel'>, family: Family): number {
  const { config, daemon } = facts
  const isEncrypted =
    config.value === undefined
      ? daemon.value?.encryption !== undefined
      : config.value.backend.encryption !== undefined
  // Packets of both families are inside of packets of the first one.
  const [first = family] = familiesOf(facts)
  return VXLAN_OVERHEAD[family] + (isEncrypted ? WIREGUARD_OVERHEAD[first] : 0)
}

/** What this host announces of encryption. */
export function ownAnnouncement(facts: OverlayFacts): WireguardAnnouncement | undefined {
  const own = ownLease(facts)
  return own && (own.value.vtep ?? own.value.vtep6)?.wireguard
}

/** The UDP port of a peer's WireGuard; `undefined` where packets to it go in clear, as far as is known. */
export function tunnelPorts(facts: OverlayFacts): (peer: PeerFact) => number | undefined {
  const own = ownAnnouncement(facts)
  const { encryption } = facts.config.value?.backend ?? {}
  const wordOn = daemonsWord(facts)
  return (peer) => {
    if (encryption === undefined || own === undefined || peer.wireguard === undefined) return undefined
    const isIn = encryption.mode === 'required' || wordOn(peer)?.encryption === 'encrypted'
    return isIn ? portBetween(own, peer.wireguard) : undefined
  }
}

/** The UDP port on which a host receives the packets that are encrypted for it. */
export const portBetween = (own: WireguardAnnouncement, other: WireguardAnnouncement): number =>
  other.port + slotOf(Math.max(own.turn, other.turn))

/** The link by which a peer is reached directly, past our device. */
export function directLink(objects: KernelObjects, subnet: Prefix): number | undefined {
  const isDirect = (target: RouteTarget) => target.kind === 'direct'
  const route = objects.route
    .get(routeKey(subnet))
    ?.find(({ protocol, target }) => protocol === ROUTE_PROTOCOL && isDirect(target))
  return route?.target.kind === 'direct' ? route.target.link : undefined
}

/** An address that a container may have: the one after the bridge's. */
export function sampleAddress({ address }: Prefix): IpAddress {
  return (typeof address === 'number' ? address + 2 : address + 2n) as IpAddress
}

/** An address of a prefix to look up the way to: not the first one, which is that of the network itself. */
export const addressWithin = ({ address, length }: Prefix): IpAddress =>
  length === addressBits(familyOf(address)) ? address : addressAfter(address, 1n)

export const linkNameOf = (facts: Pick<Facts, 'kernel'>, index: number | undefined): string =>
  findLink(facts, index)?.name ?? (index === undefined ? 'nowhere' : `link ${index}`)

export const findLink = (facts: Pick<Facts, 'kernel'>, index: number | undefined): ObservedLink | undefined =>
  facts.kernel.value?.links.find((link) => link.index === index)

/** The interface that the device sends over. */
export function parentOf(facts: Pick<Facts, 'kernel'>, device: DeviceFacts): ObservedLink | undefined {
  const { parent, local } = device.link.vxlan ?? {}
  if (parent !== undefined) return findLink(facts, parent)
  const owner = facts.kernel.value?.addresses.find(({ address }) => address.address === local)
  return findLink(facts, owner?.linkIndex)
}

/** Whether this host has an address. */
export const isOwnAddress = (facts: Pick<Facts, 'kernel'>, address: IpAddress): boolean =>
  facts.kernel.value?.addresses.some((each) => each.address.address === address) ?? false

export const familyWord = (address: IpAddress): '' | '-6 ' => (familyOf(address) === 'IPv4' ? '' : '-6 ')
