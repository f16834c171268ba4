import { RecentRepairs } from '../../../../src/daemon/loop/recent-repairs'

beforeEach(() => {
  jest.useFakeTimers()
})
afterEach(() => {
  jest.useRealTimers()
})

test('five repairs within half a minute are contested, until the first of them is half a minute old', () => {
  const repairs = new RecentRepairs()
  for (let i = 0; i < 4; i++) repairs.add()
  expect(repairs.areContested).toBe(false)
  jest.advanceTimersByTime(10_000)
  repairs.add()
  expect(repairs.areContested).toBe(true)
  jest.advanceTimersByTime(19_999)
  expect(repairs.areContested).toBe(true)
  jest.advanceTimersByTime(1)
  expect(repairs.areContested).toBe(false)
})

test('repairs that are further apart are not contested', () => {
  const repairs = new RecentRepairs()
  for (let i = 0; i < 20; i++) {
    repairs.add()
    jest.advanceTimersByTime(7500)
    expect(repairs.areContested).toBe(false)
  }
})
