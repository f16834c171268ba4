import { LineLimit } from '../../../src/daemon/line-limit'

test('twenty lines a minute, and the rest is counted', () => {
  const limit = new LineLimit()
  const first = Array.from({ length: 50 }, (_, i) => limit.admit(i))
  expect(first.filter((left) => left === 0)).toHaveLength(20)
  expect(first.slice(20)).toEqual(Array(30).fill(undefined))
  expect([limit.admit(59_999), limit.admit(60_000), limit.admit(60_001)]).toEqual([undefined, 31, 0])
})
