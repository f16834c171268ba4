/**
 * The control socket: HTTP over a unix socket in the run directory, for `overlayctl` of this user and of root.
 *
 * - `GET /status`: the status document, with an `etag` that changes when the document does, clocks and latencies apart. With `if-none-match`
 *   and `prefer: wait=SECONDS` (RFC 7240) the answer comes when it is another one, or is 304 after that time. `GET /status?brief`: the same
 *   with few of the peers, and how many there are.
 * - `GET /metrics`: in Prometheus's text format. `GET /events`: what happened of late, a line of JSON each; `GET /events?follow` goes on.
 * - `POST /drain` with {@link drainRequestSchema}: gives this host's lease back, or takes it again.
 */
import { createHash } from 'node:crypto'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { describeError, OverlayError } from '../model/errors'
import type { ChangeBell } from './change-bell'
import { streamEvents } from './event-stream'
import type { EventLog } from './events'
import type { Logger } from './logger'
import type { MetricsText } from './metrics'
import { type Status, withoutClocks } from './status'

export const controlSocketPath = (runDirectory: string): string => join(runDirectory, 'overlayd.sock')

/** What `POST /drain` takes. */
export const drainRequestSchema = z.strictObject({ schema: z.literal(1), drained: z.boolean() })

/** What is answered with another status than 200: an {@link OverlayError}. */
export const refusalSchema = z.object({ code: z.string(), message: z.string(), fix: z.string().optional() })
export type Refusal = z.infer<typeof refusalSchema>

/** What is served. Documents are made anew for each request. */
export interface ControlSources {
  /**
   * Makes the document.
   * @param probe whether etcd is asked for its latency
   * @param brief whether few peers will do
   */
  status(probe: boolean, brief: boolean): Promise<Status>
  /** Rings when the document may be another one, without an event that says so. */
  readonly changes: ChangeBell
  metrics(): Promise<MetricsText>
  readonly events: EventLog
  /** @throws {OverlayError} saying why not */
  drain(drained: boolean): Promise<void>
}

/** Bounds for who connects: a request is one short line, and an operator has one terminal or two. Bytes, milliseconds. */
const LIMITS = {
  maxHeaderSize: 4096,
  headersTimeout: 2000,
  requestTimeout: 2000,
  connectionsCheckingInterval: 1000,
}
const MOST_CONNECTIONS = 32
/** Of these, who follows events, and who waits for another status: the others must find a place. */
const MOST_FOLLOWERS = 8
const MOST_WATCHERS = 8
/** Seconds that one of them waits at the most. */
const LONGEST_WAIT = 60
/** Bytes of a request's body. */
const MOST_BODY = 1024
/** Milliseconds between two looks while someone watches: changes come in bursts, and some by time alone. */
const SPACING = 200
const LOOK_EVERY = 5000

/**
 * Serves the socket.
 * @returns the server; close it to remove the socket
 * @throws {OverlayError} `already-running` or `control-socket`
 */
export async function serveControlSocket(
  runDirectory: string,
  sources: ControlSources,
  log: Logger,
): Promise<Server> {
  const path = controlSocketPath(runDirectory)
  if (await isAnswered(path)) {
    throw new OverlayError(
      'already-running',
      `another overlayd serves ${path}`,
      'stop it, or give this one its own --run-dir, --etcd-prefix and --subnet-file',
    )
  }
  const routes = routesOf(sources, log)
  const server = createServer(LIMITS, (request, response) => {
    const route = routes.get(`${request.method} ${request.url}`)
    if (route === undefined) {
      response.writeHead(404).end()
      return
    }
    route(request, response).catch((error: unknown) => {
      log.error(`control socket: ${request.url}: ${describeError(error)}`)
      if (response.headersSent) response.destroy()
      else response.writeHead(500).end()
    })
  })
  server.maxConnections = MOST_CONNECTIONS
  try {
    await mkdir(runDirectory, { recursive: true, mode: 0o755 })
    // A daemon that was killed leaves its socket behind.
    await rm(path, { force: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
    // Whatever the umask: connecting takes the right to write.
    await chmod(path, 0o600)
  } catch (error) {
    throw new OverlayError(
      'control-socket',
      `cannot listen on ${path}: ${describeError(error)}`,
      'choose another directory with --run-dir, or correct its permissions',
      { cause: error },
    )
  }
  return server
}

type Route = (request: IncomingMessage, response: ServerResponse) => Promise<void>

function routesOf(sources: ControlSources, log: Logger): ReadonlyMap<string, Route> {
  const watchers = { count: 0 }
  const followers = new Set<ServerResponse>()
  return new Map<string, Route>([
    ['GET /status', statusRoute(sources, watchers, false)],
    ['GET /status?brief', statusRoute(sources, watchers, true)],
    ['POST /drain', (request, response) => answerDrain(sources, log, request, response)],
    [
      'GET /metrics',
      async (_, response) => {
        const { contentType, text } = await sources.metrics()
        response.writeHead(200, { 'content-type': contentType }).end(text)
      },
    ],
    ['GET /events', async (_, response) => streamEvents(sources.events, response, false)],
    [
      'GET /events?follow',
      async (_, response) => {
        if (followers.size >= MOST_FOLLOWERS) {
          response.writeHead(503).end()
          return
        }
        followers.add(response)
        response.on('close', () => followers.delete(response))
        streamEvents(sources.events, response, true)
      },
    ],
  ])
}

function answer(response: ServerResponse, status: number, document: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(document))
}

/** What the status of one kind is made from. */
interface StatusSource extends Pick<ControlSources, 'changes' | 'events'> {
  status(probe: boolean): Promise<Status>
}

function statusRoute(
  { changes, events, ...sources }: ControlSources,
  watchers: { count: number },
  brief: boolean,
): Route {
  const source = { changes, events, status: (probe: boolean) => sources.status(probe, brief) }
  return (request, response) => answerStatus(source, watchers, request, response)
}

async function answerStatus(
  source: StatusSource,
  watchers: { count: number },
  { headers }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const wait = /(?:^|[ ,;])wait=(\d{1,3})\b/.exec([headers['prefer'] ?? ''].flat().join())?.[1]
  if (wait === undefined) return answer(response, 200, await source.status(true))
  if (watchers.count >= MOST_WATCHERS) {
    response.writeHead(503).end()
    return
  }
  watchers.count++
  try {
    const seconds = Math.min(LONGEST_WAIT, Number(wait))
    const etag = await nextTag(source, headers['if-none-match'], seconds * 1000, response)
    if (etag === undefined) response.writeHead(304).end()
    else answer(response, 200, await source.status(true), { etag })
  } finally {
    watchers.count--
  }
}

/** @returns the tag of another document than the one that is known; `undefined` when there is none in time, or nobody waits any more */
async function nextTag(
  { status, changes, events }: StatusSource,
  known: string | undefined,
  milliseconds: number,
  response: ServerResponse,
): Promise<string | undefined> {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const deadline = performance.now() + milliseconds
  const bell = changes.watch()
  const unfollow = events.follow(() => bell.wake())
  try {
    for (;;) {
      // Without the latency, so that watching asks etcd for nothing.
      const tag = tagOf(await status(false))
      if (tag !== known) return tag
      const left = deadline - performance.now()
      if (left <= 0 || gone.signal.aborted) return undefined
      await sleep(Math.min(SPACING, left), undefined, { signal: gone.signal }).catch(() => undefined)
      await bell.sleep(Math.min(LOOK_EVERY, deadline - performance.now()), gone.signal)
    }
  } finally {
    changes.stop(bell)
    unfollow()
  }
}

const tagOf = (status: Status): string =>
  `"${createHash('sha256')
    .update(JSON.stringify(withoutClocks(status)))
    .digest('base64url')
    .slice(0, 22)}"`

async function answerDrain(
  { drain }: ControlSources,
  log: Logger,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const wanted = drainRequestSchema.safeParse(await readJson(request))
  if (!wanted.success) {
    return answer(response, 400, {
      code: 'control-request',
      message: 'not a request to drain',
    } satisfies Refusal)
  }
  const { drained } = wanted.data
  log.info(`control socket: an operator asks to ${drained ? 'drain this host' : 'take the lease again'}`)
  try {
    await drain(drained)
    answer(response, 200, { drained })
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error
    const { code, message, fix } = error
    log.warn(`control socket: refused: ${describeError(error)}`)
    answer(response, 409, { code, message, ...(fix !== undefined && { fix }) } satisfies Refusal)
  }
}

/** @returns undefined for what is too long, or no JSON */
async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MOST_BODY) return undefined
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    return undefined
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}
