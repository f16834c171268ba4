/**
 * Bounds the number of log lines of each kind: whoever may write to etcd, or run a program on this host, must
 * not be able to fill a disk. Each kind has a budget of its own, so that a flood of one kind suppresses no
 * line of another. Every kind has one, so that a new kind whose lines others can cause needs no limit of its
 * own.
 */

/**
 * A burst of lines, then one line in `every` milliseconds: 3000 lines a day. With 30 kinds in full flood that
 * is about 25 MB a day.
 */
const USUAL = { burst: 20, every: 30_000 }
/** For lines of level debug and silly, which the operator has asked for with -v. */
const DETAILED = { burst: 1000, every: 500 }

/**
 * Kinds with a budget of their own; further ones share one. There are fewer, unless a kind contains text that
 * others choose.
 */
const MOST_KINDS = 200

/** A line that may be logged. */
export interface Admission {
  /** Lines of its kind that were omitted since the last one that was logged. */
  readonly omitted: number
}

interface Budget {
  readonly burst: number
  readonly every: number
  /** Lines that may be logged as of `at`, including a fraction of a line. */
  tokens: number
  at: number
  omitted: number
}

/** The budgets of all kinds. All times are monotonic milliseconds. */
export class LineLimits {
  readonly #budgets = new Map<string, Budget>()

  /**
   * Decides whether a line may be logged.
   * @param kind of the line
   * @param isDetail whether the line is of level debug or silly
   * @returns `undefined` if the line must be omitted; the omission is counted
   */
  admit(kind: string, isDetail: boolean, now: number): Admission | undefined {
    const budget = this.#budgetOf(kind, isDetail, now)
    if (budget.tokens < 1) {
      budget.omitted += 1
      return undefined
    }
    budget.tokens -= 1
    const { omitted } = budget
    budget.omitted = 0
    return { omitted }
  }

  /** Milliseconds until the number of omitted lines of the kind may be logged; 0 for now. */
  delay(kind: string, now: number): number {
    const budget = this.#budgets.get(kind)
    if (budget === undefined) return 0
    return Math.max(0, Math.ceil((1 - budget.tokens) * budget.every - (now - budget.at)))
  }

  /** Lines of the kind that were omitted and whose number was not logged yet. */
  omitted(kind: string): number {
    return this.#budgets.get(kind)?.omitted ?? 0
  }

  #budgetOf(kind: string, isDetail: boolean, now: number): Budget {
    const name = this.#budgets.has(kind) || this.#budgets.size < MOST_KINDS ? kind : ''
    const known = this.#budgets.get(name)
    if (known !== undefined) {
      const { burst, every, at } = known
      known.tokens = Math.min(burst, known.tokens + (now - at) / every)
      known.at = now
      return known
    }
    const { burst, every } = isDetail ? DETAILED : USUAL
    const budget: Budget = { burst, every, tokens: burst, at: now, omitted: 0 }
    this.#budgets.set(name, budget)
    return budget
  }
}
