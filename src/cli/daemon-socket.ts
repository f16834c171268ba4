/** Asking the daemon over its control socket. */
import { type IncomingMessage, request } from 'node:http'
import { controlSocketPath } from '../daemon/control-socket'
import { OverlayError } from '../model/errors'

/** Milliseconds without a byte; the daemon itself waits at most one second for etcd. */
const DEADLINE = 5000

/**
 * Asks for a document of the daemon.
 * @param isLive whether it goes on as things happen, which may be long in coming
 * @returns its beginning, to be read; `undefined` when no daemon runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should
 */
export function askDaemon(
  runDirectory: string,
  path: string,
  isLive = false,
): Promise<IncomingMessage | undefined> {
  const socketPath = controlSocketPath(runDirectory)
  return new Promise((resolve, reject) => {
    const fail = (reason: string, fix: string): void =>
      reject(new OverlayError('control-socket', `the daemon's socket ${socketPath}: ${reason}`, fix))
    const asked = request({ socketPath, path, timeout: DEADLINE }, (response) => {
      if (isLive) asked.setTimeout(0)
      const { statusCode } = response
      if (statusCode === 200) return resolve(response)
      response.destroy()
      if (statusCode === 404) fail(`it has no ${path}`, 'use the overlayctl of the same version')
      else if (statusCode === 503) fail('too many read its events', 'end one of them')
      else fail(`HTTP status ${statusCode}`, 'look at its log: journalctl -u overlayd')
    })
    asked.on('timeout', () => {
      asked.destroy()
      fail(`no answer within ${DEADLINE / 1000} s`, 'look at its log: journalctl -u overlayd')
    })
    asked.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
      else if (error.code === 'EACCES') fail('permission denied', 'run overlayctl as root')
      else fail(error.message, 'try again')
    })
    asked.end()
  })
}

/**
 * The same, read to its end.
 * @throws {OverlayError} `control-socket`
 */
export async function readDaemon(runDirectory: string, path: string): Promise<string | undefined> {
  const response = await askDaemon(runDirectory, path)
  if (response === undefined) return undefined
  const chunks: Buffer[] = []
  try {
    for await (const chunk of response) chunks.push(chunk)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new OverlayError('control-socket', `the daemon's answer broke off: ${reason}`, 'try again', {
      cause: error,
    })
  }
  return Buffer.concat(chunks).toString()
}

/** What is said where no daemon answers. */
export const daemonIsDown = (runDirectory: string): OverlayError =>
  new OverlayError(
    'control-socket',
    `overlayd does not run: nobody answers at ${controlSocketPath(runDirectory)}`,
    'start it; what it did before is in its log: journalctl -u overlayd',
  )
