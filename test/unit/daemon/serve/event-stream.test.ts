/** The stream of events to one reader, over a real socket. */
import { createServer, get, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { EVENTS_LOST, type OverlayEvent } from '../../../../src/api/events'
import { readEvents } from '../../../../src/cli/verbs/events'
import { streamEvents } from '../../../../src/daemon/serve/event-stream'
import { EventLog, MOST_OF_A_KIND } from '../../../../src/daemon/tell/events'
import { patient } from '../../../lab/patience'

// One test sends 40,000 events through a socket.
jest.setTimeout(patient(60_000))

let log: EventLog
let server: Server
/** Resolves when the answer has begun. */
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

test('without following, the kept events are sent and the answer ends', async () => {
  record('a')
  record('b')
  const events: OverlayEvent[] = []
  for await (const event of readEvents(await open('/past'))) events.push(event)
  expect(events.map(({ text }) => text)).toEqual(['a', 'b'])
})

test('with following, further events come without a gap, until the reader leaves', async () => {
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

test('a reader that does not read takes bounded memory, and learns how many events were dropped', async () => {
  const response = await open('/live')
  await writing
  response.pause()
  const COUNT = 40_000
  for (let i = 0; i < COUNT; i += 1) record('x'.repeat(500))
  // In the end the reader gets the events that fitted, and the number of the others.
  const received = { events: 0, lost: 0 }
  const end = `the last of ${COUNT}`
  for await (const { kind, text } of readEvents(response)) {
    if (kind === EVENTS_LOST) {
      received.lost += Number(/\d+/.exec(text)?.[0])
      record(end)
    } else received.events += 1
    if (text === end) break
  }
  expect(received.lost).toBeGreaterThan(COUNT / 2)
  expect(received.events + received.lost).toBe(COUNT + 1)
  expect(log.past()).toHaveLength(MOST_OF_A_KIND + 1)
})
