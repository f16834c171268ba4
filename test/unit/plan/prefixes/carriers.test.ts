import { reachedOf } from '../../../../src/plan/prefixes/carriers'

const carriers = ['a', 'b', 'c'].map((peer) => ({ peer, weight: 1 }))

test.each([
  ['all are reached', [], ['a', 'b', 'c']],
  ['one is not', ['b'], ['a', 'c']],
  ['one is left', ['a', 'b'], ['c']],
  ['none is reached: the fault may be here', ['a', 'b', 'c'], ['a', 'b', 'c']],
])('%s', (_, lost, left) =>
  expect(reachedOf(carriers, (peer) => lost.includes(peer)).map(({ peer }) => peer)).toEqual(left),
)

test('who carries a prefix alone stays', () =>
  expect(reachedOf(carriers.slice(0, 1), () => true)).toHaveLength(1))
