/** The parts of a node. */

import type { WayInReport } from '../../judge/way-in'
import type { HostPlan } from '../../plan/host-plan'
import type { DelayedRemovals } from '../../plan/peers/delayed-removals'
import type { Encryption } from '../encryption/encryption'
import type { FirewallKeeper } from '../keepers/firewall-keeper'
import type { LeaseKeeper } from '../keepers/lease-keeper'
import type { UnderlayKeeper } from '../keepers/underlay-keeper'
import type { Overlay } from '../overlay/overlay'
import type { AnnouncedPrefixes } from '../prefixes/announced'
import type { Announcer } from '../prefixes/announcer'
import type { Deliverer } from '../prefixes/deliverer'
import type { Proof } from './proof'

export interface NodeParts {
  readonly underlay: UnderlayKeeper
  readonly lease: LeaseKeeper
  /** One for each family of the network. */
  readonly overlays: readonly Overlay[]
  readonly firewall: FirewallKeeper
  readonly encryption: Encryption
  readonly proof: Proof
  /** What hosts announce besides their subnets. */
  readonly prefixes: AnnouncedPrefixes
  /** The ways to what this host announces. */
  readonly deliverer: Deliverer
  /** What this host announces. */
  readonly announcer: Announcer
}

/** A node as status and metrics see it. */
export interface NodeView extends NodeParts {
  /** The plan in force. */
  readonly plan: HostPlan
  /** Text of the config in use. */
  readonly configText: string | undefined
  /** Why the config in etcd is not in use; `undefined` if it is. */
  readonly configProblem: string | undefined
  readonly holdBack: DelayedRemovals
  /** Whether containers have their bridge, and packets get out and in. */
  readonly wayIn: WayInReport
}
