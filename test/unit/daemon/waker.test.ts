import { getEventListeners } from 'node:events'
import { Waker } from '../../../src/daemon/waker'

const never = new AbortController().signal

test('a sleep ends at its time, when woken, and when the signal fires', async () => {
  const waker = new Waker()
  await waker.sleep(1, never)
  const woken = waker.sleep(Number.POSITIVE_INFINITY, never)
  waker.wake()
  await woken
  const stop = new AbortController()
  const aborted = waker.sleep(Number.POSITIVE_INFINITY, stop.signal)
  stop.abort()
  await aborted
  await waker.sleep(Number.POSITIVE_INFINITY, stop.signal)
})

test('being woken before the sleep counts for one sleep', async () => {
  const waker = new Waker()
  waker.wake()
  await waker.sleep(Number.POSITIVE_INFINITY, never)
  let slept = false
  const next = waker.sleep(Number.POSITIVE_INFINITY, never).then(() => {
    slept = true
  })
  await new Promise(setImmediate)
  expect(slept).toBe(false)
  waker.wake()
  await next
})

test('sleeping leaves nothing behind on the signal', async () => {
  const waker = new Waker()
  for (let i = 0; i < 20; i++) await waker.sleep(1, never)
  expect(getEventListeners(never, 'abort')).toHaveLength(0)
})
