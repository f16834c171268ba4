/**
 * Which host gets which group: announced groups become forwarding entries, and groups that no host wants stay
 * on their host.
 */
import { FAMILIES, type Family, familyOf, type IpAddress, type MacAddress, mac } from '../../model/address'
import type { Peer } from '../../model/lease'
import { type Destination, EVERY_GROUP, type HostGroups } from '../../model/multicast'
import { alwaysClear, targetBy, type Way } from '../../model/way'

/** An IPv6 group's scope (RFC 4291, 2.7). */
const scopeOf = (group: bigint): number => Number((group >> 112n) & 15n)
const INTERFACE_LOCAL = 1
const LINK_LOCAL = 2

/** Whether the group is for one link alone: 224.0.0.0/24 (RFC 5771), or IPv6's link-local scope. */
export const isLinkLocal = (group: IpAddress): boolean =>
  typeof group === 'number' ? group >>> 8 === 0xe00000 : scopeOf(group) === LINK_LOCAL

/**
 * `ff02::1`, which no host joins by a message (RFC 3810), and the first 104 bits of solicited-node groups
 * (RFC 4291).
 */
const ALL_NODES = (0xff02n << 112n) | 1n
const SOLICITED_NODE = (0xff02n << 88n) | 0x1ffn

/**
 * Whether members of this group are announced in etcd. Link-local IPv4, all-nodes and solicited-node groups
 * are always sent to every host. For other link-local IPv6 groups the MACs of their members must be known.
 */
export function isTold(group: IpAddress): boolean {
  if (typeof group === 'number') return !isLinkLocal(group)
  return scopeOf(group) > INTERFACE_LOCAL && group !== ALL_NODES && group >> 24n !== SOLICITED_NODE
}

/**
 * The first bits of the MACs of groups. 23 bits of an IPv4 group follow (RFC 1112), or 32 bits of an IPv6
 * group (RFC 2464).
 */
const MAC_OF_IPV4 = 0x01005e000000
const MAC_OF_IPV6 = 0x333300000000

/** The destination MAC of frames for a group. Several groups share a MAC. */
export const groupMac = (group: IpAddress): MacAddress =>
  typeof group === 'number'
    ? mac(MAC_OF_IPV4 + (group & 0x7fffff))
    : mac(MAC_OF_IPV6 + Number(group & 0xffffffffn))

/** Whether a link-local group that is not announced may share the MAC: frames to it go to every host then. */
export function isSharedWithLink(address: MacAddress): boolean {
  if (address < MAC_OF_IPV6) return address - MAC_OF_IPV4 < 256
  const low = address - MAC_OF_IPV6
  return low === 1 || Math.floor(low / 2 ** 24) === 0xff
}

/** How one family's groups are sent. */
export interface FamilyPlan {
  /**
   * `selective`: only to hosts that want them. `partly`: groups that no host announced go to all. `flooding`:
   * all groups go to all.
   */
  readonly mode: 'selective' | 'partly' | 'flooding'
  /** Why the mode is not `selective`. */
  readonly why: string | undefined
  /**
   * The groups that may leave this host, beside link-local ones; `all` when a host may want a group that it
   * did not announce.
   */
  readonly wanted: readonly IpAddress[] | 'all'
}

export interface GroupPlan {
  readonly families: Readonly<Record<Family, FamilyPlan>>
  /** How many groups other hosts announced. */
  readonly groups: number
  /** The forwarding entries of the device. */
  readonly destinations: readonly Destination[]
}

/**
 * Bounds of both families together: each entry costs the kernel about 200 bytes, and each of our passes some
 * time.
 */
export const GROUP_BOUNDS = { macs: 1024, entries: 16_384, groups: 4096 }

/** The groups of a host that announces nothing: it wants everything. */
const SILENT: Omit<HostGroups, 'vni'> = { tells: [], groups: [] }

/** The fields of a peer that show whether it takes part. */
export type HostLease = Pick<Peer, 'key' | 'multicast' | 'publicIp'>

/** A host that takes part: the groups that it wants, and the link by which frames leave for it. */
export interface MulticastHost extends HostGroups {
  /** Index of the link; 0 leaves it to the routes. */
  readonly via: number
}

/**
 * The hosts that take part, by the address that frames for them are sent to. A host without a way is left
 * out.
 * @param told the announcement of a host, by the key of its lease
 * @param wayOf how packets to the host of a lease leave this host
 */
export function hostsOf<L extends HostLease>(
  leases: Iterable<L>,
  vni: number,
  told: (leaseKey: string) => HostGroups | undefined,
  wayOf: (lease: L) => Way = alwaysClear,
): ReadonlyMap<IpAddress, MulticastHost> {
  const hosts = new Map<IpAddress, Pick<MulticastHost, 'tells' | 'via'> & { groups: Set<IpAddress> }>()
  for (const lease of leases) {
    if (lease.multicast !== vni) continue
    const target = targetBy(wayOf(lease), lease.publicIp)
    if (target === undefined) continue
    const said = told(lease.key)
    const { tells, groups } = said?.vni === vni ? said : SILENT
    const { address, via } = target
    const other = hosts.get(address)
    if (other === undefined) {
      hosts.set(address, { tells, via, groups: new Set(groups) })
      continue
    }
    // Several leases of one address: that address has to get the groups of all of them, in clear only if no
    // lease has a tunnel.
    for (const group of groups) other.groups.add(group)
    const both = tells.filter((family) => other.tells.includes(family))
    hosts.set(address, { ...other, via: other.via === 0 ? via : other.via, tells: both })
  }
  return new Map(
    [...hosts].map(([address, { tells, via, groups }]) => [
      address,
      { vni, tells, via, groups: [...groups] },
    ]),
  )
}

/**
 * Plans which host gets which group.
 * @param distrust why the announcements cannot be trusted now; all groups go to all hosts then
 */
export function planGroups(
  hosts: ReadonlyMap<IpAddress, MulticastHost>,
  distrust: string | undefined,
  bounds = GROUP_BOUNDS,
): GroupPlan {
  const everyone = Array.from(hosts, ([address, { via }]) => ({ mac: EVERY_GROUP, address, via }))
  const used = { macs: 0, entries: 0, groups: 0 }
  const destinations: Destination[] = []
  const planFamily = (family: Family): FamilyPlan => {
    if (distrust !== undefined) return { mode: 'flooding', why: distrust, wanted: 'all' }
    const lists = listsOf(family, hosts)
    const { groups, macs } = lists
    const after = {
      macs: used.macs + macs,
      entries: used.entries + lists.entries,
      groups: used.groups + groups.length,
    }
    const over = (['macs', 'entries', 'groups'] as const).find((what) => after[what] > bounds[what])
    if (over !== undefined) {
      const count = `${after[over]} ${BOUND_WORDS[over]}, at most ${bounds[over]}`
      const why = `hosts want more groups than can be told apart: ${count}`
      return { mode: 'flooding', why, wanted: 'all' }
    }
    Object.assign(used, after)
    destinations.push(...lists.destinations())
    const silent = [...hosts.values()].filter(({ tells }) => !tells.includes(family)).length
    if (silent === 0) return { mode: 'selective', why: undefined, wanted: groups }
    const why =
      silent === hosts.size
        ? `no other host announces the ${family} groups that it wants`
        : `${silent} of ${hosts.size} hosts do not announce the ${family} groups that they want`
    return { mode: 'partly', why, wanted: 'all' }
  }
  const families = { IPv4: planFamily('IPv4'), IPv6: planFamily('IPv6') }
  const all = new Set([...hosts.values()].flatMap(({ groups }) => groups))
  return { families, groups: all.size, destinations: [...everyone, ...destinations] }
}

const BOUND_WORDS = { macs: 'MAC addresses', entries: 'forwarding entries', groups: 'groups' }

/**
 * The groups of one family that may leave, and the hosts that get frames to each MAC that does not go to all.
 */
function listsOf(family: Family, hosts: ReadonlyMap<IpAddress, MulticastHost>) {
  const wanted = new Set<IpAddress>()
  const shared = new Set<MacAddress>()
  const members = new Map<MacAddress, Map<IpAddress, number>>()
  for (const [address, { tells, groups, via }] of hosts) {
    if (!tells.includes(family)) continue
    for (const group of groups) {
      if (familyOf(group) !== family) continue
      const to = groupMac(group)
      if (isLinkLocal(group) || isSharedWithLink(to)) shared.add(to)
      if (!isLinkLocal(group)) wanted.add(group)
      const list = members.get(to) ?? new Map<IpAddress, number>()
      members.set(to, list.set(address, via))
    }
  }
  for (const to of shared) members.delete(to)
  const silent = [...hosts].flatMap(([address, { tells, via }]): [IpAddress, number][] =>
    tells.includes(family) ? [] : [[address, via]],
  )
  // Counted before the entries are made: each announced group needs one entry for every host that announces
  // nothing.
  let entries = members.size * silent.length
  for (const list of members.values()) entries += list.size
  const destinations = (): Destination[] =>
    [...members].flatMap(([to, list]) =>
      // Hosts that get everything come first: they must miss nothing while the list is made.
      [...silent, ...list].map(([address, via]): Destination => ({ mac: to, address, via })),
    )
  const groups = [...wanted].sort((a, b) => (a < b ? -1 : 1))
  return { groups, destinations, entries, macs: members.size }
}

export const isSelective = ({ families }: GroupPlan): boolean =>
  FAMILIES.every((family) => families[family].mode === 'selective')
