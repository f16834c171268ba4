/** `overlayctl ui`: the hosts as a page in a browser, or as one file that needs no server. */
import { hostname } from 'node:os'
import type { Status } from '../../api/status'
import { askDaemon } from '../../client/daemon-socket'
import { readDaemonStatus } from '../../client/daemon-status'
import type { Settings } from '../../client/settings'
import { writeNewFile } from '../../host/new-file'
import { PRIVATE_MODE } from '../../host/private-file'
import { complain, print, writeBytes } from '../../host/streams'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import { readLocalStatus } from '../ask/local-status'
import { EXIT } from '../exit'
import { MOST_EVENTS, makeEvent, makePage, type PageEvent } from '../ui/document'
import { Feed, type FeedSources } from '../ui/feed'
import { makeToken } from '../ui/guard'
import { makeHtml } from '../ui/html'
import { parseListen, urlOf, warningsFor } from '../ui/listen'
import { servePage } from '../ui/server'
import { readEvents } from './events'

const STANDARD_OUTPUT = '-'
/** Milliseconds between two looks at etcd and the kernel while no daemon runs. */
const LOCAL_PERIOD = 5000

export interface UiFlags {
  /** `ADDRESS:PORT` */
  readonly listen: string
  /** A file that must not exist, `-` for standard output, or empty to serve. */
  readonly output: string
}

/**
 * Serves the page until SIGINT or SIGTERM, or writes a snapshot.
 * @returns the exit code: 0, however the host is
 * @throws {OverlayError} `ui-listen`, `ui-file`
 */
export async function runUi(settings: Settings, { listen, output }: UiFlags): Promise<number> {
  const sources = sourcesOf(settings)
  if (output !== '') return writeSnapshot(sources, settings['run-dir'], output)
  const wanted = parseListen(listen)
  const feed = new Feed(sources)
  const ended = untilSignal()
  const token = makeToken()
  const { server, address } = await servePage(wanted, token, feed)
  for (const warning of warningsFor(address)) complain(`overlayctl: ${warning}`)
  print(`${urlOf(address, token)}\n`)
  complain('overlayctl: open this address in a browser; whoever has it can look; Ctrl-C ends it')
  await ended
  feed.close()
  server.close()
  server.closeAllConnections()
  return EXIT.healthy
}

const untilSignal = (): Promise<void> =>
  new Promise((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => resolve())
  })

function sourcesOf(settings: Settings): FeedSources {
  const runDirectory = settings['run-dir']
  let local: { readonly at: number; readonly status: Status } | undefined
  return {
    host: hostname(),
    status: async () => {
      const started = performance.now()
      const status = await readDaemonStatus(runDirectory, false)
      if (status !== undefined) {
        local = undefined
        return { status, daemonMs: performance.now() - started }
      }
      if (local === undefined || performance.now() - local.at > LOCAL_PERIOD)
        local = { at: performance.now(), status: await readLocalStatus(settings) }
      return { status: local.status, daemonMs: 0 }
    },
    events: async (signal) => {
      const response = await askDaemon(runDirectory, 'followEvents', { isLive: true, signal })
      return response && readEvents(response)
    },
  }
}

async function writeSnapshot(sources: FeedSources, runDirectory: string, output: string): Promise<number> {
  const { status } = await sources.status()
  const document = makePage(status, new Date(), sources.host)
  const { text } = makeHtml({ kind: 'snapshot', document, events: await keptEvents(runDirectory) })
  if (output === STANDARD_OUTPUT) {
    await writeBytes(Buffer.from(text))
    return EXIT.healthy
  }
  try {
    await writeNewFile(output, text, PRIVATE_MODE)
  } catch (error) {
    const exists = systemErrorCode(error) === 'EEXIST'
    throw new OverlayError(
      'ui-file',
      exists
        ? `${output} exists, and is not overwritten`
        : `${output} cannot be made: ${describeError(error)}`,
      'give another name: --output=FILE',
      { cause: error },
    )
  }
  print(`${output}: the page as of ${document.head.at}; it has addresses and events in it\n`)
  return EXIT.healthy
}

/** The newest events that the daemon keeps; none where no daemon tells them. */
async function keptEvents(runDirectory: string): Promise<PageEvent[]> {
  const response = await askDaemon(runDirectory, 'events')
  if (response === undefined) return []
  const events: PageEvent[] = []
  for await (const event of readEvents(response)) events.push(makeEvent(event))
  return events.slice(-MOST_EVENTS)
}
