/** What probing has found, as text. */
import type { MeshStatus, ProbeStatus } from '../../api/mesh'
import { count } from '../../model/count'
import { duration } from './screen'

/** `7 of 9 peers answer, 4 watched: RTT 0.31 ms, no loss; 1 unreachable (overlay 1)` */
export function meshLine({
  state,
  reason = '',
  watched,
  peers,
  unreachable,
  rttMs,
  loss,
  smallerPathMtu = 0,
}: MeshStatus): string {
  if (state === 'off') return 'not probed (--probe=off)'
  if (state === 'impossible') return `NOT probed: ${reason}`
  const { unknown, answering, suspect } = peers
  const all = unknown + answering + suspect + peers.unreachable
  if (all === 0) return 'no peer to probe'
  if (unknown === all) return `not probed yet: ${count(all, 'peer')}`
  const layers = (['overlay', 'underlay'] as const).flatMap((layer) =>
    unreachable[layer] === 0 ? [] : `${layer} ${unreachable[layer]}`,
  )
  const figures = [
    ...(rttMs === undefined ? [] : [`RTT ${roundTrip(rttMs)}`]),
    ...(loss === undefined ? [] : [loss === 0 ? 'no loss' : `loss ${percent(loss)}`]),
  ]
  return [
    `${answering} of ${count(all, 'peer')} ${all === 1 ? 'answers' : 'answer'}`,
    `${watched} watched${figures.length === 0 ? '' : `: ${figures.join(', ')}`}`,
    ...(peers.unreachable > 0 ? [`${peers.unreachable} UNREACHABLE (${layers.join(', ')})`] : []),
    ...(smallerPathMtu > 0 ? [`${smallerPathMtu} with a SMALLER PATH MTU`] : []),
    ...(suspect > 0 ? [`${suspect} suspect`] : []),
    ...(unknown > 0 ? [`${unknown} not probed yet`] : []),
  ].join('; ')
}

/** `0.31 ms` */
export const roundTrip = (milliseconds: number | undefined): string =>
  milliseconds === undefined ? '' : `${milliseconds.toPrecision(milliseconds < 100 ? 2 : 3)} ms`

/** @param part from 0 to 1 */
export const percent = (part: number | undefined): string =>
  part === undefined ? '' : `${Math.round(part * 100)} %`

export const ago = (seconds: number | undefined): string =>
  seconds === undefined ? '' : `${duration(seconds)} ago`

const LAYER_WORDS = {
  overlay: 'its PublicIP answers, its overlay address does not',
  underlay: 'neither its overlay address nor its PublicIP answers',
} as const

/** Why a peer is not reached, or not with large packets; `undefined` where it is. */
export function whyUnreached(probe: ProbeStatus | undefined): string | undefined {
  if (probe?.layer !== undefined) return LAYER_WORDS[probe.layer]
  if (probe?.pathMtu !== undefined) return `only packets of up to ${probe.pathMtu} bytes get through`
  return probe?.fullSize === 'lost' ? 'large packets are lost' : undefined
}

/** `1450` where packets of full size get through; `at most 1350`; `large packets are lost`. */
export function pathMtuWords(probe: ProbeStatus | undefined, deviceMtu: number | undefined): string {
  if (probe?.pathMtu !== undefined) return `at most ${probe.pathMtu}`
  if (probe?.fullSize === 'lost') return 'large packets are lost'
  return probe?.fullSize === 'passes' && deviceMtu !== undefined ? String(deviceMtu) : ''
}
