/** What a host needs to exchange its containers' multicast with others: a second VXLAN device, and who gets copies. */
import { familyOf, mac, type Prefix, prefixContains } from '../model/address'
import type { InterfaceAddress, LinkSpec } from '../model/kernel'
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

/** Changes of where a device sends, in two steps: nothing is lost when all of the first are made before the second. */
export interface DestinationChanges {
  readonly additions: readonly MulticastOperation[]
  readonly removals: readonly MulticastOperation[]
}

/**
 * The changes that have the device send to those hosts and to no other.
 * @param keep whether hosts that are not wanted stay
 */
export function diffDestinations(
  link: number,
  desired: readonly Destination[],
  observed: readonly Destination[],
  keep: boolean,
): DestinationChanges {
  const word = ({ mac, address }: Destination): string => `${mac} ${address}`
  const [wanted, there] = [new Set(desired.map(word)), new Set(observed.map(word))]
  const lists = new Set(desired.map(({ mac }) => mac))
  const added = desired.filter((each) => !there.has(word(each)))
  const removed = observed.filter((each) => !wanted.has(word(each)))
  // One after another would have what is left of the list miss some, until the last makes it everyone's.
  const unlisted = new Set(
    removed.map(({ mac }) => mac).filter((mac) => !lists.has(mac) && mac !== EVERY_GROUP),
  )
  const single = keep ? [] : removed.filter(({ mac }) => !unlisted.has(mac))
  return {
    additions: [...added.filter(isForAll), ...added.filter((each) => !isForAll(each))].map(
      (destination) => ({ kind: 'add-destination', link, destination }) as const,
    ),
    removals: [
      ...[...unlisted].map((mac) => ({ kind: 'delete-destinations', link, mac }) as const),
      ...single.map((destination) => ({ kind: 'delete-destination', link, destination }) as const),
    ],
  }
}

const isForAll = ({ mac }: Destination): boolean => mac === EVERY_GROUP
