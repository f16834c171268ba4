/** Keeps the state file: written soon after something in it changed, never in anyone's way, and no reason to stop. */
import { performance } from 'node:perf_hooks'
import { removeLeftovers, type SavedState, writeStateFile } from '../host/state-file'
import { describeError } from '../model/errors'
import type { Logger } from './logger'
import { Waker } from './waker'

/** Milliseconds between two writes while peers come and go. */
const SPACING = 5000
/** And after one that failed. */
const RETRY = 30_000

export class StateKeeper {
  readonly #waker = new Waker()
  #dirty = false
  #urgent = false
  #nextWrite = 0
  #writing: Promise<void> = Promise.resolve()
  #problem: string | undefined
  #savedAt: string | undefined

  /** @param present what is to be saved now; undefined while there is nothing that is worth it */
  constructor(
    private readonly directory: string,
    private readonly present: () => Promise<SavedState | undefined>,
    private readonly log: Logger,
  ) {}

  /** Why the file is not up to date; `undefined` when it is, or will be in a moment. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** When the file was written last by this run, in ISO 8601. */
  get savedAt(): string | undefined {
    return this.#savedAt
  }

  /** Takes in that what is to be saved is another. An urgent change is written at once. */
  changed(urgent: boolean): void {
    this.#dirty = true
    this.#urgent ||= urgent
    this.#waker.wake()
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    await removeLeftovers(this.directory)
    while (!signal.aborted) {
      await this.#waker.sleep(
        this.#dirty ? this.#nextWrite - performance.now() : Number.POSITIVE_INFINITY,
        signal,
      )
      const isDue = this.#dirty && (this.#urgent || performance.now() >= this.#nextWrite)
      if (isDue && !signal.aborted) await this.save()
    }
  }

  /** Writes what has changed, if anything has. A failure is told, not thrown. */
  save(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  async #write(): Promise<void> {
    if (!this.#dirty) return
    this.#dirty = false
    this.#urgent = false
    try {
      const state = await this.present()
      if (state === undefined) return
      await writeStateFile(this.directory, state)
      if (this.#problem !== undefined) this.log.info('state: the file is written again')
      else if (this.#savedAt === undefined) this.log.debug(`state: wrote the file in ${this.directory}`)
      this.#problem = undefined
      this.#savedAt = state.savedAt
      this.#nextWrite = performance.now() + SPACING
    } catch (error) {
      const problem = describeError(error)
      if (this.#problem !== problem)
        this.log.error(`state: ${problem}; all else goes on`, { kind: 'state-problem' })
      this.#problem = problem
      this.#dirty = true
      this.#nextWrite = performance.now() + RETRY
    }
  }
}
