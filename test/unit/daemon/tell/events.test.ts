import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { EVENT_KINDS, EVENTS_LOST, eventSchema, type OverlayEvent } from '../../../../src/api/events'
import { EventLog, MOST_OF_A_KIND } from '../../../../src/daemon/tell/events'
import { createLogger } from '../../../../src/daemon/tell/logger'
import { binaryText } from '../../support/text'

const join = (log: EventLog, count: number): void => {
  for (let i = 0; i < count; i += 1) log.record('debug', `peer joined: ${i}`, { kind: 'peer-joined' })
}

describe('the kept events', () => {
  test('follow the schema, in order', () => {
    const log = new EventLog()
    log.record('info', 'ready: 10.5.1.0/24', { kind: 'ready' })
    log.record('warn', 'cannot', { kind: 'kernel-refusal', about: ['10.5.2.0/24'], errno: 'EPERM' })
    expect(log.past().map((event) => eventSchema.parse(event))).toEqual([
      {
        seq: 1,
        time: expect.any(String),
        level: 'info',
        kind: 'ready',
        about: [],
        text: 'ready: 10.5.1.0/24',
      },
      {
        seq: 2,
        time: expect.any(String),
        level: 'warn',
        kind: 'kernel-refusal',
        about: ['10.5.2.0/24'],
        errno: 'EPERM',
        text: 'cannot',
      },
    ])
  })

  test('ten thousand joins displace older joins, and nothing else', () => {
    const log = new EventLog()
    log.record('error', 'lease: CONFLICT', { kind: 'lease-conflict' })
    join(log, 10_000)
    const [lost, conflict, ...joins] = log.past()
    expect(lost).toMatchObject({ kind: EVENTS_LOST, seq: 0, about: ['peer-joined'] })
    expect(lost?.text).toContain(`${10_000 - MOST_OF_A_KIND} older ones`)
    expect(conflict).toMatchObject({ kind: 'lease-conflict', seq: 1 })
    expect(joins.map(({ text }) => text)).toEqual(
      Array.from({ length: MOST_OF_A_KIND }, (_, i) => `peer joined: ${10_000 - MOST_OF_A_KIND + i}`),
    )
    expect(log.count('peer-joined')).toBe(10_000)
  })

  test('are bounded in length and contain no control character, whatever is recorded', () => {
    const happening = fc.record({
      kind: fc.constantFrom(...EVENT_KINDS),
      text: binaryText({ maxLength: 2000 }),
      about: fc.array(binaryText({ maxLength: 200 }), { maxLength: 40 }),
    })
    fc.assert(
      fc.property(fc.array(happening, { maxLength: 50 }), (all) => {
        const log = new EventLog()
        for (const { text, ...what } of all) log.record('info', text, what)
        for (const event of log.past()) {
          eventSchema.parse(event)
          expect(event.text.length).toBeLessThanOrEqual(600)
          expect(event.about.length).toBeLessThanOrEqual(16)
          expect([event.text, ...event.about].join('')).not.toMatch(/\p{Cc}/u)
        }
        expect(log.past()).toHaveLength(all.length)
      }),
    )
  })

  test('are at most 200 of each kind, and a notice about the rest', () => {
    const log = new EventLog()
    for (const kind of EVENT_KINDS)
      for (let i = 0; i <= MOST_OF_A_KIND; i += 1) log.record('info', 'x', { kind })
    const past = log.past()
    expect(past.filter(({ kind }) => kind !== EVENTS_LOST)).toHaveLength(EVENT_KINDS.length * MOST_OF_A_KIND)
    expect(past.filter(({ kind }) => kind === EVENTS_LOST)).toHaveLength(EVENT_KINDS.length)
  })
})

test('a follower gets each event once, until it stops following', () => {
  const log = new EventLog()
  const received: OverlayEvent[] = []
  const stop = log.follow((event) => received.push(event))
  join(log, 2)
  stop()
  join(log, 1)
  expect(received.map(({ seq }) => seq)).toEqual([1, 2])
})

test('tallies are summed by kind and label', () => {
  const log = new EventLog()
  log.record('info', 'put right', { kind: 'kernel-repair', tally: { route: 2, neighbour: 1 } })
  log.record('info', 'put right', { kind: 'kernel-repair', tally: { route: 1 } })
  const tally = log.tally('kernel-repair')
  expect([tally.of('route'), tally.of('neighbour'), tally.of('fdb')]).toEqual([3, 1, 0])
})

describe('the logger', () => {
  const logger = (verbosity: number) => {
    const [stream, events] = [new PassThrough(), new EventLog()]
    return { log: createLogger(verbosity, { underJournald: true, stream }, events), events, stream }
  }
  const lines = (stream: PassThrough): string[] =>
    String(stream.read() ?? '')
      .split('\n')
      .filter(Boolean)

  test('writes one line, and records an event if the line has a kind', () => {
    const { log, events, stream } = logger(0)
    log.warn('lease: gone', { kind: 'lease-lost', about: ['10.5.1.0/24'] })
    log.info('no event')
    expect(lines(stream)).toEqual(['warn  lease: gone', 'info  no event'])
    expect(events.past()).toMatchObject([{ kind: 'lease-lost', level: 'warn', text: 'lease: gone' }])
  })

  test('records an event even if the line is too verbose to be written', () => {
    const { log, events, stream } = logger(0)
    log.debug('peer joined', { kind: 'peer-joined' })
    expect(lines(stream)).toEqual([])
    expect(events.count('peer-joined')).toBe(1)
  })

  test('omits lines of a flood of rejected leases, and counts every one', () => {
    const { log, events, stream } = logger(0)
    for (let i = 0; i < 1000; i += 1) log.warn(`peer rejected: ${i}`, { kind: 'peer-rejected' })
    expect(lines(stream)).toHaveLength(20)
    expect(events.count('peer-rejected')).toBe(1000)
  })
})
