/**
 * Counts and times of the daemon's work: plain numbers, cheap enough to be kept even if nobody reads them.
 */
import { performance } from 'node:perf_hooks'
import type { EtcdMeter } from '../../etcd/client/client'
import { type ObjectOperation, type OperationFailure, operationName } from '../../model/kernel/objects'

/** Counts by label, or by several labels. */
export class Tally {
  /** labels joined by NUL, which no label contains -> labels, count */
  readonly #counts = new Map<string, { readonly labels: readonly string[]; count: number }>()

  add(count: number, ...labels: readonly [string, ...string[]]): void {
    const key = labels.length === 1 ? labels[0] : labels.join('\0')
    const counted = this.#counts.get(key)
    if (counted === undefined) this.#counts.set(key, { labels, count })
    else counted.count += count
  }

  /** The count of a label. */
  of(label: string): number {
    return this.#counts.get(label)?.count ?? 0
  }

  *entries(): Generator<readonly [labels: readonly string[], count: number]> {
    for (const { labels, count } of this.#counts.values()) yield [labels, count]
  }
}

/**
 * Upper bounds of the histograms' buckets in seconds. A join is in the kernel after 1 to 5 ms; ten thousand
 * joins at once take half a second. What takes longer than etcd's deadline of 3 s is a fault: its order of
 * magnitude is enough.
 */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const

/**
 * The same for round trips between hosts: 0.05 ms on one machine, 0.2 ms in one room, 100 ms around the
 * earth. An answer that takes more than a second counts as lost.
 */
const ROUND_TRIPS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1]

/** A histogram of durations. */
export class Distribution {
  /**
   * Durations in each bucket: above the bound before and up to its own; the last bucket: above all bounds.
   */
  readonly #counts: number[]
  #sum = 0
  #count = 0

  /** @param bounds upper bounds of the buckets in seconds, ascending */
  constructor(private readonly bounds: readonly number[] = BOUNDS) {
    this.#counts = new Array<number>(bounds.length + 1).fill(0)
  }

  observe(milliseconds: number): void {
    const seconds = milliseconds / 1000
    const { bounds } = this
    let place = 0
    while (place < bounds.length && seconds > (bounds[place] ?? 0)) place += 1
    this.#counts[place] = (this.#counts[place] ?? 0) + 1
    this.#sum += seconds
    this.#count += 1
  }

  get count(): number {
    return this.#count
  }

  /** Sum of all durations in seconds. */
  get sum(): number {
    return this.#sum
  }

  /** For each bound the number of durations up to it. The bound +Inf is not included. */
  *cumulative(): Generator<readonly [bound: number, count: number]> {
    let below = 0
    for (const [place, bound] of this.bounds.entries()) {
      below += this.#counts[place] ?? 0
      yield [bound, below]
    }
  }
}

/** Milliseconds between two samples of the event loop. A stall is measured too short by this at most. */
const LOOP_SAMPLE = 200
/**
 * Milliseconds without a reading of metrics after which sampling ends. Prometheus reads every minute at
 * least.
 */
const LAST_READING = 300_000

export class Meters {
  /** Operations that the kernel accepted, by kind. */
  readonly operations = new Tally()
  /** Operations that the kernel refused, by kind and name of the errno. */
  readonly refusals = new Tally()
  /** From the arrival of an update of etcd to the kernel's answer to the operations that follow from it. */
  readonly convergence = new Distribution()
  readonly netlinkWrites = new Distribution()
  /** Dumps of all objects on a device. */
  readonly netlinkReads = new Distribution()
  readonly etcdCalls = new Distribution()
  /** Failed calls, by the code of the error. */
  readonly etcdErrors = new Tally()
  readonly eventLoopLag = new Distribution()
  /** Round trips of probes through the overlay. */
  readonly probes = new Distribution(ROUND_TRIPS)
  /** Packets of probes that were sent, or refused by the kernel, by layer. */
  readonly probesSent = new Tally()
  /** Those without an answer, by layer. */
  readonly probesLost = new Tally()
  /** Receives the etcd client's counts. */
  readonly etcd: EtcdMeter = {
    called: (milliseconds) => this.etcdCalls.observe(milliseconds),
    failed: (code) => this.etcdErrors.add(1, code),
  }
  /** When metrics were read last, in monotonic milliseconds; `undefined` while the loop is not sampled. */
  #loopReadAt: number | undefined

  /** Counts one exchange with the kernel. */
  wrote(
    operations: readonly ObjectOperation[],
    failures: readonly OperationFailure[],
    milliseconds: number,
  ): void {
    this.netlinkWrites.observe(milliseconds)
    const counts = new Map<string, number>()
    for (const operation of operations) {
      const name = operationName(operation)
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    for (const [name, count] of counts) this.operations.add(count, name)
    for (const { operation, errno } of failures) {
      const name = operationName(operation)
      this.operations.add(-1, name)
      this.refusals.add(1, name, errno ?? 'none')
    }
  }

  /**
   * Samples the event loop's lag from now on, until this was not called for {@link LAST_READING}. Sampling is
   * the only measurement that wakes an idle process. Does not keep the process alive.
   */
  watchLoop(): void {
    const isMeasured = this.#loopReadAt !== undefined
    this.#loopReadAt = performance.now()
    if (!isMeasured) this.#sampleLoop()
  }

  #sampleLoop(): void {
    const due = performance.now() + LOOP_SAMPLE
    setTimeout(() => {
      const now = performance.now()
      this.eventLoopLag.observe(Math.max(0, now - due))
      if (now - (this.#loopReadAt ?? 0) < LAST_READING) this.#sampleLoop()
      else this.#loopReadAt = undefined
    }, LOOP_SAMPLE).unref()
  }
}
