import {
  type Cause,
  looksForRepairs,
  readsElsewhere,
  Schedule,
  type Waiting,
  type Work,
} from '../../../../src/plan/reconcile/schedule'

const NEVER = Number.POSITIVE_INFINITY
const PERIOD = 60_000
/** A random value in the middle: periods are exact, delays are three quarters. */
const half = (): number => 0.5

const idle: Waiting = { hasDevice: true, hasScope: false, retryDue: NEVER, contestDue: NEVER }
const none = (until: number): Work => ({ kind: 'none', until })
const full: Work = { kind: 'full' }
const scope: Work = { kind: 'scope' }

const causesOf = (schedule: Schedule): Cause[] => [...schedule.causes].sort()

/** Makes a full pass at the given time, during which nothing changes. @returns its causes */
function pass(schedule: Schedule, now: number, outcome: { took?: number; contested?: true } = {}): Cause[] {
  schedule.begin(now)
  schedule.look()
  expect(schedule.rest()).toBe(true)
  const causes = causesOf(schedule)
  const { took = 1, contested } = outcome
  schedule.succeeded(now + took, { took, isContested: contested === true, settleDue: NEVER })
  return causes
}

/** After a first pass at time 0 that took 1 ms: hints cause no pass before 51. */
function started(): Schedule {
  const schedule = new Schedule(PERIOD, half)
  expect(pass(schedule, 0)).toEqual(['start'])
  return schedule
}

test('the first pass is over everything, with and without a device', () => {
  for (const hasDevice of [false, true])
    expect(new Schedule(PERIOD, half).next(0, { ...idle, hasDevice, hasScope: true })).toEqual(full)
})

describe('after a pass that succeeded', () => {
  test.each<[what: string, waiting: Partial<Waiting>, now: number, work: Work]>([
    ['nothing is done until the period ends', {}, 100, none(PERIOD)],
    ['the period ends', {}, PERIOD, full],
    ['peers that changed are done at once', { hasScope: true }, 2, scope],
    ['a retry waits until it is due', { retryDue: 500 }, 499, none(500)],
    ['a retry that is due is a pass over its objects', { retryDue: 500 }, 500, scope],
    ['a contested object is repaired by a full pass', { contestDue: 500 }, 500, full],
    ['a contested object waits until it is due', { contestDue: 500 }, 499, none(500)],
    ['a contested object waits for the minimum time between two passes', { contestDue: 2 }, 50, none(51)],
    [
      'without a device only a full pass is possible',
      { hasDevice: false, hasScope: true },
      100,
      none(PERIOD),
    ],
    [
      'without a device no retry is possible',
      { hasDevice: false, retryDue: 1, contestDue: 1 },
      100,
      none(PERIOD),
    ],
  ])('%s', (_what, waiting, now, work) => {
    expect(started().next(now, { ...idle, ...waiting })).toEqual(work)
  })

  test('a period has jitter, so that hosts do not all compare at once', () => {
    for (const [chance, factor] of [
      [0, 0.9],
      [1, 1.1],
    ] as const) {
      const schedule = new Schedule(PERIOD, () => chance)
      pass(schedule, 0)
      expect(schedule.next(1, idle)).toEqual(none(PERIOD * factor))
    }
  })
})

describe('a hint', () => {
  test('waits 10 ms for others of the same change', () => {
    const schedule = started()
    schedule.hint('hint', 1000, false)
    schedule.hint('hint', 1005, false)
    expect(schedule.next(1009, idle)).toEqual(none(1010))
    expect(schedule.next(1010, idle)).toEqual(full)
    expect(pass(schedule, 1010)).toEqual(['hint'])
    expect(schedule.next(2000, idle)).toEqual(none(1010 + PERIOD))
  })

  test.each<[took: number, contested: boolean, distance: number]>([
    [1, false, 50],
    [20, false, 80],
    [1000, false, 500],
    [1, true, 200],
    [30, true, 300],
    [1000, true, 700],
  ])('after a pass of %d ms (contested: %s) waits %d ms', (took, contested, distance) => {
    const schedule = started()
    pass(schedule, 1000, { took, ...(contested && { contested }) })
    schedule.hint('hint', 1000 + took, false)
    expect(schedule.next(1000 + took, idle)).toEqual(none(1000 + took + distance))
  })

  test('before the objects are read is covered by the pass', () => {
    const schedule = started()
    schedule.begin(1000)
    schedule.look()
    schedule.hint('overrun', 1001, false)
    expect(schedule.rest()).toBe(true)
    expect(causesOf(schedule)).toEqual(['contest', 'overrun'])
    schedule.succeeded(1002, { took: 2, isContested: false, settleDue: NEVER })
    expect(schedule.next(1500, idle)).toEqual(none(1000 + PERIOD))
  })

  test('after the objects are read causes another pass', () => {
    const schedule = started()
    schedule.hint('hint', 1000, false)
    schedule.begin(1010)
    schedule.look()
    schedule.rest()
    schedule.hint('hint', 1011, false)
    schedule.succeeded(1012, { took: 2, isContested: false, settleDue: NEVER })
    expect(schedule.next(1012, idle)).toEqual(none(1062))
    expect(pass(schedule, 1062)).toEqual(['hint'])
  })

  test('about the device causes another comparison of it, and another pass if hints go on', () => {
    const schedule = started()
    schedule.hint('hint', 1000, true)
    schedule.begin(1010)
    for (let look = 1; look <= 3; look += 1) {
      schedule.look()
      schedule.hint('hint', 1010 + look, true)
      expect(schedule.rest()).toBe(false)
    }
    schedule.succeeded(1020, { took: 10, isContested: false, settleDue: NEVER })
    expect(schedule.next(1020, idle)).toEqual(none(1070))
  })
})

describe('a request during a pass', () => {
  test.each(['confirmed', 'retarget'] as const)('is a cause of the next pass: %s', (cause) => {
    const schedule = started()
    schedule.hint('hint', 1000, false)
    schedule.begin(1010)
    schedule.look()
    schedule.request(cause, 1011)
    schedule.rest()
    expect(causesOf(schedule)).toEqual(['hint'])
    schedule.succeeded(1012, { took: 2, isContested: false, settleDue: NEVER })
    expect(schedule.next(1062, idle)).toEqual(full)
    expect(pass(schedule, 1062)).toEqual([cause])
    expect(pass(schedule, 5000)).not.toContain(cause)
  })
})

test('a request causes a pass at once, regardless of the minimum time between two passes', () => {
  const schedule = started()
  schedule.request('retarget', 2)
  expect(schedule.next(2, idle)).toEqual(full)
})

describe('a pass that failed', () => {
  test('is repeated with backoff up to 10 s, and keeps its causes', () => {
    const schedule = new Schedule(PERIOD, half)
    let now = 0
    const delays: number[] = []
    for (let failure = 1; failure <= 8; failure += 1) {
      schedule.begin(now)
      if (failure === 2) schedule.request('confirmed', now)
      schedule.hint('place', now, true)
      schedule.failed(now)
      expect(schedule.failures).toBe(failure)
      const work = schedule.next(now, { ...idle, hasDevice: false, hasScope: true })
      if (work.kind !== 'none') throw new Error(`${work.kind} at once`)
      delays.push(work.until - now)
      now = work.until
      expect(schedule.next(now, { ...idle, hasDevice: false })).toEqual(full)
    }
    expect(delays).toEqual([150, 300, 600, 1200, 2400, 4800, 7500, 7500])
    expect(pass(schedule, now)).toEqual(['confirmed', 'failure', 'place', 'start'])
    expect(schedule.failures).toBe(0)
    expect(pass(schedule, now + PERIOD)).toEqual(['period'])
  })

  test('is repeated earlier for another target, but not for a hint', () => {
    const schedule = started()
    schedule.begin(1000)
    schedule.failed(1000)
    schedule.hint('hint', 1001, true)
    expect(schedule.next(1002, { ...idle, hasDevice: false })).toEqual(none(1150))
    schedule.request('retarget', 1003)
    expect(schedule.next(1003, { ...idle, hasDevice: false })).toEqual(full)
  })
})

test('a contest that may be over is checked before the period ends', () => {
  const schedule = started()
  schedule.begin(1000)
  schedule.rest()
  schedule.succeeded(1001, { took: 1, isContested: true, settleDue: 30_000 })
  expect(schedule.next(1001, idle)).toEqual(none(30_000))
  expect(pass(schedule, 30_000)).toEqual(['period'])
})

test.each<[causes: Cause[], repairs: boolean, elsewhere: boolean]>([
  [['start'], false, true],
  [['retarget', 'hint'], false, true],
  [['confirmed', 'failure'], false, true],
  [['hint'], true, false],
  [['hint', 'place'], true, true],
  [['overrun'], true, true],
  [['period'], true, true],
  [['contest'], true, true],
  [['failure'], true, true],
])('%j: reports repairs: %s, reads other links: %s', (causes, repairs, elsewhere) => {
  expect([looksForRepairs(new Set(causes)), readsElsewhere(new Set(causes))]).toEqual([repairs, elsewhere])
})
