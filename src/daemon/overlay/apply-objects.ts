/** Gives operations on objects to the kernel, and remembers what the kernel has since. */
import type { Kernel } from '../../kernel/kernel'
import type { Family } from '../../model/address'
import { OverlayError } from '../../model/errors'
import {
  emptyObjects,
  isSetOf,
  type ObjectMemory,
  type ObjectOperation,
  type ObservedObjects,
  type OperationFailure,
  UNKNOWN_GATEWAY,
} from '../../model/kernel/objects'
import type { NexthopId } from '../../model/kernel/route'
import { describeOperation } from '../../model/kernel/words'
import { applyOperation } from '../../plan/reconcile/diff'
import type { Failing, Retries } from '../../plan/reconcile/retries'
import type { Logger } from '../tell/logger'
import type { Meters } from '../tell/meters'

/** Operations of one batch that are logged at the highest verbosity. */
const MOST_LINES = 20

/** How a batch of operations went. */
export interface Applied {
  /** Refusals of operations that were not refused before, explained. */
  readonly refused: readonly OperationFailure[]
  readonly refusedAgain: readonly Failing[]
  /** Ids of nexthops that turned out to be somebody else's. */
  readonly taken: ReadonlySet<NexthopId>
}

const NOTHING: Applied = { refused: [], refusedAgain: [], taken: new Set() }

export class ObjectApplier {
  #memory: ObjectMemory = emptyObjects()
  #taken: ReadonlySet<NexthopId> = new Set()
  #operations = 0

  constructor(
    private readonly kernel: Kernel,
    private readonly family: Family,
    private readonly retries: Retries,
    private readonly log: Logger,
    private readonly meters: Meters,
    private readonly random: () => number,
  ) {}

  /** What the kernel has on the device. */
  get memory(): ObjectMemory {
    return this.#memory
  }

  /** Ids that nexthops of ours would have, and that are somebody else's. */
  get taken(): ReadonlySet<NexthopId> {
    return this.#taken
  }

  /** How many operations the kernel has accepted. */
  get operations(): number {
    return this.#operations
  }

  /** Replaces the memory by what was read from the kernel. */
  remember(observed: ObservedObjects): void {
    const { takenNexthops } = observed
    // A nexthop that was ours in the last pass and is on another link now is ours still: someone changed it.
    const changed = new Set([...takenNexthops].filter((id) => this.#memory.nexthop.has(id)))
    for (const id of changed) observed.nexthop.set(id, UNKNOWN_GATEWAY)
    this.#taken = new Set([...takenNexthops].filter((id) => !changed.has(id)))
    this.#memory = observed
  }

  /**
   * Applies operations, each as if it were alone: one that is refused keeps no other from being done.
   * @param link index of the device
   */
  async apply(link: number, operations: readonly ObjectOperation[], signal: AbortSignal): Promise<Applied> {
    if (operations.length === 0) return NOTHING
    const failures = await this.#applyInOrder(link, operations, signal)
    this.#operations += operations.length - failures.length
    const { others, taken } = this.#avoidTaken(failures)
    const news = this.retries.settle(operations, others, performance.now(), this.random)
    const refused = await this.kernel.explain(this.family, news, signal)
    this.retries.explain(refused)
    for (const operation of operations.slice(0, MOST_LINES))
      this.log.silly(() => `kernel: ${describeOperation(operation)}`)
    const isNew = new Set(news)
    const again = others.filter((failure) => !isNew.has(failure))
    const refusedAgain = again.flatMap(({ operation }) => this.retries.stateOf(operation) ?? [])
    return { refused, refusedAgain, taken }
  }

  /** Finds out again what is in the way of the operations that fail. */
  async explainFailures(signal: AbortSignal): Promise<void> {
    if (this.retries.size === 0) return
    const failures = [...this.retries.failures()].map(({ error, ...failure }) => ({
      ...failure,
      error: error.cause instanceof Error ? error.cause : error,
    }))
    this.retries.explain(await this.kernel.explain(this.family, failures, signal))
  }

  /**
   * Nexthops before the routes that name them: one that was refused may be a stranger's, and no packet of
   * ours may go there.
   */
  async #applyInOrder(
    link: number,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    const setsNexthops = operations.some(isSetOf('nexthop'))
    const cut = setsNexthops ? operations.findIndex(isSetOf('route')) : -1
    if (cut === -1) return this.#applyBatch(link, operations, signal)
    const refused = await this.#applyBatch(link, operations.slice(0, cut), signal)
    const rest = operations.slice(cut)
    if (refused.length === 0) return this.#applyBatch(link, rest, signal)
    const blocked = new Set(rest.filter((operation) => this.#lacksNexthop(operation)))
    const error = new OverlayError('nexthop-missing', 'its nexthop object could not be made')
    return [
      ...refused,
      ...Array.from(blocked, (operation) => ({ operation, error, cause: 'gone', errno: undefined }) as const),
      ...(await this.#applyBatch(
        link,
        rest.filter((operation) => !blocked.has(operation)),
        signal,
      )),
    ]
  }

  #lacksNexthop(operation: ObjectOperation): boolean {
    if (!isSetOf('route')(operation)) return false
    const { target } = operation.value
    return target.kind === 'nexthop' && !this.#memory.nexthop.has(target.id)
  }

  async #applyBatch(
    link: number,
    operations: readonly ObjectOperation[],
    signal: AbortSignal,
  ): Promise<readonly OperationFailure[]> {
    if (operations.length === 0) return []
    const started = performance.now()
    const failures = await this.kernel.apply(link, operations, signal)
    this.meters.wrote(operations, failures, performance.now() - started)
    const failed = failures.length === 0 ? undefined : new Set(failures.map(({ operation }) => operation))
    for (const operation of operations) {
      if (!failed?.has(operation)) applyOperation(this.#memory, operation)
    }
    return failures
  }

  /**
   * A nexthop whose id is somebody else's cannot be made: the peer's route names its gateway itself, from the
   * next pass on. Neither the nexthop nor the route through it is tried again.
   */
  #avoidTaken(failures: readonly OperationFailure[]): {
    readonly others: readonly OperationFailure[]
    readonly taken: ReadonlySet<NexthopId>
  } {
    const isOfTaken = ({ operation, cause }: OperationFailure): boolean =>
      isSetOf('nexthop')(operation) && cause === 'taken'
    const taken = new Set(failures.filter(isOfTaken).map(({ operation }) => operation.key as NexthopId))
    if (taken.size === 0) return { others: failures, taken }
    this.#taken = new Set([...this.#taken, ...taken])
    const others = failures.filter((failure) => {
      const { operation } = failure
      const target = isSetOf('route')(operation) ? operation.value.target : undefined
      return !isOfTaken(failure) && !(target?.kind === 'nexthop' && taken.has(target.id))
    })
    return { others, taken }
  }
}
