/** Finds the problems of this host, as values. The status document turns them into texts. */
import { type StatusProblem, waitingProblem } from '../../api/problems'
import type { Status } from '../../api/status'
import { reportSubnets } from '../../api/status-parts'
import type { WayInReport } from '../../judge/way-in'
import { formatPrefix } from '../../model/address'
import { evictLease } from '../../model/commands'
import { count } from '../../model/count'
import type { Lease, UnreadableLease } from '../../model/lease'
import { describeOverlap, overlapped } from '../../plan/host/host-prefixes'
import { describeShortage } from '../../plan/host/underlay-room'
import type { DelayedRemovals } from '../../plan/peers/delayed-removals'
import { describeSilence, SILENCE_FIX } from '../../plan/prefixes/gateways'
import { describeVerdict } from '../../plan/probing/words'
import { describeContest } from '../../plan/reconcile/contests'
import type { EncryptionState } from '../encryption/encryption-state'
import type { LeaseKeeper } from '../keepers/lease-keeper'
import type { NodeView } from '../node/parts'
import { convergenceOf } from '../overlay/overlay'
import { describeCut, encryptionWarnings } from './encryption-report'
import type { DaemonView, MeshView, MulticastView } from './view'

/** Contests that are listed one by one; a disputed device has one for each of its objects. */
const MOST_CONTESTS = 5

/**
 * All problems. Those that keep this host from starting come first.
 * @param etcd the part of the status document
 */
export function findProblems(view: DaemonView, etcd: Status['etcd']): readonly StatusProblem[] {
  const { node, waiting, phase } = view
  const before = [
    ...(node?.configProblem === undefined
      ? []
      : [problem('config', 'config-not-in-use', node.configProblem)]),
    ...etcdProblems(view, etcd),
    ...[...new Set([waiting, node === undefined ? view.obstacle?.waiting : undefined])].flatMap((each) =>
      each === undefined ? [] : [waitingProblem(each)],
    ),
    ...stateProblems(view.stateFile),
  ]
  if (node === undefined)
    return before.length > 0 ? before : [problem('daemon', 'not-started', 'not started yet')]
  return [
    ...before,
    ...leaseProblems(node, etcd.connected),
    ...kernelProblems(node),
    ...underlayProblems(node),
    ...heldBackProblems(node.holdBack),
    ...meshProblems(view.mesh),
    ...prefixProblems(node),
    ...multicastProblems(view.multicast, etcd.connected),
    ...encryptionProblems(node.encryption),
    ...identityProblems(node.proof),
    ...wayInProblems(node.wayIn),
    ...given('firewall', 'rules-not-written', node.firewall.problem),
    ...given('subnet-file', 'subnet-file', view.subnetFileProblem),
    ...(phase === 'running' ? [] : [problem('daemon', 'not-ready', 'not ready yet')]),
  ]
}

const problem = (part: StatusProblem['part'], code: string, text: string, fix?: string): StatusProblem => ({
  part,
  code,
  text,
  ...(fix !== undefined && { fix }),
})

/** One problem with the text; none without a text. */
const given = (part: StatusProblem['part'], code: string, text: string | undefined): StatusProblem[] =>
  text === undefined ? [] : [problem(part, code, text)]

function etcdProblems({ link, waiting }: DaemonView, etcd: Status['etcd']): StatusProblem[] {
  if (etcd.connected || waiting?.part === 'etcd') return []
  const code = link.kind === 'lost' ? link.error.code : 'not-connected'
  return [problem('etcd', code, etcd.error ?? 'not connected yet')]
}

function stateProblems({ inUse, savedAt, problem: text }: DaemonView['stateFile']): StatusProblem[] {
  const running = `running from what was known at ${savedAt}, because etcd has not answered since the start`
  return [
    ...given('state', 'state-in-use', inUse ? running : undefined),
    ...given('state', 'state-file', text),
  ]
}

function leaseProblems({ lease, underlay }: NodeView, isConnected: boolean): StatusProblem[] {
  const trouble = leaseTrouble(lease)
  const inside = overlapped(lease.own.subnet, underlay.inside)
  return [
    // While etcd is away no renewal can succeed: then the problem is etcd's, not the lease's.
    ...(trouble !== undefined && (isConnected || lease.state.kind !== 'held') ? [trouble] : []),
    ...(inside === undefined
      ? []
      : [
          problem(
            'lease',
            'lease-overlap',
            describeOverlap(lease.own.subnet, inside),
            'reserve another subnet for this host',
          ),
        ]),
  ]
}

/** The problem of our lease; `undefined` if there is none. */
export function leaseTrouble({ state, problem: text, own }: LeaseKeeper): StatusProblem | undefined {
  const because = text === undefined ? '' : `: ${text}`
  switch (state.kind) {
    case 'held':
      return text === undefined
        ? undefined
        : problem('lease', 'lease-renewal', `etcd does not take its renewal${because}`)
    case 'lost':
      return problem('lease', 'lease-lost', `its key is gone from etcd; it is being created again${because}`)
    case 'conflict':
      return problem(
        'lease',
        'lease-conflict',
        `conflict: ${state.reason}`,
        `to get it back, stop the other host, then here: ${evictLease(own.subnet)}; ` +
          'or restart overlayd here to take another subnet',
      )
    case 'drained':
      return problem(
        'lease',
        'lease-drained',
        `drained: other hosts send nothing here${describeSuccessor(state.found)}`,
        'take it again: overlayctl drain --undo',
      )
  }
}

/** The present owner of the subnet that a drained host gave back, as text. */
function describeSuccessor(found: Lease | UnreadableLease | undefined): string {
  if (found === undefined) return ''
  const { publicIp, publicIpv6 } = 'value' in found ? reportSubnets(found) : {}
  const owner = publicIp ?? publicIpv6
  return `, and the key ${found.key} is ${owner === undefined ? 'in etcd again' : `${owner}'s now`}`
}

function kernelProblems({ overlays }: NodeView): StatusProblem[] {
  const { converged, contests, lastError } = convergenceOf(overlays)
  const more = contests.length - MOST_CONTESTS
  const refused = overlays.reduce((sum, { reconciler }) => sum + reconciler.refused, 0)
  const contested = [
    ...contests.slice(0, MOST_CONTESTS).map((contest) => describeContest(contest, performance.now())),
    ...(more > 0 ? [`so are ${more} more`] : []),
  ].map((text) => problem('kernel', 'kernel-contest', text))
  if (refused > 0) {
    const text = `${count(refused, 'change')} refused; last error: ${lastError?.text ?? 'unknown'}`
    return [...contested, problem('kernel', 'kernel-refusal', text)]
  }
  if (converged || contests.length > 0) return contested
  const text = `not converged${lastError === undefined ? '' : `: ${lastError.text}`}`
  return [problem('kernel', 'not-converged', text)]
}

const underlayProblems = ({ underlay, plan }: NodeView): StatusProblem[] => [
  ...given('underlay', 'underlay', underlay.problem),
  ...given('device', 'mtu-limited', describeShortage(plan.inputs.config, underlay.current)),
]

/** Seconds, rounded up, until the last held-back peer is removed. */
export const secondsLeft = ({ lastDue }: DelayedRemovals): number =>
  Math.max(0, Math.ceil((lastDue - performance.now()) / 1000))

function heldBackProblems(holdBack: DelayedRemovals): StatusProblem[] {
  const { size, reason } = holdBack
  if (size === 0) return []
  return [
    problem(
      'peers',
      'peers-held',
      `${size} disappeared from etcd; kept ${secondsLeft(holdBack)} s longer ` +
        `in case etcd is wrong: ${reason}`,
      'to let them go now, restart overlayd',
    ),
  ]
}

function meshProblems(mesh: MeshView | undefined): StatusProblem[] {
  const words = mesh && describeVerdict(mesh.verdict)
  return mesh === undefined || words === undefined
    ? []
    : [problem('mesh', `mesh-${mesh.verdict.kind}`, words.text, words.fix)]
}

/** Announcements without a way that are listed one by one. */
const MOST_WAITING = 3

/** Exported for tests. */
export function prefixProblems({
  announcer,
  deliverer,
}: {
  readonly announcer: Pick<NodeView['announcer'], 'problem'>
  readonly deliverer: Pick<NodeView['deliverer'], 'problem' | 'waiting' | 'silent'>
}): StatusProblem[] {
  const { waiting, silent } = deliverer
  const more = waiting.length - MOST_WAITING
  return [
    ...given('prefixes', 'not-announced', announcer.problem),
    ...given('prefixes', 'not-delivered', deliverer.problem),
    ...waiting.slice(0, MOST_WAITING).map(({ announcement, obstacle: { reason, fix } }) => {
      const text = `${formatPrefix(announcement.prefix)} is not announced: ${reason}`
      return problem('prefixes', 'via-missing', text, fix)
    }),
    ...given(
      'prefixes',
      'via-missing',
      more > 0 ? `neither are ${more} more: overlayctl prefixes` : undefined,
    ),
    ...silent.slice(0, MOST_WAITING).map((gateway) => {
      const text = `${formatPrefix(gateway.announcement.prefix)}: ${describeSilence(gateway)}`
      return problem('prefixes', 'gateway-silent', text, SILENCE_FIX)
    }),
    ...given(
      'prefixes',
      'gateway-silent',
      silent.length > MOST_WAITING
        ? `gateways of ${silent.length - MOST_WAITING} more do not answer: overlayctl prefixes`
        : undefined,
    ),
  ]
}

/** While etcd is away groups cannot be announced: then the problem is etcd's, not that of multicast. */
const multicastProblems = (view: MulticastView | undefined, isConnected: boolean): StatusProblem[] => [
  ...given('multicast', 'multicast-device', view?.keeper?.problem),
  ...given('multicast', 'multicast-groups', isConnected ? view?.publisher?.problem : undefined),
]

/** Exported for tests. */
export const encryptionProblems = (
  encryption: Pick<NodeView['encryption'], 'problem' | 'state'>,
): StatusProblem[] => [
  ...given('encryption', 'encryption-problem', encryption.problem),
  ...given('encryption', 'encryption-cut', describeCut(encryption.state())),
]

const identityProblems = ({ problem: text, key }: NodeView['proof']): StatusProblem[] =>
  text === undefined
    ? []
    : [
        problem(
          'identity',
          'identity-not-pinned',
          text,
          'if this host is the right one, an operator pins it: overlayctl enroll --public-ip=ADDRESS ' +
            `--key=${key ?? 'KEY'}`,
        ),
      ]

const wayInProblems = ({ findings }: WayInReport): StatusProblem[] =>
  findings.flatMap(({ severity, check, code, text, fix }) =>
    severity === 'problem' ? [problem(check, code, text, fix)] : [],
  )

const wayInWarnings = (report: WayInReport | undefined): string[] =>
  (report?.findings ?? []).flatMap(({ severity, check, text, fix }) =>
    severity === 'warning' ? [`${check}: ${text}; ${fix}`] : [],
  )

/**
 * Problems of other hosts, and of this one where it works in spite of them. Prometheus alerts about them too.
 * They do not make this host degraded.
 * @param refused leases that are refused by a pin
 */
export const warningsOf = (
  peers: Pick<Status, 'peers' | 'peerCounts'>,
  encryption?: EncryptionState | undefined,
  mesh?: Status['mesh'],
  refused = 0,
  wayIn?: WayInReport | undefined,
): string[] => [
  ...wayInWarnings(wayIn),
  ...rejectionWarnings(peers),
  ...identityWarnings(refused),
  ...reachWarnings(mesh),
  ...encryptionWarnings(encryption),
]

function identityWarnings(refused: number): string[] {
  if (refused === 0) return []
  const what = count(refused, 'lease is', 'leases are')
  return [
    `identity: ${what} refused: not signed by the identity that is pinned, or a former one: ` +
      'overlayctl doctor --only=identity',
  ]
}

function reachWarnings(mesh: Status['mesh']): string[] {
  const { unreachable = 0 } = mesh?.peers ?? {}
  const { smallerPathMtu = 0 } = mesh ?? {}
  const silent = unreachable === 1 ? '1 does' : `${unreachable} do`
  const narrow = smallerPathMtu === 1 ? '1 is' : `${smallerPathMtu} are`
  return [
    ...(unreachable === 0
      ? []
      : [`peers: ${silent} not answer probes: overlayctl peers shows which, overlayctl doctor says why`]),
    ...(smallerPathMtu === 0
      ? []
      : [`peers: ${narrow} reached only by smaller packets than usual: overlayctl peers shows which`]),
  ]
}

function rejectionWarnings({
  peers,
  peerCounts: { rejected = 0 } = { rejected: peers.filter(({ state }) => state === 'rejected').length },
}: Pick<Status, 'peers' | 'peerCounts'>): string[] {
  if (rejected === 0) return []
  const what = rejected === 1 ? 'lease is rejected, and its host' : 'leases are rejected, and their hosts'
  return [`peers: ${rejected} ${what} not reached from here: overlayctl peers --state=rejected says why`]
}
