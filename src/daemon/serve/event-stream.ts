/**
 * Streams events as lines of JSON over HTTP. A reader that is too slow misses events, and receives their
 * number.
 */
import type { ServerResponse } from 'node:http'
import type { OverlayEvent } from '../../api/events'
import { toJson } from '../../model/printable'
import { type EventLog, lostEvents } from '../tell/events'

/** Most bytes that wait for one reader. Beyond that its events are dropped. */
const MOST_WAITING = 1024 * 1024

const line = (event: OverlayEvent): string => `${toJson(event)}\n`

/**
 * Writes the kept events and, if asked for, each further event until the reader closes the connection.
 * @param live whether to continue after the kept events; no event is missing or repeated between the two
 */
export function streamEvents(events: EventLog, response: ServerResponse, live: boolean): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  // Sent now, so that a reader that follows knows that it is connected even if there are no events yet.
  response.flushHeaders()
  response.write(events.past().map(line).join(''))
  if (!live) {
    response.end()
    return
  }
  let dropped = 0
  const writeDropped = (): void => {
    const notices = lostEvents(dropped, 'were dropped, because the reader was too slow')
    dropped = 0
    for (const event of notices) response.write(line(event))
  }
  const stop = events.follow((event) => {
    if (response.writableLength > MOST_WAITING) {
      dropped += 1
      return
    }
    writeDropped()
    response.write(line(event))
  })
  response.on('drain', writeDropped)
  response.on('close', stop)
}
