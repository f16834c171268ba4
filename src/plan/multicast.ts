/** What a host needs to exchange its containers' multicast with others: a second VXLAN device, and who gets copies. */
import { familyOf, type IpAddress, mac, type Prefix, prefixContains } from '../model/address'
import type { InterfaceAddress, LinkSpec } from '../model/kernel'
import type { Peer } from '../model/lease'
import {
  type Destination,
  EVERY_GROUP,
  type MulticastOperation,
  type ObservedBridge,
} from '../model/multicast'
import { multicastLinkName } from './desired'

/**
 * The device: beside the network's own, from the same address and port. It floods what it is given to a list of hosts and answers for
 * nobody, so that not even ARP goes by it; its MAC is never seen on the underlay.
 * @param link the network's own device
 * @param vni that of multicast
 */
export const multicastLink = (link: LinkSpec, vni: number): LinkSpec => ({
  ...link,
  name: multicastLinkName(link.vni),
  mac: mac(link.mac % 2 === 0 ? link.mac + 1 : link.mac - 1),
  vni,
  learning: false,
})

/** The bridges that our containers are behind: told by an address in our subnet, whatever they are called. */
export function bridgesOf<B extends Pick<ObservedBridge, 'index'>>(
  bridges: readonly B[],
  addresses: readonly InterfaceAddress[],
  subnets: readonly Prefix[],
): B[] {
  const isOurs = ({ address: { address } }: InterfaceAddress): boolean =>
    subnets.some(
      (subnet) => familyOf(subnet.address) === familyOf(address) && prefixContains(subnet, address),
    )
  const ours = new Set(addresses.filter(isOurs).map(({ linkIndex }) => linkIndex))
  return bridges.filter(({ index }) => ours.has(index)).sort((a, b) => a.index - b.index)
}

/** The addresses of the hosts that take part; two leases of one host are one address. */
export function participants(peers: Iterable<Peer>, vni: number): IpAddress[] {
  const addresses = new Set<IpAddress>()
  for (const { multicast, publicIp } of peers) if (multicast === vni) addresses.add(publicIp)
  return [...addresses]
}

/**
 * The changes that have the device send to those hosts and to no other. One is added before another is taken away.
 * @param keep whether what is not wanted stays
 */
export function diffDestinations(
  link: number,
  desired: readonly Destination[],
  observed: readonly Destination[],
  keep: boolean,
): MulticastOperation[] {
  const word = ({ mac, address }: Destination): string => `${mac} ${address}`
  const [wanted, there] = [new Set(desired.map(word)), new Set(observed.map(word))]
  const added = desired.filter((each) => !there.has(word(each)))
  const removed = keep ? [] : observed.filter((each) => !wanted.has(word(each)))
  return [
    ...added.map((destination) => ({ kind: 'add-destination', link, destination }) as const),
    ...removed.map((destination) => ({ kind: 'delete-destination', link, destination }) as const),
  ]
}

/** One copy of everything for each host. */
export const flood = (addresses: readonly IpAddress[]): Destination[] =>
  addresses.map((address) => ({ mac: EVERY_GROUP, address }))
