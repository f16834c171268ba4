import { LineLimits } from '../../../../src/daemon/tell/line-limit'

const admitted = (limits: LineLimits, kind: string, from: number, to: number, step: number): number => {
  let count = 0
  for (let now = from; now < to; now += step) if (limits.admit(kind, false, now) !== undefined) count += 1
  return count
}

test('twenty lines at once, then one in thirty seconds, and the rest is counted', () => {
  const limits = new LineLimits()
  expect(admitted(limits, 'a', 0, 50, 1)).toBe(20)
  expect(limits.omitted('a')).toBe(30)
  expect(limits.admit('a', false, 29_000)).toBeUndefined()
  expect(limits.delay('a', 29_000)).toBeLessThanOrEqual(1000)
  expect(limits.admit('a', false, 30_000)).toEqual({ omitted: 31 })
  expect(limits.admit('a', false, 30_001)).toBeUndefined()
})

test('a flood of one kind suppresses no line of another', () => {
  const limits = new LineLimits()
  admitted(limits, 'a', 0, 10_000, 1)
  expect(limits.admit('b', false, 10_000)).toEqual({ omitted: 0 })
})

test('the lines of one kind in a day are bounded', () => {
  const limits = new LineLimits()
  expect(admitted(limits, 'a', 0, 86_400_000, 1000)).toBeLessThan(3000)
})

test('after a quiet time a whole burst is logged again', () => {
  const limits = new LineLimits()
  admitted(limits, 'a', 0, 10_000, 1)
  expect(admitted(limits, 'a', 3_600_000, 3_600_100, 1)).toBe(20)
})

test('an unlimited number of kinds shares one budget', () => {
  const limits = new LineLimits()
  let count = 0
  for (let i = 0; i < 100_000; i++) if (limits.admit(`kind ${i}`, false, 0) !== undefined) count += 1
  expect(count).toBeLessThan(300)
})
