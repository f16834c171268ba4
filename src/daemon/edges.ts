/**
 * What all parts of one run of the daemon share: the edges to etcd and the kernel, the log, events and
 * meters.
 */
import type { Registry } from '../etcd/registry'
import type { DeviceLocks } from '../kernel/device-lock'
import type { Kernel } from '../kernel/kernel'
import type { Options } from '../options/schema'
import type { HostIdentity } from './encryption/host-identity'
import type { HostWireguard } from './encryption/host-wireguard'
import type { EventLog } from './tell/events'
import type { Logger } from './tell/logger'
import type { Meters } from './tell/meters'

/** The edges, injected. */
export interface Edges {
  readonly options: Options
  readonly kernel: Kernel
  readonly registry: Registry
  readonly locks: DeviceLocks
  readonly wireguard: HostWireguard
  readonly identity: HostIdentity
  readonly log: Logger
  /** The log lines that have a kind. */
  readonly events: EventLog
  readonly meters: Meters
}
