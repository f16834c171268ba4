import { relistDelay, retryBounds } from '../../../../src/etcd/follow/follower'

const MINUTES = 60_000
const mean = () => 0.5

test.each([
  [0, 10],
  [1000, 10],
  [5000, 50],
  [50_000, 500],
])('with %d leases a full listing follows every %d minutes', (leases, minutes) => {
  expect(relistDelay(10 * MINUTES, leases, mean)).toBe(minutes * MINUTES)
})

test('hosts that started together list at different times', () => {
  expect(relistDelay(10 * MINUTES, 100, () => 0)).toBe(8 * MINUTES)
  expect(relistDelay(10 * MINUTES, 100, () => 0.999_999)).toBeCloseTo(12 * MINUTES, -3)
})

test('a listing that timed out is retried with a growing delay, anything else within two seconds', () => {
  expect(retryBounds('etcd-timeout', false)).toEqual({ first: 1000, most: 30_000 })
  expect(retryBounds('etcd-timeout', true)).toEqual({ first: 100, most: 2000 })
  expect(retryBounds('etcd-unreachable', false)).toEqual({ first: 100, most: 2000 })
})
