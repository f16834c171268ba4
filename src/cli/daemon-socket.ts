/** Asking the daemon over its control socket. */
import { type IncomingMessage, request } from 'node:http'
import type { z } from 'zod'
import { controlSocketPath } from '../daemon/control-socket'
import { OverlayError } from '../model/errors'

/** Milliseconds without a byte; the daemon itself waits at most one second for etcd. */
const DEADLINE = 5000

/** What is asked besides the path. */
export interface Question {
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly body?: unknown
  /** Milliseconds until the answer begins. */
  readonly deadline?: number
  readonly signal?: AbortSignal
  /** Whether what follows the beginning may be long in coming. */
  readonly isLive?: boolean
  /** HTTP statuses besides 200 that are an answer and no failure. */
  readonly answers?: readonly number[]
}

/**
 * Asks for a document of the daemon.
 * @returns its beginning, to be read; `undefined` when no daemon runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should; the signal's reason
 */
export function askDaemon(
  runDirectory: string,
  path: string,
  {
    method = 'GET',
    headers = {},
    body,
    deadline = DEADLINE,
    signal,
    answers = [],
    isLive = false,
  }: Question = {},
): Promise<IncomingMessage | undefined> {
  const socketPath = controlSocketPath(runDirectory)
  return new Promise((resolve, reject) => {
    const fail = (reason: string, fix: string, cause?: Error): void =>
      reject(
        new OverlayError('control-socket', `the daemon's socket ${socketPath}: ${reason}`, fix, { cause }),
      )
    const asked = request({ socketPath, path, method, headers, timeout: deadline, signal }, (response) => {
      if (isLive) asked.setTimeout(0)
      const { statusCode = 0 } = response
      if (statusCode === 200 || answers.includes(statusCode)) return resolve(response)
      response.destroy()
      if (statusCode === 404) fail(`it has no ${path}`, 'use the overlayctl of the same version')
      else if (statusCode === 503) fail('too many follow what it does', 'end one of them')
      else fail(`HTTP status ${statusCode}`, 'look at its log: journalctl -u overlayd')
    })
    asked.on('timeout', () => {
      asked.destroy()
      fail(`no answer within ${deadline / 1000} s`, 'look at its log: journalctl -u overlayd')
    })
    asked.on('error', (error: NodeJS.ErrnoException) => {
      if (signal?.aborted) reject(signal.reason)
      else if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
      else if (error.code === 'EACCES') fail('permission denied', 'run overlayctl as root')
      else fail(error.message, 'try again', error)
    })
    asked.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

/**
 * The same, read to its end.
 * @throws {OverlayError} `control-socket`
 */
export async function readDaemon(runDirectory: string, path: string): Promise<string | undefined> {
  const response = await askDaemon(runDirectory, path)
  return response && readText(response)
}

/** @throws {OverlayError} `control-socket` when it breaks off */
export async function readText(response: IncomingMessage): Promise<string> {
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

/** @throws {OverlayError} `control-socket` for what is no JSON of that shape */
export function parseAnswer<T>(runDirectory: string, text: string, schema: z.ZodType<T>): T {
  const result = schema.safeParse(parseJson(text))
  if (result.success) return result.data
  throw new OverlayError(
    'control-socket',
    `the daemon at ${controlSocketPath(runDirectory)} answers in a form this overlayctl does not know`,
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
