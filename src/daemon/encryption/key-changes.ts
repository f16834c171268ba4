/** Changes of this host's keys: when an operator asks, and when they are old. */
import { performance } from 'node:perf_hooks'
import { OverlayError } from '../../model/errors'
import { planRotation } from '../../plan/encryption/rotation'
import type { HostWireguard } from './host-wireguard'

/** Milliseconds between two notes of the clock. */
const CLOCK_NOTE = 60_000

export class KeyChanges {
  /** Whether an operator has asked for other keys. */
  #isAsked = false
  /**
   * Since when a host may still use the slot that it and this host leave, in milliseconds since the epoch.
   */
  #changingSince: number | undefined
  /** When the next note of the clock is due, in monotonic milliseconds. */
  #clockDue = 0

  /** @param maxAge milliseconds for which a key is used; 0 for ever */
  constructor(
    private readonly wireguard: HostWireguard,
    private readonly maxAge: number,
  ) {}

  /**
   * Asks for other keys. They are in use when other hosts have followed.
   * @throws {OverlayError} `rotate-key` while a change is under way
   */
  ask(): void {
    if (this.#isAsked || this.wireguard.keys?.isLeaving === true) {
      throw new OverlayError(
        'rotate-key',
        'a change of keys is under way already',
        'see its end: overlayctl events --follow --kind=encryption-key',
      )
    }
    this.#isAsked = true
  }

  /** Notes whether a pair of this host and another one is on its way to the other slot. */
  note(isChanging: boolean): void {
    this.#changingSince = isChanging ? (this.#changingSince ?? Date.now()) : undefined
  }

  /** Notes how far the clock has come, once a minute. */
  async noteClock(): Promise<void> {
    const now = performance.now()
    if (now < this.#clockDue) return
    this.#clockDue = now + CLOCK_NOTE
    await this.wireguard.noteClock()
  }

  /**
   * Takes the step that is due.
   * @param others turns of the other hosts
   * @returns whether this host has other keys, or another turn
   * @throws {OverlayError} `key-file`
   */
  async step(others: readonly number[]): Promise<boolean> {
    const { keys } = this.wireguard
    if (keys === undefined) return false
    const { turn, since, isLeaving } = keys
    const step = planRotation({
      turn,
      since,
      isLeaving,
      changingSince: this.#changingSince,
      others,
      maxAge: this.maxAge === 0 ? undefined : this.maxAge,
      isAsked: this.#isAsked,
      now: Date.now(),
    })
    if (step === undefined) return false
    this.#isAsked = false
    await this.wireguard.change(step)
    return true
  }
}
