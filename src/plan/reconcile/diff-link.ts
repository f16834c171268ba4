/** The changes that lead from the observed device to the wanted one. */
import {
  addressBits,
  anyAddress,
  familyOf,
  type IpAddress,
  type Prefix,
  prefixContains,
  samePrefix,
} from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { InterfaceAddress, LinkOperation, LinkSpec, ObservedLink } from '../../model/kernel/link'

/**
 * The changes that the device needs, except for its address and being up.
 * @throws {OverlayError} `name-taken` if a device of another kind has our name: it is not ours to remove
 */
export function diffLink(desired: LinkSpec, observed: ObservedLink | undefined): LinkOperation[] {
  if (observed === undefined) return [{ kind: 'create-link', link: desired }]
  const { index, name } = observed
  if (observed.vxlan === undefined) {
    throw nameTaken(observed, 'vxlan')
  }
  if (!isAdoptable(desired, observed.vxlan)) {
    return [
      { kind: 'delete-link', index, name },
      { kind: 'create-link', link: desired },
    ]
  }
  const change = {
    ...(observed.mac !== desired.mac && { mac: desired.mac }),
    ...(observed.mtu !== desired.mtu && { mtu: desired.mtu }),
    ...(observed.vxlan.learning !== desired.learning && { learning: desired.learning }),
    ...(observed.vxlan.local !== desired.local && { local: desired.local }),
    ...(observed.vxlan.parent !== desired.parent && { parent: desired.parent }),
    ...(observed.master !== undefined && { detach: true as const }),
  }
  return Object.keys(change).length === 0 ? [] : [{ kind: 'change-link', index, name, ...change }]
}

/** A link of another kind has the name of our device. */
export const nameTaken = ({ name, kind = 'unknown' }: ObservedLink, wanted: string): OverlayError =>
  new OverlayError(
    'name-taken',
    `interface ${name} exists and is of kind ${kind}, not ${wanted}`,
    `rename or remove it: ip link del ${name}`,
  )

/**
 * Whether an existing device can be corrected in place: the kernel refuses to change these attributes
 * (drivers/net/vxlan, vxlan_nl2conf). flannel also re-creates the device for another address or interface of
 * the underlay (vxlanLinksIncompat in device.go).
 */
function isAdoptable(desired: LinkSpec, observed: NonNullable<ObservedLink['vxlan']>): boolean {
  return (
    observed.vni === desired.vni &&
    hasFamily(observed.local, desired.local) &&
    (desired.port === undefined || observed.port === desired.port) &&
    observed.group === undefined &&
    !observed.l2miss &&
    observed.gbp === desired.gbp
  )
}

/** A device without a local address is one of IPv4. */
const hasFamily = (observed: IpAddress | undefined, desired: IpAddress): boolean =>
  familyOf(observed ?? anyAddress('IPv4')) === familyOf(desired)

/**
 * Whether an address on our device harms this host. An address with a prefix makes a route, which leads
 * packets of the underlay into the overlay. An address that another interface has too leads packets to the
 * wrong interface. DHCP clients give our device such addresses unless they are configured to leave it alone.
 * @param elsewhere addresses on other interfaces
 */
export const isHarmful = (
  { address: { address, length }, scope }: InterfaceAddress,
  elsewhere: ReadonlySet<IpAddress>,
): boolean => scope !== 'link' && (length < addressBits(familyOf(address)) || elsewhere.has(address))

/**
 * The changes that give the device its address and bring it up. Other addresses inside the network are
 * removed (they are those of an earlier subnet), and so are harmful ones outside of it. All others stay, as
 * with flannel (pkg/ip/iface.go): they are somebody else's.
 */
export function diffAddresses(
  desired: Prefix,
  network: Prefix,
  link: ObservedLink,
  observed: readonly InterfaceAddress[],
  elsewhere: ReadonlySet<IpAddress> = new Set(),
): LinkOperation[] {
  const operations: LinkOperation[] = []
  const { index, name } = link
  if (!observed.some(({ address }) => samePrefix(address, desired))) {
    operations.push({ kind: 'add-address', index, address: desired })
  }
  if (!link.up) operations.push({ kind: 'set-link-up', index, name })
  for (const each of observed) {
    const { address } = each
    if (samePrefix(address, desired)) continue
    if (prefixContains(network, address.address) || isHarmful(each, elsewhere)) {
      operations.push({ kind: 'delete-address', index, address })
    }
  }
  return operations
}
