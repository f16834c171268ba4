/** Who uses this host's subnet, as far as its bridge shows. */
import { familyOf, type IpAddress, type MacAddress, type Prefix, prefixContains } from '../model/address'
import type { InterfaceAddress, ObservedLink } from '../model/kernel'

/** The link through which a subnet's containers are reached: Docker's bridge, as a rule. */
export interface BridgeUse {
  readonly bridge: string
  readonly subnet: Prefix
  /** Names of what is plugged in: one for each container, as a rule. */
  readonly ports: readonly string[]
  /** Addresses of the subnet that have answered. */
  readonly addresses: readonly { readonly address: IpAddress; readonly mac: MacAddress }[]
}

/** The links that have an address in one of the subnets; our own devices, whose address is the subnet's own, are none. */
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
            ({ linkIndex, address: { address } }) => linkIndex === index && isIn(subnet, address),
          ),
      )
      .map((link) => ({ link, subnet })),
  )
}

/** @param neighbours of that link, in the subnet's family */
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
      .filter(({ address }) => isIn(subnet, address))
      .sort((a, b) => (a.address < b.address ? -1 : 1)),
  }
}

const isIn = (subnet: Prefix, address: IpAddress): boolean =>
  familyOf(address) === familyOf(subnet.address) && prefixContains(subnet, address)
