/** The part of the status document about probing. */
import type { MeshStatus, ProbeStatus } from '../../api/mesh'
import type { Status } from '../../api/status'
import type { PathMtu } from '../../plan/probing/path-mtu'
import { lossOf, type PeerProbe } from '../../plan/probing/peer-probe'
import type { ReachCounts } from '../../plan/probing/probe-table'
import type { DaemonView, MeshView } from './view'

/** The peers of all families by what probing knows of them. */
export function countReach({ tables }: Pick<MeshView, 'tables'>): ReachCounts {
  const sum = { unknown: 0, answering: 0, suspect: 0, unreachable: 0, underlay: 0, overlay: 0 }
  for (const { counts } of tables.values())
    for (const kind of Object.keys(sum) as (keyof ReachCounts)[]) sum[kind] += counts[kind]
  return sum
}

/** @param now monotonic milliseconds */
export function reportProbe(
  probe: PeerProbe | undefined,
  now: number,
): { readonly probe?: ProbeStatus | undefined } {
  if (probe === undefined) return {}
  const { reach, overlay, path } = probe
  const { rttMs, answeredAt } = overlay
  const loss = lossOf(overlay)
  return {
    probe: {
      reach: reach.kind,
      ...(reach.kind === 'unreachable' && { layer: reach.layer }),
      ...(rttMs !== undefined && { rttMs: rounded(rttMs) }),
      ...(loss !== undefined && { loss: rounded(loss) }),
      ...(answeredAt !== undefined && { answeredSecondsAgo: Math.round((now - answeredAt) / 1000) }),
      ...reportPath(path),
    },
  }
}

function reportPath(path: PathMtu): Pick<ProbeStatus, 'fullSize' | 'pathMtu'> {
  switch (path.kind) {
    case 'full':
      // One lost packet may be chance.
      return path.isProven ? { fullSize: 'passes' } : {}
    case 'limited':
      return { fullSize: 'lost', pathMtu: path.mtu }
    case 'searching':
      return { fullSize: 'lost', ...(path.held !== undefined && { pathMtu: path.held }) }
    case 'hopeless':
      return { fullSize: 'lost' }
  }
}

/** Peers of all families whose path carries smaller packets than the device sends. */
export const countLimited = ({ tables }: Pick<MeshView, 'tables'>): number =>
  [...tables.values()].reduce((sum, { limited }) => sum + limited, 0)

export function reportMesh({ mesh, options, node }: DaemonView): Pick<Status, 'mesh'> {
  if (node === undefined) return {}
  if (options.probe === 'off') return { mesh: { state: 'off', ...NOBODY } }
  if (mesh === undefined) return {}
  if (mesh.problem !== undefined) return { mesh: { state: 'impossible', reason: mesh.problem, ...NOBODY } }
  const { underlay, overlay, ...peers } = countReach(mesh)
  const watched = [...mesh.tables.values()].flatMap((table) => table.watched.map(({ probe }) => probe))
  const rttMs = mean(watched.map((probe) => probe.overlay.rttMs))
  const loss = mean(watched.map((probe) => lossOf(probe.overlay)))
  return {
    mesh: {
      state: 'on',
      watched: watched.length,
      peers,
      unreachable: { underlay, overlay },
      smallerPathMtu: countLimited(mesh),
      ...(rttMs !== undefined && { rttMs: rounded(rttMs) }),
      ...(loss !== undefined && { loss: rounded(loss) }),
    },
  }
}

const NOBODY: Omit<MeshStatus, 'state'> = {
  watched: 0,
  peers: { unknown: 0, answering: 0, suspect: 0, unreachable: 0 },
  unreachable: { underlay: 0, overlay: 0 },
}

function mean(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined)
  return known.length === 0 ? undefined : known.reduce((sum, value) => sum + value, 0) / known.length
}

/** To the thousandth. */
const rounded = (value: number): number => Math.round(value * 1000) / 1000
