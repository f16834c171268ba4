/** Which host gets which group: what hosts say that they want becomes forwarding entries, and what nobody wants stays where it is sent. */
import { FAMILIES, type Family, familyOf, type IpAddress, type MacAddress, mac } from '../model/address'
import type { Peer } from '../model/lease'
import { type Destination, EVERY_GROUP, type HostGroups } from '../model/multicast'

/** An IPv6 group's scope (RFC 4291, 2.7). */
const scopeOf = (group: bigint): number => Number((group >> 112n) & 15n)
const INTERFACE_LOCAL = 1
const LINK_LOCAL = 2

/** Whether it is for one link alone: 224.0.0.0/24 (RFC 5771), and IPv6's scope of that name. */
export const isLinkLocal = (group: IpAddress): boolean =>
  typeof group === 'number' ? group >>> 8 === 0xe00000 : scopeOf(group) === LINK_LOCAL

/** `ff02::1`, which nobody joins by a message (RFC 3810), and the first 104 bits of solicited-node groups (RFC 4291). */
const ALL_NODES = (0xff02n << 112n) | 1n
const SOLICITED_NODE = (0xff02n << 88n) | 0x1ffn

/**
 * Whether hosts tell each other of its members. What goes to an IPv4 group of the link, to all nodes or to a solicited node goes to every host
 * anyway; of IPv6's other groups of the link it has to be known which MACs they use.
 */
export function isTold(group: IpAddress): boolean {
  if (typeof group === 'number') return !isLinkLocal(group)
  return scopeOf(group) > INTERFACE_LOCAL && group !== ALL_NODES && group >> 24n !== SOLICITED_NODE
}

/** The first bits of the MACs of IPv4 groups (RFC 1112), of which 23 bits of the group follow, and of IPv6's (RFC 2464), of which 32 do. */
const MAC_OF_IPV4 = 0x01005e000000
const MAC_OF_IPV6 = 0x333300000000

/** The MAC to which frames for a group go; others share it. */
export const groupMac = (group: IpAddress): MacAddress =>
  typeof group === 'number'
    ? mac(MAC_OF_IPV4 + (group & 0x7fffff))
    : mac(MAC_OF_IPV6 + Number(group & 0xffffffffn))

/** Whether a group of the link may share it that nobody tells of: then it goes to every host. */
export function isSharedWithLink(address: MacAddress): boolean {
  if (address < MAC_OF_IPV6) return address - MAC_OF_IPV4 < 256
  const low = address - MAC_OF_IPV6
  return low === 1 || Math.floor(low / 2 ** 24) === 0xff
}

/** How one family's groups are sent. */
export interface FamilyPlan {
  /** `selective`: only to hosts that want them. `partly`: those that nobody has told of to all. `flooding`: all to all. */
  readonly mode: 'selective' | 'partly' | 'flooding'
  /** Why it is not `selective`. */
  readonly why: string | undefined
  /** The groups that may leave, beside those of the link; `all` where someone may want one that nobody has told of. */
  readonly wanted: readonly IpAddress[] | 'all'
}

export interface GroupPlan {
  readonly families: Readonly<Record<Family, FamilyPlan>>
  /** Groups that other hosts have told of. */
  readonly groups: number
  /** Where the device sends what. */
  readonly destinations: readonly Destination[]
}

/** What the kernel is to have at the most, of both families together: each entry costs it about 200 bytes, and each pass of ours some time. */
export const GROUP_BOUNDS = { macs: 1024, entries: 16_384, groups: 4096 }

/** A host that tells nothing wants everything. */
const SILENT: Omit<HostGroups, 'vni'> = { tells: [], groups: [] }

/** What of a peer tells whether it takes part. */
export type HostLease = Pick<Peer, 'key' | 'multicast' | 'publicIp'>

/**
 * The hosts that take part, by the address that they are sent to, and what they want.
 * @param told what a host says, by the key of its lease
 */
export function hostsOf(
  peers: Iterable<HostLease>,
  vni: number,
  told: (leaseKey: string) => HostGroups | undefined,
): ReadonlyMap<IpAddress, HostGroups> {
  const hosts = new Map<IpAddress, HostGroups>()
  for (const { key, multicast, publicIp } of peers) {
    if (multicast !== vni) continue
    const said = told(key)
    const { tells, groups } = said?.vni === vni ? said : SILENT
    const other = hosts.get(publicIp)
    // Two leases of one address: what is sent there has to be enough for both.
    hosts.set(publicIp, {
      vni,
      tells: other === undefined ? tells : tells.filter((family) => other.tells.includes(family)),
      groups: other === undefined ? groups : [...other.groups, ...groups],
    })
  }
  return hosts
}

/**
 * Plans who gets what.
 * @param distrust why what hosts said is not to be believed just now; all go to all then
 */
export function planGroups(
  hosts: ReadonlyMap<IpAddress, HostGroups>,
  distrust: string | undefined,
  bounds = GROUP_BOUNDS,
): GroupPlan {
  const everyone = [...hosts.keys()].map((address) => ({ mac: EVERY_GROUP, address }))
  const used = { macs: 0, entries: 0, groups: 0 }
  const lists: Destination[] = []
  const planFamily = (family: Family): FamilyPlan => {
    if (distrust !== undefined) return { mode: 'flooding', why: distrust, wanted: 'all' }
    const { groups, destinations, macs } = listsOf(family, hosts)
    const after = {
      macs: used.macs + macs,
      entries: used.entries + destinations.length,
      groups: used.groups + groups.length,
    }
    const over = (['macs', 'entries', 'groups'] as const).find((what) => after[what] > bounds[what])
    if (over !== undefined) {
      const why = `hosts want more groups than are told apart: ${after[over]} ${BOUND_WORDS[over]}, ${bounds[over]} at the most`
      return { mode: 'flooding', why, wanted: 'all' }
    }
    Object.assign(used, after)
    lists.push(...destinations)
    const silent = [...hosts.values()].filter(({ tells }) => !tells.includes(family)).length
    if (silent === 0) return { mode: 'selective', why: undefined, wanted: groups }
    const why =
      silent === hosts.size
        ? `no other host tells which ${family} groups it wants`
        : `${silent} of ${hosts.size} hosts do not tell which ${family} groups they want`
    return { mode: 'partly', why, wanted: 'all' }
  }
  const families = { IPv4: planFamily('IPv4'), IPv6: planFamily('IPv6') }
  const all = new Set([...hosts.values()].flatMap(({ groups }) => groups))
  return { families, groups: all.size, destinations: [...everyone, ...lists] }
}

const BOUND_WORDS = { macs: 'MAC addresses', entries: 'forwarding entries', groups: 'groups' }

/** One family's groups that may leave, and the hosts to which frames for each MAC go that not all get. */
function listsOf(family: Family, hosts: ReadonlyMap<IpAddress, HostGroups>) {
  const wanted = new Set<IpAddress>()
  const shared = new Set<MacAddress>()
  const members = new Map<MacAddress, Set<IpAddress>>()
  for (const [address, { tells, groups }] of hosts) {
    if (!tells.includes(family)) continue
    for (const group of groups) {
      if (familyOf(group) !== family) continue
      const to = groupMac(group)
      if (isLinkLocal(group) || isSharedWithLink(to)) shared.add(to)
      if (!isLinkLocal(group)) wanted.add(group)
      const list = members.get(to) ?? new Set()
      members.set(to, list.add(address))
    }
  }
  for (const to of shared) members.delete(to)
  const silent = [...hosts].filter(([, { tells }]) => !tells.includes(family)).map(([address]) => address)
  const destinations = [...members].flatMap(([to, list]) =>
    // Those who get all first: they have to miss nothing while the list is made.
    [...silent, ...list].map((address): Destination => ({ mac: to, address })),
  )
  const groups = [...wanted].sort((a, b) => (a < b ? -1 : 1))
  return { groups, destinations, macs: members.size }
}

export const isSelective = ({ families }: GroupPlan): boolean =>
  FAMILIES.every((family) => families[family].mode === 'selective')
