/** The feed: one reader for all pages, and none without a page. */
import type { OverlayEvent } from '../../../../src/api/events'
import type { Status } from '../../../../src/api/status'
import type { PageEvent } from '../../../../src/cli/ui/document'
import { Feed, type News } from '../../../../src/cli/ui/feed'
import { OverlayError } from '../../../../src/model/errors'
import { Pending, waitFor } from '../../../lab/wait'
import { peer, statusWith } from './support'

const event = (seq: number): OverlayEvent => ({
  seq,
  time: '2026-11-29T08:00:00.000Z',
  level: 'info',
  kind: 'started',
  about: [],
  text: `event ${seq}\u0007`,
})

/** Milliseconds between two readings. */
const PERIOD = 50

/** A daemon that can be stopped, and that counts what it is asked. */
class Daemon {
  asked = 0
  daemonMs = 0
  followed = 0
  following = 0
  answer: Status | Error = statusWith([peer(1)])
  events: OverlayEvent[] | undefined = [event(1), event(2)]
  readonly feed = new Feed(
    {
      host: 'host1',
      status: async () => {
        this.asked++
        if (this.answer instanceof Error) throw this.answer
        return { status: this.answer, daemonMs: this.daemonMs }
      },
      events: async (signal) => {
        this.followed++
        const { events } = this
        return events && this.#stream(events, signal)
      },
    },
    { period: PERIOD, again: { first: PERIOD, most: PERIOD } },
  )

  async *#stream(events: readonly OverlayEvent[], signal: AbortSignal): AsyncGenerator<OverlayEvent> {
    this.following++
    try {
      yield* events
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve)
        this.end = () => resolve(undefined)
      })
    } finally {
      this.following--
    }
  }

  end = (): void => undefined
}

/** An open page. */
const open = (feed: Feed) => {
  const news: News[] = []
  return { news, close: feed.follow((each) => news.push(each)) }
}
const kinds = (news: readonly News[]) => [...new Set(news.map(({ kind }) => kind))]
const until = (what: string, holds: () => boolean) =>
  waitFor(what, () => holds() || new Pending('not yet'), { timeoutMs: 4000 })
const eventsOf = (news: readonly News[]): readonly PageEvent[] => {
  const events: PageEvent[] = []
  for (const each of news) {
    if (each.kind !== 'events') continue
    if (each.isAll) events.length = 0
    events.push(...each.events)
  }
  return events
}

/** The feed of a test that failed must not go on. */
const feeds: Feed[] = []
afterEach(() => {
  for (const feed of feeds.splice(0)) feed.close()
})
const start = (): Daemon => {
  const daemon = new Daemon()
  feeds.push(daemon.feed)
  return daemon
}

test('without a page nobody is asked; all pages share one reader; the last one ends it', async () => {
  const daemon = start()
  expect(daemon.asked + daemon.followed).toBe(0)
  const first = open(daemon.feed)
  await until(
    'page and events',
    () => eventsOf(first.news).length === 2 && kinds(first.news).includes('page'),
  )
  const second = open(daemon.feed)
  // Told at once, without a further question.
  expect(kinds(second.news)).toEqual(['page', 'events'])
  expect(eventsOf(second.news)).toEqual(eventsOf(first.news))
  expect(eventsOf(second.news)[0]?.text).toBe('event 1\\x07')
  expect([daemon.followed, daemon.following]).toEqual([1, 1])
  await until('a change', () => kinds(first.news).includes('change') && kinds(second.news).includes('change'))
  first.close()
  expect(daemon.following).toBe(1)
  second.close()
  await until('the end of following', () => daemon.following === 0)
  const { asked } = daemon
  const told = first.news.length + second.news.length
  // A page that opens later begins anew, beside nothing that is left of the earlier reader.
  const third = open(daemon.feed)
  await until('a new page', () => third.news.length > 0)
  expect(daemon.asked).toBeGreaterThan(asked)
  third.close()
  expect(first.news.length + second.news.length).toBe(told)
})

test('a daemon that hangs is silence with its reason, and the picture stays; then news come again', async () => {
  const daemon = start()
  const { news, close } = open(daemon.feed)
  await until('a page', () => kinds(news).includes('page'))
  daemon.answer = new OverlayError('control-socket', 'no answer within 5 s', 'look at its log')
  await until('silence', () => kinds(news).includes('silence'))
  // Events may come after it.
  expect(news.findLast(({ kind }) => kind === 'silence')).toEqual({
    kind: 'silence',
    why: 'no answer within 5 s; look at its log',
  })
  // A page that opens now is told both.
  const late = open(daemon.feed)
  expect(kinds(late.news)).toEqual(['page', 'events', 'silence'])
  daemon.answer = statusWith([peer(1), peer(2)])
  await until('the new host', () =>
    news.some((each) => each.kind === 'change' && each.change.rows.some(({ id }) => id === '10.5.2.0/24')),
  )
  late.close()
  close()
})

test('the events of a daemon that was started again take the place of those of the earlier one', async () => {
  const daemon = start()
  const { news, close } = open(daemon.feed)
  await until('events', () => eventsOf(news).length === 2)
  daemon.events = [event(7)]
  daemon.end()
  await until('other events', () => eventsOf(news).length === 1)
  expect(eventsOf(news)).toMatchObject([{ seq: 7 }])
  close()
})

test('other columns are a new page', async () => {
  const daemon = start()
  const { news, close } = open(daemon.feed)
  await until('a page', () => kinds(news).includes('page'))
  daemon.answer = statusWith([peer(1, { encryption: 'clear' })])
  await until('another page', () => news.filter(({ kind }) => kind === 'page').length === 2)
  close()
})

test('a daemon that takes long for an answer is asked more seldom', async () => {
  const [fast, slow] = [start(), start()]
  // 19 times as long as an answer, and so twenty periods.
  slow.daemonMs = (20 * PERIOD) / 19
  const pages = [open(fast.feed), open(slow.feed)]
  await until('two questions', () => slow.asked >= 2)
  expect(fast.asked).toBeGreaterThan(slow.asked * 2)
  for (const { close } of pages) close()
})
