import { settlesBefore } from '../../../../src/daemon/loop/settles-before'

const ever = new AbortController().signal
const soon = () => performance.now() + 5
const later = () => performance.now() + 60_000
const never = new Promise<never>(() => undefined)

test('a promise that resolves or rejects in time has settled', async () => {
  expect(await settlesBefore(Promise.resolve(), later(), ever)).toBe(true)
  expect(await settlesBefore(Promise.reject(new Error('no')), later(), ever)).toBe(true)
  expect(await settlesBefore(Promise.resolve(), 0, ever)).toBe(true)
})

test('a promise that is too late has not settled', async () => {
  expect(await settlesBefore(never, soon(), ever)).toBe(false)
  expect(await settlesBefore(never, 0, ever)).toBe(false)
})

test('a signal ends the wait', async () => {
  expect(await settlesBefore(never, later(), AbortSignal.timeout(5))).toBe(true)
})
