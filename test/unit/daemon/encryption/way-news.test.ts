/** What is told of peers whose packets leave another way. */
import { type ChangedPeer, wayNews } from '../../../../src/daemon/encryption/way-news'
import type { PeerEncryption } from '../../../../src/plan/encryption/peer-encryption'
import { peer } from '../../plan/encryption/support'

const changed = (
  number: number,
  word: PeerEncryption['word'],
  obstacle?: PeerEncryption['obstacle'],
): ChangedPeer => ({ peer: peer(number), encryption: { word, obstacle } })
const NO_KEY = { kind: 'no-key' } as const
const TRIED = { kind: 'no-handshake', tries: 1, port: 51_820 } as const
const told = (peers: readonly ChangedPeer[]) =>
  wayNews(peers).map(({ level, kind, text }) => [level, kind, text])

test('a peer that is encrypted now', () => {
  expect(told([changed(2, 'encrypted')])).toEqual([
    ['info', 'peer-encrypted', '10.5.2.0/24 gets packets encrypted'],
  ])
})

test('a peer in clear is told with the reason: such as a flannel host in the place of an overlayd', () => {
  expect(told([changed(2, 'clear', NO_KEY)])).toEqual([
    ['warn', 'peer-clear', '10.5.2.0/24 gets packets in clear: it announces no key'],
  ])
  expect(told([changed(2, 'clear', NO_KEY), changed(3, 'clear', TRIED)])).toEqual([
    ['warn', 'peer-clear', '2 peers get packets in clear'],
  ])
})

test('peers that are cut off are told apart: one kind may come back by itself, the other cannot', () => {
  const news = wayNews([changed(2, 'none', NO_KEY), changed(3, 'none', TRIED), changed(4, 'none')])
  expect(news.map(({ level, kind, about }) => [level, kind, about])).toEqual([
    ['warn', 'peer-cut', ['10.5.3.0/24', '10.5.4.0/24']],
    ['error', 'peer-cut', ['10.5.2.0/24']],
  ])
  expect(news[0]?.text).toBe('2 peers get no packets: encryption is required, and no handshake has succeeded')
  expect(news[1]?.text).toMatch(
    /^10\.5\.2\.0\/24 gets NO PACKETS: .* no key is announced: flannel runs there/,
  )
})

test('nothing is told of no change', () => {
  expect(wayNews([])).toEqual([])
})
