/** The control socket: HTTP over a unix socket in the run directory, for `overlayctl` of this user and of root. */
import { chmod, mkdir, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describeError, OverlayError } from '../model/errors'
import type { Logger } from './logger'
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

/**
 * Serves `GET /status`.
 * @param status makes the document; asked for each request
 * @returns the server; close it to remove the socket
 * @throws {OverlayError} `already-running` or `control-socket`
 */
export async function serveControlSocket(
  runDirectory: string,
  status: () => Promise<Status>,
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
  const server = createServer(LIMITS, (request, response) => {
    if (request.method !== 'GET' || request.url !== '/status') {
      response.writeHead(404).end()
      return
    }
    status().then(
      (document) => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(document))
      },
      (error: unknown) => {
        log.error(`control socket: status: ${describeError(error)}`)
        response.writeHead(500).end()
      },
    )
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
