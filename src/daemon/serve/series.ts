/**
 * The table of all exposed series: name, meaning, and how their numbers are read. Names follow Prometheus's
 * conventions: base units, and `_total` for counters. A released name is never changed.
 */

import { performance } from 'node:perf_hooks'
import { EVENT_KINDS } from '../../api/events'
import { WAY_IN_CHECKS } from '../../judge/way-in'
import { FAMILIES, type Family } from '../../model/address'
import { VXLAN_OVERHEAD } from '../../model/kernel/link'
import { SUBJECT_KINDS } from '../../model/kernel/subject'
import { LEASE_STATES, type Peer } from '../../model/lease'
import { roomOf } from '../../plan/host/underlay-room'
import { encryptionOverhead } from '../../plan/reconcile/desired'
import { knowledgeOf } from '../etcd-link'
import type { NodeView } from '../node/parts'
import { convergenceOf, type Overlay } from '../overlay/overlay'
import type { Tally } from '../tell/meters'
import { countRefused } from './count-refused'
import { countPrefixes } from './prefix-counts'
import { PROBE_SERIES } from './probe-series'
import { type MetricsView, one, type Sample, type Series, truth } from './series-shape'

/** The largest packet in bytes that fits through the underlay. */
const roomIn = ({ underlay, plan: { inputs } }: NodeView, family: Family): number =>
  roomOf(underlay.current).mtu - encryptionOverhead(inputs.config) - VXLAN_OVERHEAD[family]

const overlaysOf = ({ node }: MetricsView): readonly Overlay[] => node?.overlays ?? []

const revision = (value: bigint | undefined): number | undefined =>
  value === undefined ? undefined : Number(value)

/** The samples of a tally, with names for its labels. */
function* labelled(tally: Tally, ...names: readonly string[]): Generator<Sample> {
  for (const [labels, count] of tally.entries()) {
    yield [Object.fromEntries(names.map((name, place) => [name, labels[place] ?? ''])), count]
  }
}

function convergedRevision(view: MetricsView): number | undefined {
  return view.node && revision(convergenceOf(view.node.overlays).revision)
}

/** The parts of a host with or without a problem, as in `overlayctl status`. */
function* partsInOrder(view: MetricsView): Generator<Sample> {
  const { node } = view
  const parts = {
    etcd: view.link.kind === 'following',
    config: view.node?.configProblem === undefined && view.waiting?.part !== 'config',
    state: view.stateFile.problem === undefined,
    lease: node !== undefined && node.lease.state.kind === 'held' && node.lease.problem === undefined,
    identity: node !== undefined && node.proof.problem === undefined,
    kernel: node !== undefined && convergenceOf(node.overlays).converged,
    underlay: node !== undefined && node.underlay.problem === undefined,
    firewall: node !== undefined && node.firewall.problem === undefined,
    ...(view.mesh !== undefined && { mesh: view.mesh.verdict.kind === 'fine' }),
    ...(node?.plan.encryption !== undefined && { encryption: node.encryption.problem === undefined }),
  }
  for (const [part, isInOrder] of Object.entries(parts)) yield [{ part }, truth(isInOrder)]
}

/** The worst finding of each check that could be made. */
function* wayIn({ node }: MetricsView): Generator<Sample> {
  const { findings, made } = node?.wayIn ?? { findings: [], made: new Set() }
  for (const check of WAY_IN_CHECKS) {
    const worst = findings
      .filter((finding) => finding.check === check)
      .map(({ severity }) => (severity === 'problem' ? 2 : 1))
    if (made.has(check)) yield [{ check }, Math.max(0, ...worst)]
  }
}

const isHeld = ({ node }: MetricsView, { key }: Peer): boolean => node?.holdBack.has(key) ?? false

/** Peers that nothing is sent to before packets can be encrypted, and whose objects are as wanted. */
function countWaiting(
  { node }: MetricsView,
  peers: Iterable<Peer>,
  isCounted: (peer: Peer) => boolean,
): number {
  if (node?.plan.encryption?.kind !== 'on' || node.plan.encryption.mode !== 'required') return 0
  let waiting = 0
  for (const peer of peers)
    if (node.encryption.ways.of(peer).kind === 'none' && !isCounted(peer)) waiting += 1
  return waiting
}

/** Peers by state, as in `overlayctl status`. */
function* peersByState(view: MetricsView): Generator<Sample> {
  for (const {
    spec: { family },
    peers,
    reconciler,
  } of overlaysOf(view)) {
    const troubled = reconciler.peersAmiss()
    let failing = 0
    for (const { state } of troubled.values()) if (state === 'failing') failing += 1
    const pending = troubled.size - failing
    const held = view.node?.holdBack.keys().filter((key) => {
      const peer = peers.peer(key)
      return peer !== undefined && !troubled.has(peer)
    })
    const heldCount = held?.length ?? 0
    const waiting = countWaiting(view, peers.peers(), (peer) => troubled.has(peer) || isHeld(view, peer))
    let rejected = 0
    for (const { keepsLastGood } of peers.rejected()) if (!keepsLastGood) rejected += 1
    const states = {
      ok: peers.size - pending - failing - heldCount - waiting,
      held: heldCount,
      pending: pending + waiting,
      failing,
      rejected,
    }
    for (const [state, count] of Object.entries(states)) yield [{ family, state }, count]
  }
}

/** Repairs by kind of object: kernel objects, firewall rules and the forwarding sysctls. */
function* repairs({ events }: MetricsView): Generator<Sample> {
  const tally = events.tally('kernel-repair')
  // Exposed from 0 on, so that Prometheus sees the first repair as an increase.
  for (const object of SUBJECT_KINDS) yield [{ object }, tally.of(object)]
  for (const object of ['firewall', 'forwarding'] as const) {
    yield [{ object }, events.count(`${object}-repair`)]
  }
}

/** Whether the hosts of a family may receive groups that none of their containers has joined. */
function* flooding({ multicastSummary }: MetricsView): Generator<Sample> {
  const families = multicastSummary?.plan?.families
  if (families === undefined) return
  for (const family of FAMILIES) yield [{ family }, truth(families[family].mode !== 'selective')]
}

/** Packets or bytes through the multicast device, by direction. */
function* traffic({ multicastSummary }: MetricsView, unit: 'packets' | 'bytes'): Generator<Sample> {
  const { counters } = multicastSummary ?? {}
  if (counters === undefined) return
  for (const direction of ['received', 'sent'] as const) yield [{ direction }, counters[direction][unit]]
}

/** Packets in clear that the guard dropped. */
function* clearDropped({ clearDropped: dropped }: MetricsView): Generator<Sample> {
  if (dropped === undefined) return
  yield [{ direction: 'in' }, Number(dropped.droppedIn)]
  yield [{ direction: 'out' }, Number(dropped.droppedOut)]
}

function* deviceLosses(view: MetricsView): Generator<Sample> {
  for (const { spec } of overlaysOf(view)) {
    const losses = view.losses.get(spec.link.name)
    if (losses === undefined) continue
    for (const direction of ['in', 'out'] as const)
      for (const kind of ['errors', 'drops'] as const)
        yield [{ family: spec.family, direction, kind }, losses[direction][kind]]
  }
}

export const SERIES: readonly Series[] = [
  {
    name: 'overlayd_build_info',
    type: 'gauge',
    help: 'Always 1; the labels say what runs.',
    labels: ['version', 'node'],
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
    help:
      'Whether a part of this host is in order: etcd, config, state, lease, identity, kernel, underlay, ' +
      'firewall; mesh where peers are probed; encryption where the network has it.',
    labels: ['part'],
    read: partsInOrder,
  },
  {
    name: 'overlayd_way_in',
    type: 'gauge',
    help:
      'What this host itself has found of its bridge and of the way in, by check of overlayctl doctor: ' +
      '0 nothing is wrong, 1 a warning, 2 a problem. Absent for a check that could not be made.',
    labels: ['check'],
    read: wayIn,
  },
  {
    name: 'overlayd_peers',
    type: 'gauge',
    help: 'Peers by state, as overlayctl status shows them: ok, held, pending, failing, rejected.',
    labels: ['family', 'state'],
    read: peersByState,
  },
  {
    name: 'overlayd_convergence_lag_seconds',
    type: 'histogram',
    help: 'Time from the arrival of a change from etcd to the answer of the kernel, for each pass.',
    read: ({ meters }) => meters.convergence,
  },
  {
    name: 'overlayd_etcd_revision',
    type: 'gauge',
    help: 'Revision of the last change that etcd announced.',
    read: (view) => one(revision(knowledgeOf(view.link)?.revision)),
  },
  {
    name: 'overlayd_converged_revision',
    type: 'gauge',
    help: 'Revision up to which the kernel has all objects.',
    read: (view) => one(convergedRevision(view)),
  },
  {
    name: 'overlayd_watch_revision_lag',
    type: 'gauge',
    help: 'Revisions that etcd has announced and the kernel does not have yet.',
    read: (view) => {
      const [announced, converged] = [revision(knowledgeOf(view.link)?.revision), convergedRevision(view)]
      return announced === undefined || converged === undefined ? [] : one(Math.max(0, announced - converged))
    },
  },
  {
    name: 'overlayd_lease_state',
    type: 'gauge',
    help: `1 for the state that this host's lease is in: ${LEASE_STATES.join(', ')}.`,
    labels: ['state'],
    read: ({ node }) =>
      LEASE_STATES.map((state): Sample => [{ state }, truth(node?.lease.state.kind === state)]),
  },
  {
    name: 'overlayd_lease_remaining_seconds',
    type: 'gauge',
    help:
      "Time until etcd ends this host's lease without a renewal; " +
      'absent for a reservation, which does not end.',
    read: ({ node }) => one(node?.lease.expiresInSeconds),
  },
  {
    name: 'overlayd_kernel_operations_total',
    type: 'counter',
    help: 'Changes of routes, nexthops, neighbours and FDB entries that the kernel accepted.',
    labels: ['operation'],
    read: ({ meters }) => labelled(meters.operations, 'operation'),
  },
  {
    name: 'overlayd_kernel_errors_total',
    type: 'counter',
    help: 'Changes of routes, nexthops, neighbours and FDB entries that the kernel refused.',
    labels: ['operation', 'errno'],
    read: ({ meters }) => labelled(meters.refusals, 'operation', 'errno'),
  },
  {
    name: 'overlayd_repairs_total',
    type: 'counter',
    help: 'Objects that another program changed, and that were restored.',
    labels: ['object'],
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
    help: 'Time that the kernel takes for a batch of changes.',
    read: ({ meters }) => meters.netlinkWrites,
  },
  {
    name: 'overlayd_netlink_read_seconds',
    type: 'histogram',
    help: 'Time that a dump of all objects on the device takes.',
    read: ({ meters }) => meters.netlinkReads,
  },
  {
    name: 'overlayd_etcd_call_seconds',
    type: 'histogram',
    help: 'Time that a call of etcd takes, a second try included.',
    read: ({ meters }) => meters.etcdCalls,
  },
  {
    name: 'overlayd_etcd_errors_total',
    type: 'counter',
    help: 'Failed calls and watches of etcd by the code of the error; each try counts.',
    labels: ['code'],
    read: ({ meters }) => labelled(meters.etcdErrors, 'code'),
  },
  {
    name: 'overlayd_etcd_reconnects_total',
    type: 'counter',
    help: 'How often etcd was followed again after a loss.',
    read: ({ events }) => one(Math.max(0, events.count('etcd-connected') - 1)),
  },
  {
    name: 'overlayd_events_total',
    type: 'counter',
    help: 'Events by kind, as overlayctl events shows them.',
    labels: ['kind'],
    read: ({ events }) => EVENT_KINDS.map((kind): Sample => [{ kind }, events.count(kind)]),
  },
  {
    name: 'overlayd_device_mtu_bytes',
    type: 'gauge',
    help: 'MTU of the VXLAN device.',
    labels: ['family'],
    read: (view) =>
      overlaysOf(view).flatMap(({ spec: { family }, reconciler }): Sample[] =>
        reconciler.link === undefined ? [] : [[{ family }, reconciler.link.mtu]],
      ),
  },
  {
    name: 'overlayd_underlay_room_bytes',
    type: 'gauge',
    help: 'The largest packet that fits through the underlay interface in VXLAN, and encrypted if need be.',
    labels: ['family'],
    read: (view) =>
      overlaysOf(view).flatMap(({ spec: { family } }): Sample[] =>
        view.node === undefined ? [] : [[{ family }, roomIn(view.node, family)]],
      ),
  },
  {
    name: 'overlayd_device_losses_total',
    type: 'counter',
    help: 'Packets that the VXLAN device lost, as errors or as drops, since the device was made.',
    labels: ['family', 'direction', 'kind'],
    read: deviceLosses,
  },
  {
    name: 'overlayd_state_file_written_timestamp_seconds',
    type: 'gauge',
    help: 'When the state file was written, since 1970. Each renewal of the lease writes it again.',
    read: ({ stateFile: { savedAt } }) => one(savedAt === undefined ? undefined : Date.parse(savedAt) / 1000),
  },
  {
    name: 'overlayd_etcd_certificate_not_after_timestamp_seconds',
    type: 'gauge',
    help: "When a certificate in etcd's TLS files ends, since 1970: the client's, and those of the CA file.",
    labels: ['file', 'subject'],
    read: ({ certificates }) =>
      certificates.map(({ file, subject, notAfter }): Sample => [{ file, subject }, notAfter]),
  },
  {
    name: 'overlayd_prefixes',
    type: 'gauge',
    help:
      'Announced prefixes: those that are routed to a host or several (routed), claims of hosts that share ' +
      '(sharing), claims that wait for a better one (waiting), claims that are not followed (refused), and ' +
      'claims of this host (own).',
    labels: ['state'],
    read: function* ({ node }) {
      const counts = node && countPrefixes(node)
      for (const state of ['routed', 'sharing', 'waiting', 'refused', 'own'] as const)
        if (counts !== undefined) yield [{ state }, counts[state]]
    },
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
    help: 'Groups that this host announces (here), and groups that others announce (elsewhere).',
    labels: ['where'],
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
    help:
      'Whether other hosts may get groups that they do not want: ' +
      '0 where all hosts announce their groups.',
    labels: ['family'],
    read: flooding,
  },
  {
    name: 'overlayd_multicast_packets_total',
    type: 'counter',
    help: "Packets of other hosts' containers, and copies for other hosts, since the device was made.",
    labels: ['direction'],
    read: (view) => traffic(view, 'packets'),
  },
  {
    name: 'overlayd_multicast_bytes_total',
    type: 'counter',
    help: "Bytes of other hosts' containers, and of copies for other hosts, since the device was made.",
    labels: ['direction'],
    read: (view) => traffic(view, 'bytes'),
  },
  {
    name: 'overlayd_multicast_dropped_total',
    type: 'counter',
    help: 'Copies that the device did not send.',
    read: ({ multicastSummary }) => one(multicastSummary?.counters?.sent.dropped),
  },
  {
    name: 'overlayd_encryption_info',
    type: 'gauge',
    help:
      'Always 1, in a network with encryption. mode: prefer or required; ' +
      'state: on, or unable if this host cannot encrypt.',
    labels: ['mode', 'state'],
    read: ({ encryption }) =>
      encryption === undefined ? [] : [[{ mode: encryption.mode, state: encryption.kind }, 1]],
  },
  {
    name: 'overlayd_encryption_peers',
    type: 'gauge',
    help:
      'Peers by how packets reach them: encrypted, in clear, or not at all (none), ' +
      'as encryption is required.',
    labels: ['state'],
    read: ({ encryption }) =>
      Object.entries(encryption?.peers ?? {}).map(([state, peers]): Sample => [{ state }, peers]),
  },
  {
    name: 'overlayd_encryption_keyless_peers',
    type: 'gauge',
    help: 'Peers that announce no key: flannel hosts, and overlayds that do not encrypt.',
    read: ({ encryption }) => one(encryption?.kind === 'on' ? encryption.withoutKey : undefined),
  },
  {
    name: 'overlayd_encryption_silent_peers',
    type: 'gauge',
    help: 'Encrypted peers that do not answer handshakes any more: their packets are lost.',
    read: ({ encryption }) => one(encryption?.kind === 'on' ? encryption.silent : undefined),
  },
  {
    name: 'overlayd_encryption_refused_keys',
    type: 'gauge',
    help: 'Leases whose keys are not used: twins, or contradictions. overlayctl status names them.',
    read: ({ encryption }) => one(encryption?.kind === 'on' ? encryption.refused.size : undefined),
  },
  {
    name: 'overlayd_pinned_subnets',
    type: 'gauge',
    help: 'Subnets whose leases have to be signed by a pinned identity.',
    read: ({ node }) => one(node?.proof.hosts.pins.size),
  },
  {
    name: 'overlayd_refused_identities',
    type: 'gauge',
    help: 'Leases that are refused: not signed by the pinned identity, or former ones.',
    read: ({ node }) => one(node && countRefused(node)),
  },
  {
    name: 'overlayd_encryption_key_age_seconds',
    type: 'gauge',
    help: "Time since this host's key was last changed.",
    read: ({ encryption, now }) =>
      one(
        encryption?.kind === 'on' && encryption.since !== undefined
          ? Math.max(0, now - encryption.since) / 1000
          : undefined,
      ),
  },
  {
    name: 'overlayd_encryption_dropped_packets_total',
    type: 'counter',
    help: 'Packets in clear that were dropped, where encryption is required, since the rules were written.',
    labels: ['direction'],
    read: clearDropped,
  },
  ...PROBE_SERIES,
  {
    name: 'overlayd_event_loop_lag_seconds',
    type: 'histogram',
    help: 'Delay of the event loop, measured five times a second while someone reads metrics.',
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
