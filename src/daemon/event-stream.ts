/** Events as lines of JSON over HTTP. Whoever reads too slowly gets fewer, and is told how many fewer. */
import type { ServerResponse } from 'node:http'
import { type EventLog, lostEvents, type OverlayEvent } from './events'

/** Bytes that wait for one reader; as much as a reader may fall behind. */
const MOST_WAITING = 1024 * 1024

const line = (event: OverlayEvent): string => `${JSON.stringify(event)}\n`

/**
 * Writes what is kept and, where that is asked for, each event from then on, until the reader goes away.
 * @param live whether to go on; nothing is missing or told twice between the two
 */
export function streamEvents(events: EventLog, response: ServerResponse, live: boolean): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  // With nothing to tell yet a reader knows by the header that it is listened to.
  response.flushHeaders()
  response.write(events.past().map(line).join(''))
  if (!live) {
    response.end()
    return
  }
  let dropped = 0
  const tellDropped = (): void => {
    const told = lostEvents(dropped, 'came faster than they were read, and are left out')
    dropped = 0
    for (const event of told) response.write(line(event))
  }
  const stop = events.follow((event) => {
    if (response.writableLength > MOST_WAITING) {
      dropped += 1
      return
    }
    tellDropped()
    response.write(line(event))
  })
  response.on('drain', tellDropped)
  response.on('close', stop)
}
