/** What a series of the metrics is, and what it is read from. */
import type { CertificateLife } from '../../etcd/client/tls'
import type { DeviceLosses } from '../../host/counters'
import type { GuardCounts } from '../../model/guard'
import type { EncryptionState } from '../encryption/encryption-state'
import type { MulticastSummary } from '../multicast/multicast-keeper'
import type { EventLog } from '../tell/events'
import type { Distribution, Meters } from '../tell/meters'
import type { DaemonView } from './view'

/** The daemon's state, and its counters. */
export interface MetricsView extends DaemonView {
  /** Milliseconds since 1970. */
  readonly now: number
  readonly isReady: boolean
  readonly events: EventLog
  readonly meters: Meters
  /** State of multicast; `undefined` if multicast stays on its host. */
  readonly multicastSummary?: MulticastSummary | undefined
  /** State of encryption; `undefined` if the network has none. */
  readonly encryption?: EncryptionState | undefined
  /** Packets in clear that were dropped; `undefined` where they may pass. */
  readonly clearDropped?: GuardCounts | undefined
  /** The certificates in etcd's TLS files. */
  readonly certificates: readonly CertificateLife[]
  /** device name -> packets that the device lost */
  readonly losses: ReadonlyMap<string, DeviceLosses>
}

export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number]

export interface Series {
  readonly name: string
  readonly type: 'gauge' | 'counter' | 'histogram'
  readonly help: string
  /** Names of the labels, in the order in which they are documented. */
  readonly labels?: readonly string[]
  /** The samples; a histogram for a series without labels. Unknown values are left out. */
  readonly read: (view: MetricsView) => Iterable<Sample> | Distribution
}

/** 1 for true. */
export const truth = (value: boolean): number => (value ? 1 : 0)

/** One sample without labels; none for an unknown value. */
export const one = (value: number | undefined): Sample[] => (value === undefined ? [] : [[{}, value]])
