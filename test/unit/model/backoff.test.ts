import { backoffDelay } from '../../../src/model/backoff'

const bounds = { first: 100, most: 2000 }

test('doubles from the first delay to the longest', () => {
  expect([1, 2, 3, 4, 5, 6, 7, 1000].map((attempt) => backoffDelay(attempt, bounds, () => 1))).toEqual([
    100, 200, 400, 800, 1600, 2000, 2000, 2000,
  ])
})

test('is random, between half the delay and all of it', () => {
  expect(backoffDelay(1, bounds, () => 0)).toBe(50)
  expect(backoffDelay(9, bounds, () => 0)).toBe(1000)
})
