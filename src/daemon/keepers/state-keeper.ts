/**
 * Keeps the state file up to date. A change is written soon, off the path of packets and peers. A file that
 * cannot be written is a problem to report; the daemon runs on.
 */
import { isDeepStrictEqual } from 'node:util'
import { FileWatch } from '../../host/file-watch'
import {
  printOfStateFile,
  removeLeftovers,
  type SavedState,
  type StateFilePrint,
  stateFilePath,
  writeStateFile,
} from '../../host/state-file'
import { describeError } from '../../model/errors'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'

/** Milliseconds between two writes while peers come and go. */
const SPACING = 5000
/** Milliseconds between two checks of the file without a notification. */
const PERIOD = 5000
/** Milliseconds from a failed write to the next one. */
const RETRY = 30_000

/**
 * How the file differs from the state of the daemon: not at all; by changes that may wait for the spacing; by
 * one that may not.
 */
type Content = 'saved' | 'changed' | 'urgent'

/** The file as this run wrote it last. */
interface Written {
  readonly at: string
  /** Identifies that file among any others in its place. */
  readonly print: StateFilePrint | undefined
}

export class StateKeeper {
  readonly #loop: Loop
  readonly #watch: FileWatch
  #content: Content = 'saved'
  /** When a change that is not urgent is written; monotonic milliseconds. */
  #nextWrite = 0
  /** The last write, so that writes are one after the other. */
  #writing: Promise<void> = Promise.resolve()
  #written: Written | undefined
  #problem: string | undefined

  /**
   * @param present the state to save; undefined while no state is worth saving
   * @param spacing milliseconds between two writes while peers come and go; another value is for tests
   */
  constructor(
    private readonly directory: string,
    private readonly present: () => Promise<SavedState | undefined>,
    private readonly log: Logger,
    private readonly spacing = SPACING,
  ) {
    this.#loop = new Loop({ name: 'state', pass: () => this.#pass() }, log)
    this.#watch = new FileWatch(stateFilePath(directory), () => this.#loop.wake())
  }

  /** Why the file is not up to date; `undefined` when it is, or will be in a moment. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** When this run wrote the file last, in ISO 8601. */
  get savedAt(): string | undefined {
    return this.#written?.at
  }

  /** Has a changed state saved: an urgent change at once, another one after the spacing. */
  changed(urgent: boolean): void {
    if (urgent) this.#content = 'urgent'
    else if (this.#content === 'saved') this.#content = 'changed'
    this.#loop.by(this.#due)
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    await removeLeftovers(this.directory)
    try {
      await this.#loop.run(signal)
    } finally {
      this.#watch.close()
    }
  }

  /** Writes the state if it has changed. A failure is the {@link problem}, and is not thrown. */
  save(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  async #pass(): Promise<Next> {
    if (this.#content === 'saved') await this.#check()
    if (this.#content !== 'saved' && performance.now() >= this.#due) await this.save()
    // After a write, which may have made the directory.
    this.#watch.arm()
    return { due: this.#due }
  }

  /** When the next pass has something to do; monotonic milliseconds. */
  get #due(): number {
    if (this.#content === 'urgent') return 0
    return this.#content === 'changed' ? this.#nextWrite : performance.now() + PERIOD
  }

  /** Has the file written again, at the pace of changes, when another program has deleted or changed it. */
  async #check(): Promise<void> {
    await this.#writing
    if (this.#content !== 'saved' || this.#written?.print === undefined) return
    if (isDeepStrictEqual(await printOfStateFile(this.directory), this.#written.print)) return
    this.log.warn(`state: ${stateFilePath(this.directory)} was deleted or changed, and is written again`, {
      kind: 'state-repair',
    })
    if (this.#content === 'saved') this.#content = 'changed'
  }

  async #write(): Promise<void> {
    if (this.#content === 'saved') return
    this.#content = 'saved'
    try {
      const state = await this.present()
      if (state === undefined) return
      await writeStateFile(this.directory, state)
      const print = await printOfStateFile(this.directory)
      if (this.#problem !== undefined) this.log.info('state: the file is written again')
      else if (this.#written === undefined) this.log.debug(`state: wrote the file in ${this.directory}`)
      this.#problem = undefined
      this.#written = { at: state.savedAt, print }
      this.#nextWrite = performance.now() + this.spacing
    } catch (error) {
      const problem = describeError(error)
      if (this.#problem !== problem)
        this.log.error(`state: ${problem}; all else goes on`, { kind: 'state-problem' })
      this.#problem = problem
      // A change that came meanwhile may be urgent, and is tried at once.
      if (this.#content === 'saved') this.#content = 'changed'
      this.#nextWrite = performance.now() + RETRY
    }
  }
}
