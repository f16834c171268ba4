/**
 * The ways of the overlay's packets through this host's rules: which rule drops which packets, and which
 * rules cannot be decided.
 */
import {
  addressAfter,
  FAMILIES,
  type Family,
  formatPrefix,
  type IpAddress,
  networkOf,
  type Prefix,
  prefixContains,
} from '../../model/address'
import type { NetworkConfig } from '../../model/config/network-config'
import { slotOf } from '../../model/lease'
import type { PacketFilter } from '../../model/packet-filter'
import { wireguardLinkName } from '../../plan/encryption/encryption-plan'
import { containerBridges, type OwnBridge } from '../checks/bridge'
import type { Facts, Known, PeerFact, ProbeFact } from '../facts'
import {
  deviceName,
  deviceOf,
  directLink,
  linkNameOf,
  type OverlayFacts,
  ownAnnouncement,
  ownSubnet,
  parentOf,
  peerKey,
  peersOf,
  portBetween,
  rangeOf,
  sampleAddress,
  tunnelPorts,
  vniOf,
} from '../overlay'
import { containerWays, hostWays, type OverlayHost, vxlanWays, type Way } from './overlay-ways'
import type { Passing } from './owner'
import type { Protocol } from './packet'
import { type Doubt, FilterIndex, type Place, type Translation } from './walk'
import { type Journey, travel } from './way'

/** Peers whose packets are sent through the rules, silent peers first. Rules seldom tell peers apart. */
const MOST_PEERS = 4
const MOST_VXLAN_PEERS = 32
/** The port of a device that was made without one (drivers/net/vxlan). */
const DEFAULT_PORT = 8472

/** One rule that packets of one kind meet. */
export interface Meeting {
  readonly kind: Passing['kind']
  readonly passing: Passing
  readonly place: Place
  /** Names of the packets, for people; and their protocols. */
  readonly packets: ReadonlySet<string>
  readonly protocols: ReadonlySet<Protocol>
  /** Keys of the peers whose packets meet it; empty where no peer is known. */
  readonly peers: ReadonlySet<string>
}

export interface DoubtfulMeeting extends Meeting {
  readonly doubt: Doubt
}

export interface Translating extends Meeting {
  readonly translation: Translation
}

type WayFacts = OverlayFacts & Known<'firewall', 'probes'>

export interface PacketWays {
  readonly index: FilterIndex
  readonly drops: readonly Meeting[]
  readonly doubts: readonly DoubtfulMeeting[]
  readonly translations: readonly Translating[]
}

interface Gone {
  readonly way: Way
  readonly journey: Journey
  readonly peer: PeerFact | undefined
  readonly family: Family
  /** Name of the bridge of the containers. */
  readonly bridge: string
}

export function goWays(facts: WayFacts, config: NetworkConfig): PacketWays {
  const index = new FilterIndex(withoutGuard(facts.firewall.value))
  const gone = FAMILIES.flatMap((family) => goFamily(facts, config, family, index))
  const meetings = new Map<string, Meeting>()
  const doubts = new Map<string, DoubtfulMeeting>()
  const translations = new Map<string, Translating>()
  for (const each of gone) {
    const passing = passingOf(facts, config, each)
    if (passing === undefined) continue
    const { fate } = each.journey
    if (fate.kind === 'dropped') note(meetings, each, passing, fate.by, {})
    if (fate.kind === 'undecided')
      for (const doubt of fate.doubts) note(doubts, each, passing, doubt.at, { doubt })
    for (const translation of each.journey.translations)
      note(translations, each, passing, translation.at, { translation })
  }
  return {
    index,
    drops: [...meetings.values()],
    doubts: [...doubts.values()],
    translations: [...translations.values()],
  }
}

/**
 * The rules without those of our guard. It drops what is not encrypted, which is what people asked for: it is
 * no reason why a packet does not arrive.
 */
const withoutGuard = ({ chains, unread }: PacketFilter): PacketFilter => ({
  chains: chains.filter(({ family, table }) => !(family === 'inet' && GUARD_TABLE.test(table))),
  unread,
})
const GUARD_TABLE = /^fl-wg\.\d+$/

function note<More extends object>(
  meetings: Map<string, Meeting & More>,
  { way, peer }: Gone,
  passing: Passing,
  place: Place,
  more: More,
): void {
  const { base, chain, rule } = place
  const at = [base.program, base.family, base.table, base.name, chain.name, rule?.number ?? 'policy'].join(
    ' ',
  )
  const key = `${passing.kind} ${passing.port} ${passing.family} ${at}`
  const known = meetings.get(key)
  const key2 = peer === undefined ? [] : [peerKey(peer)]
  meetings.set(key, {
    ...more,
    kind: passing.kind,
    passing: {
      ...(known?.passing ?? passing),
      directions: new Set([...(known?.passing.directions ?? []), ...passing.directions]),
    },
    place,
    packets: new Set([...(known?.packets ?? []), way.packet.name]),
    protocols: new Set([...(known?.protocols ?? []), way.protocol]),
    peers: new Set([...(known?.peers ?? []), ...key2]),
  })
}

function passingOf(
  facts: OverlayFacts,
  config: NetworkConfig,
  { way, family, bridge }: Gone,
): Passing | undefined {
  const network = rangeOf(config, family)?.network
  if (network === undefined) return undefined
  const kind =
    way.kind === 'out' || way.kind === 'in'
      ? 'containers'
      : way.kind === 'vxlan-in' || way.kind === 'vxlan-out'
        ? way.kind
        : 'host'
  return {
    kind,
    family,
    network,
    device: deviceName(facts, family),
    bridge,
    port: way.udpPort ?? portOf(facts, family),
    directions: new Set([
      way.kind === 'out' || way.kind === 'host-out' || way.kind === 'vxlan-out' ? 'out' : 'in',
    ]),
  }
}

const portOf = (facts: Pick<Facts, 'kernel'>, family: Family): number =>
  deviceOf(facts, family)?.link.vxlan?.port ?? DEFAULT_PORT

function goFamily(facts: WayFacts, config: NetworkConfig, family: Family, index: FilterIndex): Gone[] {
  const range = rangeOf(config, family)
  const own = ownSubnet(facts, family)
  if (range === undefined || own === undefined) return []
  const bridges = containerBridges(facts, family)
  const host = hostOf(facts, family, own)
  const peers = peersOf(facts).filter((peer) => peer.family === family)
  const first = worstFirst(facts, peers)
  const go = (way: Way, peer: PeerFact | undefined, bridge = bridges[0]): Gone => ({
    way,
    journey: travel(index, way.stops, way.packet),
    peer,
    family,
    bridge: bridge?.link.name ?? 'docker0',
  })
  const some = first.length === 0 ? [strangerIn(range.network, own, family)] : first.slice(0, MOST_PEERS)
  const around =
    host === undefined
      ? []
      : [...first.slice(0, MOST_VXLAN_PEERS), ...(first.length === 0 ? [undefined] : [])]
  const tunnelFor = tunnelsOf(facts)
  const vxlan = around.flatMap((peer) =>
    host === undefined || isDirect(facts, peer)
      ? []
      : udpWays(host, peer?.publicIp, tunnelFor(peer)).map((way) => go(way, peer)),
  )
  const markIn =
    vxlan.find(({ way }) => way.kind === 'vxlan-in' && way.udpPort === undefined)?.journey.packet.fields
      .mark ?? 0
  const built = host ?? unbuilt(facts, family, own)
  const fromBridge = (bridge: OwnBridge | undefined, towards: readonly PeerFact[]): Gone[] =>
    towards.flatMap((peer) =>
      containerWays(
        { ...built, ...behind(facts, own, bridge) },
        overlayPeer(facts, peer),
        isDirect(facts, peer) ? 0 : markIn,
      ).map((way) => go(way, isStranger(peer) ? undefined : peer, bridge)),
    )
  const containers = [
    ...fromBridge(bridges[0], some),
    // Rules that tell bridges apart seldom tell peers apart too.
    ...bridges.slice(1).flatMap((bridge) => fromBridge(bridge, some.slice(0, 1))),
  ]
  const marked = new Set(
    containers.filter(({ way }) => way.kind === 'out').map(({ journey }) => journey.packet.fields.mark),
  )
  marked.delete(0)
  const again = [...marked].flatMap((mark) =>
    around.slice(0, 1).flatMap((peer) =>
      host === undefined
        ? []
        : vxlanWays(through(host, tunnelFor(peer)), peer?.publicIp, mark)
            .slice(0, 1)
            .map((way) => go(way, peer)),
    ),
  )
  const hosts =
    host === undefined
      ? []
      : first
          .slice(0, MOST_PEERS)
          .flatMap((peer) => hostWays(host, overlayPeer(facts, peer)).map((way) => go(way, peer)))
  return [...vxlan, ...again, ...containers, ...hosts]
}

/** Encryption towards a peer. */
interface Tunnel {
  /** The device that VXLAN packets pass; `undefined` where they go in clear, or not at all. */
  readonly device: string | undefined
  /** UDP port of WireGuard. */
  readonly port: number
  /** Whether nothing goes in clear. */
  readonly isRequired: boolean
}

/** `undefined` for peers that cannot be reached encrypted. */
function tunnelsOf(facts: OverlayFacts): (peer: PeerFact | undefined) => Tunnel | undefined {
  const { encryption } = facts.config.value?.backend ?? {}
  const own = ownAnnouncement(facts)
  const portInUse = tunnelPorts(facts)
  return (peer) => {
    if (encryption === undefined || own === undefined) return undefined
    const isRequired = encryption.mode === 'required'
    if (peer?.wireguard === undefined)
      return isRequired ? { device: undefined, port: encryption.port, isRequired } : undefined
    const slot = slotOf(Math.max(own.turn, peer.wireguard.turn))
    const device = portInUse(peer) === undefined ? undefined : wireguardLinkName(slot, vniOf(facts))
    return { device, port: portBetween(own, peer.wireguard), isRequired }
  }
}

/** The host as VXLAN packets to a peer see it. */
const through = (host: OverlayHost, tunnel: Tunnel | undefined): OverlayHost =>
  tunnel?.device === undefined ? host : { ...host, underlay: tunnel.device }

/** The UDP packets around those of containers: VXLAN's and, on the underlay, WireGuard's. */
function udpWays(host: OverlayHost, publicIp: IpAddress | undefined, tunnel: Tunnel | undefined): Way[] {
  const isCut = tunnel?.isRequired === true && tunnel.device === undefined
  const vxlan = isCut ? [] : vxlanWays(through(host, tunnel), publicIp)
  if (tunnel === undefined) return vxlan
  const { port } = tunnel
  const wireguard = vxlanWays({ ...host, udpPort: port, vni: undefined }, publicIp)
  return [...vxlan, ...wireguard.map((way) => ({ ...way, udpPort: port }))]
}

const isDirect = (facts: Pick<Facts, 'kernel'>, peer: PeerFact | undefined): boolean => {
  const device = peer && deviceOf(facts, peer.family)
  return peer !== undefined && device !== undefined && directLink(device.objects, peer.subnet) !== undefined
}

function worstFirst(facts: Pick<Facts, 'probes'>, peers: readonly PeerFact[]): readonly PeerFact[] {
  const probes = new Map(facts.probes.value?.map((probe) => [probe.peer, probe]))
  const answers = (peer: PeerFact): boolean => (probes.get(peerKey(peer))?.overlayFull.received ?? 0) > 0
  return [...peers.filter((peer) => !answers(peer)), ...peers.filter(answers)]
}

/** Peers that are made up, for a network in which there is no peer yet. */
const STRANGERS = new WeakSet<PeerFact>()
function strangerIn(network: Prefix, own: Prefix, family: Family): PeerFact {
  const after = addressAfter(network.address, 256n)
  const address = prefixContains(own, after)
    ? addressAfter(network.address, 1n << BigInt(family === 'IPv4' ? 12 : 72))
    : after
  const peer: PeerFact = {
    family,
    subnet: { address, length: own.length },
    publicIp: address,
    mac: 0 as PeerFact['mac'],
  }
  STRANGERS.add(peer)
  return peer
}
const isStranger = (peer: PeerFact): boolean => STRANGERS.has(peer)

function overlayPeer(facts: Pick<Facts, 'kernel'>, peer: PeerFact) {
  const device = deviceOf(facts, peer.family)
  const direct = device && directLink(device.objects, peer.subnet)
  return {
    container: sampleAddress(peer.subnet),
    vtep: peer.subnet.address,
    publicIp: isStranger(peer) ? undefined : peer.publicIp,
    ...(direct !== undefined && { directLink: linkNameOf(facts, direct) }),
  }
}

function hostOf(facts: OverlayFacts, family: Family, own: Prefix): OverlayHost | undefined {
  const device = deviceOf(facts, family)
  const local = device?.link.vxlan?.local
  const parent = device && parentOf(facts, device)
  if (device === undefined || local === undefined || parent === undefined) return undefined
  return {
    ...unbuilt(facts, family, own),
    device: device.link.name,
    underlay: parent.name,
    local,
    udpPort: portOf(facts, family),
    vni: device.link.vxlan?.vni,
  }
}

/** A host that has no device yet. Packets outside of the device are not looked at then. */
const unbuilt = (facts: OverlayFacts, family: Family, own: Prefix): OverlayHost => ({
  ...behind(facts, own, containerBridges(facts, family)[0]),
  vtep: own.address,
  device: deviceName(facts, family),
  underlay: '',
  local: own.address,
  udpPort: DEFAULT_PORT,
})

/** A container, and the bridge that it is behind. */
function behind(
  facts: OverlayFacts,
  own: Prefix,
  bridge: OwnBridge | undefined,
): Pick<OverlayHost, 'container' | 'bridge' | 'port'> {
  const { link, address, subnet = own } = bridge ?? {}
  const part =
    address === undefined ? own : networkOf(address.address, Math.max(address.length, subnet.length))
  const ports = facts.kernel.value?.links.find(({ master }) => link !== undefined && master === link.index)
  return { container: sampleAddress(part), bridge: link?.name ?? 'docker0', port: ports?.name }
}

/** For evidence: nothing where it is all peers, else which. */
export const whichPeers = (facts: OverlayFacts, { peers }: Meeting): string => {
  const all = peersOf(facts).length
  return peers.size === 0 || peers.size >= Math.min(all, MOST_PEERS)
    ? ''
    : ` (${[...peers].slice(0, 3).join(', ')})`
}

export const probeOf = (facts: Pick<Facts, 'probes'>, key: string): ProbeFact | undefined =>
  facts.probes.value?.find(({ peer }) => peer === key)

export const networkText = ({ network }: Passing): string => formatPrefix(network)
