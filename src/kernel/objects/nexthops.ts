/**
 * Nexthop objects (linux/nexthop.h, Linux 5.3): a gateway on a link, with an id. A route through an object
 * costs the kernel the same at any number of routes; a route with a gateway of its own costs more with every
 * route.
 */
import { type Ipv4, ipv4, prefixContains } from '../../model/address'
import { UNKNOWN_GATEWAY } from '../../model/kernel/objects'
import { type NexthopId, ROUTE_PROTOCOL } from '../../model/kernel/route'
import { readU32 } from '../events/notification'
import type { Question } from '../netlink/client'
import { findU32 } from '../netlink/codec'
import {
  AF_INET,
  NHA_ID,
  NHA_OIF,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RTM_DELNEXTHOP,
  RTM_GETNEXTHOP,
  RTM_NEWNEXTHOP,
  RTNH_F_ONLINK,
  RTNLGRP_NEXTHOP,
} from '../netlink/constants'
import { nexthopMessage } from '../netlink/messages'
import type { KernelKind, Reading } from './kind'

export interface Nexthop {
  readonly id: NexthopId
  readonly gateway: Ipv4
}

/** A nexthop, with the field that shows whose it is. */
export interface NexthopOwner {
  readonly id: NexthopId
  /** `undefined` for a group and for a blackhole. */
  readonly link: number | undefined
}

/** Dump of all nexthops except those on these links. Of all families: ids are one number space. */
export const listNexthopOwners = (except: readonly number[]): Question<NexthopOwner> => ({
  attempted: 'list nexthops',
  encode: (writer) => nexthopMessage.encode(writer, RTM_GETNEXTHOP, NLM_F_REQUEST, {}),
  decode(view, start, end) {
    // Nearly all nexthops are on those links: these are not decoded.
    const out = findU32(view, start + NHMSG_SIZE, end, NHA_OIF)
    if (out !== undefined && except.includes(out)) return undefined
    const { id, link } = nexthopMessage.decode(view, start, end)
    return id === undefined ? undefined : { id, link }
  },
})

/** sizeof(struct nhmsg) */
const NHMSG_SIZE = 8

/** Dump of the IPv4 nexthops on one link. EOPNOTSUPP on a kernel without nexthop objects. */
export const listNexthops = (linkIndex: number): Question<Nexthop> => ({
  attempted: 'list nexthops',
  encode: (writer) =>
    nexthopMessage.encode(writer, RTM_GETNEXTHOP, NLM_F_REQUEST, { family: AF_INET, link: linkIndex }),
  decode(view, start, end) {
    const { family, flags, id, link, gateway } = nexthopMessage.decode(view, start, end)
    if (family !== AF_INET || link !== linkIndex || id === undefined) return undefined
    return { id, gateway: (flags & RTNH_F_ONLINK) === 0 ? UNKNOWN_GATEWAY : (gateway ?? UNKNOWN_GATEWAY) }
  },
})

/** Ids in our network that nexthops of others have, on other links or on none. */
export async function readTakenNexthops({
  dump,
  link,
  elsewhere,
  usesNexthops,
}: Reading): Promise<Set<NexthopId>> {
  const { network, links } = elsewhere
  if (!usesNexthops || network === undefined) return new Set()
  const owners = await dump(listNexthopOwners([link, ...links]))
  return new Set(owners.flatMap(({ id }) => (prefixContains(network, ipv4(id)) ? [id] : [])))
}

/**
 * The kernel refuses a nexthop whose id is taken (EEXIST), unless the message replaces. With a nexthop it
 * removes all routes through the nexthop. It refuses to delete a nexthop that is not there (ENOENT).
 */
export const nexthop: KernelKind<'nexthop'> = {
  async read({ dump, link, elsewhere, usesNexthops }) {
    const nexthops = new Map<NexthopId, Ipv4>()
    if (!usesNexthops) return nexthops
    for (const { id, gateway } of await dump(listNexthops(link))) nexthops.set(id, gateway)
    for (const other of elsewhere.links) {
      // A nexthop on another link occupies its id, and equals no wanted one.
      for (const { id } of await dump(listNexthops(other))) nexthops.set(id, UNKNOWN_GATEWAY)
    }
    return nexthops
  },
  encode(writer, link, operation) {
    const { key: id, value: gateway } = operation
    if (operation.do === 'delete') {
      nexthopMessage.encode(writer, RTM_DELNEXTHOP, NLM_F_REQUEST, { id })
      return
    }
    const mode = operation.replace ? NLM_F_REPLACE : NLM_F_EXCL
    nexthopMessage.encode(writer, RTM_NEWNEXTHOP, NLM_F_REQUEST | NLM_F_CREATE | mode, {
      family: AF_INET,
      protocol: ROUTE_PROTOCOL,
      flags: RTNH_F_ONLINK,
      id,
      link,
      gateway,
    })
  },
  notification: {
    made: RTM_NEWNEXTHOP,
    deleted: RTM_DELNEXTHOP,
    groups: [RTNLGRP_NEXTHOP],
    index: { attribute: NHA_OIF, after: NHMSG_SIZE },
    place: { attribute: NHA_ID, after: NHMSG_SIZE, read: readId },
    namesSender: true,
  },
}

/** The id of a nexthop of ours is the address of its subnet. */
function readId(view: DataView, at: number, end: number): Ipv4 | undefined {
  const id = readU32(view, at, end)
  return id === undefined ? undefined : ipv4(id)
}
