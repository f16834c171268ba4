import { getEventListeners } from 'node:events'
import { Alarm } from '../../../../src/daemon/loop/alarm'

const never = new AbortController().signal

test('a sleep ends at its time, when woken, and when the signal fires', async () => {
  const waker = new Alarm()
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

test('a wake before a sleep ends that one sleep', async () => {
  const waker = new Alarm()
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

test('a sleep leaves no listener on the signal', async () => {
  const waker = new Alarm()
  for (let i = 0; i < 20; i++) await waker.sleep(1, never)
  expect(getEventListeners(never, 'abort')).toHaveLength(0)
})
