import { backoffMs } from '../../../src/etcd/backoff'

test('doubles from 100 ms to 2 s', () => {
  expect([1, 2, 3, 4, 5, 6, 7, 1000].map((attempt) => backoffMs(attempt, 1))).toEqual([
    100, 200, 400, 800, 1600, 2000, 2000, 2000,
  ])
})

test('is by chance between half and all of it', () => {
  expect(backoffMs(1, 0)).toBe(50)
  expect(backoffMs(9, 0)).toBe(1000)
})
