/** Qdiscs and filters of what comes in on a link: whether there is a place for filters, which there are, and ours. */
import type { Family } from '../model/address'
import { FILTER_PRIORITY, type FrameFilter, type ObservedFilter } from '../model/multicast'
import { HOST_LITTLE_ENDIAN, type MessageWriter } from './netlink/bytes'
import type { Question } from './netlink/client'
import type { MessageOf } from './netlink/codec'
import {
  ETH_P_IP,
  ETH_P_IPV6,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  RTM_DELQDISC,
  RTM_DELTFILTER,
  RTM_GETQDISC,
  RTM_GETTFILTER,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  TC_ACT_PIPE,
  TC_ACT_STOLEN,
  TC_ACT_UNSPEC,
  TC_H_CLSACT,
  TC_H_CLSACT_HANDLE,
  TC_H_EGRESS_FILTERS,
  TC_H_INGRESS_FILTERS,
  TC_U32_TERMINAL,
  TCA_EGRESS_MIRROR,
  TCA_EGRESS_REDIR,
} from './netlink/constants'
import { filterMessage, type Mirred, qdiscMessage } from './netlink/traffic-control'

const ETHER_TYPES: Readonly<Record<Family, number>> = { IPv4: ETH_P_IP, IPv6: ETH_P_IPV6 }

/** The kind of the qdisc that filters on what comes in hang on: `clsact` or `ingress`. ENOENT or nothing where there is none. */
export const findIngressQdisc = (index: number): Question<string> => ({
  attempted: `read the qdisc of interface ${index}`,
  encode: (writer) =>
    qdiscMessage.encode(writer, RTM_GETQDISC, NLM_F_REQUEST, { index, parent: TC_H_CLSACT }),
  decode: (view, start, end) => qdiscMessage.decode(view, start, end).kind,
})

/** Appends the message that makes a place for filters; EEXIST when there is one. */
export function encodeAddQdisc(writer: MessageWriter, index: number): void {
  qdiscMessage.encode(writer, RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, {
    index,
    handle: TC_H_CLSACT_HANDLE,
    parent: TC_H_CLSACT,
    kind: 'clsact',
  })
}

/** Appends the message that takes it away, with all filters on it; ENOENT or EINVAL when there is none. */
export function encodeDeleteQdisc(writer: MessageWriter, index: number): void {
  qdiscMessage.encode(writer, RTM_DELQDISC, NLM_F_REQUEST, {
    index,
    handle: TC_H_CLSACT_HANDLE,
    parent: TC_H_CLSACT,
  })
}

/** All filters on what comes in on a link, or goes out; as a dump. */
export const listFilters = (index: number, way: 'in' | 'out'): Question<ObservedFilter> => ({
  attempted: `list the filters of interface ${index}`,
  encode: (writer) =>
    filterMessage.encode(writer, RTM_GETTFILTER, NLM_F_REQUEST, {
      index,
      parent: way === 'in' ? TC_H_INGRESS_FILTERS : TC_H_EGRESS_FILTERS,
    }),
  decode(view, start, end) {
    const message = filterMessage.decode(view, start, end)
    const { u32, handle, info, kind } = message
    // Before each filter of u32 there are two messages about the table that it is in.
    if (kind === 'u32' && u32?.selector === undefined) return undefined
    const protocol = swapped(info & 0xffff)
    return {
      priority: info >>> 16,
      protocol,
      handle,
      tag: u32?.classId ?? 0,
      filter: readFilter(protocol, message),
    }
  },
})

/** @returns undefined for a filter that we would not make */
function readFilter(protocol: number, { u32 }: MessageOf<typeof filterMessage>): FrameFilter | undefined {
  const family = protocol === ETH_P_IP ? 'IPv4' : protocol === ETH_P_IPV6 ? 'IPv6' : undefined
  const { classId, selector, actions = [] } = u32 ?? {}
  if (family === undefined || classId === undefined || selector === undefined) return undefined
  if (selector.flags !== TC_U32_TERMINAL || selector.varies) return undefined
  const links = actions.flatMap(({ mirred }) => mirred?.parameters ?? [])
  if (links.length !== actions.length) return undefined
  const copyTo = links.map(({ link }) => link)
  const goesOn = links.at(-1)?.next === TC_ACT_UNSPEC
  const isOurWay = actionsOf({ copyTo, goesOn }).every(
    ({ next, how }, index) => next === links[index]?.next && how === links[index]?.how,
  )
  return isOurWay ? { family, matches: selector.matches, tag: classId, copyTo, goesOn } : undefined
}

/** A copy to each link; the last gets the frame itself, where that does not go on. */
function actionsOf({ copyTo, goesOn }: Pick<FrameFilter, 'copyTo' | 'goesOn'>): Mirred[] {
  return copyTo.map((link, index): Mirred => {
    if (index < copyTo.length - 1) return { link, how: TCA_EGRESS_MIRROR, next: TC_ACT_PIPE }
    return goesOn
      ? { link, how: TCA_EGRESS_MIRROR, next: TC_ACT_UNSPEC }
      : { link, how: TCA_EGRESS_REDIR, next: TC_ACT_STOLEN }
  })
}

/** Appends the message that adds a filter behind those of its priority. The kernel gives it a handle. */
export function encodeAddFilter(writer: MessageWriter, index: number, filter: FrameFilter): void {
  const { family, tag, matches } = filter
  filterMessage.encode(writer, RTM_NEWTFILTER, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, {
    index,
    parent: TC_H_INGRESS_FILTERS,
    info: infoOf(FILTER_PRIORITY[family], ETHER_TYPES[family]),
    kind: 'u32',
    u32: {
      classId: tag,
      selector: { flags: TC_U32_TERMINAL, matches, varies: false },
      actions: actionsOf(filter).map((parameters) => ({ kind: 'mirred', mirred: { parameters } })),
    },
  })
}

/** Appends the message that removes a filter; ENOENT when it is not there, EINVAL when its qdisc is not. */
export function encodeDeleteFilter(writer: MessageWriter, index: number, filter: ObservedFilter): void {
  const { priority, protocol, handle } = filter
  filterMessage.encode(writer, RTM_DELTFILTER, NLM_F_REQUEST, {
    index,
    handle,
    parent: TC_H_INGRESS_FILTERS,
    info: infoOf(priority, protocol),
    kind: 'u32',
  })
}

const infoOf = (priority: number, protocol: number): number => ((priority << 16) | swapped(protocol)) >>> 0

/** Between the host's byte order and the network's. */
const swapped = (value: number): number =>
  HOST_LITTLE_ENDIAN ? ((value & 0xff) << 8) | (value >>> 8) : value
