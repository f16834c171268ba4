import { request } from 'node:http'
import { controlSocketPath } from '../daemon/control-socket'
import { type Status, statusSchema } from '../daemon/status'
import { OverlayError } from '../model/errors'

/** Milliseconds; the daemon itself waits at most one second for etcd. */
const DEADLINE = 5000

/**
 * Asks the daemon over its control socket.
 * @returns `undefined` when none runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should
 */
export async function readDaemonStatus(runDirectory: string): Promise<Status | undefined> {
  const socketPath = controlSocketPath(runDirectory)
  const text = await get(socketPath, '/status')
  if (text === undefined) return undefined
  const result = statusSchema.safeParse(parseJson(text))
  if (result.success) return result.data
  throw new OverlayError(
    'control-socket',
    `the daemon at ${socketPath} answers in a form this overlayctl does not know`,
    'use the overlayctl of the same version',
  )
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function get(socketPath: string, path: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string, fix: string): void =>
      reject(new OverlayError('control-socket', `the daemon's socket ${socketPath}: ${reason}`, fix))
    const asked = request({ socketPath, path, timeout: DEADLINE }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve(Buffer.concat(chunks).toString()))
      response.on('error', (error) => fail(error.message, 'try again'))
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
