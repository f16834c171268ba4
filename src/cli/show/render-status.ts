/** The status as text for a tired person: the verdict first, then the facts. */

import type { DeviceStatus, PeerStatus, Status } from '../../api/status'
import { BRIEF_PEERS } from '../../api/words'
import { count } from '../../model/count'
import { printable, printableData } from '../../model/printable'
import { ALL_PEERS, queryPeers } from '../ask/peer-query'
import { meshLine } from './render-mesh'
import { countPeers, renderPeerTable, totalOf } from './render-peers'
import { duration, hang, type Paint, painter, type Screen } from './screen'
import { whyLeaseUnknown, whyPeersUnknown } from './unknown'

/** How the status is shown. */
export interface StatusView {
  readonly screen: Screen
  /** All peers to list; default: a few, worst first. */
  readonly peers?: readonly PeerStatus[]
  /** What is to be said of these peers. */
  readonly note?: string
  /** Whether nothing is left out. */
  readonly wide?: boolean
}

const INDENT = 9

/** Renders the document. */
export function renderStatus(document: Status, { screen, peers, note, wide = false }: StatusView): string {
  const status = printableData(document)
  const paint = painter(screen)
  const width = wide ? Number.POSITIVE_INFINITY : screen.width
  const fact = (name: string, text: string): string[] => {
    const [head = '', ...more] = hang(name, text, width, INDENT)
    return [`${paint('bold', head.slice(0, INDENT))}${head.slice(INDENT)}`.trimEnd(), ...more]
  }
  const lines = [
    `${paint('bold', 'state'.padEnd(INDENT))}${verdict(status, paint)}`,
    ...status.problems.flatMap((problem) =>
      hang('         !', problem, width, INDENT + 2).map((line) => paint('yellow', line)),
    ),
    ...(status.warnings ?? []).flatMap((warning) =>
      hang('         -', warning, width, INDENT + 2).map((line) => paint('yellow', line)),
    ),
    ...statusFacts(status).flatMap(({ name, text }) => fact(name, text)),
    ...peerLines(status, { screen, wide, ...(peers !== undefined && { peers }) }),
    ...(note === undefined ? [] : hang('', printable(note), screen.width, 0)),
  ]
  return `${lines.join('\n')}\n`
}

/** A line of the status: what it is about, in one word, and the words. */
export interface Fact {
  /** Empty where the line goes on with what the line before it is about. */
  readonly name: string
  readonly text: string
}

/** The lines below the verdict. @param status with printable texts */
export function statusFacts(status: Status): Fact[] {
  const { device, ipv6Device, prefixes, multicast, encryption, mesh } = status
  const fact = (name: string, text: string): Fact => ({ name, text })
  return [
    fact('daemon', daemonLine(status)),
    fact('network', networkLine(status)),
    fact('lease', whyLeaseUnknown(status) === undefined ? leaseLine(status) : unknownLease(status)),
    fact('device', isJoining(status) ? 'not in use yet' : deviceLine(device ?? ipv6Device)),
    ...(device !== undefined && ipv6Device !== undefined ? [fact('', deviceLine(ipv6Device))] : []),
    ...(prefixes === undefined ? [] : [fact('prefixes', prefixesLine(prefixes))]),
    ...(multicast === undefined ? [] : [fact('mcast', multicastLine(multicast))]),
    ...groupLines(multicast).map((line) => fact('', line)),
    ...(encryption === undefined ? [] : [fact('encrypt', encryptionLine(encryption))]),
    fact('etcd', etcdLine(status)),
    fact('kernel', kernelLine(status)),
    ...(mesh === undefined ? [] : [fact('mesh', meshLine(mesh))]),
    fact('peers', whyPeersUnknown(status) === undefined ? countPeers(status) : 'not known'),
  ]
}

/** The state in a word, in the style of how bad it is; and what the word leaves out. */
export function verdictWords({ state, daemon, warnings = [] }: Status): {
  readonly word: string
  readonly style: 'green' | 'yellow' | 'red'
  /** `, with 1 warning`; empty where there is nothing more to say. */
  readonly more: string
} {
  if (state === 'healthy') {
    const { length } = warnings
    return { word: 'healthy', style: 'green', more: length === 0 ? '' : `, with ${count(length, 'warning')}` }
  }
  return daemon.running
    ? { word: 'DEGRADED', style: 'yellow', more: '' }
    : { word: 'DAEMON DOWN', style: 'red', more: '' }
}

function verdict(status: Status, paint: Paint): string {
  const { word, style, more } = verdictWords(status)
  return `${paint(style, word)}${more === '' ? '' : paint('yellow', more)}`
}

function peerLines(status: Status, { screen, peers, wide = false }: StatusView): string[] {
  const total = totalOf(status)
  if (total === 0) return []
  const shown = peers ?? queryPeers(status.peers, ALL_PEERS).slice(0, BRIEF_PEERS)
  const more = peers === undefined ? total - shown.length : 0
  return [
    '',
    ...(shown.length === 0 ? ['no peer matches'] : renderPeerTable(shown, screen, wide)),
    ...(more > 0 ? [`and ${more} more: overlayctl peers`] : []),
    ...(status.moreMisnamed === undefined
      ? []
      : [`${status.moreMisnamed} more rejected keys under subnets/ name no subnet and are not listed`]),
  ]
}

/** `3 routed, 1 of them this host's; 1 refused: overlayctl prefixes` */
function prefixesLine({
  own,
  routed,
  sharing = 0,
  waiting,
  refused,
  problem,
}: NonNullable<Status['prefixes']>): string {
  const parts = [
    `${routed} routed`,
    ...(own > 0 ? [`${own} announced by this host`] : []),
    ...(sharing > 0 ? [`${sharing} sharing`] : []),
    ...(waiting > 0 ? [`${waiting} waiting`] : []),
    ...(refused > 0 ? [`${refused} REFUSED: overlayctl prefixes`] : []),
  ]
  return [parts.join(', '), ...(problem === undefined ? [] : [`NOT in etcd as wanted: ${problem}`])].join(
    '; ',
  )
}

function daemonLine({ daemon, version }: Status): string {
  if (!daemon.running) return 'not running'
  const up = duration(daemon.uptimeSeconds ?? 0)
  return `overlayd ${version}, ${daemon.phase}, process ${daemon.pid}, up ${up}`
}

function networkLine({ network }: Status): string {
  if (network === undefined) return 'not known'
  const port = network.port === undefined ? '' : `, port ${network.port}`
  const ranges = [
    [network.network, network.subnetLength],
    [network.ipv6Network, network.ipv6SubnetLength],
  ]
    .filter(([range]) => range !== undefined)
    .map(([range, length]) => `${range}, a /${length} for each host`)
  const { backend, vni, etcdPrefix } = network
  return `${ranges.join('; ')}; ${backend}, VNI ${vni}${port}; etcd prefix ${etcdPrefix}`
}

/** Whether the daemon runs but does not take part in a network yet. */
const isJoining = ({ daemon, network }: Status): boolean => daemon.running && network === undefined

const unknownLease = ({ lease }: Status): string => {
  const had = [lease?.subnet, lease?.ipv6Subnet].filter(Boolean).join(' and ')
  return had === '' ? 'not known' : `not known; it had ${had} according to subnet.env`
}

function leaseLine({ lease, daemon }: Status): string {
  if (lease === undefined) return 'none'
  const left = lease.expiresInSeconds === undefined ? '' : `, ${duration(lease.expiresInSeconds)} left`
  const id =
    lease.etcdLease !== undefined
      ? `, etcd lease ${lease.etcdLease}${left}`
      : lease.state === 'held'
        ? ', reservation'
        : ''
  const { subnet, publicIp, ipv6Subnet, publicIpv6 } = lease
  const halves = [subnet && `${subnet} as ${publicIp}`, ipv6Subnet && `${ipv6Subnet} as ${publicIpv6}`]
  const { movedFrom, further = [] } = lease
  const more = further.length === 0 ? '' : `, and ${further.join(', ')}`
  const moved =
    movedFrom === undefined
      ? ''
      : `; MOVED from ${movedFrom.subnet} at the start of overlayd: ${movedFrom.reason}`
  const state = daemon.running ? lease.state : 'in etcd'
  return `${halves.filter(Boolean).join('; ')}${more}, ${state}${id}${moved}`
}

function deviceLine(device: DeviceStatus | undefined): string {
  if (device === undefined) return 'none'
  const { name, mac, mtu, up, local, underlay } = device
  const from = local === undefined ? '' : `, from ${local}${underlay === undefined ? '' : ` on ${underlay}`}`
  return `${name} ${up ? 'up' : 'DOWN'}, ${mac}, MTU ${mtu}${from}`
}

function multicastLine({
  device,
  vni,
  bridges,
  hosts,
  received,
  sent,
  limit,
  overLimit,
}: NonNullable<Status['multicast']>): string {
  const dropped = sent === undefined || sent.dropped === 0 ? '' : `, ${sent.dropped} dropped`
  const traffic =
    received === undefined || sent === undefined
      ? ''
      : `; ${count(received.packets, 'packet')} in, ${count(sent.packets, 'copy', 'copies')} out${dropped}`
  const over = overLimit === undefined ? '' : ` (${overLimit} ${overLimit === 1 ? 'was' : 'were'} over it)`
  const bound = limit === undefined ? '' : `, at most ${limit} packets/s${over}`
  const from = bridges.length === 0 ? 'no bridge has our subnet yet' : bridges.join(', ')
  return `${device}, VNI ${vni}, ${from}, to ${hosts} ${hosts === 1 ? 'host' : 'hosts'}${bound}${traffic}`
}

/** Which multicast groups are sent where. */
function groupLines(multicast: Partial<NonNullable<Status['multicast']>> = {}): string[] {
  const { families = [], groups, unreadable = [] } = multicast
  const ways = families.map(({ family, mode, why = '', told, untoldWhy = 'not announced yet' }) => {
    const out = mode === 'selective' ? 'sent only to hosts that want it' : `sent to all (${why})`
    const known = mode === 'partly' ? `${out}, except announced groups` : out
    const into = told ? 'only wanted groups come in' : `everything comes in (${untoldWhy})`
    return `${family}: ${known}; ${into}`
  })
  const bad = unreadable.map(({ key, reason }) => `overlay/groups/${key} cannot be read: ${reason}`)
  const counts = groups && `groups: ${groups.here} wanted here, ${groups.elsewhere} elsewhere`
  return [...ways, ...(counts === undefined ? [] : [counts]), ...bad]
}

/** `12 of 14 peers encrypted, required, key 3 d old; ...` */
function encryptionLine({
  mode,
  state,
  reason,
  devices,
  peers: { encrypted, clear, none },
  withoutKey = 0,
  silent = 0,
  refused = [],
  keyAgeSeconds,
  dropped = { in: 0, out: 0 },
}: NonNullable<Status['encryption']>): string {
  if (state === 'unable') return `NOT possible on this host, ${mode}: ${reason}`
  const all = encrypted + clear + none
  const age = keyAgeSeconds === undefined ? '' : `, key ${duration(keyAgeSeconds)} old`
  const where = devices.map(({ name, port }) => `${name} on UDP port ${port}`).join(', ')
  return [
    `${encrypted} of ${count(all, 'peer')} encrypted, ${mode}${age}`,
    where === '' ? 'no device yet' : where,
    ...(clear > 0 ? [`${clear} in clear`] : []),
    ...(none > 0 ? [`${none} without packets`] : []),
    ...(withoutKey > 0 ? [`${withoutKey} without a key`] : []),
    ...(refused.length > 0 ? [`keys of ${count(refused.length, 'lease')} not used`] : []),
    ...(silent > 0 ? [`${silent} silent`] : []),
    ...(dropped.in + dropped.out > 0
      ? [`dropped in clear: ${count(dropped.in, 'packet')} in, ${dropped.out} out`]
      : []),
  ].join('; ')
}

function etcdLine({ etcd }: Status): string {
  const where = etcd.endpoints.join(', ')
  const revision = etcd.revision === undefined ? '' : `, revision ${etcd.revision}`
  if (!etcd.connected) return where === '' ? 'not asked' : `NOT CONNECTED: ${where}${revision}`
  const latency = etcd.latencyMs === undefined ? '' : `, ${etcd.latencyMs.toFixed(1)} ms`
  return `connected: ${where}${latency}${revision}`
}

function kernelLine(status: Status): string {
  const { convergence, daemon } = status
  if (isJoining(status)) return 'not compared yet'
  if (!daemon.running) return 'nobody compares it with etcd'
  const { converged, revision, failing, operations, lastSyncSecondsAgo, lastError, lastErrorAt } = convergence
  const state = converged ? `converged at revision ${revision}` : 'NOT converged'
  const seen = lastSyncSecondsAgo === undefined ? '' : `, last pass ${duration(lastSyncSecondsAgo)} ago`
  const trouble = failing === 0 ? '' : `, ${failing} failing`
  const last =
    lastError === undefined
      ? ''
      : `; last error${lastErrorAt === undefined ? '' : ` at ${lastErrorAt}`}: ${lastError}`
  return `${state}, ${count(operations, 'change')} made${trouble}${seen}${last}`
}
