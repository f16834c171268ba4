/** Counts of peers by how they are reached, and those that lack encryption for longer than a moment. */
import { reviewPeers, stillLacking } from '../../../../src/daemon/encryption/encryption-state'
import type { Peer } from '../../../../src/model/lease'
import type { PeerEncryption } from '../../../../src/plan/encryption/peer-encryption'
import { announcement, peer } from '../../plan/encryption/support'

const tried = (tries: number) => ({ kind: 'no-handshake', tries, port: 51_820 }) as const

const CASES = new Map<Peer, PeerEncryption>([
  [peer(1, announcement(1)), { word: 'encrypted', obstacle: undefined }],
  [peer(2, announcement(2)), { word: 'encrypted', obstacle: tried(1) }],
  [peer(3), { word: 'clear', obstacle: { kind: 'no-key' } }],
  [peer(4, announcement(4)), { word: 'clear', obstacle: tried(0) }],
  [peer(5, announcement(5)), { word: 'none', obstacle: tried(3) }],
])
const of = (each: Peer): PeerEncryption => CASES.get(each) ?? { word: 'none', obstacle: undefined }
const keyOf = (number: number): string => peer(number).key

test('peers are counted', () => {
  expect(reviewPeers(CASES.keys(), of, new Map(), 0)).toEqual({
    peers: { encrypted: 2, clear: 2, none: 1 },
    withoutKey: 1,
    silent: 1,
    lacking: [],
  })
})

test('a peer is lacking when it has not been encrypted for 30 s', () => {
  const since = new Map([
    [keyOf(1), 0],
    [keyOf(3), 0],
    [keyOf(4), 1],
    [keyOf(5), 0],
  ])
  const lacking = (now: number) =>
    reviewPeers(CASES.keys(), of, since, now).lacking.map(({ peer: { key } }) => key)
  expect(lacking(29_999)).toEqual([])
  expect(lacking(30_000)).toEqual([keyOf(3), keyOf(5)])
  expect(lacking(30_001)).toEqual([keyOf(3), keyOf(4), keyOf(5)])
})

test('a peer that is cut off because it announces no key is lacking at once', () => {
  const cut: PeerEncryption = { word: 'none', obstacle: { kind: 'no-key' } }
  const { lacking, peers, withoutKey } = reviewPeers([peer(3)], () => cut, new Map(), 0)
  expect(lacking.map(({ peer: { key } }) => key)).toEqual([keyOf(3)])
  expect([peers.none, withoutKey]).toEqual([1, 1])
})

test('the time begins anew for a peer that was encrypted meanwhile', () => {
  const first = stillLacking(new Map(), ['a', 'b'], 10)
  const second = stillLacking(first, ['b'], 20)
  expect([...stillLacking(second, ['a', 'b'], 30)]).toEqual([
    ['a', 30],
    ['b', 10],
  ])
})
