/**
 * The parts that a host needs to exchange multicast with others: a second VXLAN device, its bridges and its
 * destinations.
 */
import { mac, type Prefix } from '../../model/address'
import type { InterfaceAddress, LinkSpec } from '../../model/kernel/link'
import {
  type Destination,
  EVERY_GROUP,
  type MulticastOperation,
  type ObservedBridge,
} from '../../model/multicast'
import { subnetWith } from '../host/own-subnets'
import { multicastLinkName } from '../reconcile/desired'

/**
 * The device, with the address and port of the network's own device. It floods frames to a list of hosts and
 * answers no request, so that not even ARP passes it. Its MAC never appears on the underlay.
 * @param link the network's own device
 * @param vni the VNI of multicast
 */
export const multicastLink = (link: LinkSpec, vni: number): LinkSpec => ({
  ...link,
  name: multicastLinkName(link.vni),
  mac: mac(link.mac % 2 === 0 ? link.mac + 1 : link.mac - 1),
  vni,
  learning: false,
})

/**
 * The bridges of our containers: those with an address in one of our subnets, whatever their names.
 * @param subnets all of this host: {@link ownSubnets}
 */
export function bridgesOf<B extends Pick<ObservedBridge, 'index'>>(
  bridges: readonly B[],
  addresses: readonly InterfaceAddress[],
  subnets: readonly Prefix[],
): B[] {
  const isOurs = ({ address: { address } }: InterfaceAddress): boolean =>
    subnetWith(subnets, address) !== undefined
  const ours = new Set(addresses.filter(isOurs).map(({ linkIndex }) => linkIndex))
  return bridges.filter(({ index }) => ours.has(index)).sort((a, b) => a.index - b.index)
}

/**
 * Changes of a device's destinations. No frame is lost when all additions are made before the removals; a
 * host whose way changes gets frames twice in between.
 */
export interface DestinationChanges {
  readonly additions: readonly MulticastOperation[]
  readonly removals: readonly MulticastOperation[]
}

/**
 * The changes that make the device send to the desired destinations only.
 * @param keep whether hosts that are not desired stay. A host that is sent to in another way does not get its
 * frames twice.
 */
export function diffDestinations(
  link: number,
  desired: readonly Destination[],
  observed: readonly Destination[],
  keep: boolean,
): DestinationChanges {
  const host = ({ mac, address }: Destination): string => `${mac} ${address}`
  const word = (each: Destination): string => `${host(each)} ${each.via}`
  const [wanted, there] = [new Set(desired.map(word)), new Set(observed.map(word))]
  const lists = new Set(desired.map(({ mac }) => mac))
  const added = desired.filter((each) => !there.has(word(each)))
  const removed = observed.filter((each) => !wanted.has(word(each)))
  // Remove the whole list at once: removing entries one by one would leave a shorter list in force in
  // between.
  const unlisted = new Set(
    removed.map(({ mac }) => mac).filter((mac) => !lists.has(mac) && mac !== EVERY_GROUP),
  )
  const listed = removed.filter(({ mac }) => !unlisted.has(mac))
  const wantedHosts = keep ? new Set(desired.map(host)) : undefined
  const single = wantedHosts === undefined ? listed : listed.filter((each) => wantedHosts.has(host(each)))
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
