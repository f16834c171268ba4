import { renewInterval } from '../../../src/daemon/lease-keeper'

test.each([
  [1, 60],
  [60, 60],
  [1380, 60],
  [1410, 30],
  [1439, 1],
])('a margin of %d minutes: a renewal every %d minutes', (margin, minutes) => {
  expect(renewInterval(margin)).toBe(minutes * 60_000)
})
