/**
 * Writes all messages of a socket as lines, decoded with the names of their tables, for people who debug:
 * `nl 4711 > RTM_NEWROUTE create|excl #7: family=2 destination=10.5.2.0 ...`.
 */
import { MessageCursor } from './bytes'
import type { AttributeTable, HeaderLayout, MessageCodec } from './codec'
import * as constants from './constants'
import {
  addressMessage,
  linkMessage,
  namespaceMessage,
  neighbourMessage,
  nexthopMessage,
  routeMessage,
} from './messages'
import { readDone, readError } from './replies'
import type { NetlinkHandlers, NetlinkSocket } from './socket'

/** Opens a socket with handlers that see each datagram after it was written, and writes what is sent. */
export type Trace = (
  handlers: NetlinkHandlers,
  open: (handlers: NetlinkHandlers) => NetlinkSocket,
) => NetlinkSocket

const { NETLINK_ROUTE, NLMSG_DONE, NLMSG_ERROR } = constants

/** RTM_* -> name */
const TYPES: ReadonlyMap<number, string> = new Map([
  [NLMSG_ERROR, 'NLMSG_ERROR'],
  [NLMSG_DONE, 'NLMSG_DONE'],
  ...Object.entries(constants).flatMap(([name, value]): [number, string][] =>
    /^RTM_(NEW|DEL|GET)/.test(name) && typeof value === 'number' ? [[value, name]] : [],
  ),
])

/** First type of a group of four (new, delete, get, set) -> the table of its messages */
const CODECS: ReadonlyMap<number, MessageCodec<HeaderLayout, AttributeTable>> = new Map(
  [
    [constants.RTM_NEWLINK, linkMessage],
    [constants.RTM_NEWADDR, addressMessage],
    [constants.RTM_NEWROUTE, routeMessage],
    [constants.RTM_NEWNEIGH, neighbourMessage],
    [constants.RTM_NEWNEXTHOP, nexthopMessage],
    [constants.RTM_GETNSID & ~3, namespaceMessage],
  ].map(([type, codec]) => [type, codec] as [number, MessageCodec<HeaderLayout, AttributeTable>]),
)

/** Flags of requests by the verb that the lowest two bits of a type are (linux/netlink.h). */
const FLAGS: readonly (readonly (readonly [number, string])[])[] = [
  [
    [constants.NLM_F_REPLACE, 'replace'],
    [constants.NLM_F_EXCL, 'excl'],
    [constants.NLM_F_CREATE, 'create'],
    [constants.NLM_F_APPEND, 'append'],
  ],
  [],
  [[constants.NLM_F_DUMP, 'dump']],
  [],
]

/**
 * @param protocol NETLINK_*: only messages of NETLINK_ROUTE are decoded, of others the type is shown and the
 * length. So no key of WireGuard, which is in messages of NETLINK_GENERIC, is ever shown.
 */
export function traceTo(write: (line: string) => void, protocol: number): Trace {
  return (handlers, open) => {
    let port = 0
    const trace = (direction: '>' | '<', datagram: Uint8Array): void => {
      const cursor = new MessageCursor(datagram)
      try {
        while (cursor.next()) write(`nl ${port} ${direction} ${describe(cursor, direction, protocol)}`)
      } catch (error) {
        write(`nl ${port} ${direction} ${String(error)}`)
      }
    }
    const socket = open({
      ...handlers,
      onDatagram(datagram) {
        trace('<', datagram)
        handlers.onDatagram(datagram)
      },
    })
    port = socket.portId
    return {
      ...socket,
      send(datagram, reading) {
        trace('>', datagram)
        socket.send(datagram, reading)
      },
    }
  }
}

function describe(cursor: MessageCursor, direction: '>' | '<', protocol: number): string {
  const { type, flags, sequence, portId, view, start, end } = cursor
  const isKnown = protocol === NETLINK_ROUTE || type < constants.NLMSG_MIN_TYPE
  const name = (isKnown ? TYPES.get(type) : undefined) ?? `type ${type}`
  // The lowest two bits of a type are its verb in this protocol alone.
  const known = direction === '>' && protocol === NETLINK_ROUTE ? (FLAGS[type & 3] ?? []) : []
  const words = known.flatMap(([flag, word]) => ((flags & flag) === flag ? [word] : []))
  // On an answer the port is ours; on a notification it is that of the socket whose request caused it.
  const head = [name, words.join('|'), `#${sequence}`, direction === '<' ? `by ${portId}` : '']
  return `${head.filter((word) => word !== '').join(' ')}: ${body()}`

  function body(): string {
    if (type === NLMSG_ERROR || type === NLMSG_DONE) {
      const { errno, detail } = type === NLMSG_ERROR ? readError(cursor) : readDone(cursor)
      return `errno=${errno}${detail === undefined ? '' : ` ${detail}`}`
    }
    const codec = protocol === NETLINK_ROUTE ? CODECS.get(type & ~3) : undefined
    return codec === undefined ? `${end - start} bytes` : codec.text(codec.decode(view, start, end))
  }
}
