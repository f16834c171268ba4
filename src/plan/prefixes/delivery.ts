/** Where this host sends packets to what it announces itself. */
import { familyOf, formatIp, networkOf, type Prefix, prefixContains, samePrefix } from '../../model/address'
import type { InterfaceAddress, ObservedLink } from '../../model/kernel/link'
import type { RouteTarget } from '../../model/kernel/route'
import type { Via } from '../../model/prefixes'
import { isOverlayDevice } from '../host/underlay'

/** Links and addresses of this host. */
export interface LocalNetwork {
  readonly links: readonly ObservedLink[]
  /** Of both families. */
  readonly addresses: readonly InterfaceAddress[]
}

/** A way to an announced prefix, or why there is none now. */
export type Delivery =
  | {
      readonly kind: 'ready'
      /** `undefined` where the kernel's own route of an interface address leads there. */
      readonly target: Extract<RouteTarget, { readonly kind: 'direct' | 'link' }> | undefined
      readonly link: ObservedLink
    }
  | { readonly kind: 'waits'; readonly reason: string; readonly fix: string }

/** The way to a prefix by its `via`, on the links that are there now. */
export function deliveryOf(via: Via, prefix: Prefix, network: LocalNetwork): Delivery {
  return via.kind === 'link' ? overLink(via.name, prefix, network) : overGateway(via.address, prefix, network)
}

const waits = (reason: string, fix: string): Delivery => ({ kind: 'waits', reason, fix })

function overLink(name: string, prefix: Prefix, { links, addresses }: LocalNetwork): Delivery {
  const link = links.find((each) => each.name === name)
  if (link === undefined) return waits(`there is no link ${name}`, 'make it, or announce with another --via')
  const isConnected = addresses.some(
    ({ linkIndex, address: { address, length } }) =>
      linkIndex === link.index && samePrefix(networkOf(address, length), prefix),
  )
  const target = isConnected ? undefined : ({ kind: 'link', link: link.index } as const)
  return unusable(link) ?? { kind: 'ready', target, link }
}

function overGateway(
  address: Prefix['address'],
  prefix: Prefix,
  { links, addresses }: LocalNetwork,
): Delivery {
  const text = formatIp(address)
  const family = familyOf(prefix.address)
  if (familyOf(address) !== family)
    return waits(`the gateway ${text} is not of ${family}`, `announce with a --via of ${family}`)
  if (prefixContains(prefix, address))
    return waits(`the gateway ${text} is inside of the prefix itself`, 'announce with a --via outside of it')
  if (addresses.some((each) => each.address.address === address))
    return waits(`${text} is an address of this host itself`, 'announce with a link as --via')
  const found = nearest(address, addresses)
  const link = links.find(({ index }) => index === found?.linkIndex)
  if (link === undefined)
    return waits(
      `the gateway ${text} is in no network of this host's links`,
      'give a link an address of its network, or announce with another --via',
    )
  return (
    unusable(link) ?? {
      kind: 'ready',
      target: { kind: 'direct', gateway: address, link: link.index },
      link,
    }
  )
}

/** The interface address with the smallest network around an address. */
function nearest(
  address: Prefix['address'],
  addresses: readonly InterfaceAddress[],
): InterfaceAddress | undefined {
  const around = addresses.filter((each) => prefixContains(each.address, address))
  return around.toSorted((a, b) => b.address.length - a.address.length)[0]
}

/** Why no packet can leave by a link; `undefined` if one can. */
function unusable(link: ObservedLink): Delivery | undefined {
  const { name, up, noCarrier, loopback } = link
  if (loopback === true || isOverlayDevice(link))
    return waits(`${name} leads to no container and no gateway`, 'announce with another --via')
  if (!up) return waits(`the link ${name} is down`, `ip link set ${name} up`)
  if (noCarrier === true)
    return waits(`nothing is connected to the link ${name}`, 'start the container, or connect the cable')
  return undefined
}
