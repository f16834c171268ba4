/**
 * Every series that is exposed, in one table: name, meaning, and where its numbers are. Names follow Prometheus's conventions (base units,
 * `_total` for what only grows); one that has been released is not renamed.
 */
import { performance } from 'node:perf_hooks'
import { FAMILIES } from '../model/address'
import { OBJECT_KINDS } from '../model/describe-operation'
import { VXLAN_OVERHEAD } from '../model/kernel'
import { EVENT_KINDS, type EventLog } from './events'
import type { Distribution, Meters, Tally } from './meters'
import type { MulticastSummary } from './multicast-keeper'
import { convergenceOf, type Overlay } from './overlay'
import type { DaemonView } from './status-report'

/** What the daemon shows of itself, and what it has counted. */
export interface MetricsView extends DaemonView {
  readonly isReady: boolean
  readonly events: EventLog
  readonly meters: Meters
  /** How multicast stands; `undefined` where it stays on its host. */
  readonly multicastSummary?: MulticastSummary | undefined
}

export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number]

export interface Series {
  readonly name: string
  readonly type: 'gauge' | 'counter' | 'histogram'
  readonly help: string
  /** Labels and value of each; a histogram is one without labels. What is not known is left out. */
  readonly read: (view: MetricsView) => Iterable<Sample> | Distribution
}

const overlaysOf = ({ member }: MetricsView): readonly Overlay[] => member?.overlays ?? []

const truth = (value: boolean): number => (value ? 1 : 0)

const one = (value: number | undefined): Sample[] => (value === undefined ? [] : [[{}, value]])

const revision = (value: bigint | undefined): number | undefined =>
  value === undefined ? undefined : Number(value)

/** A tally with its labels under their names. */
function* labelled(tally: Tally, ...names: readonly string[]): Generator<Sample> {
  for (const [labels, count] of tally.entries()) {
    yield [Object.fromEntries(names.map((name, place) => [name, labels[place] ?? ''])), count]
  }
}

function convergedRevision(view: MetricsView): number | undefined {
  return view.member && revision(convergenceOf(view.member.overlays).revision)
}

/** The parts of a host that can be in order or not, as `overlayctl status` lists their problems. */
function* partsInOrder(view: MetricsView): Generator<Sample> {
  const { member } = view
  const parts = {
    etcd: view.following.connected,
    config: view.configProblem === undefined,
    state: view.stateFile.problem === undefined,
    lease: member !== undefined && member.keeper.state.kind === 'held' && member.keeper.problem === undefined,
    kernel: member !== undefined && convergenceOf(member.overlays).converged,
    underlay: member !== undefined && member.underlay.problem === undefined,
    firewall: member !== undefined && member.firewall.problem === undefined,
  }
  for (const [part, isInOrder] of Object.entries(parts)) yield [{ part }, truth(isInOrder)]
}

/** Peers by the states that `overlayctl status` shows. */
function* peersByState(view: MetricsView): Generator<Sample> {
  for (const { family, peers, reconciler } of overlaysOf(view)) {
    const amiss = reconciler.peersAmiss()
    let failing = 0
    for (const { state } of amiss.values()) if (state === 'failing') failing += 1
    const pending = amiss.size - failing
    const held = view.member?.holdBack.keys().filter((key) => {
      const peer = peers.peer(key)
      return peer !== undefined && !amiss.has(peer)
    })
    const heldCount = held?.length ?? 0
    let rejected = 0
    for (const { keepsLastGood } of peers.rejected()) if (!keepsLastGood) rejected += 1
    const states = {
      ok: peers.size - pending - failing - heldCount,
      held: heldCount,
      pending,
      failing,
      rejected,
    }
    for (const [state, count] of Object.entries(states)) yield [{ family, state }, count]
  }
}

/** Repairs by kind of object: those of the kernel's tables, of firewall rules and of the forwarding switches. */
function* repairs({ events }: MetricsView): Generator<Sample> {
  const tally = events.tally('kernel-repair')
  // From nothing on, so that the first one is seen as a rise.
  for (const object of OBJECT_KINDS) yield [{ object }, tally.of(object)]
  for (const object of ['firewall', 'forwarding'] as const) {
    yield [{ object }, events.count(`${object}-repair`)]
  }
}

/** Families in which hosts may get groups that they do not want. */
function* flooding({ multicastSummary }: MetricsView): Generator<Sample> {
  const families = multicastSummary?.plan?.families
  if (families === undefined) return
  for (const family of FAMILIES) yield [{ family }, truth(families[family].mode !== 'selective')]
}

/** What went through the device of multicast, by direction. */
function* traffic({ multicastSummary }: MetricsView, unit: 'packets' | 'bytes'): Generator<Sample> {
  const { counters } = multicastSummary ?? {}
  if (counters === undefined) return
  for (const direction of ['received', 'sent'] as const) yield [{ direction }, counters[direction][unit]]
}

const LEASE_STATES = ['held', 'lost', 'conflict'] as const

export const SERIES: readonly Series[] = [
  {
    name: 'overlayd_build_info',
    type: 'gauge',
    help: 'Always 1; the labels say what runs.',
    read: ({ version }) => [[{ version, node: process.version }, 1]],
  },
  {
    name: 'overlayd_ready',
    type: 'gauge',
    help: 'Whether other hosts should be able to reach this one, as /readyz says.',
    read: ({ isReady }) => one(truth(isReady)),
  },
  {
    name: 'overlayd_part_in_order',
    type: 'gauge',
    help: 'Whether a part of this host is in order: etcd, config, state, lease, kernel, underlay, firewall.',
    read: partsInOrder,
  },
  {
    name: 'overlayd_peers',
    type: 'gauge',
    help: 'Peers by state, as overlayctl status shows them.',
    read: peersByState,
  },
  {
    name: 'overlayd_convergence_lag_seconds',
    type: 'histogram',
    help: "From the arrival of etcd's word to the kernel's answer to what follows from it, for each pass.",
    read: ({ meters }) => meters.convergence,
  },
  {
    name: 'overlayd_etcd_revision',
    type: 'gauge',
    help: 'The revision that etcd told of last.',
    read: (view) => one(revision(view.revision)),
  },
  {
    name: 'overlayd_converged_revision',
    type: 'gauge',
    help: "The revision that the kernel's tables were made equal to last.",
    read: (view) => one(convergedRevision(view)),
  },
  {
    name: 'overlayd_watch_revision_lag',
    type: 'gauge',
    help: 'Revisions that etcd has told of and that the kernel has not taken yet.',
    read: (view) => {
      const [told, taken] = [revision(view.revision), convergedRevision(view)]
      return told === undefined || taken === undefined ? [] : one(Math.max(0, told - taken))
    },
  },
  {
    name: 'overlayd_lease_state',
    type: 'gauge',
    help: "1 for the state that this host's lease is in: held, lost, conflict.",
    read: ({ member }) =>
      LEASE_STATES.map((state): Sample => [{ state }, truth(member?.keeper.state.kind === state)]),
  },
  {
    name: 'overlayd_lease_remaining_seconds',
    type: 'gauge',
    help: "Until etcd ends this host's lease if it is not renewed; absent for a reservation, which does not end.",
    read: ({ member }) => one(member?.keeper.expiresInSeconds),
  },
  {
    name: 'overlayd_kernel_operations_total',
    type: 'counter',
    help: 'Changes of routes, nexthops, neighbours and FDB entries that the kernel took.',
    read: ({ meters }) => labelled(meters.operations, 'operation'),
  },
  {
    name: 'overlayd_kernel_errors_total',
    type: 'counter',
    help: 'The same, refused by the kernel.',
    read: ({ meters }) => labelled(meters.refusals, 'operation', 'errno'),
  },
  {
    name: 'overlayd_repairs_total',
    type: 'counter',
    help: 'Objects that someone else changed and that were put right.',
    read: repairs,
  },
  {
    name: 'overlayd_contested_objects',
    type: 'gauge',
    help: 'Objects that another program changes again and again.',
    read: (view) =>
      one(overlaysOf(view).reduce((sum, { reconciler }) => sum + reconciler.convergence.contests.length, 0)),
  },
  {
    name: 'overlayd_netlink_write_seconds',
    type: 'histogram',
    help: 'How long the kernel takes for a batch of changes.',
    read: ({ meters }) => meters.netlinkWrites,
  },
  {
    name: 'overlayd_netlink_read_seconds',
    type: 'histogram',
    help: 'How long a dump of everything on the device takes.',
    read: ({ meters }) => meters.netlinkReads,
  },
  {
    name: 'overlayd_etcd_call_seconds',
    type: 'histogram',
    help: 'How long a call of etcd takes, a second try included.',
    read: ({ meters }) => meters.etcdCalls,
  },
  {
    name: 'overlayd_etcd_errors_total',
    type: 'counter',
    help: 'Calls and watches of etcd that failed, each try by itself, by the code of the error.',
    read: ({ meters }) => labelled(meters.etcdErrors, 'code'),
  },
  {
    name: 'overlayd_etcd_reconnects_total',
    type: 'counter',
    help: 'How often etcd was followed again after it had been lost.',
    read: ({ events }) => one(Math.max(0, events.count('etcd-connected') - 1)),
  },
  {
    name: 'overlayd_events_total',
    type: 'counter',
    help: 'Events by kind, as overlayctl events shows them.',
    read: ({ events }) => EVENT_KINDS.map((kind): Sample => [{ kind }, events.count(kind)]),
  },
  {
    name: 'overlayd_device_mtu_bytes',
    type: 'gauge',
    help: 'MTU of the VXLAN device.',
    read: (view) =>
      overlaysOf(view).flatMap(({ family, reconciler }): Sample[] =>
        reconciler.link === undefined ? [] : [[{ family }, reconciler.link.mtu]],
      ),
  },
  {
    name: 'overlayd_underlay_room_bytes',
    type: 'gauge',
    help: 'The largest packet that fits through the underlay interface in VXLAN.',
    read: (view) =>
      overlaysOf(view).flatMap(({ family }): Sample[] =>
        view.member === undefined
          ? []
          : [[{ family }, view.member.underlay.current.link.mtu - VXLAN_OVERHEAD[family]]],
      ),
  },
  {
    name: 'overlayd_multicast_hosts',
    type: 'gauge',
    help: "Other hosts with which containers' multicast is exchanged.",
    read: ({ multicastSummary }) => one(multicastSummary?.hosts),
  },
  {
    name: 'overlayd_multicast_groups',
    type: 'gauge',
    help: 'Groups that this host tells that it wants, and groups that others do.',
    read: ({ multicast, multicastSummary }) =>
      multicastSummary === undefined
        ? []
        : [
            [{ where: 'here' }, multicast?.publisher?.summary.said?.groups.length ?? 0],
            [{ where: 'elsewhere' }, multicastSummary.plan?.groups ?? 0],
          ],
  },
  {
    name: 'overlayd_multicast_flooding',
    type: 'gauge',
    help: 'Whether other hosts may get groups that they do not want: 0 where all tell which they do.',
    read: flooding,
  },
  {
    name: 'overlayd_multicast_packets_total',
    type: 'counter',
    help: "Packets of other hosts' containers, and copies for other hosts, since the device was made.",
    read: (view) => traffic(view, 'packets'),
  },
  {
    name: 'overlayd_multicast_bytes_total',
    type: 'counter',
    help: 'The same in bytes.',
    read: (view) => traffic(view, 'bytes'),
  },
  {
    name: 'overlayd_multicast_dropped_total',
    type: 'counter',
    help: 'Copies that the device did not send.',
    read: ({ multicastSummary }) => one(multicastSummary?.counters?.sent.dropped),
  },
  {
    name: 'overlayd_event_loop_lag_seconds',
    type: 'histogram',
    help: 'How late the event loop is, looked at five times a second while someone reads metrics.',
    read: ({ meters }) => meters.eventLoopLag,
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    help: 'Resident memory.',
    read: () => one(process.memoryUsage.rss()),
  },
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'CPU time, user and system.',
    read: () => {
      const { user, system } = process.cpuUsage()
      return one((user + system) / 1e6)
    },
  },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    help: 'When the process started, since 1970.',
    read: () => one(performance.timeOrigin / 1000),
  },
]
