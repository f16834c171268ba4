import { aheadOf } from '../../../src/etcd/client/greeting'
import { readPing } from '../../../src/host/ping'
import { startTicks } from '../../../src/host/procfs'

test.each<[string, object]>([
  [
    '3 packets transmitted, 2 received, 33.3333% packet loss, time 111ms\nrtt min/avg/max/mdev = 0.017/0.032/0.056/0.016 ms',
    { sent: 3, received: 2, rttMs: 0.032 },
  ],
  ['3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 100ms', { sent: 3, received: 0 }],
  ['', { sent: 3, received: 0 }],
])('the summary of ping %#', (output, answer) => {
  expect(readPing(output, 3)).toEqual(answer)
})

test('the start time of a process whose name has brackets and blanks', () => {
  const fields = Array.from({ length: 40 }, (_, i) => i + 3).join(' ')
  expect(startTicks(`17 (a) b) ${fields}`)).toBe(22)
  expect(startTicks('')).toBeUndefined()
})

test('a clock in whole seconds agrees with ours within its precision', () => {
  const date = 'Thu, 01 Jan 2026 00:00:10 GMT'
  const at = (seconds: number) => Date.parse('2026-01-01T00:00:00Z') + seconds * 1000
  expect(aheadOf(date, at(10.9), at(10.95))).toBe(0)
  expect(aheadOf(date, at(0), at(1))).toBe(9)
  expect(aheadOf(date, at(21), at(22))).toBe(-10)
  expect(aheadOf(undefined, at(0), at(0))).toBeUndefined()
})
