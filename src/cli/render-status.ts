/** The status as text for a tired person: the verdict first, then what it rests on. */
import { styleText } from 'node:util'
import type { DeviceStatus, PeerStatus, Status } from '../daemon/status'

/** Renders the document. Colour only when `colour` says so. */
export function renderStatus(status: Status, colour = process.stdout.isTTY === true): string {
  const paint = (style: 'green' | 'yellow' | 'red' | 'bold', text: string): string =>
    colour ? styleText(style, text, { validateStream: false }) : text
  const verdict =
    status.state === 'healthy'
      ? paint('green', 'healthy')
      : paint(status.daemon.running ? 'yellow' : 'red', status.daemon.running ? 'DEGRADED' : 'DAEMON DOWN')
  const facts: [string, string][] = [
    ['state', verdict],
    ...status.problems.map((problem): [string, string] => ['', paint('yellow', `! ${problem}`)]),
    ['daemon', daemonLine(status)],
    ['network', networkLine(status)],
    ['lease', leaseLine(status)],
    ['device', deviceLine(status.device ?? status.ipv6Device)],
    ...(status.device !== undefined && status.ipv6Device !== undefined
      ? [['', deviceLine(status.ipv6Device)] satisfies [string, string]]
      : []),
    ...(status.multicast === undefined
      ? []
      : [['mcast', multicastLine(status.multicast)] satisfies [string, string]]),
    ['etcd', etcdLine(status)],
    ['kernel', kernelLine(status)],
    ['peers', peersLine(status.peers)],
  ]
  const lines = facts.map(([name, text]) => `${paint('bold', name.padEnd(8))} ${text}`.trimEnd())
  return `${[...lines, ...peerTable(status.peers)].join('\n')}\n`
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
}: NonNullable<Status['multicast']>): string {
  const traffic =
    received === undefined || sent === undefined
      ? ''
      : `; ${received.packets} packets in, ${sent.packets} copies out${sent.dropped === 0 ? '' : `, ${sent.dropped} dropped`}`
  const from = bridges.length === 0 ? 'no bridge has our subnet yet' : bridges.join(', ')
  return `${device}, VNI ${vni}, ${from}, to ${hosts} ${hosts === 1 ? 'host' : 'hosts'}${traffic}`
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

function peersLine(peers: readonly PeerStatus[]): string {
  if (peers.length === 0) return 'none'
  const counts = new Map<string, number>()
  for (const { state } of peers) counts.set(state, (counts.get(state) ?? 0) + 1)
  return [...counts].map(([state, count]) => `${count} ${state}`).join(', ')
}

const ORDER: readonly PeerStatus['state'][] = ['failing', 'rejected', 'held', 'pending', 'ok']

/** Worst first. */
function peerTable(peers: readonly PeerStatus[]): string[] {
  if (peers.length === 0) return []
  const sorted = [...peers].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state))
  const rows = [
    ['SUBNET', 'PUBLIC IP', 'MAC', 'STATE', 'WHY'],
    ...sorted.map(({ subnet, publicIp, mac, state, reason }) => [subnet, publicIp, mac, state, reason ?? '']),
  ]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return [
    '',
    ...rows.map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    ),
  ]
}

/** `3 d 4 h`, `5 min 12 s`: the two largest units. */
function duration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
    [1, 's'],
  ]
  const start = units.findIndex(([size]) => seconds >= size)
  if (start === -1) return '0 s'
  let rest = seconds
  const parts = units.slice(start, start + 2).map(([size, unit]) => {
    const count = Math.floor(rest / size)
    rest -= count * size
    return `${count} ${unit}`
  })
  return parts.filter((part) => !part.startsWith('0 ')).join(' ')
}
