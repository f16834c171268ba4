import {
  type At,
  afterEvents,
  afterListing,
  afterLoss,
  afterReport,
  beginWatch,
  isSuccessor,
  moveTo,
  type Place,
  type Position,
  toldOf,
  UNLISTED,
} from '../../../../src/etcd/follow/place'
import type { Revision } from '../../../../src/model/lease'

const rev = (n: number) => BigInt(n) as Revision
const position = (revision: number, clusterId = 'a'): Position => ({ revision: rev(revision), clusterId })
const at = (revision: number, fields: Partial<At> = {}): At => ({
  kind: 'at',
  position: position(revision),
  leases: 3,
  reported: rev(revision),
  isLost: false,
  ...fields,
})
const unlisted = (told: Position): Place => ({ kind: 'unlisted', told })

test.each<[string, Place, Position, At, boolean]>([
  ['the first', UNLISTED, position(5), at(5), false],
  ['one after a loss of the history', unlisted(position(4)), position(5), at(5), false],
  ['one of an older state of the cluster', unlisted(position(6)), position(5), at(5), true],
  ['one of another cluster', unlisted(position(4, 'b')), position(5), at(5), true],
  ['one beside a watch', at(4), position(5), at(5, { reported: rev(4) }), false],
  ['one while the watch is lost', at(4, { isLost: true }), position(5), at(5, { reported: rev(4) }), false],
])('a listing, %s', (_what, before, listed, after, isReplaced) => {
  expect(afterListing(before, listed, 3)).toEqual({ place: after, isReplaced })
})

test.each<[string, Place, boolean, Place]>([
  ['at a position, resumable', at(5), true, at(5, { isLost: true })],
  ['at a position, twice', at(5, { isLost: true }), true, at(5, { isLost: true })],
  ['at a position, not resumable', at(5), false, unlisted(position(5))],
  ['unlisted', unlisted(position(5)), true, unlisted(position(5))],
  ['before the first listing', UNLISTED, true, UNLISTED],
])('a loss %s', (_what, before, isResumable, after) => {
  expect(afterLoss(before, isResumable)).toEqual(after)
})

test('the position that a watch reports only grows, and is kept apart from that of the consumer', () => {
  const begun = beginWatch(at(5, { reported: rev(2) }))
  expect(begun).toEqual(at(5))
  expect(afterReport(begun, rev(7))).toEqual(at(5, { reported: rev(7) }))
  expect(afterReport(begun, rev(4))).toEqual(at(5))
  expect(moveTo(begun, rev(7))).toEqual(at(7, { reported: rev(5) }))
  expect(afterEvents(at(5, { isLost: true }))).toEqual(at(5))
  expect([UNLISTED, unlisted(position(4)), at(5)].map(toldOf)).toEqual([undefined, position(4), position(5)])
})

test('a successor is a later state of the same cluster, or the same one', () => {
  expect(isSuccessor(position(5), position(5))).toBe(true)
  expect(isSuccessor(position(6), position(5))).toBe(true)
  expect(isSuccessor(position(4), position(5))).toBe(false)
  expect(isSuccessor(position(6, 'b'), position(5))).toBe(false)
})
