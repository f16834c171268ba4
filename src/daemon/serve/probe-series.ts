/** The series about probing. None has a label for a peer: their number does not grow with the network. */
import { LAYERS } from '../../plan/probing/peer-probe'
import type { ReachCounts } from '../../plan/probing/probe-table'
import { VERDICTS } from '../../plan/probing/verdict'
import { countLimited, countReach } from './mesh-report'
import { type MetricsView, type Sample, type Series, truth } from './series-shape'

/** Peers by what probing knows of them; nothing where this host does not probe. */
function probedPeers({ mesh }: MetricsView, kinds: readonly (keyof ReachCounts)[], label: string): Sample[] {
  if (mesh === undefined) return []
  // Where probing is not possible any more, what it knew is out of date.
  const counts = countReach(mesh.problem === undefined ? mesh : { tables: new Map() })
  return kinds.map((kind): Sample => [{ [label]: kind }, counts[kind]])
}

export const PROBE_SERIES: readonly Series[] = [
  {
    name: 'overlayd_probe_peers',
    type: 'gauge',
    help: 'Peers by how they answer probes: unknown, answering, suspect, unreachable.',
    labels: ['state'],
    read: (view) => probedPeers(view, ['unknown', 'answering', 'suspect', 'unreachable'], 'state'),
  },
  {
    name: 'overlayd_probe_unreachable_peers',
    type: 'gauge',
    help:
      'Unreachable peers by layer. overlay: the PublicIP answers, and the overlay address does not. ' +
      'underlay: neither does.',
    labels: ['layer'],
    read: (view) => probedPeers(view, LAYERS, 'layer'),
  },
  {
    name: 'overlayd_probe_mtu_limited_peers',
    type: 'gauge',
    help: 'Peers whose path carries smaller packets than the device sends.',
    read: ({ mesh }) => (mesh === undefined || mesh.problem !== undefined ? [] : [[{}, countLimited(mesh)]]),
  },
  {
    name: 'overlayd_probe_verdict',
    type: 'gauge',
    help:
      '1 for what probing says of this host: fine; overlay (watched peers do not answer through the ' +
      'overlay); most (most of them do not answer); cut-off (no peer answers, and the cause is here).',
    labels: ['verdict'],
    read: ({ mesh }) =>
      mesh === undefined
        ? []
        : VERDICTS.map((verdict): Sample => [{ verdict }, truth(mesh.verdict.kind === verdict)]),
  },
  {
    name: 'overlayd_probe_seconds',
    type: 'histogram',
    help: 'Round trips of small probes through the overlay.',
    read: ({ meters }) => meters.probes,
  },
  {
    name: 'overlayd_probe_packets_total',
    type: 'counter',
    help: 'Small packets of probes, by layer.',
    labels: ['layer'],
    read: ({ meters }) => LAYERS.map((layer): Sample => [{ layer }, meters.probesSent.of(layer)]),
  },
  {
    name: 'overlayd_probe_lost_total',
    type: 'counter',
    help: 'Small packets of probes without an answer, by layer.',
    labels: ['layer'],
    read: ({ meters }) => LAYERS.map((layer): Sample => [{ layer }, meters.probesLost.of(layer)]),
  },
]
