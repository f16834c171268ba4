/** Multicast between hosts, for a host that takes part, or has something left of it. Any other loads nothing of it. */
import { OverlayError } from '../model/errors'
import { multicastLinkName } from '../plan/desired'
import type { Tools } from './join'
import type { Member } from './member'
import type { MulticastKeeper } from './multicast-keeper'

export class Multicast {
  #keeper: MulticastKeeper | undefined
  #starting = false

  /** @param isRemembered whether all that is known is what an earlier run remembers */
  constructor(
    private readonly tools: Tools,
    private readonly member: Member,
    private readonly isRemembered: () => boolean,
  ) {}

  /** `undefined` while it was never wanted. */
  get keeper(): MulticastKeeper | undefined {
    return this.#keeper
  }

  /** Takes in that other hosts may take part now. */
  wake(): void {
    this.#keeper?.wake()
  }

  /** Takes in that the config is, or may be, another. Once started it runs until the signal fires, and rejects with a defect of ours only. */
  async follow(signal: AbortSignal): Promise<void> {
    if (this.#keeper !== undefined) return this.#keeper.wake()
    if (this.#starting || !(await this.#isConcerned(signal))) return
    this.#starting = true
    const [{ MulticastKeeper }, { multicastTarget }] = await Promise.all([
      import('./multicast-keeper.js'),
      import('./multicast-target.js'),
    ])
    const { member, isRemembered } = this
    this.#keeper = new MulticastKeeper(
      this.tools.kernel,
      {
        target: () => multicastTarget(member.parts),
        isRemembered,
        get name() {
          return multicastLinkName(member.parts.config.backend.vni)
        },
      },
      this.tools.log,
    )
    await this.#keeper.run(signal)
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
