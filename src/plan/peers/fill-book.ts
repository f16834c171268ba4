/** Fills a new book with claims in pieces, and compares its peers with those of the former one. */
import type { Peer } from '../../model/lease'
import { oldestFirst, type PeerChange, samePeer } from './claim'
import type { ClaimBook, Gathered } from './claim-book'

/** Leases processed in one piece of a long work. */
export const PIECE = 500

/**
 * Judges claims, the oldest first.
 * @param book without claims; whole when the generator has ended
 * @param before the peers as they were last valid
 * @param danger why a peer is not kept, independent of other peers
 * @returns how the peers differ from those before
 */
export function* fillBook(
  book: ClaimBook,
  { claims, rejected, moreMisnamed }: Gathered,
  before: ReadonlyMap<string, Peer>,
  danger: (peer: Peer) => string | undefined,
): Generator<void, PeerChange[]> {
  book.moreMisnamed = moreMisnamed
  let i = 0
  for (const [key, rejection] of rejected) {
    if (i++ % PIECE === 0) yield
    book.reject(key, rejection)
  }
  for (const [i, claim] of oldestFirst(claims).entries()) {
    if (i % PIECE === 0) yield
    if (danger(claim.peer) === undefined) book.judge(claim)
  }
  i = 0
  for (const key of [...book.rejected.keys()]) {
    if (i++ % PIECE === 0) yield
    const lastGood = before.get(key)
    if (lastGood !== undefined && danger(lastGood) === undefined) book.keepLastGood(key, lastGood)
  }
  const changes: PeerChange[] = []
  i = 0
  for (const [key, peer] of before) {
    if (i++ % PIECE === 0) yield
    const after = book.peers.get(key)
    if (!samePeer(peer, after)) changes.push({ before: peer, after })
  }
  for (const [key, after] of book.peers) {
    if (i++ % PIECE === 0) yield
    if (!before.has(key)) changes.push({ before: undefined, after })
  }
  book.forgetChanges()
  return changes
}
