/**
 * Nexthop objects (linux/nexthop.h, Linux 5.3): a gateway on a link under a number of its own. A route that names one costs the kernel the same
 * however many there are; routes with a gateway each cost it more with every route.
 */
import { type Ipv4, ipv4 } from '../model/address'
import { type NexthopId, ROUTE_PROTOCOL } from '../model/kernel'
import type { MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import { findU32 } from './netlink/codec'
import {
  AF_INET,
  NHA_OIF,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RTM_DELNEXTHOP,
  RTM_GETNEXTHOP,
  RTM_NEWNEXTHOP,
  RTNH_F_ONLINK,
} from './netlink/constants'
import { nexthopMessage } from './netlink/messages'

export interface Nexthop {
  readonly id: NexthopId
  readonly gateway: Ipv4
}

/** A nexthop as far as it says whose it is. */
export interface NexthopOwner {
  readonly id: NexthopId
  /** `undefined` for a group, or one that leads nowhere. */
  readonly link: number | undefined
}

/** The nexthops of all families, for ids are one number space, but those on these links; as a dump. */
export const listNexthopOwners = (except: readonly number[]): Question<NexthopOwner> => ({
  attempted: 'list nexthops',
  encode: (writer) => nexthopMessage.encode(writer, RTM_GETNEXTHOP, NLM_F_REQUEST, {}),
  decode(view, start, end) {
    // Nearly all are on those.
    const out = findU32(view, start + NHMSG_SIZE, end, NHA_OIF)
    if (out !== undefined && except.includes(out)) return undefined
    const { id, link } = nexthopMessage.decode(view, start, end)
    return id === undefined ? undefined : { id, link }
  },
})

/** sizeof(struct nhmsg) */
const NHMSG_SIZE = 8

/** What stands for the gateway of a nexthop unlike ours, so that it never equals one that is wanted. */
export const NOT_OURS = ipv4(0)

/** The IPv4 nexthops on one link; as a dump. EOPNOTSUPP where the kernel has none. */
export const listNexthops = (linkIndex: number): Question<Nexthop> => ({
  attempted: 'list nexthops',
  encode: (writer) =>
    nexthopMessage.encode(writer, RTM_GETNEXTHOP, NLM_F_REQUEST, { family: AF_INET, link: linkIndex }),
  decode(view, start, end) {
    const { family, flags, id, link, gateway } = nexthopMessage.decode(view, start, end)
    if (family !== AF_INET || link !== linkIndex || id === undefined) return undefined
    return { id, gateway: (flags & RTNH_F_ONLINK) === 0 ? NOT_OURS : (gateway ?? NOT_OURS) }
  },
})

/** Appends the message that adds a nexthop (EEXIST when its id is taken), or replaces the one with its id. */
export function encodeSetNexthop(
  writer: MessageWriter,
  index: number,
  { id, gateway, replace }: Nexthop & { readonly replace: boolean },
): void {
  const mode = replace ? NLM_F_REPLACE : NLM_F_EXCL
  nexthopMessage.encode(writer, RTM_NEWNEXTHOP, NLM_F_REQUEST | NLM_F_CREATE | mode, {
    family: AF_INET,
    protocol: ROUTE_PROTOCOL,
    flags: RTNH_F_ONLINK,
    id,
    link: index,
    gateway,
  })
}

/** Appends the message that removes a nexthop, and the routes through it with it; ENOENT when there is none. */
export function encodeDeleteNexthop(writer: MessageWriter, id: NexthopId): void {
  nexthopMessage.encode(writer, RTM_DELNEXTHOP, NLM_F_REQUEST, { id })
}
