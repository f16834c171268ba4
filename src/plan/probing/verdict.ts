/**
 * What the answers of the watched peers say about this host. Pure. The watched peers are probed often, so a
 * verdict is seconds old in a network of any size.
 */
import type { Peer } from '../../model/lease'
import type { WatchedPeer } from './probe-table'

export type MeshVerdict =
  | { readonly kind: 'fine' }
  /** Watched peers whose PublicIP answers, and whose overlay address does not. */
  | { readonly kind: 'overlay'; readonly peers: readonly Peer[] }
  /** Most of the watched peers are unreachable. */
  | { readonly kind: 'most'; readonly unreachable: number; readonly watched: number }
  /** No peer answers at all, so the cause is at this host. */
  | { readonly kind: 'cut-off'; readonly watched: number }

export interface MeshEvidence {
  readonly watched: readonly WatchedPeer[]
  /**
   * Milliseconds since any peer, watched or not, answered through the overlay; Infinity if none has yet.
   */
  readonly silentFor: number
  /** Whether etcd answers: then the underlay of this host works. */
  readonly followsEtcd: boolean
}

/** Fewer peers than this do not tell whose fault it is. */
const LEAST_WITNESSES = 2

/**
 * The verdict.
 * @param silence milliseconds without an answer of any peer after which this host may be cut off
 */
export function judgeMesh({ watched, silentFor, followsEtcd }: MeshEvidence, silence: number): MeshVerdict {
  const unreachable = watched.filter(({ probe }) => probe.reach.kind === 'unreachable')
  const byOverlay = unreachable.filter(
    ({ probe: { reach } }) => reach.kind === 'unreachable' && reach.layer === 'overlay',
  )
  const isEnough = unreachable.length >= LEAST_WITNESSES
  // Peers whose PublicIP is silent too may all be dead, as long as etcd shows that this host's underlay
  // works.
  const isOwn = byOverlay.length > 0 || !followsEtcd
  // If none has ever answered, all may have a firewall that lets no echo in, and carry traffic all the same.
  const isSilent = silentFor >= silence && Number.isFinite(silentFor)
  if (isEnough && unreachable.length === watched.length && isSilent && isOwn)
    return { kind: 'cut-off', watched: watched.length }
  if (isEnough && unreachable.length * 2 > watched.length)
    return { kind: 'most', unreachable: unreachable.length, watched: watched.length }
  if (byOverlay.length > 0) return { kind: 'overlay', peers: byOverlay.map(({ peer }) => peer) }
  return { kind: 'fine' }
}

/** The kinds of verdicts, from bad to good. */
export const VERDICTS: readonly MeshVerdict['kind'][] = ['cut-off', 'most', 'overlay', 'fine']

/** The worst of the families' verdicts; `fine` for none. */
export const worstOf = (verdicts: readonly MeshVerdict[]): MeshVerdict =>
  VERDICTS.flatMap((kind) => verdicts.find((verdict) => verdict.kind === kind) ?? [])[0] ?? { kind: 'fine' }
