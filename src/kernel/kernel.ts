/**
 * Reads and changes the kernel's network state of this network namespace over rtnetlink, in the model's
 * types. No file outside of this room knows a message. A {@link Kernel} does not keep the process alive, and
 * must be closed.
 */
import { constants } from 'node:os'
import { FAMILIES, type Family, type IpAddress, type Prefix } from '../model/address'
import { OverlayError } from '../model/errors'
import type {
  HostAddress,
  HostNetwork,
  InterfaceAddress,
  LinkOperation,
  ObservedLink,
} from '../model/kernel/link'
import type { AskedNeighbour } from '../model/kernel/neighbour'
import type { ObjectOperation, ObservedObjects, OperationFailure, ProxyEntry } from '../model/kernel/objects'
import type { DefaultRoute, Route, RouteLookup, UnderlayRoute } from '../model/kernel/route'
import { type ChangeListener, ChangeStream } from './events/events'
import { causeOf, failuresOf } from './failures'
import { listAddresses } from './links/addresses'
import { applyLinkOperation, type LinkClients, readLink } from './links/link-operations'
import { listLinks } from './links/links'
import { listDefaultRoutes, lookUpRoute } from './links/underlay-routes'
import { NetlinkClient, type RequestFormat } from './netlink/client'
import { AF_INET, NLM_F_REQUEST, NUD_KNOWN, RTM_DELNEIGH } from './netlink/constants'
import { NetlinkError } from './netlink/errors'
import { neighbourMessage } from './netlink/messages'
import { openRawSocket } from './netlink/raw-socket'
import { readObjects } from './objects'
import type { Elsewhere, Reading } from './objects/kind'
import { ASK_AGAIN, listAsked, listNeighbours, type Neighbour } from './objects/neighbours'
import { listNexthops } from './objects/nexthops'
import { objectFormat } from './objects/operations'
import { listProxies } from './objects/proxies'
import { listOwnRoutesElsewhere, listUnderlayRoutes } from './objects/routes'
import { explainFailures } from './obstacles'

export type { KernelChange } from '../model/kernel/change'
export type { Elsewhere } from './objects/kind'

export interface KernelOptions {
  /**
   * Called with errors that no call can throw: those of a socket, and those that a change listener throws.
   */
  readonly report: (error: Error) => void
  /** `auto` uses nexthop objects where the kernel has them; `off` never. */
  readonly nexthopObjects?: 'auto' | 'off'
  /** Bytes of the receive queue for notifications. The default of 32 MiB holds about 50,000. */
  readonly eventBuffer?: number
}

/** The kernel for parts that only read it: the compiler refuses calls that change it. */
export type KernelReader = Omit<Kernel, 'apply' | 'applyLink' | 'askAgain'>

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
    /** Whether routes can go through nexthop objects. Without them {@link observe} reads no nexthop. */
    readonly nexthopObjects: boolean,
  ) {}

  /**
   * Opens the kernel for reading. No capability is needed. Errors that no call can throw are dropped.
   * @throws {OverlayError} `netlink-open`, `netlink-option`, `no-ffi`
   */
  static open(): Promise<KernelReader> {
    return Kernel.#open({ report: () => undefined }, async () => undefined)
  }

  /**
   * Opens the kernel for changes too.
   * @throws {OverlayError} `no-net-admin` if this process may not change the network; `netlink-open`,
   * `netlink-option`, `no-ffi`
   */
  static openWriter(options: KernelOptions): Promise<Kernel> {
    return Kernel.#open(options, checkPermission)
  }

  /**
   * Opens three sockets (changes, dumps, notifications), joins the notification groups, and finds out whether
   * this kernel has nexthop objects.
   * @param check throws if the socket for changes cannot be used
   */
  static async #open(
    { report, nexthopObjects = 'auto', eventBuffer = EVENT_BUFFER }: KernelOptions,
    check: (requests: NetlinkClient) => Promise<void>,
  ): Promise<Kernel> {
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
      await check(requests)
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

  /** The sockets for requests and for dumps, for parts of this room that are loaded on demand. */
  get clients(): LinkClients {
    return { requests: this.requests, dumps: this.dumps }
  }

  /**
   * All links, and addresses and default routes of both families.
   * @param reach an address whose route is looked up too
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
  async underlayRoutes(
    family: Family,
    signal?: AbortSignal,
    within?: Prefix,
  ): Promise<readonly UnderlayRoute[]> {
    return this.dumps.dump(listUnderlayRoutes(family, within), signal)
  }

  /** The route that a packet to that address would take now; `undefined` if there is none. */
  async lookUp(address: IpAddress, signal?: AbortSignal): Promise<RouteLookup | undefined> {
    return lookUpRoute(this.requests, address, signal)
  }

  /** The addresses of all links. */
  async addresses(family: Family, signal?: AbortSignal): Promise<readonly InterfaceAddress[]> {
    return this.dumps.dump(listAddresses(family), signal)
  }

  /**
   * The same refusals. If a stranger's route is in the way, the error names the route and the cure. The
   * routes are listed once for all refusals.
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
   * @throws {NetlinkError} ENODEV if there is no such link
   */
  async linkAddresses(
    family: Family,
    index: number,
    signal?: AbortSignal,
  ): Promise<readonly InterfaceAddress[]> {
    return this.dumps.dump(listAddresses(family, index), signal)
  }

  /** Neighbours of one family that have answered on a link, now or before. */
  async neighbours(family: Family, index: number, signal?: AbortSignal): Promise<readonly Neighbour[]> {
    return this.dumps.dump(listNeighbours(family, index, NUD_KNOWN), signal)
  }

  /** Neighbours of one family on a link that the kernel has asked. */
  async askedNeighbours(
    family: Family,
    index: number,
    signal?: AbortSignal,
  ): Promise<readonly AskedNeighbour[]> {
    return this.dumps.dump(listAsked(family, index), signal)
  }

  /**
   * Has the kernel ask such a neighbour again, as for a packet to it: one that is back is known then. Where
   * the link is gone, nothing is asked.
   * @throws {NetlinkError} if the kernel refuses for another reason
   */
  async askAgain(address: IpAddress, link: number, signal?: AbortSignal): Promise<void> {
    try {
      await this.requests.change({ address, link }, ASK_AGAIN, signal)
    } catch (error) {
      if (!(error instanceof NetlinkError) || causeOf(error) !== 'gone') throw error
    }
  }

  /** The proxy neighbours of our protocol, on all links. */
  async proxies(family: Family, signal?: AbortSignal): Promise<readonly ProxyEntry[]> {
    return this.dumps.dump(listProxies(family), signal)
  }

  /** The routes of our protocol that lead over other links than these, or nowhere. */
  async ownRoutes(family: Family, links: readonly number[], signal?: AbortSignal): Promise<readonly Route[]> {
    return this.dumps.dump(listOwnRoutesElsewhere(family, links), signal)
  }

  /**
   * Applies one change of a link. To delete what is not there succeeds.
   * @throws {OverlayError} `name-taken`, `vni-in-use`, `port-in-use`, `no-vxlan`, `no-wireguard`: the
   *   obstacle, and its cure
   * @throws {NetlinkError} if the kernel refuses for another reason
   */
  async applyLink(operation: LinkOperation, signal?: AbortSignal): Promise<void> {
    await applyLinkOperation({ requests: this.requests, dumps: this.dumps }, operation, signal)
  }

  /**
   * All objects of peers on a link. The tables are read one after another: a change meanwhile may be seen in
   * one table and not in another. Such a change is notified too.
   * @throws {NetlinkError} ENODEV if there is no such link
   */
  async observe(
    family: Family,
    index: number,
    elsewhere: Elsewhere = { network: undefined, routes: false, links: [] },
    signal?: AbortSignal,
  ): Promise<ObservedObjects> {
    const reading: Reading = {
      dump: (question) => this.dumps.dump(question, signal),
      family,
      link: index,
      elsewhere,
      usesNexthops: this.usesNexthops(family),
    }
    return readObjects(reading)
  }

  /**
   * Whether routes of that family go through nexthop objects. IPv6 routes never do: a route with a gateway of
   * its own costs the kernel the same at any number of routes (9 us each at 1,000 as at 20,000), and the
   * 32-bit id of an object cannot hold a subnet's address.
   */
  usesNexthops(family: Family): boolean {
    return family === 'IPv4' && this.nexthopObjects
  }

  /**
   * Applies operations on objects of a link, in the order given. One that the kernel refuses stops no other.
   * To delete what is not there succeeds.
   * @returns the operations that were refused
   * @throws {NetlinkTimeoutError} if the kernel does not answer; the state of the objects is unknown then:
   * {@link observe}
   */
  async apply(
    index: number,
    operations: readonly ObjectOperation[],
    signal?: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    this.changes.expect(operations)
    const failures = await this.requests.batch(operations, objectFormat(index), signal)
    return failuresOf(failures)
  }

  /**
   * Calls the listener with changes by others, from the moment {@link openWriter} began to return. Errors of
   * the listener go to `report`.
   * @returns stops the calls
   */
  onChange(listener: ChangeListener): () => void {
    return this.changes.onChange(listener)
  }

  /**
   * Declares a link ours. Changes of neighbours, forwarding entries, routes and nexthops are announced for
   * our links only; changes of links and addresses always.
   */
  watchLink(index: number): void {
    this.changes.watchLink(index)
  }

  /** Reverts {@link watchLink}. */
  unwatchLink(index: number): void {
    this.changes.unwatchLink(index)
  }

  /**
   * Announces changes of strangers' routes and nexthops that are, or were, in the place of possible ones of
   * ours.
   */
  watchNetwork(network: Prefix): void {
    this.changes.watchNetwork(network)
  }

  /** Announces changes of routes on all links. */
  watchAllRoutes(): void {
    this.changes.watchAllRoutes()
  }

  /**
   * Checks whether notifications were lost, and announces an `overrun` if so. This happens by itself after
   * each burst; call it every few seconds too.
   */
  checkOverruns(): void {
    this.changes.checkOverruns()
  }

  /**
   * Bytes of the receive queue for notifications: fewer than requested if this process may not exceed
   * net.core.rmem_max.
   */
  get eventBuffer(): number {
    return this.changes.receiveBuffer
  }

  /** Idempotent. Rejects calls that are under way. */
  close(): void {
    this.changes.close()
    this.requests.close()
    this.dumps.close()
  }
}

/**
 * The deletion of a neighbour without an address: the kernel checks the sender's rights before it finds the
 * address missing.
 */
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
    'run it as root or with AmbientCapabilities=CAP_NET_ADMIN; ' +
      'in a container with --cap-add NET_ADMIN --network host',
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
