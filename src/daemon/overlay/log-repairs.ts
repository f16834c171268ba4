/**
 * Repairs, contests and refusals of the kernel, as log lines and events. Here identities of objects become
 * words.
 */
import { errnoOf } from '../../kernel/failures'
import { formatPrefix } from '../../model/address'
import { describeError } from '../../model/errors'
import { IdMap } from '../../model/id-map'
import type { LinkOperation } from '../../model/kernel/link'
import type { ObjectOperation, OperationFailure } from '../../model/kernel/objects'
import { isObjectId, type Setting, type Subject, subjectOf } from '../../model/kernel/subject'
import { describeSubject } from '../../model/kernel/words'
import { ownerOf } from '../../plan/objects'
import type { PeerLookup } from '../../plan/objects/kind'
import { type Contest, type Contests, describeContest } from '../../plan/reconcile/contests'
import type { Failing } from '../../plan/reconcile/retries'
import type { Logger } from '../tell/logger'

/** Lines about refused changes in one batch: more would hide all other lines. */
const MOST_LINES = 20

export class RepairLog {
  #lastError: { readonly text: string; readonly at: Date } | undefined

  constructor(
    private readonly log: Logger,
    private readonly peers: PeerLookup,
    private readonly contests: Contests,
  ) {}

  /** The last error of a pass or of an operation. */
  get lastError(): { readonly text: string; readonly at: Date } | undefined {
    return this.#lastError
  }

  /** Logs that a pass failed. @param isFirst whether the pass before succeeded */
  failed(error: unknown, isFirst: boolean): void {
    const text = describeError(error)
    this.#lastError = { text, at: new Date() }
    if (isFirst)
      this.log.error(`kernel: ${text}; trying again`, { kind: 'device-problem', errno: errnoOf(error) })
  }

  /** Logs that a pass succeeded after one that failed. */
  recovered(device: string): void {
    this.log.info(`kernel: device ${device} is in order again`, { kind: 'device-change' })
  }

  /** Logs and counts what was put right. Contests begin and end here. */
  repaired(operations: readonly (LinkOperation | ObjectOperation)[], now: number): void {
    const subjects = unique(operations.map(subjectOf))
    if (subjects.length > 0) this.#logRepairs(subjects)
    for (const contest of this.contests.note(subjects, now))
      this.#logContest(contest, now, '; it is put right less often from now on')
    for (const { subject, times } of this.contests.settle(now)) {
      const what = describeSubject(subject)
      this.log.info(`kernel: nobody changes ${what} any more; it was put right ${times} times`, {
        kind: 'kernel-contest',
        about: [what],
      })
    }
  }

  /** The same, of a setting that the packets of a device need. */
  settingRepaired(setting: Setting, device: string, now: number): void {
    this.log.warn(`settings: ${setting} was changed, and is put right`, {
      kind: 'forwarding-repair',
      about: [device],
    })
    const subject: Subject = { kind: 'setting', key: setting }
    for (const contest of this.contests.note([subject], now)) this.#logContest(contest, now)
  }

  #logRepairs(subjects: readonly Subject[]): void {
    const objects = subjects.map(describeSubject)
    const tally: Record<string, number> = {}
    for (const { kind } of subjects) tally[kind] = (tally[kind] ?? 0) + 1
    const others = objects.length === 1 ? '' : ` and ${objects.length - 1} more`
    this.log.info(`kernel: put right what someone else changed: ${objects[0]}${others}`, {
      kind: 'kernel-repair',
      about: [...this.#ownersOf(subjects), ...objects],
      tally,
    })
  }

  #logContest(contest: Contest, now: number, more = ''): void {
    this.log.warn(`kernel: ${describeContest(contest, now)}${more}`, {
      kind: 'kernel-contest',
      about: [describeSubject(contest.subject)],
    })
  }

  /** Logs refusals of operations that were not refused before. */
  refused(failures: readonly OperationFailure[]): void {
    const last = failures.at(-1)
    if (last !== undefined) this.#lastError = { text: describeError(last.error), at: new Date() }
    for (const { operation, error, errno } of failures.slice(0, MOST_LINES)) {
      this.log.warn(`kernel: ${describeError(error)}; trying again with backoff, all others go on`, {
        kind: 'kernel-refusal',
        about: this.#namesOf(operation),
        errno,
      })
    }
    const more = failures.length - MOST_LINES
    if (more > 0) this.log.warn(`kernel: ${more} more changes fail; overlayctl status lists them`)
  }

  /** Logs refusals of operations that were refused before. */
  refusedAgain(failures: readonly Failing[], now: number): void {
    for (const { operation, error, errno, attempts, dueAt } of failures.slice(0, MOST_LINES)) {
      const seconds = Math.max(0, (dueAt - now) / 1000).toFixed(1)
      this.log.debug(`kernel: ${describeError(error)}; refused ${attempts} times, again in ${seconds} s`, {
        kind: 'kernel-retry',
        about: this.#namesOf(operation),
        errno,
      })
    }
  }

  #namesOf(operation: ObjectOperation): string[] {
    return [...this.#ownersOf([operation]), describeSubject(operation)]
  }

  /** The subnets of the peers that have these objects, as far as an event has room for them. */
  #ownersOf(subjects: readonly Subject[]): string[] {
    const owners = subjects
      .slice(0, MOST_LINES)
      .flatMap((subject) => (isObjectId(subject) ? (ownerOf(subject, this.peers) ?? []) : []))
    return [...new Set(owners)].map(({ subnet }) => formatPrefix(subnet))
  }
}

/** Each subject once. */
function unique(subjects: readonly Subject[]): Subject[] {
  const found = new IdMap<Subject, Subject>()
  for (const subject of subjects) if (found.get(subject) === undefined) found.set(subject, subject)
  return [...found.values()]
}
