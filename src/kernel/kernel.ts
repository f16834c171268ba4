/**
 * The kernel's network state of this network namespace, read and changed over rtnetlink in the model's words. Nobody outside this folder knows
 * a message. A {@link Kernel} never keeps the process alive by itself, and must be closed.
 */
import { constants } from 'node:os'
import {
  FAMILIES,
  type Family,
  type IpAddress,
  type Ipv4,
  ipv4,
  type MacAddress,
  type Prefix,
  prefixContains,
} from '../model/address'
import { OverlayError } from '../model/errors'
import {
  type DefaultRoute,
  type HostAddress,
  type HostNetwork,
  type InterfaceAddress,
  type LinkOperation,
  type NexthopId,
  type ObjectOperation,
  type ObservedLink,
  type ObservedObjects,
  type OperationFailure,
  type Route,
  type RouteKey,
  type RouteLookup,
  routeKey,
  type UnderlayRoute,
} from '../model/kernel'
import { listAddresses } from './addresses'
import { type ChangeListener, ChangeStream } from './events'
import { type ForwardingEntry, listForwarding } from './fdb'
import { applyLinkOperation, type LinkClients, readLink } from './link-operations'
import { listLinks } from './links'
import { listNeighbours, type Neighbour } from './neighbours'
import { NetlinkClient, type Question, type RequestFormat } from './netlink/client'
import { AF_INET, NLM_F_REQUEST, NUD_KNOWN, RTM_DELNEIGH } from './netlink/constants'
import { NetlinkError } from './netlink/errors'
import { neighbourMessage } from './netlink/messages'
import { openRawSocket } from './netlink/raw-socket'
import { listNexthopOwners, listNexthops, NOT_OURS } from './nexthops'
import { explainFailures } from './obstacles'
import { isAlreadyGone, objectFormat } from './operations'
import { listOwnRoutesElsewhere, listRoutes, listUnderlayRoutes } from './routes'
import { listDefaultRoutes, lookUpRoute } from './underlay-routes'

export type { KernelChange } from './events'

export interface KernelOptions {
  /** Takes errors that no call is there to throw: of a socket, or thrown by a change listener. Called from the event loop. */
  readonly report: (error: Error) => void
  /** `auto` uses nexthop objects where the kernel has them; `off` never. */
  readonly nexthopObjects?: 'auto' | 'off'
  /** Bytes of receive queue to ask for notifications; holds about 50,000 at its default of 32 MiB. */
  readonly eventBuffer?: number
  /** Only to look: not even the right to change anything is asked for. Default false. */
  readonly readOnly?: boolean
}

/** What of ours to tell that is not on the link itself. */
export interface Elsewhere {
  /** Our network. */
  readonly network: Prefix | undefined
  /** Whether its routes of our protocol are told wherever they lead. */
  readonly routes: boolean
  /** Links whose routes and nexthops are told, so that they can be replaced in place: a device that ours succeeds. */
  readonly links: readonly number[]
}

/** Bytes. The kernel packs up to 32 KiB of answers into a datagram of a dump. */
const DUMP_READ_BUFFER = 65_536
const EVENT_BUFFER = 32 * 2 ** 20
/** The index of `lo` in every network namespace. */
const LOOPBACK = 1

export class Kernel {
  private constructor(
    private readonly requests: NetlinkClient,
    private readonly dumps: NetlinkClient,
    private readonly changes: ChangeStream,
    /** Whether routes can go through nexthop objects. Without them {@link observe} tells no nexthop. */
    readonly nexthopObjects: boolean,
  ) {}

  /**
   * Opens three sockets (changes, dumps, notifications), joins the notification groups, and finds out what this kernel can do.
   * @throws {OverlayError} `no-net-admin` when this process must not change the network; `netlink-open`, `netlink-option`, `no-ffi`
   */
  static async open({
    report,
    nexthopObjects = 'auto',
    eventBuffer = EVENT_BUFFER,
    readOnly = false,
  }: KernelOptions): Promise<Kernel> {
    const opened: { close(): void }[] = []
    const keep = <T extends { close(): void }>(resource: T): T => {
      opened.push(resource)
      return resource
    }
    try {
      const requests = keep(await NetlinkClient.open((handlers) => openRawSocket(handlers), report))
      const dumps = keep(
        await NetlinkClient.open(
          (handlers) => openRawSocket(handlers, { readBuffer: DUMP_READ_BUFFER }),
          report,
        ),
      )
      if (!readOnly) await checkPermission(requests)
      const changes = keep(
        await ChangeStream.open(
          (handlers) =>
            openRawSocket(handlers, { receiveBuffer: eventBuffer, ignoreSender: requests.portId }),
          requests.portId,
          report,
        ),
      )
      const objects = nexthopObjects === 'auto' && (await hasNexthopObjects(dumps))
      return new Kernel(requests, dumps, changes, objects)
    } catch (error) {
      for (const resource of opened) resource.close()
      throw error
    }
  }

  /** The sockets of requests and of dumps, for parts of this folder that are loaded only where they are wanted. */
  get clients(): LinkClients {
    return { requests: this.requests, dumps: this.dumps }
  }

  /**
   * All links, and addresses and default routes of both families.
   * @param reach an address to which the way is looked up too
   */
  async hostNetwork(
    { reach }: { readonly reach?: IpAddress | undefined } = {},
    signal?: AbortSignal,
  ): Promise<HostNetwork> {
    const links = await this.dumps.dump(listLinks, signal)
    const addresses: HostAddress[] = []
    const defaultRoutes: DefaultRoute[] = []
    for (const family of FAMILIES) {
      addresses.push(...(await this.dumps.dump(listAddresses(family), signal)))
      defaultRoutes.push(...(await this.dumps.dump(listDefaultRoutes(family), signal)))
    }
    const way = reach === undefined ? undefined : await lookUpRoute(this.requests, reach, signal)
    return { links, addresses, defaultRoutes, reach: way }
  }

  /** All unicast routes of the main table but those of our protocol. */
  async underlayRoutes(family: Family, signal?: AbortSignal): Promise<readonly UnderlayRoute[]> {
    return this.dumps.dump(listUnderlayRoutes(family), signal)
  }

  /** The way a packet to that address would take now; `undefined` when there is none. */
  async lookUp(address: IpAddress, signal?: AbortSignal): Promise<RouteLookup | undefined> {
    return lookUpRoute(this.requests, address, signal)
  }

  /** The addresses of all links. */
  async addresses(family: Family, signal?: AbortSignal): Promise<readonly InterfaceAddress[]> {
    return this.dumps.dump(listAddresses(family), signal)
  }

  /**
   * The same refusals, where a stranger's route or nexthop is in the way in words that say which it is and what to do about it.
   * One look at the kernel for all of them.
   */
  async explain(
    family: Family,
    failures: readonly OperationFailure[],
    signal?: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    return explainFailures(this.dumps, family, failures, signal)
  }

  /** All links. */
  async links(signal?: AbortSignal): Promise<readonly ObservedLink[]> {
    return this.dumps.dump(listLinks, signal)
  }

  /** The link of that name, if there is one. */
  async link(name: string, signal?: AbortSignal): Promise<ObservedLink | undefined> {
    return readLink(this.requests, name, signal)
  }

  /**
   * One link's addresses of one family.
   * @throws {NetlinkError} ENODEV when there is no such link
   */
  async linkAddresses(
    family: Family,
    index: number,
    signal?: AbortSignal,
  ): Promise<readonly InterfaceAddress[]> {
    return this.dumps.dump(listAddresses(family, index), signal)
  }

  /** Who has answered on a link, now or before, in one family. */
  async neighbours(family: Family, index: number, signal?: AbortSignal): Promise<readonly Neighbour[]> {
    return this.dumps.dump(listNeighbours(family, index, NUD_KNOWN), signal)
  }

  /** The routes of our protocol that lead over other links than these, or nowhere. */
  async ownRoutes(family: Family, links: readonly number[], signal?: AbortSignal): Promise<readonly Route[]> {
    return this.dumps.dump(listOwnRoutesElsewhere(family, links), signal)
  }

  /**
   * Carries out one change of a link. Deleting what is not there succeeds.
   * @throws {OverlayError} `name-taken`, `vni-in-use`, `port-in-use`, `no-vxlan`: what is in the way, and what to do
   * @throws {NetlinkError} when the kernel refuses for another reason
   */
  async applyLink(operation: LinkOperation, signal?: AbortSignal): Promise<void> {
    await applyLinkOperation({ requests: this.requests, dumps: this.dumps }, operation, signal)
  }

  /**
   * All that peers have on a link. The tables are read one after another, so what changes meanwhile may be seen in one and not in
   * another; it is notified as well.
   * @throws {NetlinkError} ENODEV when there is no such link
   */
  async observe(
    family: Family,
    index: number,
    elsewhere: Elsewhere = { network: undefined, routes: false, links: [] },
    signal?: AbortSignal,
  ): Promise<ObservedObjects> {
    const dump = <T>(question: Question<T>): Promise<T[]> => this.dumps.dump(question, signal)
    const { network, links } = elsewhere
    const ours = [index, ...links]
    // Each listing is made what is wanted of it before the next one comes: together they are many times what they become.
    const neighbours = new Map<IpAddress, MacAddress>()
    for (const { address, mac } of await dump(listNeighbours(family, index))) neighbours.set(address, mac)
    const fdb = groupForwarding(await dump(listForwarding(index)))
    const routes = new Map<RouteKey, readonly Route[]>()
    addRoutes(routes, await dump(listRoutes(family, index)))
    const nexthops = new Map<NexthopId, Ipv4>()
    const takenNexthops = new Set<NexthopId>()
    if (this.usesNexthops(family)) {
      for (const { id, gateway } of await dump(listNexthops(index))) nexthops.set(id, gateway)
      // It holds its id, and is never what is wanted.
      for (const link of links)
        for (const { id } of await dump(listNexthops(link))) nexthops.set(id, NOT_OURS)
      for (const { id } of network === undefined ? [] : await dump(listNexthopOwners(ours)))
        if (network !== undefined && prefixContains(network, ipv4(id))) takenNexthops.add(id)
    }
    for (const link of links) {
      const others = await dump(listRoutes(family, link))
      addRoutes(
        routes,
        others.map((route) => overOtherLink(route, link)),
      )
    }
    if (network !== undefined && elsewhere.routes) {
      const own = await dump(listOwnRoutesElsewhere(family, ours))
      addRoutes(
        routes,
        own.filter(({ destination }) => prefixContains(network, destination.address)),
      )
    }
    return { neighbours, fdb, nexthops, routes, takenNexthops }
  }

  /**
   * Whether routes of that family go through nexthop objects. Those of IPv6 never do: there a route with a gateway of its own costs the
   * kernel the same at any number (9 us each at 1,000 as at 20,000), and an object's 32-bit id has no room for a subnet's address.
   */
  usesNexthops(family: Family): boolean {
    return family === 'IPv4' && this.nexthopObjects
  }

  /**
   * Changes objects on a link, in the order given. One that the kernel refuses does not keep it from the others, and deleting what is not there
   * succeeds.
   * @returns those that were refused
   * @throws {NetlinkTimeoutError} when the kernel does not answer; what was done is unknown then: {@link observe}
   */
  async apply(
    index: number,
    operations: readonly ObjectOperation[],
    signal?: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    this.changes.expect(operations)
    const failures = await this.requests.batch(operations, objectFormat(index), signal)
    return failures
      .filter(({ item, error }) => !isAlreadyGone(item, error))
      .map(({ item, error }) => ({ operation: item, error }))
  }

  /**
   * Tells what others change, from the moment {@link open} began to return. What the listener throws goes to `report`.
   * @returns stops it
   */
  onChange(listener: ChangeListener): () => void {
    return this.changes.onChange(listener)
  }

  /** Says that a link is ours: neighbours, forwarding entries, routes and nexthops of others are not told. Links and addresses are, all. */
  watchLink(index: number): void {
    this.changes.watchLink(index)
  }

  /** Takes back {@link watchLink}. */
  unwatchLink(index: number): void {
    this.changes.unwatchLink(index)
  }

  /** Has strangers' routes and nexthops told that are, or were, where ours may want to be. */
  watchNetwork(network: Prefix): void {
    this.changes.watchNetwork(network)
  }

  /** Has the routes of all links told. */
  watchAllRoutes(): void {
    this.changes.watchAllRoutes()
  }

  /** Looks whether notifications were lost, and tells an `overrun` if so. Done by itself after each burst; call it every few seconds too. */
  checkOverruns(): void {
    this.changes.checkOverruns()
  }

  /** Bytes of receive queue that notifications got; less than asked for where this process may not exceed net.core.rmem_max. */
  get eventBuffer(): number {
    return this.changes.receiveBuffer
  }

  /** Idempotent. What is under way is rejected. */
  close(): void {
    this.changes.close()
    this.requests.close()
    this.dumps.close()
  }
}

/** The deletion of no neighbour: the kernel looks at the sender's rights before it misses the address. */
const EMPTY_CHANGE: RequestFormat<'probe'> = {
  encode: (writer) => neighbourMessage.encode(writer, RTM_DELNEIGH, NLM_F_REQUEST, { family: AF_INET }),
  describe: () => 'change the network',
}

async function checkPermission(requests: NetlinkClient): Promise<void> {
  const [refusal] = await requests.batch(['probe'], EMPTY_CHANGE)
  if (refusal?.error.errno !== constants.errno.EPERM) return
  throw new OverlayError(
    'no-net-admin',
    'this process must not change the network: it lacks the capability CAP_NET_ADMIN',
    'run it as root or with AmbientCapabilities=CAP_NET_ADMIN; in a container with --cap-add NET_ADMIN --network host',
    { cause: refusal.error },
  )
}

async function hasNexthopObjects(dumps: NetlinkClient): Promise<boolean> {
  try {
    await dumps.dump(listNexthops(LOOPBACK))
    return true
  } catch (error) {
    const { EOPNOTSUPP, EINVAL } = constants.errno
    if (error instanceof NetlinkError && [EOPNOTSUPP, EINVAL].includes(error.errno)) return false
    throw error
  }
}

/** A route through a nexthop object follows it to its new link. */
function overOtherLink(route: Route, link: number): Route {
  const { target } = route
  return target.kind === 'gateway'
    ? { ...route, target: { kind: 'direct', gateway: target.gateway, link } }
    : route
}

function groupForwarding(entries: readonly ForwardingEntry[]): Map<MacAddress, readonly IpAddress[]> {
  const grouped = new Map<MacAddress, readonly IpAddress[]>()
  for (const { mac, destination } of entries) grouped.set(mac, [...(grouped.get(mac) ?? []), destination])
  return grouped
}

function addRoutes(grouped: Map<RouteKey, readonly Route[]>, routes: readonly Route[]): void {
  for (const route of routes) {
    const key = routeKey(route.destination)
    grouped.set(key, [...(grouped.get(key) ?? []), route])
  }
}
