/** Which peers are not in the kernel as they should be, and why. */
import { describeError } from '../../model/errors'
import { isObjectId } from '../../model/kernel/subject'
import type { Peer } from '../../model/lease'
import { ownerOf } from '../../plan/objects'
import type { PeerView } from '../../plan/peers/peer-view'
import { type Contests, describeContest } from '../../plan/reconcile/contests'
import type { Progress } from '../../plan/reconcile/progress'
import type { Retries } from '../../plan/reconcile/retries'
import { peersIn } from '../../plan/reconcile/scope'

export interface PeerTrouble {
  readonly state: 'pending' | 'failing'
  readonly reason?: string
}

/**
 * A peer with several troubles has the first: refused, contested, pending. Costs nothing while there are
 * none.
 */
export function troubledPeers(
  peers: PeerView,
  { retries, contests, progress }: { retries: Retries; contests: Contests; progress: Progress },
  now: number,
): ReadonlyMap<Peer, PeerTrouble> {
  const troubled = new Map<Peer, PeerTrouble>()
  const note = (peer: Peer | undefined, trouble: PeerTrouble): void => {
    if (peer !== undefined && !troubled.has(peer)) troubled.set(peer, trouble)
  }
  for (const { operation, error } of retries.failures())
    note(ownerOf(operation, peers), { state: 'failing', reason: describeError(error) })
  for (const contest of contests.waiting()) {
    const owner = isObjectId(contest.subject) ? ownerOf(contest.subject, peers) : undefined
    note(owner, { state: 'failing', reason: describeContest(contest, now) })
  }
  const pending =
    progress.revision === undefined
      ? peers.peers()
      : progress.scopes().flatMap((scope) => [...peersIn(scope, peers)])
  for (const peer of pending) note(peer, { state: 'pending' })
  return troubled
}
