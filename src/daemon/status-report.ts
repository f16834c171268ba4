/** Makes the status document from what the daemon knows. */
import type { Registry } from '../etcd/registry'
import { FAMILIES, type Family, formatIp, formatMac, formatPrefix } from '../model/address'
import { describeError } from '../model/errors'
import type { ObservedLink } from '../model/kernel'
import {
  isReservation,
  type Lease,
  type Peer,
  type RejectedLease,
  type Revision,
  type UnreadableLease,
} from '../model/lease'
import type { NetworkConfig } from '../model/network-config'
import type { GroupTable } from '../plan/group-table'
import type { HoldBack } from '../plan/hold-back'
import type { IdentityConflict } from '../plan/identity'
import type { GroupsPublisher } from './groups-publisher'
import type { LeaseKeeper } from './lease-keeper'
import type { MemberParts, MemberView } from './member'
import type { MulticastKeeper } from './multicast-keeper'
import { etcdEndpointNames, type Options } from './options'
import { convergenceOf, type Overlay } from './overlay'
import { WORST_FIRST } from './peer-order'
import { describeContest } from './reconciler'
import { BRIEF_PEERS, type DeviceStatus, type PeerStatus, STATUS_SCHEMA, type Status } from './status'

/** The parts of multicast that there are. */
export interface MulticastView {
  readonly keeper: MulticastKeeper | undefined
  readonly publisher: GroupsPublisher | undefined
  readonly groups: GroupTable
}

/** What the daemon shows of itself. */
export interface DaemonView {
  readonly options: Options
  readonly version: string
  readonly phase: Exclude<Status['daemon']['phase'], 'down'>
  readonly member: MemberView | undefined
  readonly multicast: MulticastView | undefined
  readonly configProblem: string | undefined
  readonly following: { readonly connected: boolean; readonly error?: string }
  readonly revision: Revision | undefined
  readonly stateFile: NonNullable<Status['stateFile']>
  /** Why there is no subnet for this host; `undefined` when there is. */
  readonly subnetProblem: string | undefined
  /** Another live host has our address, so this one does not start. */
  readonly rival: IdentityConflict | undefined
}

/** etcd gets this long to answer for the latency; status must come at once, all the more when etcd is away. Milliseconds. */
const PROBE_DEADLINE = 1000

/** Contests that are problems of their own; a device that is fought over has one for each of its objects. */
const MOST_CONTESTS = 5

/**
 * Makes the document.
 * @param registry asked for etcd's latency; nothing is asked without one
 * @param brief of the peers only the first {@link BRIEF_PEERS}, the worst first, and how many there are
 */
export async function reportStatus(
  view: DaemonView,
  registry: Registry | undefined,
  brief: boolean,
): Promise<Status> {
  const { member } = view
  const etcd = await reportEtcd(view, registry)
  const problems = findProblems(view, etcd)
  return {
    schema: STATUS_SCHEMA,
    version: view.version,
    state: problems.length === 0 ? 'healthy' : 'degraded',
    problems,
    daemon: {
      running: true,
      pid: process.pid,
      uptimeSeconds: Math.round(process.uptime()),
      phase: view.phase,
    },
    ...(member !== undefined && {
      network: reportNetwork(member.config, view.options['etcd-prefix']),
      ...reportLease(member),
      routing: {
        directRouting: member.config.backend.directRouting,
        blackhole: view.options['ip-blackhole-route'],
      },
      ...reportDevices(member),
    }),
    ...(view.rival !== undefined && member === undefined && reportRival(view.rival)),
    etcd,
    stateFile: view.stateFile,
    convergence: reportConvergence(member),
    ...(await reportMulticast(view.multicast)),
    ...reportHeldBack(member?.holdBack),
    ...(member === undefined ? { peers: [] } : reportPeers(member, brief ? BRIEF_PEERS : undefined)),
  }
}

/** The network, as the config says it. */
export function reportNetwork(config: NetworkConfig, etcdPrefix: string): NonNullable<Status['network']> {
  return {
    etcdPrefix,
    ...(config.ipv4 !== undefined && {
      network: formatPrefix(config.ipv4.network),
      subnetLength: config.ipv4.subnetLength,
    }),
    ...(config.ipv6 !== undefined && {
      ipv6Network: formatPrefix(config.ipv6.network),
      ipv6SubnetLength: config.ipv6.subnetLength,
    }),
    backend: 'vxlan',
    vni: config.backend.vni,
    ...(config.backend.port !== undefined && { port: config.backend.port }),
  }
}

/** An etcd lease id as etcdctl shows it. */
const formatEtcdLease = (id: string): string => BigInt(id).toString(16)

/** What a lease says, of the families it has. */
export function reportSubnets({ subnet: { ipv4, ipv6 }, value }: Lease) {
  return {
    ...(ipv4 !== undefined && { subnet: formatPrefix(ipv4), publicIp: formatIp(value.publicIp) }),
    ...(ipv6 !== undefined && {
      ipv6Subnet: formatPrefix(ipv6),
      ...(value.publicIpv6 !== undefined && { publicIpv6: formatIp(value.publicIpv6) }),
    }),
  }
}

/** How a lease is bound. */
export function reportBinding(lease: Lease) {
  return {
    reserved: isReservation(lease),
    modRevision: lease.modRevision.toString(),
    ...(!isReservation(lease) && { etcdLease: formatEtcdLease(lease.etcdLease) }),
  }
}

/** What the key of a rejected lease says of it. */
export function reportRejected({ key, reason }: RejectedLease): PeerStatus {
  return { subnet: key.slice(key.lastIndexOf('/') + 1), publicIp: '-', mac: '-', state: 'rejected', reason }
}

async function reportEtcd(view: DaemonView, registry: Registry | undefined): Promise<Status['etcd']> {
  const endpoints = etcdEndpointNames(view.options)
  const { connected, error } = view.following
  const known = { endpoints, ...(view.revision !== undefined && { revision: view.revision.toString() }) }
  if (!connected || registry === undefined)
    return { ...known, connected, ...(error !== undefined && { error }) }
  try {
    const { latencyMs, endpoint } = await registry.status(AbortSignal.timeout(PROBE_DEADLINE))
    return { ...known, endpoints: [endpoint], connected, latencyMs }
  } catch (problem) {
    const late = problem instanceof Error && problem.name === 'TimeoutError'
    const error = late ? `no answer within ${PROBE_DEADLINE / 1000} s` : describeError(problem)
    return { ...known, connected: false, error }
  }
}

function reportRival(rival: IdentityConflict): { lease: NonNullable<Status['lease']> } {
  return { lease: { ...reportSubnets(rival.lease), state: 'conflict', reason: describeError(rival) } }
}

/** What is wrong with our lease, and what to do; `undefined` when nothing is. */
function leaseTrouble({ state, problem }: LeaseKeeper): string | undefined {
  const because = problem === undefined ? '' : `: ${problem}`
  switch (state.kind) {
    case 'held':
      return problem === undefined ? undefined : `etcd does not take its renewal${because}`
    case 'lost':
      return `its key is gone from etcd; it is being created again${because}`
    case 'conflict':
      return `conflict: ${state.reason}; stop the other host, or delete the key to get it back, or restart this one to move it`
    case 'drained':
      return `drained: other hosts send nothing here${describeSuccessor(state.found)}; take it again: overlayctl drain --undo`
  }
}

/** Who has had a drained host's subnet since. */
function describeSuccessor(found: Lease | UnreadableLease | undefined): string {
  if (found === undefined) return ''
  const [publicIp] = 'value' in found ? ownersOf(found) : []
  return `, and the key ${found.key} is ${publicIp === undefined ? 'in etcd again' : `${publicIp}'s now`}`
}

const ownersOf = (lease: Lease): string[] => {
  const { publicIp, publicIpv6 } = reportSubnets(lease)
  return [publicIp, publicIpv6].filter((each) => each !== undefined)
}

function reportLease({ keeper }: MemberParts): { lease?: NonNullable<Status['lease']> } {
  const { state, own, expiresInSeconds } = keeper
  const reason = leaseTrouble(keeper)
  const held = state.kind === 'held' ? state.lease : undefined
  return {
    lease: {
      ...reportSubnets({ ...own, value: keeper.announced }),
      state: state.kind,
      since: keeper.since.toISOString(),
      ...(held !== undefined && reportBinding(held)),
      ...(expiresInSeconds !== undefined && { expiresInSeconds }),
      ...(reason !== undefined && { reason }),
    },
  }
}

function reportDevices({ overlays, underlay }: MemberParts): Pick<Status, 'device' | 'ipv6Device'> {
  const device = (family: Family): DeviceStatus | undefined => {
    const overlay = overlays.find((each) => each.family === family)
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

/** A device as the kernel has it. */
export function reportDevice({ name, index, mac, mtu, up, vxlan }: ObservedLink): DeviceStatus {
  const local = vxlan?.local
  return { name, index, mac: formatMac(mac), mtu, up, ...(local !== undefined && { local: formatIp(local) }) }
}

function reportConvergence(member: MemberParts | undefined): Status['convergence'] {
  if (member === undefined) return { converged: false, failing: 0, operations: 0 }
  const { converged, revision, failing, contests, operations, lastSync, lastError } = convergenceOf(
    member.overlays,
  )
  const contested = contests.map(({ what, times, since }) => {
    return { what, times, sinceSeconds: Math.round((performance.now() - since) / 1000) }
  })
  return {
    converged,
    ...(revision !== undefined && { revision: revision.toString() }),
    failing,
    ...(contested.length > 0 && { contested }),
    operations,
    ...(lastSync !== undefined && { lastSyncSecondsAgo: Math.round((performance.now() - lastSync) / 1000) }),
    ...(lastError !== undefined && { lastError }),
  }
}

/** Keys that cannot be read and are named; more of them are only counted. */
const MOST_UNREADABLE = 20

async function reportMulticast(view: MulticastView | undefined): Promise<Pick<Status, 'multicast'>> {
  const summary = await view?.keeper?.summary()
  if (view === undefined || summary === undefined) return {}
  const { counters, plan, limit, overLimit, ...rest } = summary
  const { said, why: untold } = view.publisher?.summary ?? { said: undefined, why: {} }
  const families = FAMILIES.flatMap((family) => {
    if (plan === undefined) return []
    const { mode, why } = plan.families[family]
    const told = said?.tells.includes(family) ?? false
    const untoldWhy = told ? undefined : untold[family]
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
      groups: { here: said?.groups.length ?? 0, elsewhere: plan?.groups ?? 0 },
      ...(unreadable.length > 0 && {
        unreadable: unreadable.map(({ name, reason = '' }) => ({ key: name, reason })),
      }),
      ...(limit !== undefined && { limit }),
      ...(overLimit !== undefined && { overLimit }),
    },
  }
}

/** What is wrong with multicast; without etcd it is no news that nothing can be told. */
const multicastProblems = (view: MulticastView | undefined, isConnected: boolean): string[] =>
  [view?.keeper?.problem, isConnected ? view?.publisher?.problem : undefined].flatMap((problem) =>
    problem === undefined ? [] : `multicast: ${problem}`,
  )

function reportHeldBack(holdBack: HoldBack | undefined): Pick<Status, 'heldBack'> {
  if (holdBack === undefined || holdBack.size === 0) return {}
  const { size, lastDue, reason } = holdBack
  const secondsLeft = Math.max(0, Math.ceil((lastDue - performance.now()) / 1000))
  return { heldBack: { peers: size, secondsLeft, reason } }
}

/** @param most so many of the worst, and then of the others, the first by their subnets; `undefined` for all */
function reportPeers(
  { overlays, holdBack }: MemberView,
  most: number | undefined,
): Pick<Status, 'peers' | 'peerCounts'> {
  const shown: PeerStatus[] = []
  let others = 0
  for (const overlay of overlays) {
    const report = peerReporter(overlay, holdBack)
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
  // Not sorted further: of thousands that are amiss a few are as good as others.
  const urgency = ({ state }: PeerStatus): number => WORST_FIRST.indexOf(state)
  return { peers: shown.sort((a, b) => urgency(a) - urgency(b)).slice(0, most), peerCounts }
}

function peerReporter({ peers, reconciler }: Overlay, holdBack: HoldBack) {
  const rejected = [...peers.rejected()]
  const newerRejected = new Map(rejected.map(({ key, reason }) => [key, reason]))
  const amiss = reconciler.peersAmiss()
  return {
    rejected: rejected.filter(({ keepsLastGood }) => !keepsLastGood).map(reportRejected),
    /** Whether there is nothing to be said of it. */
    isFine: (peer: Peer): boolean =>
      !amiss.has(peer) && !newerRejected.has(peer.key) && !holdBack.has(peer.key),
    of(peer: Peer): PeerStatus {
      const held = holdBack.has(peer.key)
      const newer = newerRejected.get(peer.key)
      const reason =
        newer === undefined || held ? newer : `kept as it was last good; its newer lease is not: ${newer}`
      return {
        subnet: formatPrefix(peer.subnet),
        publicIp: formatIp(peer.publicIp),
        mac: formatMac(peer.mac),
        ...(reason !== undefined && { reason }),
        ...(amiss.get(peer) ?? { state: held ? 'held' : 'ok' }),
      }
    },
  }
}

/** The first so many, without sorting them all. */
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

function findProblems(view: DaemonView, etcd: Status['etcd']): string[] {
  const { member } = view
  const problems: string[] = []
  if (view.configProblem !== undefined) problems.push(`config: ${view.configProblem}`)
  if (!etcd.connected) problems.push(`etcd: ${etcd.error ?? 'not connected yet'}`)
  if (view.subnetProblem !== undefined) problems.push(`lease: ${view.subnetProblem}`)
  if (view.rival !== undefined && member === undefined)
    problems.push(`lease: conflict: ${describeError(view.rival)}`)
  const { inUse, savedAt, problem } = view.stateFile
  if (inUse)
    problems.push(
      `state: running from what was known at ${savedAt}, for etcd has not answered since the start`,
    )
  if (problem !== undefined) problems.push(`state: ${problem}`)
  if (member === undefined) return problems.length > 0 ? problems : ['not started yet']
  const trouble = leaseTrouble(member.keeper)
  // Without etcd a renewal that fails is no news.
  if (trouble !== undefined && (etcd.connected || member.keeper.state.kind !== 'held'))
    problems.push(`lease: ${trouble}`)
  const { converged, contests, lastError } = convergenceOf(member.overlays)
  problems.push(...contests.slice(0, MOST_CONTESTS).map((contest) => `kernel: ${describeContest(contest)}`))
  if (contests.length > MOST_CONTESTS) problems.push(`kernel: so are ${contests.length - MOST_CONTESTS} more`)
  const refused = member.overlays.reduce((sum, { reconciler }) => sum + reconciler.refused, 0)
  if (refused > 0) problems.push(`kernel: ${refused} changes fail; last: ${lastError ?? 'unknown'}`)
  else if (!converged && contests.length === 0)
    problems.push(`kernel: not converged${lastError === undefined ? '' : `: ${lastError}`}`)
  if (member.underlay.problem !== undefined) problems.push(`underlay: ${member.underlay.problem}`)
  const { heldBack } = reportHeldBack(member.holdBack)
  if (heldBack !== undefined) {
    problems.push(
      `peers: ${heldBack.peers} are gone from etcd and kept for ${heldBack.secondsLeft} s more, in case etcd is wrong: ${heldBack.reason}; to let them go now, restart overlayd`,
    )
  }
  problems.push(...multicastProblems(view.multicast, etcd.connected))
  if (member.firewall.problem !== undefined) problems.push(`firewall: ${member.firewall.problem}`)
  if (view.phase !== 'running') problems.push('not ready yet')
  return problems
}
