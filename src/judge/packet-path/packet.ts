/** A packet, as the fields that rules look at. */
import { type Family, familyOf, type IpAddress } from '../../model/address'
import { FAMILY_FIELDS, NFT_FAMILY } from '../../model/family'
import type { Field, Value } from '../../model/packet-filter'

/** A value; `null` where the packet has no such field; `undefined` where the value is not known. */
export type Known = Value | null | undefined

export interface Packet {
  readonly family: Family
  /** For people: `TCP from a container here to one of 10.5.42.0/24`. */
  readonly name: string
  readonly fields: Readonly<Partial<Record<Field, Known>>>
}

/** IP protocol numbers (IANA). */
export const ICMP: Readonly<Record<Family, number>> = { IPv4: 1, IPv6: 58 }
export const TCP = 6
export const UDP = 17
/** An echo request and its reply (RFC 792, RFC 4443). */
const ECHO: Readonly<Record<Family, readonly [number, number]>> = { IPv4: [8, 0], IPv6: [128, 129] }
const SYN = 2
const ACK = 16

export type Protocol = 'ICMP' | 'TCP' | 'UDP'
export type State = 'new' | 'established'

export interface PacketSpec {
  readonly name: string
  readonly protocol: Protocol
  readonly state: State
  readonly source: IpAddress
  readonly destination: IpAddress
  /** `undefined` where it is not known, such as a port that the kernel picks. */
  readonly sourcePort?: number | undefined
  readonly destinationPort?: number | undefined
  readonly more?: Packet['fields']
}

/**
 * A packet of a connection: the first one, or one after packets of both directions. The interfaces are set at
 * each hook. The mark is 0, as long as no rule sets one.
 */
export function makePacket(spec: PacketSpec): Packet {
  const { protocol, state, source, destination, sourcePort, destinationPort } = spec
  const family = familyOf(source)
  const isNew = state === 'new'
  const hasPorts = protocol !== 'ICMP'
  return {
    family,
    name: spec.name,
    fields: {
      saddr: source,
      daddr: destination,
      protocol: protocol === 'ICMP' ? ICMP[family] : protocol === 'TCP' ? TCP : UDP,
      sport: hasPorts ? sourcePort : null,
      dport: hasPorts ? destinationPort : null,
      'icmp-type': hasPorts ? null : ECHO[family][isNew ? 0 : 1],
      'tcp-flags': protocol === 'TCP' ? (isNew ? SYN : ACK) : null,
      'fragment-offset': 0,
      'fragment-header': null,
      iifname: '',
      oifname: '',
      ibrname: '',
      obrname: '',
      physin: '',
      physout: '',
      mark: 0,
      'ct-mark': isNew ? 0 : undefined,
      'ct-state': state,
      'ct-direction': isNew ? 'original' : 'reply',
      'ct-status': isNew ? 'none' : undefined,
      'ct-nat': 'none',
      'packet-type': 'unicast',
      nfproto: FAMILY_FIELDS[family],
      ethertype: NFT_FAMILY[family],
      socket: 0,
      ...spec.more,
    },
  }
}

export const withFields = (packet: Packet, fields: Packet['fields']): Packet => ({
  ...packet,
  fields: { ...packet.fields, ...fields },
})
