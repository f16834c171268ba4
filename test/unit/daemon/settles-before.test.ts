import { settlesBefore } from '../../../src/daemon/settles-before'

const ever = new AbortController().signal
const soon = () => performance.now() + 5
const later = () => performance.now() + 60_000
const never = new Promise<never>(() => undefined)

test('what settles in time, well or badly, has settled', async () => {
  expect(await settlesBefore(Promise.resolve(), later(), ever)).toBe(true)
  expect(await settlesBefore(Promise.reject(new Error('no')), later(), ever)).toBe(true)
  expect(await settlesBefore(Promise.resolve(), 0, ever)).toBe(true)
})

test('what does not has not', async () => {
  expect(await settlesBefore(never, soon(), ever)).toBe(false)
  expect(await settlesBefore(never, 0, ever)).toBe(false)
})

test('a signal ends the wait', async () => {
  expect(await settlesBefore(never, later(), AbortSignal.timeout(5))).toBe(true)
})
