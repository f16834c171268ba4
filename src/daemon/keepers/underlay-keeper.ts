/**
 * Follows the underlay: the interface and addresses that carry the overlay's packets. A choice stays for as
 * long as the host has the interface and the addresses, so that a default route that moves for a while moves
 * nothing. When they are gone, the keeper chooses anew.
 */
import { isDeepStrictEqual } from 'node:util'
import { endpointAddresses } from '../../etcd/client/endpoints'
import type { Kernel, KernelChange } from '../../kernel/kernel'
import { FAMILIES, familyOf, formatIp, type IpAddress } from '../../model/address'
import { ConfigError, type NetworkConfig, subnetRanges } from '../../model/config/network-config'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import type { HostNetwork } from '../../model/kernel/link'
import type { UnderlayRoute } from '../../model/kernel/route'
import type { Options } from '../../options/schema'
import { checkMtu } from '../../plan/config/check-mtu'
import { type OwnPrefix, ownPrefixes } from '../../plan/host/host-prefixes'
import {
  checkUnderlayOutside,
  choosePartly,
  chooseUnderlay,
  type RememberedUnderlay,
  sameAddresses,
  type Underlay,
  type UnderlayAddress,
  type UnderlayOptions,
} from '../../plan/host/underlay'
import { carrierOf, isWayOut, roomOf } from '../../plan/host/underlay-room'
import { familiesOf, linkName } from '../../plan/reconcile/desired'
import { Loop, type Next } from '../loop/loop'
import { type HostMemory, rememberUnderlay } from '../start/host-memory'
import type { Logger } from '../tell/logger'

/**
 * All times in milliseconds. Events of one change (an address that goes, another that comes) cause one check.
 */
const SETTLE = 50
/** Between two checks without an event, in case that one was lost. */
const PERIOD = 60_000

type Moved = (now: Underlay, before: Underlay) => Promise<void>

export class UnderlayKeeper {
  readonly #loop: Loop
  /** Why the underlay is too small for the network's families. */
  #shortage: string | undefined
  #inside: readonly OwnPrefix[] = []
  #addressesChanged = false
  #moved: Moved = async () => undefined

  private constructor(
    private readonly kernel: Kernel,
    private readonly options: Options,
    private config: NetworkConfig,
    private readonly log: Logger,
    private underlay: Underlay,
  ) {
    const pass = (signal: AbortSignal): Promise<Next> => this.#pass(signal)
    const failed = (problem: string): void => this.#logProblem(problem)
    // Logged by the pass, which knows whether the underlay is the same.
    const recovered = (): void => undefined
    this.#loop = new Loop({ name: 'underlay', first: PERIOD, pass, failed, recovered }, log)
  }

  /**
   * Chooses the underlay. A network that covers an address that the host needs on it is refused. A family
   * without an address does not keep the other family from being used.
   * @throws {OverlayError} `no-underlay`
   * @throws {ConfigError}
   */
  static async choose(
    edges: { readonly kernel: Kernel; readonly options: Options; readonly log: Logger },
    config: NetworkConfig,
    memory: HostMemory | undefined,
    signal: AbortSignal,
  ): Promise<UnderlayKeeper> {
    const { kernel, options, log } = edges
    const remembered = await rememberUnderlay(memory, await deviceAddresses(kernel, config, signal))
    const { underlay, missing } = await findOrPart(kernel, options, config, remembered, signal)
    log.info(`underlay: ${describeUnderlay(underlay)}`, { kind: 'underlay-change' })
    logMove(log, remembered, underlay)
    const keeper = new UnderlayKeeper(kernel, options, config, log, underlay)
    if (missing !== undefined) keeper.#loop.fail(missing)
    return keeper
  }

  get current(): Underlay {
    return this.underlay
  }

  /** Why the underlay is not there, or too small; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#loop.problem ?? this.#shortage
  }

  /** The prefixes of this host inside the network, as of the last {@link lookInside}. */
  get inside(): readonly OwnPrefix[] {
    return this.#inside
  }

  /**
   * Finds the prefixes of this host inside the network.
   * @param withRoutes whether routes are read too: a host may have a million of them
   */
  async lookInside(withRoutes: boolean, signal: AbortSignal): Promise<readonly OwnPrefix[]> {
    const routes: UnderlayRoute[] = []
    for (const family of withRoutes ? familiesOf(this.config) : [])
      routes.push(...(await this.kernel.underlayRoutes(family, signal)))
    this.#inside = ownPrefixes(this.config, await this.kernel.hostNetwork({}, signal), routes)
    return this.#inside
  }

  /**
   * Refuses another config whose network covers an address that the host needs on this underlay.
   * @throws {OverlayError}, {ConfigError}
   */
  async check(config: NetworkConfig, signal: AbortSignal): Promise<void> {
    checkOutside(this.options, config, await this.kernel.hostNetwork({}, signal), this.underlay)
  }

  /** Sets the config that the next choice is for. */
  adopt(config: NetworkConfig): void {
    this.config = config
  }

  /**
   * Runs until the signal fires.
   * @param moved called after each change of {@link current}, with the former one
   */
  async run(signal: AbortSignal, moved: Moved): Promise<void> {
    this.#moved = moved
    const stop = this.kernel.onChange((change) => this.#noteChange(change))
    try {
      await this.#loop.run(signal)
    } finally {
      stop()
    }
  }

  #noteChange(change: KernelChange): void {
    if (!['link', 'address', 'overrun'].includes(change.kind)) return
    if (change.kind !== 'link') this.#addressesChanged = true
    // Also during a backoff: the change may be the one that was missing.
    this.#loop.by(performance.now() + SETTLE)
  }

  async #pass(signal: AbortSignal): Promise<Next> {
    try {
      await this.#check(signal)
    } finally {
      if (!signal.aborted) await this.#lookInsideAgain(signal)
    }
    return { due: performance.now() + PERIOD }
  }

  /**
   * After a change of an address; and with each check for as long as there is a prefix inside the network.
   */
  async #lookInsideAgain(signal: AbortSignal): Promise<void> {
    if (!this.#addressesChanged && this.#inside.length === 0) return
    this.#addressesChanged = false
    try {
      await this.lookInside(
        this.#inside.some(({ isRoute }) => isRoute),
        signal,
      )
    } catch (error) {
      if (signal.aborted) return
      if (!isOverlayError(error)) throw error
      this.#addressesChanged = true
    }
  }

  /**
   * @throws {OverlayError} when the underlay, or a family's address, is missing; all else is adopted before
   */
  async #check(signal: AbortSignal): Promise<void> {
    const here = await this.#refreshed(signal)
    // Of two families the one that has an address is followed, whatever the other's is.
    const { underlay: refreshed, missing } =
      here === undefined
        ? await findOrPart(this.kernel, this.options, this.config, this.underlay, signal)
        : { underlay: here, missing: undefined }
    const shortage = shortageOf(this.config, refreshed)
    // Too small for the network's families: the devices stay as large as they are, and all else of it counts.
    const found = shortage === undefined ? refreshed : { ...refreshed, carrier: roomOf(this.underlay) }
    if (!sameUnderlay(found, this.underlay)) {
      this.log.warn(`underlay: now ${describeUnderlay(found)}`, { kind: 'underlay-change' })
      const before = this.underlay
      this.underlay = found
      await this.#moved(found, before)
    } else if (this.problem !== undefined && missing === undefined && shortage === undefined)
      this.log.info('underlay: is in order again', { kind: 'underlay-change' })
    if (shortage !== undefined && missing === undefined) this.#logProblem(shortage)
    this.#shortage = shortage
    if (missing !== undefined) throw missing
  }

  /** Logs a problem unless it is the present one. */
  #logProblem(problem: string): void {
    if (problem !== this.problem)
      this.log.error(`underlay: ${problem}; all is kept as it is`, { kind: 'underlay-problem' })
  }

  /**
   * The current underlay with the MTU it has now; `undefined` when its interface or an address of it is gone.
   */
  async #refreshed(signal: AbortSignal): Promise<Underlay | undefined> {
    const { link, ipv4, ipv6 } = this.underlay
    const now = await this.kernel.link(link.name, signal)
    if (now?.index !== link.index) return undefined
    for (const address of [ipv4, ipv6]) {
      if (address !== undefined && !(await this.#hasAddress(link.index, address, signal))) return undefined
    }
    return withCarrier(this.kernel, { link: now, ipv4, ipv6 }, signal)
  }

  /**
   * Whether the interface has the address; an announced address may be on any interface, as when it was
   * chosen.
   */
  async #hasAddress(linkIndex: number, pair: UnderlayAddress, signal: AbortSignal): Promise<boolean> {
    const { local } = pair
    const addresses = await this.kernel.addresses(familyOf(local), signal)
    const holdersOf = (wanted: IpAddress) => addresses.filter(({ address }) => address.address === wanted)
    // The announced address has come to this host: packets are to be sent from it.
    if (local !== pair.public && holdersOf(pair.public).length > 0) return false
    const holders = holdersOf(local)
    if (holders.some((each) => each.linkIndex === linkIndex)) return true
    return local === pair.public && this.#isAnnouncedByFlag(local) && holders.length > 0
  }

  #isAnnouncedByFlag(address: IpAddress): boolean {
    return address === this.options['public-ip'] || address === this.options['public-ipv6']
  }
}

async function findUnderlay(
  kernel: Kernel,
  options: Options,
  config: NetworkConfig,
  remembered: RememberedUnderlay,
  signal: AbortSignal,
): Promise<Underlay> {
  const host = await kernel.hostNetwork({ reach: options['iface-can-reach'] }, signal)
  const families = { ipv4: config.ipv4 !== undefined, ipv6: config.ipv6 !== undefined }
  const underlay = chooseUnderlay(host, choiceOf(options), families, remembered)
  checkOutside(options, config, host, underlay)
  return withCarrier(kernel, underlay, signal, host)
}

/** The whole underlay; or a part of it, and then the failure that names the rest. */
async function findOrPart(
  kernel: Kernel,
  options: Options,
  config: NetworkConfig,
  remembered: RememberedUnderlay,
  signal: AbortSignal,
): Promise<{ readonly underlay: Underlay; readonly missing: OverlayError | undefined }> {
  try {
    return {
      underlay: await findUnderlay(kernel, options, config, remembered, signal),
      missing: undefined,
    }
  } catch (error) {
    if (!isOverlayError(error) || error.code !== 'no-underlay') throw error
    if (config.ipv4 === undefined || config.ipv6 === undefined) throw error
    const host = await kernel.hostNetwork({ reach: options['iface-can-reach'] }, signal)
    const part = choosePartly(host, choiceOf(options), remembered)
    if (part === undefined) throw error
    checkOutside(options, config, host, part.underlay)
    const [absent, other] = part.missing === 'IPv6' ? ['IPv6', 'IPv4'] : ['IPv4', 'IPv6']
    const rests = `containers' ${absent} rests until this host has an ${absent} address, and ${other} goes on`
    return {
      underlay: await withCarrier(kernel, part.underlay, signal, host),
      missing: new OverlayError(error.code, `${rests}: ${describeError(error)}`),
    }
  }
}

const choiceOf = (options: Options): UnderlayOptions => ({
  iface: options.iface,
  ifaceRegex: options['iface-regex'],
  ifaceCanReach: options['iface-can-reach'],
  publicIp: options['public-ip'],
  publicIpv6: options['public-ipv6'],
})

/** The local addresses of our devices. */
async function deviceAddresses(
  kernel: Kernel,
  { backend: { vni } }: NetworkConfig,
  signal: AbortSignal,
): Promise<IpAddress[]> {
  const links = await Promise.all(FAMILIES.map((family) => kernel.link(linkName(family, vni), signal)))
  return links.flatMap((link) => link?.vxlan?.local ?? [])
}

/** Logs that this host sends from another address than before. */
function logMove(log: Logger, before: RememberedUnderlay, now: Underlay): void {
  for (const half of ['ipv4', 'ipv6'] as const) {
    const [then, is] = [before[half]?.local, now[half]?.local]
    if (then === undefined || is === undefined || then === is) continue
    log.warn(
      `underlay: this host sent from ${formatIp(then)} before, and sends from ${formatIp(is)} on ` +
        `${now.link.name} now: the former address is not there, or a flag names another`,
      { kind: 'underlay-change', about: [formatIp(then), formatIp(is)] },
    )
  }
}

/** Adds the interface whose MTU bounds the packets, where the underlay's own interface sends none. */
async function withCarrier(
  kernel: Kernel,
  underlay: Omit<Underlay, 'carrier'>,
  signal: AbortSignal,
  known?: HostNetwork,
): Promise<Underlay> {
  if (isWayOut(underlay.link)) return underlay
  const host = known ?? (await kernel.hostNetwork({}, signal))
  const byDefault = carrierOf(underlay.link, { ...host, routes: [], addresses: [] })
  if (byDefault !== undefined) return { ...underlay, carrier: byDefault }
  const routes = []
  for (const family of FAMILIES) routes.push(...(await kernel.underlayRoutes(family, signal)))
  return { ...underlay, carrier: carrierOf(underlay.link, { ...host, routes }) }
}

/** Why the network's families do not fit through; `undefined` when they do. */
function shortageOf(config: NetworkConfig, underlay: Underlay): string | undefined {
  try {
    checkMtu(config, underlay)
    return undefined
  } catch (error) {
    if (error instanceof ConfigError) return describeError(error)
    throw error
  }
}

function checkOutside(
  options: Options,
  config: NetworkConfig,
  { defaultRoutes }: HostNetwork,
  underlay: Underlay,
): void {
  if (options['allow-network-overlap']) return
  const networks = subnetRanges(config).map(({ network }) => network)
  checkUnderlayOutside(networks, underlay, {
    etcd: endpointAddresses(options['etcd-endpoints']),
    gateways: defaultRoutes.flatMap(({ gateway }) => gateway ?? []),
  })
}

function describeUnderlay(underlay: Underlay): string {
  const { link, ipv4, ipv6 } = underlay
  const { mtu, name } = roomOf(underlay)
  const addresses = [ipv4, ipv6].filter((address) => address !== undefined)
  const words = addresses.map(
    ({ local, public: announced }) => `sending from ${formatIp(local)}, announced as ${formatIp(announced)}`,
  )
  const way = name === link.name ? `${name} with MTU ${mtu}` : `${link.name}, by ${name} with MTU ${mtu}`
  return `${way}, ${words.join('; ')}`
}

const sameUnderlay = (a: Underlay, b: Underlay): boolean =>
  a.link.index === b.link.index && isDeepStrictEqual(roomOf(a), roomOf(b)) && sameAddresses(a, b)
