/** Shows who uses this host's subnet, from the state of its bridge. */
import { type IpAddress, type MacAddress, type Prefix, prefixContains } from '../../model/address'
import type { InterfaceAddress, ObservedLink } from '../../model/kernel/link'

/** The link that leads to a subnet's containers, normally Docker's bridge. */
export interface BridgeUse {
  readonly bridge: string
  readonly subnet: Prefix
  /** Names of its ports, normally one per container. */
  readonly ports: readonly string[]
  /** Addresses of the subnet that have answered (neighbour entries). */
  readonly addresses: readonly { readonly address: IpAddress; readonly mac: MacAddress }[]
}

/**
 * The links with an address in one of the subnets. Our own devices, which have the subnet's first address,
 * are excluded.
 */
export function bridgesOf(
  subnets: readonly Prefix[],
  links: readonly ObservedLink[],
  addresses: readonly InterfaceAddress[],
): { readonly link: ObservedLink; readonly subnet: Prefix }[] {
  return subnets.flatMap((subnet) =>
    links
      .filter(
        ({ index, kind }) =>
          kind !== 'vxlan' &&
          addresses.some(
            ({ linkIndex, address: { address } }) => linkIndex === index && prefixContains(subnet, address),
          ),
      )
      .map((link) => ({ link, subnet })),
  )
}

/** @param neighbours neighbour entries of that link, in the subnet's family */
export function useOf(
  { link, subnet }: { readonly link: ObservedLink; readonly subnet: Prefix },
  links: readonly ObservedLink[],
  neighbours: readonly { readonly address: IpAddress; readonly mac: MacAddress }[],
): BridgeUse {
  return {
    bridge: link.name,
    subnet,
    ports: links.filter(({ master }) => master === link.index).map(({ name }) => name),
    addresses: neighbours
      .filter(({ address }) => prefixContains(subnet, address))
      .sort((a, b) => (a.address < b.address ? -1 : 1)),
  }
}
