/**
 * The phases of the daemon as one union: a reason to wait exists only in the phase that it belongs to. Pure.
 */
import type { DaemonPhase } from '../api/status'
import { sameWaiting, type Waiting, waitingFor } from '../model/waiting'
import type { EtcdLink } from './etcd-link'
import type { Multicast } from './multicast/multicast'
import type { Node } from './node/node'
import type { Prober } from './probing/prober'
import type { HostMemory } from './start/host-memory'
import type { Obstacle } from './start/obstacle'

/** The obstacle that the last attempts to start met. */
export interface Met {
  readonly obstacle: Obstacle
  /** Number of attempts in a row that met this obstacle. */
  readonly attempts: number
}

/** A host without a lease. */
export type StartState =
  /** No attempt to start has been made yet, or an attempt is under way. */
  | {
      readonly kind: 'starting'
      /** The reason that the attempt waits for. */
      readonly waits?: Waiting | undefined
      /** The obstacle that the attempts before met. */
      readonly met?: Met | undefined
    }
  /** An attempt failed. The next one follows a change of etcd or the host, or a delay. */
  | Waits

interface Waits {
  readonly kind: 'waiting'
  readonly met: Met
}

/** A host with its lease. `running`: subnet.env is written too. */
export interface HostState {
  readonly kind: 'joined' | 'running'
  readonly node: Node
  readonly multicast?: Multicast
  /** Absent with `--probe=off`. */
  readonly prober?: Prober | undefined
  /** When the state file was written, if the host started from it and etcd has not answered since. */
  readonly fromState: string | undefined
}

export type DaemonState = StartState | HostState

/** The content of the state file, and what became of it. It is used for one start. */
export type Remembered =
  | { readonly kind: 'none'; readonly problem?: string | undefined }
  | { readonly kind: 'unused'; readonly memory: HostMemory }
  /** A start from it was tried. It is still compared with the first answer of etcd. */
  | { readonly kind: 'tried'; readonly memory: HostMemory; readonly problem?: string | undefined }
  | { readonly kind: 'spent' }

export const memoryOf = (remembered: Remembered): HostMemory | undefined =>
  remembered.kind === 'unused' || remembered.kind === 'tried' ? remembered.memory : undefined

/** Why the state file was not used: it is unreadable, or the start from it failed. */
export const memoryProblem = (remembered: Remembered): string | undefined =>
  remembered.kind === 'none' || remembered.kind === 'tried' ? remembered.problem : undefined

/** Drops the problem: on a host that runs, the reason why its state file was not used no longer matters. */
export function withoutProblem(remembered: Remembered): Remembered {
  if (remembered.kind === 'none') return { kind: 'none' }
  return remembered.kind === 'tried' ? { kind: 'tried', memory: remembered.memory } : remembered
}

export const metOf = (state: DaemonState): Met | undefined =>
  state.kind === 'starting' || state.kind === 'waiting' ? state.met : undefined

/** The state at the beginning of an attempt to start. */
export const beginAttempt = (state: DaemonState): StartState => ({ kind: 'starting', met: metOf(state) })

/**
 * The state after an attempt that met an obstacle.
 * @returns `isNews`: whether the attempt before met another obstacle, or none
 */
export function meet(
  state: DaemonState,
  obstacle: Obstacle,
): { readonly state: Waits; readonly isNews: boolean } {
  const before = metOf(state)
  const isNews = !sameWaiting(obstacle.waiting, before?.obstacle.waiting)
  const attempts = isNews ? 1 : (before?.attempts ?? 0) + 1
  return { state: { kind: 'waiting', met: { obstacle, attempts } }, isNews }
}

/** The state after the first answer of etcd: the host no longer depends on the state file. */
export const confirmed = <State extends DaemonState>(state: State): State =>
  state.kind === 'joined' || state.kind === 'running' ? { ...state, fromState: undefined } : state

export function phaseOf(state: DaemonState): DaemonPhase {
  switch (state.kind) {
    case 'starting':
    case 'joined':
      return 'starting'
    case 'waiting':
      return state.met.obstacle.phase
    case 'running':
      return 'running'
    default:
      return state satisfies never
  }
}

/**
 * The reason that this host waits for; `undefined` if it runs, or starts without waiting.
 * @param endpoints of etcd, for the text
 */
export function waitingOf(
  state: DaemonState,
  link: EtcdLink,
  endpoints: readonly string[],
): Waiting | undefined {
  if (state.kind === 'joined' || state.kind === 'running') return undefined
  if (state.kind === 'starting' && state.waits !== undefined) return state.waits
  switch (link.kind) {
    case 'following':
      return metOf(state)?.obstacle.waiting
    case 'lost':
      return waitingFor('etcd', link.error)
    case 'connecting':
      return {
        part: 'etcd',
        code: 'etcd-silent',
        reason: `${endpoints.join(', ')} has not answered yet`,
      }
    default:
      return link satisfies never
  }
}
