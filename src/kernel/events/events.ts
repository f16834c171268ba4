/**
 * Turns the kernel's notifications into hints: something of that kind changed. They are decoded as little as
 * possible, because a burst may be of many thousands; the truth is in a dump. Notifications that our own
 * requests caused are dropped, by their header alone if it names the sender.
 */
import { type Family, type Prefix, prefixContains, samePrefix } from '../../model/address'
import type { ChangeKind, KernelChange } from '../../model/kernel/change'
import { KINDS_REVERSED, type ObjectOperation } from '../../model/kernel/objects'
import { ATTRIBUTE_HEADER_SIZE, HOST_LITTLE_ENDIAN, MessageCursor } from '../netlink/bytes'
import { findAttribute } from '../netlink/codec'
import {
  AF_INET,
  AF_INET6,
  IFA_ADDRESS,
  NETCONFA_IFINDEX,
  NETCONFA_IFINDEX_ALL,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNETCONF,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_NETCONF,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_NETCONF,
  RTNLGRP_LINK,
} from '../netlink/constants'
import type { NetlinkHandlers, NetlinkSocket } from '../netlink/socket'
import { KERNEL } from '../objects'
import { Echoes } from './echoes'
import { type Notification, readAddress } from './notification'

/** Milliseconds from the first notification of a burst to the check whether some were lost. */
const OVERRUN_CHECK_DELAY = 100

/** sizeof(struct ifaddrmsg) */
const IFADDRMSG_SIZE = 8
/** sizeof(struct netconfmsg), padded to four bytes */
const NETCONFMSG_SIZE = 4

const LINK: Notification = {
  made: RTM_NEWLINK,
  deleted: RTM_DELLINK,
  groups: [RTNLGRP_LINK],
  // ifi_index
  index: { at: 4 },
  namesSender: true,
}
const ADDRESS: Notification = {
  made: RTM_NEWADDR,
  deleted: RTM_DELADDR,
  groups: [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR],
  // ifa_index
  index: { at: 4 },
  place: { attribute: IFA_ADDRESS, after: IFADDRMSG_SIZE, read: readAddress },
  namesSender: true,
}
const SETTINGS: Notification = {
  made: RTM_NEWNETCONF,
  deleted: undefined,
  groups: [RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF],
  index: { attribute: NETCONFA_IFINDEX, after: NETCONFMSG_SIZE },
  namesSender: true,
}

/**
 * Two kinds with one notification are announced as the kind that is made first: forwarding entries as
 * `neighbour`.
 */
const NOTIFICATIONS: ReadonlyMap<Notification, ChangeKind> = new Map<Notification, ChangeKind>([
  [LINK, 'link'],
  [ADDRESS, 'address'],
  ...KINDS_REVERSED.map((kind) => [KERNEL[kind].notification, kind] as const),
  [SETTINGS, 'settings'],
])

const GROUPS: readonly number[] = [...NOTIFICATIONS.keys()].flatMap(({ groups }) => groups)

interface MessageKind extends Notification {
  readonly kind: ChangeKind
  readonly isDeletion: boolean
}

/** RTM_* -> notification of the kind */
const MESSAGES: ReadonlyMap<number, MessageKind> = new Map(
  [...NOTIFICATIONS].flatMap(([notification, kind]): (readonly [number, MessageKind])[] => {
    const made = [notification.made, { ...notification, kind, isDeletion: false }] as const
    if (notification.deleted === undefined) return [made]
    return [made, [notification.deleted, { ...notification, kind, isDeletion: true }]]
  }),
)

export type ChangeListener = (change: KernelChange) => void

/** The inputs that separate changes by others on our links from all other notifications. */
export interface ChangeFilter {
  /** Port id of the socket for our changes. */
  readonly ownPortId: number
  /** Indexes of our links. */
  readonly watched: ReadonlySet<number>
  /** Whether routes on other links matter too: they decide which peers are direct. */
  readonly allRoutes: boolean
  /** Networks whose routes are ours, and whose addresses are ids of our nexthops. */
  readonly networks: readonly Prefix[]
  readonly echoes: Echoes
}

/**
 * Reads the notifications of one datagram and announces those that matter; see {@link ChangeStream}.
 * @throws {MalformedMessageError}
 */
export function readChanges(datagram: Uint8Array, filter: ChangeFilter, tell: ChangeListener): void {
  const cursor = new MessageCursor(datagram)
  while (cursor.next()) {
    if (cursor.portId === filter.ownPortId) continue
    const message = MESSAGES.get(cursor.type)
    if (message === undefined) continue
    const { kind, isDeletion: deleted } = message
    const index = linkIndexOf(cursor, message)
    const linkIndex = kind === 'settings' && index === NETCONFA_IFINDEX_ALL ? undefined : index
    const inOurPlace = isInOurPlace(message, linkIndex, filter, cursor)
    if (!inOurPlace && !matters(message, linkIndex, filter, cursor)) continue
    if (!message.namesSender && filter.echoes.isEcho(cursor.view, cursor.start, cursor.end, deleted)) continue
    const family = familyIn(kind, cursor)
    tell({ kind, linkIndex, deleted, ...(family && { family }), ...(inOurPlace && { inOurPlace }) })
  }
}

/**
 * The headers of all kinds but two begin with the family (linux/rtnetlink.h, linux/neighbour.h,
 * linux/nexthop.h).
 */
function familyIn(kind: ChangeKind, { view, start, end }: MessageCursor): Family | undefined {
  if (kind === 'link' || kind === 'settings' || end <= start) return undefined
  const family = view.getUint8(start)
  if (family === AF_INET) return 'IPv4'
  return family === AF_INET6 ? 'IPv6' : undefined
}

/**
 * Whether a stranger's route or nexthop is, or was, in the place of a possible one of ours; or an address is
 * inside of our network.
 */
function isInOurPlace(
  { place }: MessageKind,
  linkIndex: number | undefined,
  { watched, networks }: ChangeFilter,
  { view, start, end }: MessageCursor,
): boolean {
  if (place === undefined || networks.length === 0) return false
  if (linkIndex !== undefined && watched.has(linkIndex)) return false
  const at = findAttribute(view, start + place.after, end, place.attribute)
  if (at === -1) return false
  const address = place.read(view, at + ATTRIBUTE_HEADER_SIZE, end, view.getUint8(start))
  return address !== undefined && networks.some((network) => prefixContains(network, address))
}

/**
 * Link and address changes always matter: they are few, and include the underlay. Others matter on our links,
 * or when the link is unknown.
 */
function matters(
  { kind, place }: MessageKind,
  linkIndex: number | undefined,
  { watched, allRoutes, networks }: ChangeFilter,
  cursor: MessageCursor,
): boolean {
  if (kind === 'link' || kind === 'address') return true
  if (linkIndex !== undefined && watched.has(linkIndex)) return true
  const isKnownByPlace = networks.length > 0 && place !== undefined
  if (linkIndex === undefined && !isKnownByPlace) return true
  if (kind !== 'route') return false
  // A default route decides which interface is the underlay. rtm_dst_len is the second byte of struct rtmsg.
  return allRoutes || (cursor.end > cursor.start + 1 && cursor.view.getUint8(cursor.start + 1) === 0)
}

function linkIndexOf({ view, start, end }: MessageCursor, { index }: MessageKind): number | undefined {
  if ('at' in index) {
    const at = start + index.at
    return at + 4 <= end ? view.getInt32(at, HOST_LITTLE_ENDIAN) : undefined
  }
  const at = findAttribute(view, start + index.after, end, index.attribute)
  const value = at + ATTRIBUTE_HEADER_SIZE
  return at === -1 || value + 4 > end ? undefined : view.getInt32(value, HOST_LITTLE_ENDIAN)
}

/** Announces the notifications of this network namespace to listeners. */
export class ChangeStream {
  private readonly listeners = new Set<ChangeListener>()
  private socket: NetlinkSocket | undefined
  private knownDrops = 0
  private overrunCheck: NodeJS.Timeout | undefined
  private readonly watched = new Set<number>()
  private allRoutes = false
  private networks: readonly Prefix[] = []
  private readonly echoes = new Echoes()

  private constructor(
    private readonly ownPortId: number,
    private readonly report: (error: Error) => void,
  ) {}

  /**
   * Joins the groups: changes from now on are announced.
   * @param connect opens the socket with these handlers
   * @param ownPortId port id of the socket for our changes
   * @param report called with errors of listeners and of the socket
   */
  static async open(
    connect: (handlers: NetlinkHandlers) => Promise<NetlinkSocket>,
    ownPortId: number,
    report: (error: Error) => void,
  ): Promise<ChangeStream> {
    const stream = new ChangeStream(ownPortId, report)
    const socket = await connect({ onDatagram: (datagram) => stream.receive(datagram), onError: report })
    stream.socket = socket
    try {
      for (const group of GROUPS) socket.addMembership(group)
    } catch (error) {
      socket.close()
      throw error
    }
    return stream
  }

  /** Size of the receive queue in bytes; see {@link NetlinkSocket.receiveBuffer}. */
  get receiveBuffer(): number {
    return this.socket?.receiveBuffer ?? 0
  }

  /**
   * Announces changes of neighbours, routes and nexthops of this link from now on; not of links that nobody
   * watches.
   */
  watchLink(index: number): void {
    if (this.watched.has(index)) return
    this.echoes.clear()
    this.watched.add(index)
  }

  /** Reverts {@link watchLink}. */
  unwatchLink(index: number): void {
    if (this.watched.delete(index)) this.echoes.clear()
  }

  /** Announces changes of routes on all links from now on. */
  watchAllRoutes(): void {
    this.allRoutes = true
  }

  /** Announces, for all links, changes of routes into this network and of nexthops whose ids lie in it. */
  watchNetwork(network: Prefix): void {
    if (!this.networks.some((other) => samePrefix(other, network)))
      this.networks = [...this.networks, network]
  }

  /** Prevents that the effects of these operations, which the kernel gets next, are announced. */
  expect(operations: readonly ObjectOperation[]): void {
    this.echoes.expect(operations)
  }

  /** @returns stops the calls of this listener */
  onChange(listener: ChangeListener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Announces an `overrun` if notifications were lost since the last check. */
  checkOverruns(): void {
    if (this.socket === undefined) return
    const drops = this.socket.drops()
    if (drops === this.knownDrops) return
    this.knownDrops = drops
    this.echoes.clear()
    this.tell({ kind: 'overrun' })
  }

  /** Idempotent. */
  close(): void {
    clearTimeout(this.overrunCheck)
    this.overrunCheck = undefined
    this.socket?.close()
    this.socket = undefined
  }

  private receive(datagram: Buffer): void {
    this.overrunCheck ??= setTimeout(() => this.checkAfterBurst(), OVERRUN_CHECK_DELAY).unref()
    const { ownPortId, watched, allRoutes, networks, echoes } = this
    readChanges(datagram, { ownPortId, watched, allRoutes, networks, echoes }, (change) => this.tell(change))
  }

  private checkAfterBurst(): void {
    this.overrunCheck = undefined
    try {
      this.checkOverruns()
    } catch (error) {
      this.report(error instanceof Error ? error : new Error(String(error)))
    }
  }

  private tell(change: KernelChange): void {
    for (const listener of this.listeners) {
      try {
        listener(change)
      } catch (error) {
        this.report(error instanceof Error ? error : new Error(String(error)))
      }
    }
  }
}
