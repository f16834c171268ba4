/** The daemon's state as status, metrics and /readyz see it. */
import type { DaemonPhase, Status } from '../../api/status'
import type { Waiting } from '../../model/waiting'
import type { Options } from '../../options/schema'
import type { GroupTable } from '../../plan/multicast/group-table'
import type { EtcdLink } from '../etcd-link'
import type { GroupsPublisher } from '../multicast/groups-publisher'
import type { MulticastKeeper } from '../multicast/multicast-keeper'
import type { NodeView } from '../node/parts'
import type { Prober } from '../probing/prober'
import type { Obstacle } from '../start/obstacle'

/** The parts of multicast; those that do not exist are undefined. */
export interface MulticastView {
  readonly keeper: MulticastKeeper | undefined
  readonly publisher: GroupsPublisher | undefined
  readonly groups: GroupTable
}

/** What probing knows. */
export type MeshView = Pick<Prober, 'problem' | 'verdict' | 'tables' | 'probeOf'>

/** The state of the daemon. */
export interface DaemonView {
  readonly options: Options
  readonly version: string
  readonly phase: DaemonPhase
  readonly node: NodeView | undefined
  readonly multicast: MulticastView | undefined
  /** `undefined` before this host runs, and where it does not probe. */
  readonly mesh: MeshView | undefined
  readonly link: EtcdLink
  /** The reason that this host waits for; `undefined` if it runs, or starts without waiting. */
  readonly waiting: Waiting | undefined
  /** The obstacle that the last attempt to start met. */
  readonly obstacle: Obstacle | undefined
  readonly stateFile: NonNullable<Status['stateFile']>
  /** Why subnet.env is not as it should be; `undefined` if it is. */
  readonly subnetFileProblem: string | undefined
}
