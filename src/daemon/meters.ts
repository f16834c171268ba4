/** What the daemon counts and times while it works: plain numbers, cheap enough to be kept whether or not anyone asks for them. */
import { performance } from 'node:perf_hooks'
import type { EtcdMeter } from '../etcd/client'
import type { ObjectOperation, OperationFailure } from '../model/kernel'

/** Counts by labels, which are words without blanks. */
export class Tally {
  /** labels, by blanks -> count */
  readonly #counts = new Map<string, number>()

  add(count: number, ...labels: readonly [string, ...string[]]): void {
    const key = labels.length === 1 ? labels[0] : labels.join(' ')
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + count)
  }

  /** The count of one label. */
  of(label: string): number {
    return this.#counts.get(label) ?? 0
  }

  *entries(): Generator<readonly [labels: readonly string[], count: number]> {
    for (const [key, count] of this.#counts) yield [key.split(' '), count]
  }
}

/**
 * Upper bounds in seconds. A join is in the kernel after 1 to 5 ms, ten thousand at once take half a second; what takes longer than etcd's
 * deadline of 3 s is trouble, of which the size is enough.
 */
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const

/** How long something took, as a histogram. */
export class Distribution {
  /** How many took longer than the bound before and no longer than this; the last ones longer than all bounds. */
  readonly #counts = new Array<number>(BOUNDS.length + 1).fill(0)
  #sum = 0
  #count = 0

  observe(milliseconds: number): void {
    const seconds = milliseconds / 1000
    let place = 0
    while (place < BOUNDS.length && seconds > (BOUNDS[place] ?? 0)) place += 1
    this.#counts[place] = (this.#counts[place] ?? 0) + 1
    this.#sum += seconds
    this.#count += 1
  }

  get count(): number {
    return this.#count
  }

  /** Seconds in all. */
  get sum(): number {
    return this.#sum
  }

  /** For each bound how many took no longer; without the one that all are below. */
  *cumulative(): Generator<readonly [bound: number, count: number]> {
    let below = 0
    for (const [place, bound] of BOUNDS.entries()) {
      below += this.#counts[place] ?? 0
      yield [bound, below]
    }
  }
}

/** Milliseconds between two looks at the event loop: a stall that is longer is always seen, at its length but for this. */
const LOOP_LOOK = 200
/** Milliseconds after which a reading of metrics was the last one. Prometheus reads every minute at the least. */
const LAST_READING = 300_000

export class Meters {
  /** Changes of objects that the kernel took, by kind of operation. */
  readonly operations = new Tally()
  /** Changes that it refused, by kind of operation and name of the errno. */
  readonly refusals = new Tally()
  /** From the arrival of etcd's word to the kernel's answer to what follows from it. */
  readonly convergence = new Distribution()
  readonly netlinkWrites = new Distribution()
  /** Dumps of everything on a device. */
  readonly netlinkReads = new Distribution()
  readonly etcdCalls = new Distribution()
  /** By the code of the error. */
  readonly etcdErrors = new Tally()
  readonly eventLoopLag = new Distribution()
  /** Takes in what the etcd client counts. */
  readonly etcd: EtcdMeter = {
    called: (milliseconds) => this.etcdCalls.observe(milliseconds),
    failed: (code) => this.etcdErrors.add(1, code),
  }
  /** When someone wanted to know it last; `undefined` while it is not measured. */
  #loopWantedAt: number | undefined

  /** Takes in how one exchange with the kernel went. */
  wrote(
    operations: readonly ObjectOperation[],
    failures: readonly OperationFailure[],
    milliseconds: number,
  ): void {
    this.netlinkWrites.observe(milliseconds)
    const counts = new Map<string, number>()
    for (const { kind } of operations) counts.set(kind, (counts.get(kind) ?? 0) + 1)
    for (const [kind, count] of counts) this.operations.add(count, kind)
    for (const { operation, error } of failures) {
      this.operations.add(-1, operation.kind)
      this.refusals.add(1, operation.kind, errnoOf(error) ?? 'none')
    }
  }

  /**
   * Has the event loop's lag measured from now on, for as long as this is called every now and then: it is the one thing here that would have
   * a process at rest wake up. Does not keep the process alive.
   */
  watchLoop(): void {
    const isMeasured = this.#loopWantedAt !== undefined
    this.#loopWantedAt = performance.now()
    if (!isMeasured) this.#lookAtLoop()
  }

  #lookAtLoop(): void {
    const due = performance.now() + LOOP_LOOK
    setTimeout(() => {
      const now = performance.now()
      this.eventLoopLag.observe(Math.max(0, now - due))
      if (now - (this.#loopWantedAt ?? 0) < LAST_READING) this.#lookAtLoop()
      else this.#loopWantedAt = undefined
    }, LOOP_LOOK).unref()
  }
}

/** The name of the errno with which the kernel refused, or with which it refused first. */
export function errnoOf(error: Error): string | undefined {
  if ('errnoName' in error && typeof error.errnoName === 'string') return error.errnoName.replace(' ', '-')
  return error.cause instanceof Error ? errnoOf(error.cause) : undefined
}
