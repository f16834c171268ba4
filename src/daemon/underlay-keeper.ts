/**
 * Follows the underlay: the interface and addresses that carry the overlay's packets. What was chosen is kept for as long as the host has it, so
 * that a default route that moves for a while moves nothing; when it is gone, it is chosen anew.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { endpointAddresses } from '../etcd/endpoints'
import type { Kernel, KernelChange } from '../kernel/kernel'
import { familyOf, formatIp, type IpAddress } from '../model/address'
import { type BackoffBounds, backoffDelay } from '../model/backoff'
import { describeError, OverlayError } from '../model/errors'
import type { HostNetwork } from '../model/kernel'
import { type NetworkConfig, subnetRanges } from '../model/network-config'
import { checkUnderlayOutside, chooseUnderlay, sameAddresses, type Underlay } from '../plan/underlay'
import type { Logger } from './logger'
import type { Options } from './options'
import { Waker } from './waker'

/** All times in milliseconds. Events of one change (an address that goes, another that comes) come together. */
const SETTLE = 50
/** In case that an event was lost. */
const PERIOD = 60_000
const RETRY: BackoffBounds = { first: 200, most: 10_000 }

type Moved = (now: Underlay, before: Underlay) => Promise<void>

export class UnderlayKeeper {
  readonly #waker = new Waker()
  #problem: string | undefined
  #failures = 0

  private constructor(
    private readonly kernel: Kernel,
    private readonly options: Options,
    private config: NetworkConfig,
    private readonly log: Logger,
    private underlay: Underlay,
  ) {}

  /**
   * Chooses the underlay, and refuses a network that covers what the host needs on it.
   * @throws {OverlayError} `no-underlay`
   * @throws {ConfigError}
   */
  static async choose(
    tools: { readonly kernel: Kernel; readonly options: Options; readonly log: Logger },
    config: NetworkConfig,
    signal: AbortSignal,
  ): Promise<UnderlayKeeper> {
    const { kernel, options, log } = tools
    const underlay = await findUnderlay(kernel, options, config, signal)
    log.info(`underlay: ${describeUnderlay(underlay)}`, { kind: 'underlay-change' })
    return new UnderlayKeeper(kernel, options, config, log, underlay)
  }

  get current(): Underlay {
    return this.underlay
  }

  /** Why the underlay is not there; `undefined` when it is. */
  get problem(): string | undefined {
    return this.#problem
  }

  /**
   * Refuses another config whose network covers what the host needs on this underlay.
   * @throws {OverlayError}, {ConfigError}
   */
  async check(config: NetworkConfig, signal: AbortSignal): Promise<void> {
    checkOutside(this.options, config, await this.kernel.hostNetwork({}, signal), this.underlay)
  }

  /** Takes in which config the next choice is for. */
  adopt(config: NetworkConfig): void {
    this.config = config
  }

  /**
   * Runs until the signal fires.
   * @param moved told each change, once it is the {@link current} one, with what was before
   */
  async run(signal: AbortSignal, moved: Moved): Promise<void> {
    const stop = this.kernel.onChange((change) => this.#noteChange(change))
    try {
      while (!signal.aborted) {
        await this.#waker.sleep(
          this.#failures > 0 ? backoffDelay(this.#failures, RETRY, Math.random) : PERIOD,
          signal,
        )
        await sleep(SETTLE, undefined, { signal }).catch(() => undefined)
        if (!signal.aborted) await this.#look(signal, moved)
      }
    } finally {
      stop()
    }
  }

  #noteChange(change: KernelChange): void {
    if (['link', 'address', 'overrun'].includes(change.kind)) this.#waker.wake()
  }

  async #look(signal: AbortSignal, moved: Moved): Promise<void> {
    try {
      const found =
        (await this.#refreshed(signal)) ??
        (await findUnderlay(this.kernel, this.options, this.config, signal))
      if (!sameUnderlay(found, this.underlay)) {
        this.log.warn(`underlay: now ${describeUnderlay(found)}`, { kind: 'underlay-change' })
        const before = this.underlay
        this.underlay = found
        await moved(found, before)
      } else if (this.#problem !== undefined)
        this.log.info('underlay: is there again', { kind: 'underlay-change' })
      this.#problem = undefined
      this.#failures = 0
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof OverlayError)) throw error
      const problem = describeError(error)
      if (this.#problem !== problem)
        this.log.error(`underlay: ${problem}; all is kept as it is`, { kind: 'underlay-problem' })
      this.#problem = problem
      this.#failures++
    }
  }

  /** The current underlay with the MTU it has now; `undefined` when its interface or an address of it is gone. */
  async #refreshed(signal: AbortSignal): Promise<Underlay | undefined> {
    const { link, ipv4, ipv6 } = this.underlay
    const now = await this.kernel.link(link.name, signal)
    if (now?.index !== link.index) return undefined
    for (const address of [ipv4, ipv6]) {
      if (address !== undefined && !(await this.#hasAddress(link.index, address.local, signal)))
        return undefined
    }
    return { link: now, ipv4, ipv6 }
  }

  async #hasAddress(linkIndex: number, local: IpAddress, signal: AbortSignal): Promise<boolean> {
    const addresses = await this.kernel.linkAddresses(familyOf(local), linkIndex, signal)
    return addresses.some(({ address }) => address.address === local)
  }
}

async function findUnderlay(
  kernel: Kernel,
  options: Options,
  config: NetworkConfig,
  signal: AbortSignal,
): Promise<Underlay> {
  const reach = options['iface-can-reach']
  const host = await kernel.hostNetwork({ reach }, signal)
  const underlay = chooseUnderlay(
    host,
    {
      iface: options.iface,
      ifaceRegex: options['iface-regex'],
      ifaceCanReach: reach,
      publicIp: options['public-ip'],
      publicIpv6: options['public-ipv6'],
    },
    { ipv4: config.ipv4 !== undefined, ipv6: config.ipv6 !== undefined },
  )
  checkOutside(options, config, host, underlay)
  return underlay
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

function describeUnderlay({ link, ipv4, ipv6 }: Underlay): string {
  const addresses = [ipv4, ipv6].filter((address) => address !== undefined)
  const words = addresses.map(
    ({ local, public: announced }) => `sending from ${formatIp(local)}, announced as ${formatIp(announced)}`,
  )
  return `${link.name} with MTU ${link.mtu}, ${words.join('; ')}`
}

const sameUnderlay = (a: Underlay, b: Underlay): boolean =>
  a.link.index === b.link.index && a.link.mtu === b.link.mtu && sameAddresses(a, b)
