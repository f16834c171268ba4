/** Makes the status document from the daemon's state. */

import { urgencyOf } from '../../api/peer-order'
import { problemText } from '../../api/problems'
import type { DeviceStatus, PeerStatus, Status } from '../../api/status'
import {
  reportBinding,
  reportDevice,
  reportNetwork,
  reportRejected,
  reportSubnets,
} from '../../api/status-parts'
import { BRIEF_PEERS, STATUS_SCHEMA } from '../../api/words'
import type { Registry } from '../../etcd/registry'
import { FAMILIES, type Family, formatIp, formatMac, formatPrefix } from '../../model/address'
import { commandsIn, networkOfRunDirectory } from '../../model/commands'
import { describeError } from '../../model/errors'
import { describeSubject } from '../../model/kernel/words'
import { formatLeaseSubnet, type Lease, type Peer } from '../../model/lease'
import { describeProblem } from '../../model/result'
import type { Waiting } from '../../model/waiting'
import { etcdEndpointNames } from '../../options/etcd'
import { type DelayedRemovals, HELD_REASON } from '../../plan/peers/delayed-removals'
import { knowledgeOf } from '../etcd-link'
import type { NodeParts, NodeView } from '../node/parts'
import { convergenceOf, type Overlay } from '../overlay/overlay'
import { countRefused } from './count-refused'
import { reportEncryption, reportPeerEncryption } from './encryption-report'
import { findProblems, leaseTrouble, secondsLeft, warningsOf } from './find-problems'
import { reportMesh, reportProbe } from './mesh-report'
import { reportPrefixCounts } from './prefix-counts'
import type { DaemonView, MulticastView } from './view'

/**
 * Milliseconds that etcd has to answer for the measurement of its latency. The status must come at once,
 * above all while etcd is away.
 */
const PROBE_DEADLINE = 1000

/**
 * Makes the document.
 * @param registry to measure etcd's latency; without it the latency is absent
 * @param brief whether only the first {@link BRIEF_PEERS} peers are listed, the worst first, with counts of
 * all
 */
export async function reportStatus(
  view: DaemonView,
  registry: Registry | undefined,
  brief: boolean,
): Promise<Status> {
  const { node } = view
  const etcd = await reportEtcd(view, registry)
  const problems = findProblems(view, etcd)
  const { peers, peerCounts, ...document }: Status = {
    schema: STATUS_SCHEMA,
    version: view.version,
    state: problems.length === 0 ? 'healthy' : 'degraded',
    problems: problems.map(problemText),
    problemDetails: [...problems],
    daemon: {
      running: true,
      pid: process.pid,
      uptimeSeconds: Math.round(process.uptime()),
      phase: view.phase,
      ...(view.waiting !== undefined && { waiting: reportWaiting(view.waiting) }),
    },
    ...(node !== undefined && {
      network: reportNetwork(node.plan.inputs.config, view.options['etcd-prefix']),
      ...reportLease(node),
      routing: {
        directRouting: node.plan.inputs.config.backend.directRouting,
        blackhole: view.options['ip-blackhole-route'],
      },
      ...reportDevices(node),
    }),
    ...(view.obstacle?.rival !== undefined &&
      node === undefined &&
      reportRival(view.obstacle.waiting, view.obstacle.rival)),
    etcd,
    stateFile: view.stateFile,
    convergence: reportConvergence(node),
    ...reportPrefixCounts(node),
    ...(await reportMulticast(view.multicast)),
    ...(await reportEncryption(node?.encryption, Date.now())),
    ...reportMesh(view),
    ...reportIdentity(node),
    ...reportHeldBack(node?.holdBack),
    ...(node === undefined ? { peers: [] } : reportPeers(view, node, brief ? BRIEF_PEERS : undefined)),
    ...reportMisnamed(node),
  }
  const network = networkOfRunDirectory(view.options['run-dir'])
  const counted = { peers, ...(peerCounts !== undefined && { peerCounts }) }
  const refused = node && countRefused(node)
  const warnings = warningsOf(counted, node?.encryption.state(), document.mesh, refused, node?.wayIn)
  return {
    ...(warnings.length > 0 && { warnings: commandsIn(network, warnings) }),
    ...commandsIn(network, document),
    peers,
    ...(peerCounts !== undefined && { peerCounts }),
  }
}

async function reportEtcd(view: DaemonView, registry: Registry | undefined): Promise<Status['etcd']> {
  const endpoints = etcdEndpointNames(view.options)
  const { link } = view
  const revision = knowledgeOf(link)?.revision
  const known = { endpoints, ...(revision !== undefined && { revision: revision.toString() }) }
  if (link.kind === 'lost') return { ...known, connected: false, error: describeError(link.error) }
  const connected = link.kind === 'following'
  if (!connected || registry === undefined) return { ...known, connected }
  try {
    const { latencyMs, endpoint } = await registry.status(AbortSignal.timeout(PROBE_DEADLINE))
    return { ...known, endpoints: [endpoint], connected, latencyMs }
  } catch (problem) {
    const late = problem instanceof Error && problem.name === 'TimeoutError'
    const error = late ? `no answer within ${PROBE_DEADLINE / 1000} s` : describeError(problem)
    return { ...known, connected: false, error }
  }
}

const reportWaiting = ({ part, code, reason, fix }: Waiting) => ({
  part,
  code,
  reason,
  ...(fix !== undefined && { fix }),
})

function reportIdentity(node: NodeView | undefined): Pick<Status, 'identity'> {
  if (node === undefined) return {}
  const { key, pin, hosts } = node.proof
  const refused = countRefused(node)
  return { identity: { ...(key !== undefined && { key }), pin, pinned: hosts.pins.size, refused } }
}

function reportRival({ reason, fix = '' }: Waiting, rival: Lease): { lease: NonNullable<Status['lease']> } {
  return { lease: { ...reportSubnets(rival), state: 'conflict', reason: `${reason}; ${fix}` } }
}

function reportLease({ lease: keeper, announcer }: NodeParts): { lease?: NonNullable<Status['lease']> } {
  const { state, own, expiresInSeconds, moved } = keeper
  const { further = [] } = announcer
  const trouble = leaseTrouble(keeper)
  const held = state.kind === 'held' ? state.lease : undefined
  return {
    lease: {
      ...reportSubnets({ ...own, value: keeper.announced }),
      ...(further.length > 0 && { further: further.map(formatPrefix) }),
      state: state.kind,
      since: keeper.since.toISOString(),
      ...(held !== undefined && reportBinding(held)),
      ...(expiresInSeconds !== undefined && { expiresInSeconds }),
      ...(moved !== undefined && {
        movedFrom: { subnet: formatLeaseSubnet(moved.from), reason: moved.reason },
      }),
      ...(trouble !== undefined && { reason: describeProblem(trouble) }),
    },
  }
}

function reportDevices({ overlays, underlay }: NodeParts): Pick<Status, 'device' | 'ipv6Device'> {
  const device = (family: Family): DeviceStatus | undefined => {
    const overlay = overlays.find(({ spec }) => spec.family === family)
    const link = overlay?.reconciler.link
    return (
      link && {
        ...reportDevice(link),
        local: formatIp(overlay.reconciler.desiredLink.local),
        underlay: underlay.current.link.name,
      }
    )
  }
  const [ipv4, ipv6] = [device('IPv4'), device('IPv6')]
  return { ...(ipv4 !== undefined && { device: ipv4 }), ...(ipv6 !== undefined && { ipv6Device: ipv6 }) }
}

function reportConvergence(node: NodeParts | undefined): Status['convergence'] {
  if (node === undefined) return { converged: false, failing: 0, operations: 0 }
  const { converged, revision, failing, contests, operations, lastSync, lastError } = convergenceOf(
    node.overlays,
  )
  const contested = contests.map(({ subject, times, since }) => {
    return {
      what: describeSubject(subject),
      times,
      sinceSeconds: Math.round((performance.now() - since) / 1000),
    }
  })
  return {
    converged,
    ...(revision !== undefined && { revision: revision.toString() }),
    failing,
    ...(contested.length > 0 && { contested }),
    operations,
    ...(lastSync !== undefined && { lastSyncSecondsAgo: Math.round((performance.now() - lastSync) / 1000) }),
    ...(lastError !== undefined && {
      lastError: lastError.text,
      lastErrorAt: lastError.at.toISOString(),
    }),
  }
}

/** Unreadable keys that are listed with their reason. */
const MOST_UNREADABLE = 20

async function reportMulticast(view: MulticastView | undefined): Promise<Pick<Status, 'multicast'>> {
  const summary = await view?.keeper?.summary()
  if (view === undefined || summary === undefined) return {}
  const { counters, plan, limit, overLimit, ...rest } = summary
  const { said: announced, why: whyNot } = view.publisher?.summary ?? { said: undefined, why: {} }
  const families = FAMILIES.flatMap((family) => {
    if (plan === undefined) return []
    const { mode, why } = plan.families[family]
    const told = announced?.tells.includes(family) ?? false
    const untoldWhy = told ? undefined : whyNot[family]
    return [
      {
        family,
        mode,
        ...(why !== undefined && { why }),
        told,
        ...(untoldWhy !== undefined && { untoldWhy }),
      },
    ]
  })
  const unreadable = view.groups.unreadable().slice(0, MOST_UNREADABLE)
  return {
    multicast: {
      ...rest,
      bridges: [...rest.bridges],
      ...counters,
      families,
      groups: { here: announced?.groups.length ?? 0, elsewhere: plan?.groups ?? 0 },
      ...(unreadable.length > 0 && {
        unreadable: unreadable.map(({ name, reason = '' }) => ({ key: name, reason })),
      }),
      ...(limit !== undefined && { limit }),
      ...(overLimit !== undefined && { overLimit }),
    },
  }
}

function reportHeldBack(holdBack: DelayedRemovals | undefined): Pick<Status, 'heldBack'> {
  if (holdBack === undefined || holdBack.size === 0) return {}
  const { size, reason } = holdBack
  return { heldBack: { peers: size, secondsLeft: secondsLeft(holdBack), reason } }
}

function reportMisnamed(node: Pick<NodeParts, 'overlays'> | undefined): Pick<Status, 'moreMisnamed'> {
  // The peer tables of all families have the same number.
  const moreMisnamed = node?.overlays[0]?.peers.moreMisnamed ?? 0
  return moreMisnamed > 0 ? { moreMisnamed } : {}
}

/** @param most number of listed peers: the worst, then the others by subnet; `undefined` for all */
function reportPeers(
  { mesh }: DaemonView,
  { overlays, holdBack, encryption }: NodeView,
  most: number | undefined,
): Pick<Status, 'peers' | 'peerCounts'> {
  const shown: PeerStatus[] = []
  let others = 0
  for (const overlay of overlays) {
    const report = peerReporter(overlay, holdBack, encryption, mesh)
    const fine: Peer[] = []
    for (const peer of overlay.peers.peers()) {
      if (most === undefined || !report.isFine(peer)) shown.push(report.of(peer))
      else fine.push(peer)
    }
    const first = most === undefined ? fine : firstBySubnet(fine, most)
    others += fine.length - first.length
    shown.push(...first.map((peer) => report.of(peer)), ...report.rejected)
  }
  if (most === undefined) return { peers: shown }
  const peerCounts: NonNullable<Status['peerCounts']> = { ok: others }
  for (const { state } of shown) peerCounts[state] = (peerCounts[state] ?? 0) + 1
  const { moreMisnamed = 0 } = reportMisnamed({ overlays })
  if (moreMisnamed > 0) peerCounts.rejected = (peerCounts.rejected ?? 0) + moreMisnamed
  // Not sorted by subnet: of thousands of troubled peers any few will do.
  return { peers: shown.sort((a, b) => urgencyOf(a) - urgencyOf(b)).slice(0, most), peerCounts }
}

function peerReporter(
  { peers, reconciler }: Overlay,
  holdBack: DelayedRemovals,
  encryption: NodeView['encryption'],
  mesh: DaemonView['mesh'],
) {
  const rejected = [...peers.rejected()]
  const newerRejected = new Map(rejected.map(({ key, reason }) => [key, reason]))
  const troubled = reconciler.peersAmiss()
  return {
    rejected: rejected.filter(({ keepsLastGood }) => !keepsLastGood).map(reportRejected),
    /** Whether the peer is in the kernel and its lease valid: the document has no reason to give. */
    isFine: (peer: Peer): boolean =>
      !troubled.has(peer) &&
      !newerRejected.has(peer.key) &&
      !holdBack.has(peer.key) &&
      encryption.ways.of(peer).kind !== 'none' &&
      mesh?.probeOf(peer)?.reach.kind !== 'unreachable',
    of(peer: Peer): PeerStatus {
      const held = holdBack.has(peer.key)
      const newer = newerRejected.get(peer.key)
      // While a listing is judged in pieces, the table does not have the reason yet.
      const kept = held ? HELD_REASON : undefined
      const reason =
        newer === undefined || held
          ? (newer ?? kept)
          : `kept as its last valid lease says; its newer lease is rejected: ${newer}`
      // Its objects are as wanted, but nothing is sent to it.
      const waits = encryption.ways.of(peer).kind === 'none'
      return {
        subnet: formatPrefix(peer.subnet),
        publicIp: formatIp(peer.publicIp),
        mac: formatMac(peer.mac),
        ...(reason !== undefined && { reason }),
        ...(troubled.get(peer) ?? { state: held ? 'held' : waits ? 'pending' : 'ok' }),
        ...reportPeerEncryption(encryption.encryptionOf(peer)),
        ...reportProbe(mesh?.probeOf(peer), performance.now()),
      }
    },
  }
}

/** The first `most` peers by subnet, without sorting all of them. */
function firstBySubnet(peers: readonly Peer[], most: number): Peer[] {
  const first: Peer[] = []
  for (const peer of peers) {
    const { address } = peer.subnet
    const last = first.at(-1)
    if (first.length === most && last !== undefined && last.subnet.address <= address) continue
    const at = first.findIndex((other) => other.subnet.address > address)
    first.splice(at === -1 ? first.length : at, 0, peer)
    first.length = Math.min(first.length, most)
  }
  return first
}
