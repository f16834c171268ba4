/** The control socket: HTTP over a unix socket in the run directory, for `overlayctl` of this user and of root. */
import { chmod, mkdir, rm } from 'node:fs/promises'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describeError, OverlayError } from '../model/errors'
import { streamEvents } from './event-stream'
import type { EventLog } from './events'
import type { Logger } from './logger'
import type { MetricsText } from './metrics'
import type { Status } from './status'

export const controlSocketPath = (runDirectory: string): string => join(runDirectory, 'overlayd.sock')

/** Bounds for who connects: a request is one short line, and an operator has one terminal or two. Bytes, milliseconds. */
const LIMITS = {
  maxHeaderSize: 4096,
  headersTimeout: 2000,
  requestTimeout: 2000,
  connectionsCheckingInterval: 1000,
}
const MOST_CONNECTIONS = 32
/** Of these, who follows events and so stays: the others must find a place. */
const MOST_FOLLOWERS = 8

/** What is served. Documents are made anew for each request. */
export interface ControlSources {
  status(): Promise<Status>
  metrics(): Promise<MetricsText>
  readonly events: EventLog
}

/**
 * Serves `GET /status`, `GET /metrics`, `GET /events`, and `GET /events?follow`, which goes on.
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
  const followers = new Set<ServerResponse>()
  const answer = async (url: string | undefined, response: ServerResponse): Promise<void> => {
    switch (url) {
      case '/status': {
        const document = JSON.stringify(await sources.status())
        response.writeHead(200, { 'content-type': 'application/json' }).end(document)
        break
      }
      case '/metrics': {
        const { contentType, text } = await sources.metrics()
        response.writeHead(200, { 'content-type': contentType }).end(text)
        break
      }
      case '/events':
        streamEvents(sources.events, response, false)
        break
      case '/events?follow':
        if (followers.size >= MOST_FOLLOWERS) {
          response.writeHead(503).end()
          break
        }
        followers.add(response)
        response.on('close', () => followers.delete(response))
        streamEvents(sources.events, response, true)
        break
      default:
        response.writeHead(404).end()
    }
  }
  const server = createServer(LIMITS, ({ method, url }, response) => {
    answer(method === 'GET' ? url : undefined, response).catch((error: unknown) => {
      log.error(`control socket: ${url}: ${describeError(error)}`)
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

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}
