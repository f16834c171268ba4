/** Multicast between hosts, for a host that takes part, or has something left of it. Any other loads nothing of it. */
import { OverlayError } from '../model/errors'
import { multicastLinkName } from '../plan/desired'
import type { GroupTable } from '../plan/group-table'
import type { GroupsPublisher } from './groups-publisher'
import type { Tools } from './join'
import type { Member } from './member'
import type { MulticastKeeper } from './multicast-keeper'

export class Multicast {
  #keeper: MulticastKeeper | undefined
  #publisher: GroupsPublisher | undefined
  #starting = false

  /**
   * @param groups what hosts say that they want
   * @param isRemembered whether all that is known is what an earlier run remembers
   */
  constructor(
    private readonly tools: Tools,
    private readonly member: Member,
    readonly groups: GroupTable,
    private readonly isRemembered: () => boolean,
  ) {}

  /** `undefined` while it was never wanted. */
  get keeper(): MulticastKeeper | undefined {
    return this.#keeper
  }

  /** `undefined` while it was never wanted. */
  get publisher(): GroupsPublisher | undefined {
    return this.#publisher
  }

  /** Takes in that other hosts may take part now, or want something else. */
  wake(): void {
    this.#keeper?.wake()
    this.#publisher?.heard()
  }

  /** Takes in that the config is, or may be, another. Once started it runs until the signal fires, and rejects with a defect of ours only. */
  async follow(signal: AbortSignal): Promise<void> {
    if (this.#keeper !== undefined) {
      this.wake()
      this.#publisher?.wake()
      return
    }
    if (this.#starting || !(await this.#isConcerned(signal))) return
    this.#starting = true
    const [{ MulticastKeeper }, { multicastTarget }, { GroupsPublisher }] = await Promise.all([
      import('./multicast-keeper.js'),
      import('./multicast-target.js'),
      import('./groups-publisher.js'),
    ])
    const { member, groups, isRemembered } = this
    const { kernel, registry, log } = this.tools
    const keeper = new MulticastKeeper(
      kernel,
      {
        target: () => multicastTarget(member.parts, groups),
        isRemembered,
        get name() {
          return multicastLinkName(member.parts.config.backend.vni)
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

  /** What has to be so that this host may say anything. */
  get #own() {
    const { config, keeper } = this.member.parts
    const { multicast: vni } = config.backend
    if (vni === undefined || keeper.state.kind !== 'held') return undefined
    return { lease: keeper.state.lease, vni }
  }

  /** Whether it is wanted, or an earlier run has left its device. */
  async #isConcerned(signal: AbortSignal): Promise<boolean> {
    const { vni, multicast } = this.member.parts.config.backend
    if (multicast !== undefined) return true
    try {
      return (await this.tools.kernel.link(multicastLinkName(vni), signal)) !== undefined
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error
      // It cannot be told just now: the keeper looks again.
      return true
    }
  }
}
