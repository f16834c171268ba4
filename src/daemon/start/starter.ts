/**
 * The attempts to start, until one succeeds: from etcd, or from the state file while etcd is silent. An
 * attempt that meets an obstacle is followed by another one: after a change of etcd or of the host, or after
 * a delay.
 */
import { performance } from 'node:perf_hooks'
import { CALL_DEADLINE_MS } from '../../etcd/client/client'
import { etcdPrefix, keysUnder } from '../../etcd/codec/keys'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { readMoment } from '../../host/moment'
import { readStateFile } from '../../host/state-file'
import type { KernelChange } from '../../kernel/kernel'
import { backoffDelay } from '../../model/backoff'
import type { NetworkConfig } from '../../model/config/network-config'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import { sameLeaseValue } from '../../model/lease'
import { describeWaiting, sameWaiting, type Waiting } from '../../model/waiting'
import type { Edges } from '../edges'
import { settlesBefore } from '../loop/settles-before'
import type { SortedEvents, SortedUpdate } from '../node/sort-update'
import {
  beginAttempt,
  type Met,
  meet,
  memoryOf,
  memoryProblem,
  metOf,
  phaseOf,
  type Remembered,
  type StartState,
  withoutProblem,
} from '../state'
import { type HostMemory, isReplaced, reasonAgainst, recall } from './host-memory'
import type { StartBasis } from './join'
import { NextAttempt } from './next-attempt'
import { type Obstacle, obstacleOf } from './obstacle'
import { readConfig } from './read-config'

/**
 * Milliseconds that etcd has for its first answer before a host starts from its state file: the deadline of
 * one call, which includes attempts at other members. A start too early costs nothing, because any later
 * answer of etcd prevails. A start too late costs traffic.
 */
const ETCD_PATIENCE = CALL_DEADLINE_MS

/** Codes of failures that make the state file useless: the daemon then waits for etcd. */
const STATE_UNFIT: readonly string[] = ['state-unusable', 'config-invalid', 'no-config']

/** Parts of this host that may be missing for a while; a start from the state file is then repeated. */
const HOST_PARTS: readonly string[] = ['device', 'underlay']

/** One run of the daemon. `signal` fires at its end; `fail` takes the error of a part and ends all parts. */
export interface Run {
  readonly signal: AbortSignal
  fail(error: unknown): void
}

/**
 * One attempt. It calls {@link Starter.joined} as soon as this host has its lease.
 * @param waits called with each reason to wait, and with `undefined` when the wait is over
 */
type Attempt = (
  config: NetworkConfig,
  start: StartBasis,
  waits: (waiting: Waiting | undefined) => void,
  run: Run,
) => Promise<void>

export class Starter {
  #state: StartState = { kind: 'starting' }
  #remembered: Remembered = { kind: 'none' }
  /** When etcd is taken as silent, in monotonic milliseconds. */
  #patience: number | undefined
  readonly #nextAttempt = new NextAttempt()

  /** @param changed called after each change of {@link state} that others may show */
  constructor(
    private readonly edges: Pick<Edges, 'options' | 'log'>,
    private readonly attempt: Attempt,
    private readonly changed: () => void,
  ) {}

  get state(): StartState {
    return this.#state
  }

  /** Why the state file was not used; `undefined` if nothing is wrong with it. */
  get memoryProblem(): string | undefined {
    return memoryProblem(this.#remembered)
  }

  /** Reads the state file. A missing or unusable file does not keep the host from starting. */
  async recall(): Promise<void> {
    const { options, log } = this.edges
    const { state, refusal } = await readStateFile(options['state-dir'])
    const prefix = etcdPrefix(options['etcd-prefix'])
    const memory = state === undefined ? refusal : recall(state, prefix, keysUnder(prefix))
    if (typeof memory === 'string') {
      log.warn(`state: ${memory}; starting without it`, { kind: 'state-problem' })
      this.#remembered = { kind: 'none', problem: memory }
    } else if (memory !== undefined) this.#remembered = { kind: 'unused', memory }
  }

  /**
   * Begins a listing of etcd.
   * @returns a signal that fires when the next attempt needs a listing of its own
   */
  beginListing(): AbortSignal {
    this.#patience ??= performance.now() + ETCD_PATIENCE
    return this.#nextAttempt.begin()
  }

  endListing(): void {
    this.#nextAttempt.end()
  }

  /** Notes that this host has its lease. */
  joined(): void {
    this.#state = { kind: 'starting' }
    this.#remembered = withoutProblem(this.#remembered)
  }

  /** Notes that the data of etcd are in use, and no longer those of the state file. */
  confirmed(): void {
    this.#remembered = { kind: 'spent' }
  }

  /**
   * The first listing after a start from the state file is compared with that file, as a later listing is
   * with the one before: `replaced` is set if etcd's data cannot follow from the saved ones.
   */
  comparedWithMemory(update: SortedUpdate): SortedUpdate {
    const memory = memoryOf(this.#remembered)
    if (update.kind !== 'snapshot' || memory === undefined) return update
    return isReplaced(memory, update.snapshot) ? { ...update, replaced: true } : update
  }

  /** Schedules the next attempt if a change of interfaces, addresses or routes may change its outcome. */
  hostChanged({ kind }: KernelChange): void {
    const obstacle = this.#met?.obstacle
    const part = obstacle?.waiting.part
    const dependsOnHost = part === 'config' || part === 'underlay' || obstacle?.rival !== undefined
    if (dependsOnHost && ['link', 'address', 'route', 'overrun'].includes(kind))
      this.#nextAttempt.hostChanged()
  }

  /** Whether these events may change the outcome of an attempt. */
  isAwaited({ config, leases }: SortedEvents): boolean {
    if (config !== undefined) return true
    const isFull = phaseOf(this.#state) === 'waiting-for-subnet'
    if (isFull && [...leases.values()].some(({ kind }) => kind === 'removed')) return true
    const rival = this.#met?.obstacle.rival
    const event = rival && leases.get(rival.key)
    if (rival === undefined || event === undefined) return false
    // The write that asks the rival whether it is alive is ours and leaves its value unchanged.
    return (
      event.kind === 'removed' || (event.kind === 'lease' && !sameLeaseValue(event.lease.value, rival.value))
    )
  }

  /** Starts from a listing of etcd. An obstacle is recorded, and the next attempt scheduled. */
  async fromEtcd(snapshot: Snapshot, run: Run): Promise<void> {
    try {
      await this.#start({ origin: 'etcd', snapshot, memory: memoryOf(this.#remembered) }, run)
      this.#remembered = { kind: 'spent' }
    } catch (error) {
      if (run.signal.aborted) throw error
      const obstacle = obstacleOf(error, this.#met !== undefined)
      if (obstacle === undefined) throw error
      this.#meet(obstacle)
    }
  }

  /**
   * Starts from the state file if etcd's first answer does not come in time. Updates that come later are
   * applied as usual.
   */
  async fromStateIfSilent(answer: Promise<unknown>, run: Run): Promise<void> {
    const remembered = this.#remembered
    if (remembered.kind !== 'unused') return
    if (await settlesBefore(answer, this.#patience ?? 0, run.signal)) return
    await this.#startFromState(remembered.memory, run)
  }

  async #startFromState(memory: HostMemory, run: Run): Promise<void> {
    const { log } = this.edges
    const { savedAt, snapshot } = memory
    // Once only: after a failure nothing but an answer of etcd helps.
    this.#remembered = { kind: 'tried', memory }
    const refusal = reasonAgainst(memory, readMoment())
    try {
      if (refusal !== undefined) throw new OverlayError('state-unusable', refusal)
      log.warn(
        `state: etcd has not answered for ${ETCD_PATIENCE / 1000} s; ` +
          `coming up from what was known at ${savedAt}`,
        { kind: 'state-in-use' },
      )
      await this.#start({ origin: 'state', snapshot, memory }, run)
    } catch (error) {
      const obstacle = run.signal.aborted ? undefined : obstacleOf(error, true)
      if (obstacle !== undefined && HOST_PARTS.includes(obstacle.waiting.part)) {
        // The host is the reason, not the state file. The start is repeated after a change of the host, or
        // after a while.
        this.#remembered = { kind: 'unused', memory }
        this.#meet(obstacle)
        return
      }
      if (!(isOverlayError(error) && STATE_UNFIT.includes(error.code))) throw error
      const problem = `what was known at ${savedAt} is not used: ${describeError(error)}`
      this.#remembered = { kind: 'tried', memory, problem }
      log.warn(`state: ${problem}; waiting for etcd, the kernel keeps everything`, { kind: 'state-problem' })
    }
  }

  async #start(start: StartBasis, run: Run): Promise<void> {
    const config = this.#readConfig(start.snapshot.config)
    this.#state = beginAttempt(this.#state)
    await this.attempt(config, start, (waiting) => this.#waits(waiting), run)
  }

  #readConfig(text: string | undefined): NetworkConfig {
    const { options } = this.edges
    if (text !== undefined) return readConfig(text, options)
    const prefix = options['etcd-prefix']
    throw new OverlayError(
      'no-config',
      `there is no network config at ${keysUnder(etcdPrefix(prefix)).config}`,
      `put one: overlayctl config set --etcd-prefix=${prefix} ` +
        `'{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
    )
  }

  get #met(): Met | undefined {
    return metOf(this.#state)
  }

  /**
   * Records an obstacle, and logs it unless the attempt before met the same. Schedules the next attempt if
   * the obstacle asks for attempts at intervals.
   */
  #meet(obstacle: Obstacle): void {
    const { state, isNews } = meet(this.#state, obstacle)
    this.#state = state
    const { waiting, level, kind, before = '', after, retry } = obstacle
    if (isNews) {
      const { part, ...words } = waiting
      const text = `${part}: ${before}${describeWaiting({ part, ...words }).slice(part.length + 2)}`
      this.edges.log.log(level, `${text}; ${after}`, { kind })
    }
    this.changed()
    if (retry !== undefined) this.#nextAttempt.after(backoffDelay(state.met.attempts, retry, Math.random))
  }

  /** Records the reason that the current attempt waits for. */
  #waits(waits: Waiting | undefined): void {
    if (this.#state.kind !== 'starting' || sameWaiting(waits, this.#state.waits)) return
    this.#state = { ...this.#state, waits }
    this.changed()
  }
}
