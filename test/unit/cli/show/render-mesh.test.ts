import type { MeshStatus } from '../../../../src/api/mesh'
import { meshLine, roundTrip, whyUnreached } from '../../../../src/cli/show/render-mesh'

const mesh = (fields: Partial<MeshStatus>): MeshStatus => ({
  state: 'on',
  watched: 4,
  peers: { unknown: 0, answering: 9, suspect: 0, unreachable: 0 },
  unreachable: { underlay: 0, overlay: 0 },
  ...fields,
})

test.each<[Partial<MeshStatus>, string]>([
  [{ state: 'off' }, 'not probed (--probe=off)'],
  [{ state: 'impossible', reason: 'no socket' }, 'NOT probed: no socket'],
  [{ peers: { unknown: 0, answering: 0, suspect: 0, unreachable: 0 } }, 'no peer to probe'],
  [{ peers: { unknown: 2, answering: 0, suspect: 0, unreachable: 0 } }, 'not probed yet: 2 peers'],
  [{ rttMs: 0.312, loss: 0 }, '9 of 9 peers answer; 4 watched: RTT 0.31 ms, no loss'],
  [
    { watched: 1, peers: { unknown: 0, answering: 1, suspect: 0, unreachable: 0 } },
    '1 of 1 peer answers; 1 watched',
  ],
  [
    {
      peers: { unknown: 90, answering: 6, suspect: 1, unreachable: 3 },
      unreachable: { underlay: 1, overlay: 2 },
      rttMs: 123.4,
      loss: 0.254,
    },
    '6 of 100 peers answer; 4 watched: RTT 123 ms, loss 25 %; 3 UNREACHABLE (overlay 2, underlay 1); ' +
      '1 suspect; 90 not probed yet',
  ],
])('the line of %j', (fields, line) => {
  expect(meshLine(mesh(fields))).toBe(line)
})

test('round trips have two digits that count', () => {
  expect([0.0312, 0.312, 3.12, 31.2, 312].map(roundTrip)).toEqual([
    ...['0.031 ms', '0.31 ms', '3.1 ms', '31 ms', '312 ms'],
  ])
  expect(roundTrip(undefined)).toBe('')
})

test('why a peer is not reached', () => {
  expect(whyUnreached({ reach: 'unreachable', layer: 'overlay' })).toMatch(/^its PublicIP answers/)
  expect(whyUnreached({ reach: 'unreachable', layer: 'underlay' })).toMatch(/^neither/)
  expect(whyUnreached({ reach: 'answering', fullSize: 'lost' })).toBe('large packets are lost')
  expect(whyUnreached({ reach: 'answering', fullSize: 'lost', pathMtu: 1350 })).toBe(
    'only packets of up to 1350 bytes get through',
  )
  expect(whyUnreached({ reach: 'answering', fullSize: 'passes' })).toBeUndefined()
  expect(whyUnreached(undefined)).toBeUndefined()
})
