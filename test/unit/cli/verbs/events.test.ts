import { Readable } from 'node:stream'
import { EVENT_KINDS, EVENTS_LOST, type OverlayEvent } from '../../../../src/api/events'
import { eventFilter, readEvents, renderEvent } from '../../../../src/cli/verbs/events'
import { UsageError } from '../../../../src/options/usage-error'

const NOW = Date.parse('2026-01-31T12:00:00Z')

const event = (fields: Partial<OverlayEvent> = {}): OverlayEvent => ({
  seq: 1,
  time: '2026-01-31T11:55:00.123Z',
  level: 'warn',
  kind: 'peer-rejected',
  about: ['10.5.2.0/24'],
  text: 'peer rejected: because',
  ...fields,
})

describe('a line for people', () => {
  test('is plain without a terminal, in aligned columns', () => {
    const [one, other] = [event(), event({ kind: 'ready' })].map((each) => renderEvent(each, false))
    expect(one).toMatch(/^2026-01-31T11:55:00\.123Z {2}peer-rejected +peer rejected: because$/)
    expect(other?.indexOf('peer rejected')).toBe(one?.indexOf('peer rejected'))
  })

  test('is coloured by its level, and fits into the width', () => {
    for (const width of [60, 80, 120]) {
      const lines = renderEvent(event({ text: 'many words '.repeat(20) }), false, width).split('\n')
      expect(lines.length).toBeGreaterThan(2)
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width)
    }
    expect(renderEvent(event({ level: 'error' }), true)).toContain('\u001b[31m')
    expect(renderEvent(event(), true)).toContain('\u001b[33m')
  })

  test('has no control characters, whatever the event contains', () => {
    const line = renderEvent(event({ text: 'a\u001b[2J\u009b31m\nb' }), false)
    expect(line).toContain('a\\x1b[2J\\x9b31m\\x0ab')
    expect(line).not.toMatch(/\p{Cc}/u)
  })
})

describe('the filter of events', () => {
  const asks = (fields: { since?: string; kind?: string[]; peer?: string }) =>
    eventFilter({ since: '', kind: [], peer: '', ...fields }, NOW)

  test.each([
    ['4m', false],
    ['299s', false],
    ['301s', true],
    ['1h', true],
    ['1d', true],
  ])('--since=%s', (since, wanted) => expect(asks({ since })(event())).toBe(wanted))

  test.each([
    [['peer-rejected'], true],
    [['ready', 'peer-rejected'], true],
    [['ready,peer-rejected'], true],
    [['ready'], false],
  ])('--kind=%s', (kind, wanted) => expect(asks({ kind })(event())).toBe(wanted))

  test.each([
    ['10.5.2.0/24', true],
    ['10.5.2.0', true],
    ['10.5.2.7', true],
    ['10.5.3.7', false],
    ['fd00::7', false],
    ['10.5.2', false],
    ['0.5.2.0/24', false],
  ])('--peer=%s', (peer, wanted) => expect(asks({ peer })(event())).toBe(wanted))

  test('--peer=10.5.240.7 that the host announces', () => {
    const asked = { since: '', kind: [], peer: '10.5.240.7' }
    expect(eventFilter(asked, NOW, ['10.5.2.0/24'])(event())).toBe(true)
    expect(eventFilter(asked, NOW, ['10.5.9.0/24'])(event())).toBe(false)
    expect(eventFilter(asked, NOW)(event({ kind: 'prefix-moved', about: ['10.5.240.0/28'] }))).toBe(true)
  })

  test('passes notices of lost events of the requested kinds', () => {
    const lost = event({ kind: EVENTS_LOST, about: ['peer-joined'] })
    expect(asks({ kind: ['peer-joined'] })(lost)).toBe(true)
    expect(asks({ peer: '10.5.9.0/24' })(lost)).toBe(true)
    expect(asks({ kind: ['ready'] })(lost)).toBe(false)
    expect(asks({ kind: ['ready'] })(event({ kind: EVENTS_LOST, about: [] }))).toBe(true)
  })

  test.each(['10', 'm', '10 m', '-1m', '1w', '1e3s'])('--since=%s is refused', (since) =>
    expect(() => asks({ since })).toThrow(UsageError),
  )

  test('a kind that does not exist is refused, and the others are listed', () => {
    expect(() => asks({ kind: ['peer-jonied'] })).toThrow(EVENT_KINDS.join(', '))
  })
})

describe('reading events', () => {
  const read = async (...chunks: string[]): Promise<OverlayEvent[]> => {
    const events: OverlayEvent[] = []
    for await (const each of readEvents(Readable.from(chunks.map((chunk) => Buffer.from(chunk)))))
      events.push(each)
    return events
  }

  test('reads lines that arrive in pieces', async () => {
    const text = `${JSON.stringify(event())}\n${JSON.stringify(event({ seq: 2 }))}\n`
    expect(await read(text.slice(0, 20), text.slice(20, 150), text.slice(150))).toEqual([
      event(),
      event({ seq: 2 }),
    ])
  })

  test.each(['{}\n', 'nonsense\n', `${JSON.stringify({ ...event(), kind: 'other' })}\n`, 'x'.repeat(70_000)])(
    'refuses a line that is not an event: %.20s',
    (text) => expect(read(text)).rejects.toThrow('this overlayctl does not understand'),
  )
})
