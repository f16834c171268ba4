/**
 * Local delivery of announced prefixes: finds the way to what this host announces, and the addresses that it
 * answers for on its bridges, and has both programmed by the reconcilers. A prefix whose way is not there
 * waits, and others are not kept from theirs.
 */
import type { Kernel, KernelChange } from '../../kernel/kernel'
import { keepProxyNdp } from '../../kernel/sysctl'
import { FAMILIES, familyOf, formatPrefix } from '../../model/address'
import { describeError } from '../../model/errors'
import type { AskedNeighbour } from '../../model/kernel/neighbour'
import { proxyKey } from '../../model/kernel/objects'
import { routeKey } from '../../model/kernel/route'
import type { Revision } from '../../model/lease'
import { type Announcement, prefixName } from '../../model/prefixes'
import { type Delivery, deliveryOf, type LocalNetwork } from '../../plan/prefixes/delivery'
import {
  describeSilence,
  type Gateway,
  gatewaysOf,
  judgeGateways,
  NO_VERDICT,
} from '../../plan/prefixes/gateways'
import { localObjects } from '../../plan/prefixes/local-objects'
import { Loop, type Next } from '../loop/loop'
import type { Overlay } from '../overlay/overlay'
import type { Logger } from '../tell/logger'
import type { AnnouncedPrefixes } from './announced'

/** Milliseconds between two looks at proxy neighbours: the kernel announces no change of them. */
const PROXY_LOOK = 1000
/** Milliseconds between two looks at gateways: where all answer, and where one does not. */
const GATEWAY_LOOK = { usual: 3000, unanswered: 1000 } as const
/** Milliseconds that the notifications of one change take to come together. */
const SETTLE = 20
/** Milliseconds that an announcement waits for the kernel to have its route. */
const ROUTE_DEADLINE = 1000

/** Why an announcement waits on this host. */
export type Obstacle = Extract<Delivery, { readonly kind: 'waits' }>

export interface WaitingAnnouncement {
  readonly announcement: Announcement
  readonly obstacle: Obstacle
}

/** An announcement whose way is made before other hosts hear of it. */
interface Early {
  readonly announcement: Announcement
  /** Of its key in etcd; `undefined` while it is being written. */
  readonly revision: Revision | undefined
}

export class Deliverer {
  readonly #loop: Loop
  /** Name of the prefix -> announcement. */
  readonly #early = new Map<string, Early>()
  #waiting: readonly WaitingAnnouncement[] = []
  #wanted = (): Iterable<Announcement> => []
  #changed = (): void => undefined
  #problem: string | undefined
  #gateways = NO_VERDICT
  /** When they are looked at next, in monotonic milliseconds. */
  #gatewaysDue = 0
  /** Whether links and addresses are read again when they change: not while they do not matter. */
  #isCurrent = false

  /** @param network links and addresses, as they were read last */
  constructor(
    private readonly kernel: Kernel,
    private readonly overlays: readonly Overlay[],
    private readonly announced: AnnouncedPrefixes,
    private readonly log: Logger,
    private network: LocalNetwork,
  ) {
    const pass = (signal: AbortSignal): Promise<Next> => this.#pass(signal)
    this.#loop = new Loop({ name: 'prefixes', settle: SETTLE, pass }, log)
  }

  /** What this host is to announce, and has no way to. */
  get waiting(): readonly WaitingAnnouncement[] {
    return this.#waiting
  }

  /** Gateways of what this host announces that do not answer. */
  get silent(): readonly Gateway[] {
    return this.#gateways.silent
  }

  /** Why local delivery does not work; `undefined` where it does. */
  get problem(): string | undefined {
    return this.#loop.problem ?? this.#problem
  }

  /**
   * @param wanted what this host is to announce
   * @param changed called when another part of it waits than before
   */
  follow(wanted: () => Iterable<Announcement>, changed: () => void): void {
    this.#wanted = wanted
    this.#changed = changed
    this.update()
  }

  /** Notes a hint of the kernel. */
  kernelChanged({ kind }: KernelChange): void {
    if (kind === 'link' || kind === 'address' || kind === 'overrun') this.#loop.wake()
  }

  /** Why this host has no way to what it is to announce; `undefined` where it has one, or makes none. */
  obstacle({ via, prefix }: Announcement): Obstacle | undefined {
    const delivery = via && deliveryOf(via, prefix, this.network)
    return delivery?.kind === 'waits' ? delivery : undefined
  }

  /** Reads links and addresses anew, so that {@link obstacle} knows those that were made just now. */
  async look(signal: AbortSignal): Promise<void> {
    const links = await this.kernel.links(signal)
    const addresses = []
    for (const family of FAMILIES) addresses.push(...(await this.kernel.addresses(family, signal)))
    this.network = { links, addresses }
    this.#isCurrent = true
  }

  /**
   * Makes the way to what this host is about to announce and to win, before other hosts send packets here.
   * The caller then calls {@link told} or {@link undo}.
   */
  async prepare(announcement: Announcement, signal: AbortSignal): Promise<void> {
    const { prefix, via } = announcement
    const overlay = this.overlays.find(({ spec }) => spec.family === familyOf(prefix.address))
    if (via === undefined || overlay === undefined || !this.announced.wouldWin(announcement)) return
    this.#early.set(prefixName(prefix), { announcement, revision: undefined })
    this.update()
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(ROUTE_DEADLINE)])
    await overlay.reconciler.applied({ kind: 'route', key: routeKey(prefix) }, deadline)
  }

  /** The key of a prepared announcement is in etcd, of that revision: the watch tells how it stands. */
  told({ prefix }: Announcement, revision: Revision): void {
    const name = prefixName(prefix)
    const early = this.#early.get(name)
    if (early !== undefined) this.#early.set(name, { ...early, revision })
    this.update()
  }

  /** The key of a prepared announcement could not be written. */
  undo({ prefix }: Announcement): void {
    if (this.#early.delete(prefixName(prefix))) this.update()
  }

  /** Announcements, standings, links or addresses have changed: has the right objects programmed. */
  update(): void {
    const { revision = 0n } = this.announced
    for (const [name, early] of this.#early)
      if (early.revision !== undefined && early.revision <= revision) this.#early.delete(name)
    const own = new Map(
      this.announced.ownWins.map(({ announcement }) => [prefixName(announcement.prefix), announcement]),
    )
    for (const [name, { announcement }] of this.#early) own.set(name, announcement)
    for (const { spec, peers, local, reconciler } of this.overlays) {
      const objects = localObjects(spec.family, [...own.values()], peers.routed.all(), this.network)
      const hadProxies = local.objects.proxy.size > 0
      reconciler.localChanged(local.replace(objects))
      if (!hadProxies && objects.proxy.size > 0) this.#loop.wake()
    }
    if (!this.#isCurrent && this.#isNeeded()) this.#loop.wake()
    this.#noteWaiting()
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal)
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    this.#isCurrent = this.#isNeeded()
    if (!this.#isCurrent) return { due: Number.POSITIVE_INFINITY }
    await this.look(signal)
    this.update()
    const hasProxies = await this.#keepProxies(signal)
    const proxiesDue = hasProxies ? performance.now() + PROXY_LOOK : Number.POSITIVE_INFINITY
    return { due: Math.min(proxiesDue, await this.#lookAtGateways(signal)) }
  }

  /** @returns when to look again, in monotonic milliseconds */
  async #lookAtGateways(signal: AbortSignal): Promise<number> {
    const now = performance.now()
    const gateways = gatewaysOf(this.#wanted(), this.network)
    if (gateways.length > 0 && now < this.#gatewaysDue) return this.#gatewaysDue
    const asked = new Map<number, readonly AskedNeighbour[]>()
    for (const index of new Set(gateways.map(({ link }) => link.index))) {
      const onLink = gateways.filter(({ link }) => link.index === index)
      const families = new Set(onLink.map(({ address }) => familyOf(address)))
      const found: AskedNeighbour[] = []
      for (const family of families) found.push(...(await this.kernel.askedNeighbours(family, index, signal)))
      asked.set(index, found)
    }
    const before = this.#gateways
    this.#gateways = judgeGateways(gateways, asked, before, now)
    for (const { address, link } of this.#gateways.silent)
      await this.kernel.askAgain(address, link.index, signal)
    this.#tellOfGateways(before.silent)
    this.#gatewaysDue = now + (this.#gateways.since.size > 0 ? GATEWAY_LOOK.unanswered : GATEWAY_LOOK.usual)
    return gateways.length > 0 ? this.#gatewaysDue : Number.POSITIVE_INFINITY
  }

  #tellOfGateways(before: readonly Gateway[]): void {
    const textOf = (gateway: Gateway): string =>
      `${formatPrefix(gateway.announcement.prefix)}: ${describeSilence(gateway)}`
    const [was, is] = [new Set(before.map(textOf)), new Set(this.silent.map(textOf))]
    const about = (text: string) => ({ kind: 'prefix-problem', about: text.split(': ').slice(0, 1) }) as const
    for (const text of is) if (!was.has(text)) this.log.warn(`prefixes: ${text}`, about(text))
    for (const text of was) if (!is.has(text)) this.log.info(`prefixes: this is over: ${text}`, about(text))
    if (was.size !== is.size || [...is].some((text) => !was.has(text))) this.#changed()
  }

  /** Whether links and addresses of this host matter. */
  #isNeeded(): boolean {
    const isUsed = this.#early.size > 0 || this.announced.ownWins.some(({ announcement: { via } }) => via)
    return (
      isUsed ||
      this.overlays.some(({ peers, local }) => local.isUsed || peers.routed.all().next().done !== true) ||
      [...this.#wanted()].some(({ via }) => via !== undefined)
    )
  }

  /** @returns whether there is a proxy neighbour to look after */
  async #keepProxies(signal: AbortSignal): Promise<boolean> {
    let hasProxies = false
    this.#problem = undefined
    for (const { spec, local, reconciler } of this.overlays) {
      const wanted = local.objects.proxy
      if (wanted.size === 0) continue
      hasProxies = true
      if (spec.family === 'IPv6') await this.#keepAnswering([...wanted.values()].map(({ link }) => link))
      const there = new Set((await this.kernel.proxies(spec.family, signal)).map(proxyKey))
      const isMissing = ([key]: readonly [Parameters<typeof wanted.get>[0], unknown]): boolean =>
        !there.has(key)
      if ([...wanted].some(isMissing)) reconciler.drifted()
    }
    return hasProxies
  }

  /** The kernel answers for IPv6 addresses only on links where it is told to. */
  async #keepAnswering(indexes: readonly number[]): Promise<void> {
    for (const { index, name } of this.network.links) {
      if (!indexes.includes(index)) continue
      try {
        await keepProxyNdp(name)
      } catch (error) {
        this.#problem = describeError(error)
      }
    }
  }

  #noteWaiting(): void {
    const before = new Map(this.#waiting.map((each) => [prefixName(each.announcement.prefix), each]))
    const now: WaitingAnnouncement[] = []
    for (const announcement of this.#wanted()) {
      const obstacle = this.obstacle(announcement)
      if (obstacle !== undefined) now.push({ announcement, obstacle })
    }
    this.#waiting = now
    let isNews = false
    for (const { announcement, obstacle } of now) {
      const name = prefixName(announcement.prefix)
      const former = before.get(name)
      before.delete(name)
      if (former?.obstacle.reason === obstacle.reason) continue
      isNews = true
      const text = formatPrefix(announcement.prefix)
      this.log.warn(`prefixes: ${text} is not announced: ${obstacle.reason}`, {
        kind: 'prefix-problem',
        about: [text],
      })
    }
    for (const { announcement } of before.values()) {
      isNews = true
      const text = formatPrefix(announcement.prefix)
      this.log.info(`prefixes: ${text} waits for no way any more`, { kind: 'prefix-problem', about: [text] })
    }
    if (isNews) this.#changed()
  }
}
