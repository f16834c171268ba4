/**
 * Classifies failures of a start: which failures the daemon waits out, what it logs, and when it tries again.
 */

import type { EventKind } from '../../api/events'
import type { DaemonPhase } from '../../api/status'
import { EtcdError } from '../../etcd/client/errors'
import type { BackoffBounds } from '../../model/backoff'
import { isOverlayError } from '../../model/errors'
import type { Lease } from '../../model/lease'
import { type Waiting, waitingFor } from '../../model/waiting'
import { IdentityConflict } from '../../plan/lease/identity'

export interface Obstacle {
  readonly waiting: Waiting
  readonly phase: DaemonPhase
  /** Level of the log line. */
  readonly level: 'warn' | 'error'
  readonly kind: EventKind
  /** Text before and after the words of {@link waiting} in the log line. */
  readonly before?: string
  readonly after: string
  /**
   * Bounds of the delay before the next attempt. Without them only a change of etcd or the host causes one.
   */
  readonly retry?: BackoffBounds
  /** The lease of the live host that has this host's PublicIP. */
  readonly rival?: Lease
}

/** Milliseconds. Each question to a rival is a Put that all peers receive, so questions are rare. */
const RIVAL: BackoffBounds = { first: 80_000, most: 80_000 }
/** Milliseconds. After a lost race, or while etcd refuses writes: each attempt lists etcd again. */
const TRY_AGAIN: BackoffBounds = { first: 1000, most: 30_000 }

/**
 * Classifies a failure of a start.
 * @param hasWaited whether this daemon has waited before: if so, it also waits for an underlay that is gone
 * @returns `undefined` for a failure that ends the daemon
 */
export function obstacleOf(error: unknown, hasWaited: boolean): Obstacle | undefined {
  if (error instanceof IdentityConflict) {
    return {
      waiting: waitingFor('lease', error),
      phase: 'starting',
      level: 'error',
      kind: 'lease-conflict',
      before: 'CONFLICT: ',
      after: 'nothing is written over, the kernel keeps everything',
      retry: RIVAL,
      rival: error.lease,
    }
  }
  if (error instanceof EtcdError && error.code !== 'etcd-options') {
    return {
      waiting: waitingFor('lease', error),
      phase: 'starting',
      level: 'warn',
      kind: 'lease-renewal-problem',
      after: 'trying again',
      retry: TRY_AGAIN,
    }
  }
  if (!isOverlayError(error)) return undefined
  switch (error.code) {
    case 'no-config':
    case 'config-invalid':
      return {
        waiting: waitingFor('config', error),
        phase: 'waiting-for-config',
        level: 'warn',
        kind: 'config-problem',
        after: 'waiting for a usable config',
      }
    case 'out-of-subnets':
      return {
        waiting: waitingFor('lease', error),
        phase: 'waiting-for-subnet',
        level: 'error',
        kind: 'lease-none-free',
        after: 'waiting for a free subnet',
      }
    case 'lease-race':
      return {
        waiting: waitingFor('lease', error),
        phase: 'waiting-for-subnet',
        level: 'warn',
        kind: 'lease-none-free',
        after: 'trying again',
        retry: TRY_AGAIN,
      }
    case 'no-underlay':
      if (!hasWaited) return undefined
      return {
        waiting: waitingFor('underlay', error),
        phase: 'starting',
        level: 'error',
        kind: 'underlay-problem',
        after: 'waiting for the underlay',
      }
    default:
      if (!REFUSALS.has(error.code)) return undefined
      return {
        waiting: waitingFor('device', error),
        phase: 'starting',
        level: 'error',
        kind: 'device-problem',
        after: 'trying again, the kernel keeps everything',
        retry: TRY_AGAIN,
      }
  }
}

/**
 * Codes of failures for which the kernel, or another device on this host, is the reason. They may go away by
 * themselves; and a daemon that waits reports more than one that has exited.
 */
const REFUSALS: ReadonlySet<string> = new Set([
  'netlink-refused',
  'netlink-timeout',
  'netlink-dump-interrupted',
  'name-taken',
  'vni-in-use',
  'port-in-use',
  'no-vxlan',
  'no-wireguard',
  'table-taken',
  'mtu-refused',
  'family-off',
  'device-vanished',
  'contested',
  'sysctl',
])
