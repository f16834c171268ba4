import { NextAttempt } from '../../../../src/daemon/start/next-attempt'

beforeEach(() => jest.useFakeTimers())
afterEach(() => jest.useRealTimers())

test('a listing ends after the requested time', () => {
  const next = new NextAttempt()
  const listing = next.begin()
  next.after(1000)
  jest.advanceTimersByTime(999)
  expect(listing.aborted).toBe(false)
  jest.advanceTimersByTime(1)
  expect(listing.aborted).toBe(true)
})

test('many changes of the host end a listing once, soon after the first change', () => {
  const next = new NextAttempt()
  const listing = next.begin()
  for (let i = 0; i < 100; i++) next.hostChanged()
  expect(jest.getTimerCount()).toBe(1)
  jest.advanceTimersByTime(500)
  expect(listing.aborted).toBe(true)
})

test('requests made during one listing do not end the next one', () => {
  const next = new NextAttempt()
  const first = next.begin()
  next.after(1000)
  next.hostChanged()
  const second = next.begin()
  expect(first.aborted).toBe(true)
  jest.advanceTimersByTime(10_000)
  expect(second.aborted).toBe(false)
  next.hostChanged()
  jest.advanceTimersByTime(500)
  expect(second.aborted).toBe(true)
})
