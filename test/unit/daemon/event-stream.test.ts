/** The stream of events to one reader, over a real socket. */
import { createServer, get, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { readEvents } from '../../../src/cli/events'
import { streamEvents } from '../../../src/daemon/event-stream'
import { EVENTS_LOST, EventLog, MOST_OF_A_KIND, type OverlayEvent } from '../../../src/daemon/events'

// Forty thousand events go through a socket.
jest.setTimeout(60_000)

let log: EventLog
let server: Server
/** The answer under way. */
let writing: Promise<unknown>

beforeEach(async () => {
  log = new EventLog()
  let begun = (): void => {}
  writing = new Promise<void>((resolve) => {
    begun = resolve
  })
  server = createServer((request, response) => {
    streamEvents(log, response, request.url === '/live')
    begun()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(resolve))
})

const open = (path: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const { port } = server.address() as AddressInfo
    get({ port, path, agent: false }, resolve).on('error', reject)
  })

const record = (text: string): void => log.record('info', text, { kind: 'kernel-retry' })

test('what is kept, and an end', async () => {
  record('a')
  record('b')
  const events: OverlayEvent[] = []
  for await (const event of readEvents(await open('/past'))) events.push(event)
  expect(events.map(({ text }) => text)).toEqual(['a', 'b'])
})

test('what is kept, then what comes, without a gap; a reader that goes is forgotten', async () => {
  record('before')
  const response = await open('/live')
  await writing
  record('after')
  const seen: string[] = []
  for await (const { text } of readEvents(response)) {
    seen.push(text)
    if (seen.length === 2) break
  }
  expect(seen).toEqual(['before', 'after'])
})

test('a reader that reads nothing costs a bounded amount, and is told how much it missed', async () => {
  const response = await open('/live')
  await writing
  response.pause()
  const COUNT = 40_000
  for (let i = 0; i < COUNT; i += 1) record('x'.repeat(500))
  // What it gets in the end: what fitted, and how many did not.
  const told = { events: 0, lost: 0 }
  const end = `the last of ${COUNT}`
  for await (const { kind, text } of readEvents(response)) {
    if (kind === EVENTS_LOST) {
      told.lost += Number(/\d+/.exec(text)?.[0])
      record(end)
    } else told.events += 1
    if (text === end) break
  }
  expect(told.lost).toBeGreaterThan(COUNT / 2)
  expect(told.events + told.lost).toBe(COUNT + 1)
  expect(log.past()).toHaveLength(MOST_OF_A_KIND + 1)
})
