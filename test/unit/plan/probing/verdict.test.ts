import type { Peer } from '../../../../src/model/lease'
import { type Layer, UNPROBED } from '../../../../src/plan/probing/peer-probe'
import type { WatchedPeer } from '../../../../src/plan/probing/probe-table'
import { judgeMesh, type MeshVerdict, worstOf } from '../../../../src/plan/probing/verdict'
import { describeVerdict } from '../../../../src/plan/probing/words'
import { hw, ip, net } from '../support'

const peer: Peer = {
  key: '10.5.1.0-24',
  subnet: net('10.5.1.0/24'),
  publicIp: ip('192.0.2.1'),
  mac: hw('02:00:00:00:00:01'),
}
const watched = (reach: 'ok' | Layer): WatchedPeer => ({
  peer,
  probe: {
    ...UNPROBED,
    reach: reach === 'ok' ? { kind: 'answering' } : { kind: 'unreachable', layer: reach, since: 0 },
  },
})

test.each<[string, ('ok' | Layer)[], { silentFor?: number; followsEtcd?: boolean }, MeshVerdict['kind']]>([
  ['nobody to ask', [], {}, 'fine'],
  ['all answer', ['ok', 'ok', 'ok', 'ok'], {}, 'fine'],
  ['one is dead', ['ok', 'ok', 'ok', 'underlay'], {}, 'fine'],
  ['one is not reached through the overlay', ['ok', 'ok', 'ok', 'overlay'], {}, 'overlay'],
  ['the only other host is dead', ['underlay'], {}, 'fine'],
  ['the only other host is not reached through the overlay', ['overlay'], { silentFor: 60_000 }, 'overlay'],
  ['most are dead', ['ok', 'underlay', 'underlay', 'underlay'], {}, 'most'],
  ['half are dead', ['ok', 'ok', 'underlay', 'underlay'], {}, 'fine'],
  ['none answers through the overlay', ['overlay', 'overlay'], { silentFor: 60_000 }, 'cut-off'],
  ['none of the watched does, and another peer does', ['overlay', 'overlay'], { silentFor: 1000 }, 'most'],
  ['all are dead, and etcd answers', ['underlay', 'underlay'], { silentFor: 60_000 }, 'most'],
  ['none has ever answered', ['overlay', 'overlay'], { silentFor: Number.POSITIVE_INFINITY }, 'most'],
  ['nothing answers', ['underlay', 'underlay'], { silentFor: 60_000, followsEtcd: false }, 'cut-off'],
])('%s', (_what, reaches, { silentFor = 0, followsEtcd = true }, expected) => {
  const verdict = judgeMesh({ watched: reaches.map(watched), silentFor, followsEtcd }, 5000)
  expect(verdict.kind).toBe(expected)
  expect(describeVerdict(verdict) === undefined).toBe(expected === 'fine')
})

test('the worst family counts', () => {
  const cut: MeshVerdict = { kind: 'cut-off', watched: 2 }
  const most: MeshVerdict = { kind: 'most', unreachable: 2, watched: 3 }
  expect(worstOf([{ kind: 'fine' }, most, cut])).toBe(cut)
  expect(worstOf([])).toEqual({ kind: 'fine' })
})
