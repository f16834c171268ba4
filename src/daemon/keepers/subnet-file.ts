/**
 * Keeps subnet.env as it should be: compares it, puts it right, and reports why that cannot be done. Docker
 * and CNI wait for the file, and read it at any time. A place that is no file from the start, such as
 * /dev/stdout, is written when the content changes, and never compared.
 */
import { FileWatch } from '../../host/file-watch'
import {
  findPlace,
  formatSubnetEnv,
  type SubnetEnv,
  type SubnetPlace,
  subnetFileAt,
} from '../../host/subnet-env'
import { describeError } from '../../model/errors'
import { type Contest, Contests } from '../../plan/reconcile/contests'
import { Loop, type Next } from '../loop/loop'
import type { Logger } from '../tell/logger'

/**
 * Milliseconds between two checks without a notification, and from one check to the next in a storm of them.
 */
const PERIOD = 3000
const SPACING = 200

interface FileId {
  readonly kind: 'file'
  /** Path. */
  readonly key: string
}

export class SubnetFile {
  readonly #loop: Loop
  readonly #watch: FileWatch
  readonly #contests = new Contests<FileId>()
  #wanted: string | undefined
  /** The last text that the file had as wanted. */
  #kept: string | undefined
  #place: SubnetPlace | undefined
  #problem: string | undefined
  /** The last check, so that checks are one after the other. */
  #checking: Promise<void> = Promise.resolve()

  /**
   * @param changed called when {@link problem} is another
   * @param pace milliseconds between two checks without a notification, and with many; others are for tests
   */
  constructor(
    private readonly path: string,
    private readonly log: Logger,
    private readonly changed: () => void,
    private readonly pace = { period: PERIOD, spacing: SPACING },
  ) {
    this.#loop = new Loop({ name: 'subnet file', first: pace.period, pass: () => this.#pass() }, log)
    this.#watch = new FileWatch(path, () => this.#loop.wake())
  }

  get #id(): FileId {
    return { kind: 'file', key: this.path }
  }

  /** Why the file is not, or does not stay, what it should be; `undefined` when all is well. */
  get problem(): string | undefined {
    return this.#problem
  }

  /**
   * Sets the wanted content, and writes the file if it differs.
   * @throws {OverlayError} `subnet-file` the first time; a later failure is the {@link problem}
   */
  async want(env: SubnetEnv): Promise<void> {
    this.#wanted = formatSubnetEnv(env)
    if (this.#place !== undefined) return this.#check()
    const place = await findPlace(this.path)
    if (await subnetFileAt(place).enforce(this.#wanted)) this.log.info(`subnet file: wrote ${this.path}`)
    this.#kept = this.#wanted
    // Again, for the permissions that its directory has now.
    this.#place = await findPlace(this.path)
  }

  /** Runs until the signal fires. */
  async run(signal: AbortSignal): Promise<void> {
    this.#watch.arm()
    try {
      await this.#loop.run(signal)
    } finally {
      this.#watch.close()
    }
  }

  async #pass(): Promise<Next> {
    await this.#check()
    // After the check, which may have made the directory.
    this.#watch.arm()
    const now = performance.now()
    return { due: now + this.pace.period, earliest: now + this.pace.spacing }
  }

  /** Checks the file once. A failure is the {@link problem}. */
  #check(): Promise<void> {
    this.#checking = this.#checking.then(async () => {
      try {
        this.#setProblem(await this.#enforce())
      } catch (error) {
        this.#setProblem(describeError(error))
      }
    })
    return this.#checking
  }

  /** @returns why the file may not stay as it is */
  async #enforce(): Promise<string | undefined> {
    const text = this.#wanted
    if (text === undefined || this.#place === undefined) return undefined
    if (this.#place.kind === 'stream' && text === this.#kept) return undefined
    const file = subnetFileAt(this.#place)
    const difference = await file.difference(text)
    const isRepair = text === this.#kept
    const now = performance.now()
    this.#contests.begin()
    const waits = difference !== undefined && isRepair && !this.#contests.admit(this.#id, now)
    if (difference !== undefined && !waits) {
      await file.enforce(text)
      this.#kept = text
      if (isRepair) this.#logRepair(difference, now)
      else this.log.info(`subnet file: wrote ${this.path}`)
    }
    this.#contests.settle(now)
    const [contest] = this.#contests.contests()
    return contest && describeContest(contest)
  }

  #logRepair(difference: string, now: number): void {
    const { path } = this
    const contest = this.#contests.note([this.#id], now)[0]
    const more = contest === undefined ? '' : '; it is put right less often from now on'
    this.log.warn(`subnet file: ${path} ${difference}, and is put right${more}`, {
      kind: 'subnet-file-repair',
      about: [path],
    })
  }

  #setProblem(problem: string | undefined): void {
    const about = { kind: 'subnet-file-problem', about: [this.path] } as const
    // The text of a contest is another each time, for it has the number of repairs.
    const isNews = (problem === undefined) !== (this.#problem === undefined)
    if (problem !== undefined && isNews) this.log.error(`subnet file: ${problem}`, about)
    if (problem === undefined && isNews) this.log.info(`subnet file: ${this.path} is in order again`, about)
    const isSame = problem === this.#problem
    this.#problem = problem
    if (!isSame) this.changed()
  }
}

const describeContest = ({ subject: { key: path }, times }: Contest<FileId>): string =>
  `another program changes ${path} again and again: put right ${times} times; ` +
  `find it (auditctl -w ${path} -p wa) and stop it, or give one of the two another --subnet-file`
