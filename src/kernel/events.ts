/**
 * The kernel's notifications, as hints: something of that kind changed. They are read as little as possible, because a burst may be of
 * many thousands; the truth is in a dump. Messages that our own requests caused are dropped, by their header
 * alone where the kernel says in it whose they are.
 */
import {
  type Family,
  type IpAddress,
  type Ipv6,
  ipv4,
  type Prefix,
  prefixContains,
  samePrefix,
} from '../model/address'
import type { ObjectOperation } from '../model/kernel'
import { Echoes } from './echoes'
import { ATTRIBUTE_HEADER_SIZE, HOST_LITTLE_ENDIAN, MessageCursor } from './netlink/bytes'
import { findAttribute } from './netlink/codec'
import {
  AF_INET,
  AF_INET6,
  IFA_ADDRESS,
  NETCONFA_IFINDEX,
  NETCONFA_IFINDEX_ALL,
  NHA_ID,
  NHA_OIF,
  RTA_DST,
  RTA_OIF,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELNEXTHOP,
  RTM_DELROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWNETCONF,
  RTM_NEWNEXTHOP,
  RTM_NEWROUTE,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_NETCONF,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_NETCONF,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
  RTNLGRP_NEXTHOP,
} from './netlink/constants'
import type { NetlinkHandlers, NetlinkSocket } from './netlink/socket'

/** A hint that something changed, made by someone else. */
export type KernelChange =
  | {
      /** `neighbour` stands for forwarding entries too, `settings` for sysctls such as forwarding. */
      readonly kind: 'link' | 'address' | 'neighbour' | 'route' | 'nexthop' | 'settings'
      /** `undefined` when the message does not tell one link: a route over several or to nowhere, a setting of the host. */
      readonly linkIndex: number | undefined
      readonly deleted: boolean
      /** Of addresses, routes, nexthops and neighbours; `undefined` for what is about both, such as forwarding entries. */
      readonly family?: Family
      /** It is on a link that is not ours, and may be in the way of an object of ours. */
      readonly inOurPlace?: true
    }
  /** Notifications were lost: anything may have changed. */
  | { readonly kind: 'overrun' }

type ChangeKind = Exclude<KernelChange['kind'], 'overrun'>

/** Milliseconds from the first notification of a burst to the check whether some were lost. */
const OVERRUN_CHECK_DELAY = 100

const GROUPS = [
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_NEXTHOP,
  RTNLGRP_IPV4_NETCONF,
  RTNLGRP_IPV6_NETCONF,
]

interface MessageKind {
  readonly kind: ChangeKind
  readonly deleted: boolean
  /** Offset of the interface index in the fixed header, or the attribute that has it after a header of that size. */
  readonly index: { readonly at: number } | { readonly attribute: number; readonly after: number }
}

const IN_IFINFOMSG = { at: 4 }
const IN_IFADDRMSG = { at: 4 }
const IN_NDMSG = { at: 4 }
const IN_ROUTE = { attribute: RTA_OIF, after: 12 }
const IN_NEXTHOP = { attribute: NHA_OIF, after: 8 }
const IN_NETCONF = { attribute: NETCONFA_IFINDEX, after: 4 }

const MESSAGES: ReadonlyMap<number, MessageKind> = new Map<number, MessageKind>([
  [RTM_NEWLINK, { kind: 'link', deleted: false, index: IN_IFINFOMSG }],
  [RTM_DELLINK, { kind: 'link', deleted: true, index: IN_IFINFOMSG }],
  [RTM_NEWADDR, { kind: 'address', deleted: false, index: IN_IFADDRMSG }],
  [RTM_DELADDR, { kind: 'address', deleted: true, index: IN_IFADDRMSG }],
  [RTM_NEWNEIGH, { kind: 'neighbour', deleted: false, index: IN_NDMSG }],
  [RTM_DELNEIGH, { kind: 'neighbour', deleted: true, index: IN_NDMSG }],
  [RTM_NEWROUTE, { kind: 'route', deleted: false, index: IN_ROUTE }],
  [RTM_DELROUTE, { kind: 'route', deleted: true, index: IN_ROUTE }],
  [RTM_NEWNEXTHOP, { kind: 'nexthop', deleted: false, index: IN_NEXTHOP }],
  [RTM_DELNEXTHOP, { kind: 'nexthop', deleted: true, index: IN_NEXTHOP }],
  [RTM_NEWNETCONF, { kind: 'settings', deleted: false, index: IN_NETCONF }],
])

export type ChangeListener = (change: KernelChange) => void

/** What it takes to tell the changes of others on our links from all else. */
export interface ChangeFilter {
  /** Port id of the socket we make changes through. */
  readonly ownPortId: number
  /** Indexes of our links. */
  readonly watched: ReadonlySet<number>
  /** Whether routes on other links matter too: those decide which peers are direct. */
  readonly allRoutes: boolean
  /** Networks whose routes, and whose addresses as ids of nexthops, are ours. */
  readonly networks: readonly Prefix[]
  readonly echoes: Echoes
}

/**
 * Reads one datagram's notifications and tells those that matter; see {@link ChangeStream}.
 * @throws {MalformedMessageError}
 */
export function readChanges(datagram: Uint8Array, filter: ChangeFilter, tell: ChangeListener): void {
  const cursor = new MessageCursor(datagram)
  while (cursor.next()) {
    if (cursor.portId === filter.ownPortId) continue
    const message = MESSAGES.get(cursor.type)
    if (message === undefined) continue
    const index = linkIndexOf(cursor, message)
    const linkIndex = message.kind === 'settings' && index === NETCONFA_IFINDEX_ALL ? undefined : index
    const inOurPlace = isInOurPlace(message.kind, linkIndex, filter, cursor)
    if (!inOurPlace && !matters(message.kind, linkIndex, filter, cursor)) continue
    if (message.kind === 'neighbour' && isEcho(filter, cursor, message)) continue
    const { kind, deleted } = message
    const family = familyIn(kind, cursor)
    tell({ kind, linkIndex, deleted, ...(family && { family }), ...(inOurPlace && { inOurPlace }) })
  }
}

/** The headers of all kinds but two begin with the family (linux/rtnetlink.h, linux/neighbour.h, linux/nexthop.h). */
function familyIn(kind: ChangeKind, { view, start, end }: MessageCursor): Family | undefined {
  if (kind === 'link' || kind === 'settings' || end <= start) return undefined
  const family = view.getUint8(start)
  if (family === AF_INET) return 'IPv4'
  return family === AF_INET6 ? 'IPv6' : undefined
}

/** Whether it is a stranger's route or nexthop where one of ours may want to be, or no longer there; or an address that no peer may cover. */
function isInOurPlace(
  kind: ChangeKind,
  linkIndex: number | undefined,
  { watched, networks }: ChangeFilter,
  { view, start, end }: MessageCursor,
): boolean {
  const place = PLACES[kind]
  if (place === undefined || networks.length === 0) return false
  if (linkIndex !== undefined && watched.has(linkIndex)) return false
  const at = findAttribute(view, start + place.after, end, place.attribute)
  if (at === -1) return false
  const value = at + ATTRIBUTE_HEADER_SIZE
  const address =
    kind === 'nexthop' ? readId(view, value, end) : readAddress(view, value, end, view.getUint8(start))
  return address !== undefined && networks.some((network) => prefixContains(network, address))
}

/** The attribute that tells the place, and the size of the header before it. */
const PLACES: Readonly<Partial<Record<ChangeKind, { readonly attribute: number; readonly after: number }>>> =
  {
    route: { attribute: RTA_DST, after: 12 },
    nexthop: { attribute: NHA_ID, after: 8 },
    address: { attribute: IFA_ADDRESS, after: 8 },
  }

/** The id of a nexthop of ours is its subnet's address. */
const readId = (view: DataView, at: number, end: number): IpAddress | undefined =>
  at + 4 > end ? undefined : ipv4(view.getUint32(at, HOST_LITTLE_ENDIAN))

function readAddress(view: DataView, at: number, end: number, family: number): IpAddress | undefined {
  if (family === AF_INET) return at + 4 > end ? undefined : ipv4(view.getUint32(at))
  if (at + 16 > end) return undefined
  return ((view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)) as Ipv6
}

/** Links and addresses always do: there are few, and the underlay is among them. The rest does on our links, and in doubt. */
function matters(
  kind: ChangeKind,
  linkIndex: number | undefined,
  { watched, allRoutes, networks }: ChangeFilter,
  cursor: MessageCursor,
): boolean {
  if (kind === 'link' || kind === 'address') return true
  if (linkIndex !== undefined && watched.has(linkIndex)) return true
  const isToldByPlace = networks.length > 0 && (kind === 'route' || kind === 'nexthop')
  if (linkIndex === undefined && !isToldByPlace) return true
  if (kind !== 'route') return false
  // A default route decides which interface is the underlay. rtm_dst_len is the second byte of struct rtmsg.
  return allRoutes || (cursor.end > cursor.start + 1 && cursor.view.getUint8(cursor.start + 1) === 0)
}

const isEcho = ({ echoes }: ChangeFilter, { view, start, end }: MessageCursor, { deleted }: MessageKind) =>
  echoes.isEcho(view, start, end, deleted)

function linkIndexOf({ view, start, end }: MessageCursor, { index }: MessageKind): number | undefined {
  if ('at' in index) {
    const at = start + index.at
    return at + 4 <= end ? view.getInt32(at, HOST_LITTLE_ENDIAN) : undefined
  }
  const at = findAttribute(view, start + index.after, end, index.attribute)
  const value = at + ATTRIBUTE_HEADER_SIZE
  return at === -1 || value + 4 > end ? undefined : view.getInt32(value, HOST_LITTLE_ENDIAN)
}

/** The notifications of this network namespace, told to listeners. */
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
   * Joins the groups: what changes from now on is told.
   * @param connect opens the socket, given whom to call
   * @param ownPortId port id of the socket we make changes through
   * @param report takes what listeners throw, and errors of the socket
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

  /** Tells neighbours, routes and nexthops of this link from now on; those of links nobody watches are not told. */
  watchLink(index: number): void {
    if (this.watched.has(index)) return
    this.echoes.clear()
    this.watched.add(index)
  }

  /** Takes back {@link watchLink}. */
  unwatchLink(index: number): void {
    if (this.watched.delete(index)) this.echoes.clear()
  }

  /** Tells the routes of all links from now on. */
  watchAllRoutes(): void {
    this.allRoutes = true
  }

  /** Tells the routes to this network, and nexthops whose ids lie in it, of all links from now on. */
  watchNetwork(network: Prefix): void {
    if (!this.networks.some((other) => samePrefix(other, network)))
      this.networks = [...this.networks, network]
  }

  /** Keeps the notifications of what is about to be asked of the kernel from being told. */
  expect(operations: readonly ObjectOperation[]): void {
    this.echoes.expect(operations)
  }

  /** @returns stops telling this listener */
  onChange(listener: ChangeListener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Tells an `overrun` when notifications were lost since the last look. */
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
