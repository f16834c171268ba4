/** The status as text for a tired person: the verdict first, then what it rests on. */
import { BRIEF_PEERS, type DeviceStatus, type PeerStatus, type Status } from '../daemon/status'
import { ALL_PEERS, queryPeers } from './peer-query'
import { countPeers, renderPeerTable, totalOf } from './render-peers'
import { duration, hang, type Paint, painter, type Screen } from './screen'

/** How it is shown. */
export interface StatusView {
  readonly screen: Screen
  /** The peers to list, all of them; without it a few, the worst first. */
  readonly peers?: readonly PeerStatus[]
  /** Leaves nothing out. */
  readonly wide?: boolean
}

const INDENT = 9

/** Renders the document. */
export function renderStatus(status: Status, { screen, peers, wide = false }: StatusView): string {
  const paint = painter(screen)
  const width = wide ? Number.POSITIVE_INFINITY : screen.width
  const fact = (name: string, text: string): string[] => {
    const [head = '', ...more] = hang(name, text, width, INDENT)
    return [`${paint('bold', head.slice(0, INDENT))}${head.slice(INDENT)}`.trimEnd(), ...more]
  }
  const { device, ipv6Device } = status
  const lines = [
    `${paint('bold', 'state'.padEnd(INDENT))}${verdict(status, paint)}`,
    ...status.problems.flatMap((problem) =>
      hang('         !', problem, width, INDENT + 2).map((line) => paint('yellow', line)),
    ),
    ...fact('daemon', daemonLine(status)),
    ...fact('network', networkLine(status)),
    ...fact('lease', leaseLine(status)),
    ...fact('device', deviceLine(device ?? ipv6Device)),
    ...(device !== undefined && ipv6Device !== undefined ? fact('', deviceLine(ipv6Device)) : []),
    ...(status.multicast === undefined ? [] : fact('mcast', multicastLine(status.multicast))),
    ...groupLines(status.multicast).flatMap((line) => fact('', line)),
    ...fact('etcd', etcdLine(status)),
    ...fact('kernel', kernelLine(status)),
    ...fact('peers', countPeers(status)),
    ...peerLines(status, { screen, wide, ...(peers !== undefined && { peers }) }),
  ]
  return `${lines.join('\n')}\n`
}

function verdict({ state, daemon }: Status, paint: Paint): string {
  if (state === 'healthy') return paint('green', 'healthy')
  return daemon.running ? paint('yellow', 'DEGRADED') : paint('red', 'DAEMON DOWN')
}

function peerLines(status: Status, { screen, peers, wide = false }: StatusView): string[] {
  const total = totalOf(status)
  if (total === 0) return []
  const shown = peers ?? queryPeers(status.peers, ALL_PEERS).slice(0, BRIEF_PEERS)
  const more = peers === undefined ? total - shown.length : 0
  return [
    '',
    ...(shown.length === 0 ? ['no peer is like that'] : renderPeerTable(shown, screen, wide)),
    ...(more > 0 ? [`and ${more} more: overlayctl peers`] : []),
  ]
}

function daemonLine({ daemon, version }: Status): string {
  if (!daemon.running) return 'not running'
  return `overlayd ${version}, ${daemon.phase}, process ${daemon.pid}, up ${duration(daemon.uptimeSeconds ?? 0)}`
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
  return `${ranges.join('; ')}; ${network.backend}, VNI ${network.vni}${port}; etcd prefix ${network.etcdPrefix}`
}

function leaseLine({ lease }: Status): string {
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
  return `${halves.filter(Boolean).join('; ')}, ${lease.state}${id}`
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
  const traffic =
    received === undefined || sent === undefined
      ? ''
      : `; ${received.packets} packets in, ${sent.packets} copies out${sent.dropped === 0 ? '' : `, ${sent.dropped} dropped`}`
  const bound =
    limit === undefined
      ? ''
      : `, at most ${limit} packets/s${overLimit === undefined ? '' : ` (${overLimit} were over it)`}`
  const from = bridges.length === 0 ? 'no bridge has our subnet yet' : bridges.join(', ')
  return `${device}, VNI ${vni}, ${from}, to ${hosts} ${hosts === 1 ? 'host' : 'hosts'}${bound}${traffic}`
}

/** Who gets which groups. */
function groupLines(multicast: Partial<NonNullable<Status['multicast']>> = {}): string[] {
  const { families = [], groups, unreadable = [] } = multicast
  const ways = families.map(({ family, mode, why = '', told, untoldWhy = 'others are not told yet' }) => {
    const out = mode === 'selective' ? 'sent only where it is wanted' : `sent to all (${why})`
    const known = mode === 'partly' ? `${out}, but for what is told` : out
    return `${family}: ${known}; ${told ? 'only what is wanted comes in' : `all comes in (${untoldWhy})`}`
  })
  const bad = unreadable.map(({ key, reason }) => `overlay/groups/${key} cannot be read: ${reason}`)
  const counts = groups && `groups: ${groups.here} wanted here, ${groups.elsewhere} elsewhere`
  return [...ways, ...(counts === undefined ? [] : [counts]), ...bad]
}

function etcdLine({ etcd }: Status): string {
  const where = etcd.endpoints.join(', ')
  const revision = etcd.revision === undefined ? '' : `, revision ${etcd.revision}`
  if (!etcd.connected) return `NOT CONNECTED: ${where}${revision}`
  const latency = etcd.latencyMs === undefined ? '' : `, ${etcd.latencyMs.toFixed(1)} ms`
  return `connected: ${where}${latency}${revision}`
}

function kernelLine({ convergence, daemon }: Status): string {
  if (!daemon.running) return 'nobody compares it with etcd'
  const { converged, revision, failing, operations, lastSyncSecondsAgo, lastError } = convergence
  const state = converged ? `converged at revision ${revision}` : 'NOT converged'
  const seen = lastSyncSecondsAgo === undefined ? '' : `, last pass ${duration(lastSyncSecondsAgo)} ago`
  const trouble = failing === 0 ? '' : `, ${failing} failing`
  const last = lastError === undefined ? '' : `; last error: ${lastError}`
  return `${state}, ${operations} changes made${trouble}${seen}${last}`
}
