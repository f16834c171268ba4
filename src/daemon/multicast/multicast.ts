/**
 * Multicast between hosts, for a host that takes part or has a device left of it. Any other host loads no
 * code of it.
 */
import { isOverlayError } from '../../model/errors'
import { ownSubnets } from '../../plan/host/own-subnets'
import type { GroupTable } from '../../plan/multicast/group-table'
import { multicastLinkName } from '../../plan/reconcile/desired'
import type { Edges } from '../edges'
import type { Node } from '../node/node'
import type { GroupsPublisher } from './groups-publisher'
import type { MulticastKeeper, MulticastTarget } from './multicast-keeper'

type HostsOf = typeof import('../../plan/multicast/groups')['hostsOf']

export class Multicast {
  #keeper: MulticastKeeper | undefined
  #publisher: GroupsPublisher | undefined
  #starting = false

  /**
   * @param groups the announcements of other hosts
   * @param isRemembered whether this host knows only what an earlier run remembers
   */
  constructor(
    private readonly tools: Edges,
    private readonly node: Node,
    readonly groups: GroupTable,
    private readonly isRemembered: () => boolean,
  ) {}

  /** `undefined` until multicast is first wanted. */
  get keeper(): MulticastKeeper | undefined {
    return this.#keeper
  }

  /** `undefined` until multicast is first wanted. */
  get publisher(): GroupsPublisher | undefined {
    return this.#publisher
  }

  /** Asks for passes: other hosts may take part now, or want other groups. */
  wake(): void {
    this.#keeper?.wake()
    this.#publisher?.heard()
  }

  /**
   * Follows a config that may have changed. The call that starts the parts runs until the signal fires, and
   * rejects only with a defect of ours.
   */
  async follow(signal: AbortSignal): Promise<void> {
    if (this.#keeper !== undefined) {
      this.wake()
      this.#publisher?.wake()
      return
    }
    if (this.#starting || !(await this.#isConcerned(signal))) return
    this.#starting = true
    const [{ MulticastKeeper }, { GroupsPublisher }, { hostsOf }] = await Promise.all([
      import('./multicast-keeper.js'),
      import('./groups-publisher.js'),
      import('../../plan/multicast/groups.js'),
    ])
    const { node, groups, isRemembered } = this
    const { kernel, registry, log } = this.tools
    const keeper = new MulticastKeeper(
      kernel,
      {
        target: () => this.#target(hostsOf),
        isRemembered,
        get name() {
          return multicastLinkName(node.view.plan.inputs.config.backend.vni)
        },
        distrust: (now) =>
          isRemembered()
            ? { why: 'etcd has not answered since the start', until: Number.POSITIVE_INFINITY }
            : { why: groups.distrust(now), until: groups.changesAt(now) },
        bridgesChanged: () => this.#publisher?.wake(),
      },
      log,
    )
    this.#keeper = keeper
    this.#publisher = new GroupsPublisher(
      kernel,
      registry,
      {
        own: () => this.#own,
        isRemembered,
        bridges: () => keeper.bridges,
        heard: ({ key }) => groups.entryOf(key),
      },
      log,
    )
    await Promise.all([keeper.run(signal), this.#publisher.run(signal)])
  }

  /** The plan's multicast with the hosts that take part; `undefined` for a host that takes no part. */
  #target(hostsOf: HostsOf): MulticastTarget | undefined {
    const { plan, overlays, encryption, announcer } = this.node.view
    // Leases of both families name the same VNI, so one family's peers are enough.
    const [carrier] = overlays
    if (plan.multicast === undefined || carrier === undefined) return undefined
    const { vni } = plan.multicast
    const hosts = hostsOf(
      carrier.peers.peers(),
      vni,
      (key) => this.groups.toldBy(key),
      (peer) => encryption.ways.of(peer),
    )
    const subnets = ownSubnets(plan.multicast.subnets, announcer.further)
    return { ...plan.multicast, subnets, hosts }
  }

  /** The lease and VNI of an announcement; `undefined` while this host may announce nothing. */
  get #own() {
    const { plan, lease: keeper } = this.node.view
    const vni = plan.multicast?.vni
    if (vni === undefined || keeper.state.kind !== 'held') return undefined
    return { lease: keeper.state.lease, vni }
  }

  /** Whether multicast is wanted, or an earlier run has left its device. */
  async #isConcerned(signal: AbortSignal): Promise<boolean> {
    const { vni, multicast } = this.node.view.plan.inputs.config.backend
    if (multicast !== undefined) return true
    try {
      return (await this.tools.kernel.link(multicastLinkName(vni), signal)) !== undefined
    } catch (error) {
      if (!isOverlayError(error)) throw error
      // Not known now: the keeper checks again.
      return true
    }
  }
}
