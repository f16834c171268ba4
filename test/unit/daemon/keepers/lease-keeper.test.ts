import { renewalDelay, renewInterval } from '../../../../src/daemon/keepers/lease-keeper'

test.each([
  [1, 60],
  [60, 60],
  [1380, 60],
  [1410, 30],
  [1439, 1],
])('a margin of %d minutes: a renewal every %d minutes', (margin, minutes) => {
  expect(renewInterval(margin)).toBe(minutes * 60_000)
})

test('hosts that started together renew at different times, never later than the interval', () => {
  expect(renewalDelay(3_600_000, () => 0)).toBe(3_600_000)
  expect(renewalDelay(3_600_000, () => 0.5)).toBe(3_150_000)
  expect(renewalDelay(3_600_000, () => 0.999_999)).toBeGreaterThan(2_699_999)
})
