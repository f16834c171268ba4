/**
 * The ways of the overlay's packets through this host: container to peer and back, the UDP packets around
 * those, and the packets of the host itself.
 */
import { familyOf, type IpAddress } from '../../model/address'
import { type Known, makePacket, type Packet, type Protocol, type State } from './packet'
import { forwardStops, inputStops, type Link, outputStops, type Stop } from './way'

export type WayKind = 'out' | 'in' | 'vxlan-out' | 'vxlan-in' | 'host-out' | 'host-in'

export interface Way {
  readonly kind: WayKind
  readonly protocol: Protocol
  readonly state: State
  readonly packet: Packet
  readonly stops: readonly Stop[]
  /** Of WireGuard's packets; of all others it is that of VXLAN. */
  readonly udpPort?: number
}

export interface OverlayHost {
  /** The address of a container. */
  readonly container: IpAddress
  /** The address of the host in the overlay. */
  readonly vtep: IpAddress
  /** Names of the devices. */
  readonly device: string
  readonly bridge: string
  /** A port of the bridge that a container is behind. */
  readonly port?: string | undefined
  readonly underlay: string
  readonly local: IpAddress
  readonly udpPort: number
  /** `undefined` for a host that has no device yet. */
  readonly vni?: number | undefined
}

export interface OverlayPeer {
  readonly container: IpAddress
  readonly vtep: IpAddress
  readonly publicIp: IpAddress | undefined
  /** The interface past the device, where the peer is reached directly. */
  readonly directLink?: string | undefined
}

/**
 * Ports that no rule is likely to name: of a container's service, and of a client (RFC 6335, dynamic ports).
 */
const SERVICE = 41952
const CLIENT = 52107

const PROTOCOLS: readonly Protocol[] = ['ICMP', 'TCP', 'UDP']
const STATES: readonly State[] = ['new', 'established']

/**
 * The packets of containers, of the family of the addresses.
 * @param mark the mark of the UDP packets that arrive around them
 */
export function containerWays(host: OverlayHost, peer: OverlayPeer, mark: Known = 0): Way[] {
  const family = familyOf(host.container)
  const bridge: Link = { name: host.bridge, isBridge: true }
  const device: Link = { name: peer.directLink ?? host.device, isBridge: false }
  const { port } = host
  return PROTOCOLS.flatMap((protocol) =>
    STATES.flatMap((state): Way[] => {
      const [out, back] = pair(protocol, state, host.container, peer.container)
      const unicast = { 'saddr-type': 'unicast', 'daddr-type': 'unicast', 'reverse-path': 1 } as const
      return [
        {
          kind: 'out',
          protocol,
          state,
          packet: makePacket({
            name: `${protocol} from containers here`,
            protocol,
            state,
            ...out,
            more: unicast,
          }),
          stops: forwardStops(family, { from: bridge, to: device, port }),
        },
        {
          kind: 'in',
          protocol,
          state,
          packet: makePacket({
            name: `${protocol} to containers here`,
            protocol,
            state,
            ...back,
            more: { ...unicast, mark },
          }),
          stops: forwardStops(family, { from: device, to: bridge, port }),
        },
      ]
    }),
  )
}

/**
 * One packet each way: in a connection that the sender opens (new), or that the other side opened
 * (established).
 */
function pair(protocol: Protocol, state: State, here: IpAddress, there: IpAddress) {
  const isNew = state === 'new'
  const ports =
    protocol === 'ICMP'
      ? {}
      : isNew
        ? { sourcePort: CLIENT, destinationPort: SERVICE }
        : { sourcePort: SERVICE, destinationPort: CLIENT }
  return [
    { source: here, destination: there, ...ports },
    { source: there, destination: here, ...ports },
  ] as const
}

/**
 * The UDP packets around containers' packets. Each direction is a connection of its own without replies,
 * since the source port is computed from the packet inside (drivers/net/vxlan). A packet keeps the mark of
 * the packet inside.
 */
export function vxlanWays(host: OverlayHost, publicIp: IpAddress | undefined, mark: Known = 0): Way[] {
  const family = familyOf(host.local)
  const common = { protocol: 'UDP', state: 'new', destinationPort: host.udpPort } as const
  const peer = publicIp ?? host.local
  const unknownPeer = (field: 'saddr' | 'daddr') => (publicIp === undefined ? { [field]: undefined } : {})
  return [
    {
      kind: 'vxlan-out',
      ...common,
      packet: makePacket({
        name: `UDP ${host.udpPort} out`,
        ...common,
        source: host.local,
        destination: peer,
        more: {
          ...unknownPeer('daddr'),
          vni: host.vni,
          mark,
          'saddr-type': 'local',
          'daddr-type': 'unicast',
          'reverse-path': null,
        },
      }),
      stops: outputStops(family, host.underlay),
    },
    {
      kind: 'vxlan-in',
      ...common,
      packet: makePacket({
        name: `UDP ${host.udpPort} in`,
        ...common,
        source: peer,
        destination: host.local,
        more: {
          ...unknownPeer('saddr'),
          vni: host.vni,
          'saddr-type': 'unicast',
          'daddr-type': 'local',
          'reverse-path': 1,
        },
      }),
      stops: inputStops(family, host.underlay),
    },
  ]
}

/** Pings of the host itself to another VTEP, as the probes are, and pings of others to it. */
export function hostWays(host: OverlayHost, peer: OverlayPeer): Way[] {
  const family = familyOf(host.vtep)
  const link = peer.directLink ?? host.device
  return STATES.flatMap((state): Way[] => {
    const [out, back] = pair('ICMP', state, host.vtep, peer.vtep)
    const common = { protocol: 'ICMP', state } as const
    return [
      {
        kind: 'host-out',
        ...common,
        packet: makePacket({
          name: 'pings of this host',
          ...common,
          ...out,
          more: { 'saddr-type': 'local', 'daddr-type': 'unicast', 'reverse-path': null },
        }),
        stops: outputStops(family, link),
      },
      {
        kind: 'host-in',
        ...common,
        packet: makePacket({
          name: 'pings to this host',
          ...common,
          ...back,
          more: { 'saddr-type': 'unicast', 'daddr-type': 'local', 'reverse-path': 1 },
        }),
        stops: inputStops(family, link),
      },
    ]
  })
}
