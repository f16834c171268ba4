/**
 * For which addresses this host answers its own containers (proxy ARP, and proxies of RFC 4861). A container
 * asks its bridge for each address inside of the subnet of the bridge. Where a host behind the overlay
 * announces such an address, nobody on the bridge answers.
 */
import { addressAfter, familyOf, type Prefix, prefixContains, prefixSize } from '../../model/address'
import type { ObservedLink } from '../../model/kernel/link'
import type { ProxyEntry } from '../../model/kernel/objects'
import type { LocalNetwork } from './delivery'

/** Addresses of a prefix that are answered for, one entry of the kernel each: those of a /28 or a /124. */
export const MOST_PROXIED = 16n

/** Kinds of ports that lead to one container or virtual machine. */
const CONTAINERS: ReadonlySet<string> = new Set(['veth', 'tun'])

/**
 * The entries for prefixes that are routed to other hosts. Only a bridge of containers gets some: behind a
 * bridge with a port of another kind may be a network that reaches the address by itself.
 */
export function proxiesFor(routed: Iterable<Prefix>, { links, addresses }: LocalNetwork): ProxyEntry[] {
  const bridges = links.filter((link) => link.up && isContainers(link, links))
  const subnets = addresses.filter(({ linkIndex }) => bridges.some(({ index }) => index === linkIndex))
  if (subnets.length === 0) return []
  const entries: ProxyEntry[] = []
  for (const prefix of routed) {
    for (const { linkIndex: link, address: subnet } of subnets) {
      if (subnet.length >= prefix.length || !prefixContains(subnet, prefix.address)) continue
      const size = prefixSize(familyOf(prefix.address), prefix.length)
      if (size > MOST_PROXIED) continue
      for (let step = 0n; step < size; step += 1n)
        entries.push({ address: addressAfter(prefix.address, step), link })
    }
  }
  return entries
}

const isContainers = (bridge: ObservedLink, links: readonly ObservedLink[]): boolean =>
  bridge.kind === 'bridge' &&
  links.every(({ master, kind }) => master !== bridge.index || CONTAINERS.has(kind ?? ''))
