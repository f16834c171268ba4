/**
 * The servers of the control socket and of the status socket: a handler for each request of {@link REQUESTS}.
 * To the control socket only `overlayctl` of the daemon's user and of root can connect, to the status socket
 * also members of the daemon's group.
 */

import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ObjectsDocument, PrefixesDocument } from '../../api/documents'
import {
  type AnswerTo,
  type BodyOf,
  controlSocketPath,
  READERS_REQUESTS,
  REQUESTS,
  type Refusal,
  type RequestName,
  type RequestShape,
  statusSocketPath,
} from '../../api/requests'
import type { Status } from '../../api/status'
import { withoutClocks } from '../../api/status-parts'
import { describeError, isOverlayError, OverlayError } from '../../model/errors'
import { printable, toJson } from '../../model/printable'
import type { OptionTexts } from '../../options/texts'
import type { EventLog } from '../tell/events'
import type { Logger } from '../tell/logger'
import type { ChangeSignal } from './change-signal'
import { streamEvents } from './event-stream'
import type { MetricsText } from './metrics'

/** The sources of the answers. Documents are made anew for each request. */
export interface ControlSources {
  /**
   * Makes the status document.
   * @param probe whether to measure the latency of etcd
   * @param brief whether the number of listed peers is limited
   */
  status(probe: boolean, brief: boolean): Promise<Status>
  /** Compares the kernel with the desired objects. */
  objects(): Promise<ObjectsDocument>
  /** What hosts announce besides their subnets. */
  prefixes(): PrefixesDocument
  /**
   * Announces a prefix.
   * @returns the prefix as text, and why it waits
   * @throws {OverlayError} with the reason for a refusal
   */
  announce(wanted: BodyOf<'announce'>): Promise<AnswerTo<'announce'>>
  /** Withdraws one. @returns the prefix as text */
  withdraw(wanted: BodyOf<'withdraw'>): Promise<string>
  /** Takes a further subnet. @throws {OverlayError} with the reason for a refusal */
  addSubnet(wanted: BodyOf<'addSubnet'>): Promise<AnswerTo<'addSubnet'>>
  /** Gives one back. @returns the prefix as text */
  removeSubnet(wanted: BodyOf<'removeSubnet'>): Promise<string>
  /** The options in use, without the password. */
  settings(): OptionTexts
  /** Notified when the document may have changed without an event. */
  readonly changes: ChangeSignal
  metrics(): Promise<MetricsText>
  readonly events: EventLog
  /** @throws {OverlayError} with the reason for a refusal */
  drain(drained: boolean): Promise<void>
  /** @throws {OverlayError} with the reason for a refusal */
  rotateKey(): void
  /**
   * The identity of this host, which is made if there is none.
   * @throws {OverlayError} with the reason for a refusal
   */
  identity(): Promise<string>
}

/** Bounds for clients, in bytes and milliseconds: a request is one short line. */
const LIMITS = {
  maxHeaderSize: 4096,
  headersTimeout: 2000,
  requestTimeout: 2000,
  connectionsCheckingInterval: 1000,
}
const MOST_CONNECTIONS = 32
/**
 * Of the connections: followers of events, and watchers of the status. Other requests must find a free one.
 */
const MOST_FOLLOWERS = 8
const MOST_WATCHERS = 8
/** Longest wait of a watcher in seconds. */
const LONGEST_WAIT = 60
/** Bytes of a request's body. */
const MOST_BODY = 1024
/**
 * Milliseconds between two checks for a changed document while somebody watches. At least {@link SPACING},
 * because changes come in bursts; at most {@link CHECK_EVERY}, because some changes are due to time alone.
 */
const SPACING = 200
const CHECK_EVERY = 5000

/** A socket, who may connect to it, and what it answers. */
interface SocketShape {
  readonly path: string
  /** Independent of the umask: a client needs the right to write to connect. */
  readonly mode: number
  readonly requests: readonly RequestName[]
}

/**
 * Serves the control socket.
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
  const requests = Object.keys(REQUESTS) as RequestName[]
  return serveSocket({ path, mode: 0o600, requests }, sources, log)
}

/**
 * Serves the status socket. Its connections, followers and watchers are counted apart from those of the
 * control socket, so that readers keep no operator out.
 * @returns the server; close it to remove the socket
 * @throws {OverlayError} `control-socket`
 */
export const serveStatusSocket = (
  runDirectory: string,
  sources: ControlSources,
  log: Logger,
): Promise<Server> =>
  serveSocket({ path: statusSocketPath(runDirectory), mode: 0o660, requests: READERS_REQUESTS }, sources, log)

async function serveSocket(socket: SocketShape, sources: ControlSources, log: Logger): Promise<Server> {
  const routes = routesOf(sources, log)
  const answerRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const name = NAMES.get(`${request.method} ${request.url}`)
    const route = name && routes[name]
    if (route === undefined) {
      response.writeHead(404).end()
      return
    }
    if (!socket.requests.includes(name as RequestName)) {
      response.writeHead(403).end()
      return
    }
    route(request, response).catch((error: unknown) => {
      log.error(`control socket: ${request.url}: ${describeError(error)}`)
      if (response.headersSent) response.destroy()
      else response.writeHead(500).end()
    })
  }
  const server = createServer(LIMITS, answerRequest)
  server.maxConnections = MOST_CONNECTIONS
  await listen(server, socket)
  watchPlace(server, socket, log)
  return server
}

/** Milliseconds between two checks whether the socket's file is in its place. */
const PLACE_CHECK = 2000

/**
 * Listens again if the socket's file is gone, or was replaced by one that nobody answers on. A clean-up of
 * the run directory removes it, and so does a teardown during a start.
 */
function watchPlace(server: Server, socket: SocketShape, log: Logger): void {
  const { path } = socket
  let place = inode(path)
  let problem: string | undefined
  let isChecking = false
  const check = async (): Promise<void> => {
    if (inode(path) === place || (await isAnswered(path))) return
    try {
      // Close first: closing removes the file by its name, even if another process made it. Open connections
      // stay.
      server.close()
      await listen(server, socket)
      place = inode(path)
      log.warn(`control socket: ${path} was removed by another program; serving there again`)
      problem = undefined
    } catch (error) {
      const text = describeError(error)
      if (text !== problem) log.warn(`control socket: ${text}; everything else goes on`)
      problem = text
    }
  }
  const timer = setInterval(() => {
    if (isChecking) return
    isChecking = true
    void check().finally(() => {
      isChecking = false
    })
  }, PLACE_CHECK).unref()
  // The close above, before listening again, is not the end of the server.
  server.on('close', () => {
    if (!isChecking && !server.listening) clearInterval(timer)
  })
}

/** Identifies the file at a path; `undefined` if there is none. */
function inode(path: string): bigint | undefined {
  try {
    return statSync(path, { bigint: true }).ino
  } catch {
    return undefined
  }
}

async function listen(server: Server, { path, mode }: SocketShape): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    // A daemon that was killed leaves its socket's file behind.
    await rm(path, { force: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
    })
    await chmod(path, mode)
  } catch (error) {
    throw new OverlayError(
      'control-socket',
      `cannot listen on ${path}: ${describeError(error)}`,
      'choose another directory with --run-dir, or correct its permissions',
      { cause: error },
    )
  }
}

type Route = (request: IncomingMessage, response: ServerResponse) => Promise<void>

/** `GET /status` -> the request's name. */
const NAMES: ReadonlyMap<string, RequestName> = new Map(
  (Object.keys(REQUESTS) as RequestName[]).map((name) => [
    `${REQUESTS[name].method} ${REQUESTS[name].path}`,
    name,
  ]),
)

function routesOf(sources: ControlSources, log: Logger): Readonly<Record<RequestName, Route>> {
  const watchers = { count: 0 }
  const followers = new Set<ServerResponse>()
  return {
    status: statusRoute(sources, watchers, false),
    briefStatus: statusRoute(sources, watchers, true),
    objects: async (_, response) => answer(response, 200, await sources.objects()),
    prefixes: async (_, response) => answer(response, 200, sources.prefixes()),
    settings: async (_, response) =>
      answer(response, 200, { schema: 1, pid: process.pid, options: sources.settings() }),
    metrics: async (_, response) => {
      const { contentType, text } = await sources.metrics()
      response.writeHead(200, { 'content-type': contentType }).end(text)
    },
    events: async (_, response) => streamEvents(sources.events, response, false),
    followEvents: async (_, response) => {
      if (followers.size >= MOST_FOLLOWERS) {
        response.writeHead(503).end()
        return
      }
      followers.add(response)
      response.on('close', () => followers.delete(response))
      streamEvents(sources.events, response, true)
    },
    drain: withBody('drain', async ({ drained }, response) => {
      log.info(`control socket: an operator asks to ${drained ? 'drain this host' : 'take the lease again'}`)
      await answerOrder(log, response, async () => {
        await sources.drain(drained)
        return { drained }
      })
    }),
    rotateKey: withBody('rotateKey', async (_, response) => {
      log.info('control socket: an operator asks to change the WireGuard key')
      await answerOrder(log, response, async () => {
        sources.rotateKey()
        return { asked: true }
      })
    }),
    announce: withBody('announce', (body, response) => {
      log.info(`control socket: an operator asks to announce ${printable(body.prefix)}`)
      return answerOrder(log, response, () => sources.announce(body))
    }),
    withdraw: withBody('withdraw', (body, response) => {
      log.info(`control socket: an operator asks to withdraw ${printable(body.prefix)}`)
      return answerOrder(log, response, async () => ({ withdrawn: await sources.withdraw(body) }))
    }),
    addSubnet: withBody('addSubnet', (body, response) => {
      log.info('control socket: an operator asks for a further subnet')
      return answerOrder(log, response, () => sources.addSubnet(body))
    }),
    removeSubnet: withBody('removeSubnet', (body, response) => {
      log.info(`control socket: an operator asks to give ${printable(body.prefix)} back`)
      return answerOrder(log, response, async () => ({ removed: await sources.removeSubnet(body) }))
    }),
    identity: withBody('identity', (_, response) =>
      answerOrder(log, response, async () => ({ key: await sources.identity() })),
    ),
  }
}

/** A route for a request with a body. A body that does not fit the request's schema is answered with 400. */
function withBody<R extends RequestName>(
  name: R,
  handle: (body: BodyOf<R>, response: ServerResponse) => Promise<void>,
): Route {
  const { method, path, body: schema }: RequestShape = REQUESTS[name]
  return async (request, response) => {
    const body = schema?.().safeParse(await readJson(request))
    if (body?.success === true) return handle(body.data as BodyOf<R>, response)
    answer(response, 400, {
      code: 'control-request',
      message: `the body does not fit ${method} ${path}`,
    } satisfies Refusal)
  }
}

function answer(response: ServerResponse, status: number, document: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(toJson(document))
}

/** The sources of one kind of status: full or brief. */
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

/**
 * Waits for a document with another tag.
 * @param known the tag of the document that the client has
 * @returns the new tag; `undefined` if the time is over, or the client has closed the connection
 */
async function nextTag(
  { status, changes, events }: StatusSource,
  known: string | undefined,
  milliseconds: number,
  response: ServerResponse,
): Promise<string | undefined> {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const deadline = performance.now() + milliseconds
  const changed = changes.watch()
  const unfollow = events.follow(() => changed.wake())
  try {
    for (;;) {
      // Without the latency, so that watching asks etcd for nothing.
      const tag = tagOf(await status(false))
      if (tag !== known) return tag
      const left = deadline - performance.now()
      if (left <= 0 || gone.signal.aborted) return undefined
      await sleep(Math.min(SPACING, left), undefined, { signal: gone.signal }).catch(() => undefined)
      await changed.sleep(Math.min(CHECK_EVERY, deadline - performance.now()), gone.signal)
    }
  } finally {
    changes.stop(changed)
    unfollow()
  }
}

const tagOf = (status: Status): string =>
  `"${createHash('sha256')
    .update(JSON.stringify(withoutClocks(status)))
    .digest('base64url')
    .slice(0, 22)}"`

/** Requests that change something. */
type OrderName = 'drain' | 'rotateKey' | 'identity' | 'announce' | 'withdraw' | 'addSubnet' | 'removeSubnet'

/** Obeys an order, and answers with the document, or with the reason for a refusal. */
async function answerOrder(
  log: Logger,
  response: ServerResponse,
  obey: () => Promise<AnswerTo<OrderName>>,
): Promise<void> {
  try {
    answer(response, 200, await obey())
  } catch (error) {
    if (!isOverlayError(error)) throw error
    const { code, message, fix } = error
    log.warn(`control socket: refused: ${describeError(error)}`)
    answer(response, 409, { code, message, ...(fix !== undefined && { fix }) } satisfies Refusal)
  }
}

/** @returns undefined if the body is too long or not JSON */
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
