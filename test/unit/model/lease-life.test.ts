import { isAtRisk, lifeLeft, wasRenewed } from '../../../src/model/lease-life'
import type { Moment } from '../../../src/model/moment'

const DAY = 86_400
/** Renewed one hour after boot, when the wall clock was at 1,000,000 s. */
const at: Moment = { bootId: 'a', uptimeSeconds: 3600, wallSeconds: 1_000_000 }
const renewal = { at, ttlSeconds: DAY }
const now = (fields: Partial<Moment>): Moment => ({ ...at, ...fields })
const rebooted = (elapsed: number, uptimeSeconds: number): Moment => ({
  bootId: 'b',
  uptimeSeconds,
  wallSeconds: at.wallSeconds + elapsed,
})

describe('within one boot only the time since boot counts', () => {
  test.each<[string, Moment, number | 'doubtful']>([
    ['the same TTL at once', at, DAY - 60],
    ['an hour later', now({ uptimeSeconds: 7200 }), DAY - 3660],
    ['the wall clock set forward by a year', now({ wallSeconds: at.wallSeconds + 365 * DAY }), DAY - 60],
    ['the wall clock set back to the epoch', now({ wallSeconds: 0 }), DAY - 60],
    ['a second before the margin', now({ uptimeSeconds: 3600 + DAY - 61 }), 1],
    ['at the margin', now({ uptimeSeconds: 3600 + DAY - 60 }), 'doubtful'],
    [
      'the wall clock set back, and a day later',
      now({ uptimeSeconds: 3600 + DAY, wallSeconds: 0 }),
      'doubtful',
    ],
    ['the time since boot went backwards', now({ uptimeSeconds: 3599 }), 'doubtful'],
  ])('%s', (_, moment, left) => {
    const life = lifeLeft(renewal, moment)
    expect(life.kind === 'alive' ? life.secondsLeft : life.kind).toBe(left)
  })
})

describe('across a reboot the wall clock counts, with a margin for its errors', () => {
  test.each<[string, Moment, number | 'doubtful']>([
    ['two minutes later', rebooted(120, 30), DAY - 420],
    ['a second before the margin', rebooted(DAY - 301, 30), 1],
    ['at the margin', rebooted(DAY - 300, 30), 'doubtful'],
    ['a week later', rebooted(7 * DAY, 30), 'doubtful'],
    ['the clock is behind', rebooted(-1, 30), 'doubtful'],
    ['the clock has no battery', { bootId: 'b', uptimeSeconds: 30, wallSeconds: 0 }, 'doubtful'],
    ['the uptime is longer than the time that passed by the clock', rebooted(60, 90), 'doubtful'],
    ['suspended for most of the time', rebooted(2 * DAY, 2 * DAY - 60), 'doubtful'],
  ])('%s', (_, moment, left) => {
    const life = lifeLeft(renewal, moment)
    expect(life.kind === 'alive' ? life.secondsLeft : life.kind).toBe(left)
  })
})

test('a lease that is shorter than the margin is doubtful at once', () => {
  expect(lifeLeft({ at, ttlSeconds: 30 }, at)).toMatchObject({
    kind: 'doubtful',
    reason: expect.stringContaining('30 s'),
  })
})

describe('a renewal between two readings', () => {
  const reading = (ttlSeconds: number, askedAt: number, answeredAt = askedAt + 5) => ({
    ttlSeconds,
    askedAt,
    answeredAt,
  })

  test.each([
    ['of a lease that was renewed just before', DAY - 1, 3000, DAY - 1],
    ['of one that is an hour old', DAY - 3601, 3000, DAY - 1],
    ['seen late', DAY - 1, 5500, DAY - 3],
  ])('%s is detected', (_, before, later, after) => {
    expect(wasRenewed(reading(before, 0), reading(after, later))).toBe(true)
  })

  test.each([
    ['a TTL that was rounded up', 100, 3000, 98],
    ['a TTL after a slow first answer', 100, 3000, 97],
    ['the same TTL at once', 100, 10, 100],
    ['the expected TTL much later', 100, 50_000, 51],
  ])('%s is no renewal', (_, before, later, after) => {
    expect(wasRenewed(reading(before, 0), reading(after, later))).toBe(false)
  })

  test('a TTL that a slow call can explain is no renewal', () => {
    expect(wasRenewed(reading(100, 0, 2900), reading(100, 3000))).toBe(false)
  })

  test('a TTL that the time alone explains is no renewal', () => {
    const wrong: unknown[] = []
    for (let left = 5; left < 6; left += 0.01) {
      for (let elapsed = 0; elapsed < 4; elapsed += 0.05) {
        const before = { ttlSeconds: Math.floor(left), askedAt: 0, answeredAt: 0 }
        const after = {
          ttlSeconds: Math.floor(left - elapsed),
          askedAt: elapsed * 1000,
          answeredAt: elapsed * 1000,
        }
        if (wasRenewed(before, after)) wrong.push([before, after])
      }
    }
    expect(wrong).toEqual([])
  })
})

test.each<[number | undefined, number, boolean]>([
  [undefined, 60, false],
  [86_400, 60, false],
  // Just before the renewal.
  [3_599, 60, false],
  [1_799, 60, true],
  [0, 1, true],
  [86_339, 1439, false],
])('with %p s left and a margin of %i min it is at risk: %p', (left, margin, risk) => {
  expect(isAtRisk(left, margin)).toBe(risk)
})
