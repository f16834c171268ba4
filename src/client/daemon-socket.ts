/** Requests of the daemon over its control socket. */
import { type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import type { z } from 'zod'
import {
  type AnswerTo,
  type BodyOf,
  controlSocketPath,
  READERS_REQUESTS,
  REQUESTS,
  type RequestName,
  type RequestShape,
  refusalSchema,
  statusSocketPath,
} from '../api/requests'
import { isOverlayError, OverlayError, systemErrorCode } from '../model/errors'

/** Milliseconds without a byte. The daemon itself waits for etcd at most one second. */
const DEADLINE = 5000

/**
 * The most bytes of an answer: the status of 100,000 peers has 25 MB. The limit protects this process, which
 * often is root's, from the daemon's user.
 */
const MOST_BYTES = 64 * 1024 * 1024
/** Milliseconds for a whole answer. */
const LONGEST_ANSWER = 60_000

/**
 * The most characters of an answer that its schema checks step by step. For more, zod writes functions and
 * compiles them, which takes 5 ms.
 */
const MOST_INTERPRETED = 100_000

/** How a request is made. */
export interface Question<R extends RequestName = RequestName> {
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: BodyOf<R>
  /** Milliseconds until the answer begins. */
  readonly deadline?: number
  readonly signal?: AbortSignal
  /** Whether long pauses may follow the beginning of the answer. */
  readonly isLive?: boolean
  /** HTTP statuses besides 200 that are no failure. */
  readonly answers?: readonly number[]
}

/**
 * Makes a request of the daemon.
 * @returns the answer, whose body is still to be read; `undefined` when no daemon runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should; the signal's reason
 */
export async function askDaemon<R extends RequestName>(
  runDirectory: string,
  name: R,
  question: Question<R> = {},
): Promise<IncomingMessage | undefined> {
  try {
    return await askSocket(controlSocketPath(runDirectory), name, question)
  } catch (error) {
    const isDenied = isOverlayError(error) && systemErrorCode(error.cause) === 'EACCES'
    if (!isDenied || !READERS_REQUESTS.includes(name)) throw error
    // Members of the daemon's group may read. A daemon of an older version has no such socket.
    const answer = await askSocket(statusSocketPath(runDirectory), name, question).catch((other: unknown) => {
      const isDeniedToo = isOverlayError(other) && systemErrorCode(other.cause) === 'EACCES'
      throw isDeniedToo ? error : other
    })
    if (answer === undefined) throw error
    return answer
  }
}

function askSocket<R extends RequestName>(
  socketPath: string,
  name: R,
  { headers = {}, body, deadline = DEADLINE, signal, answers = [], isLive = false }: Question<R>,
): Promise<IncomingMessage | undefined> {
  const { method, path } = REQUESTS[name]
  return new Promise((resolve, reject) => {
    const fail = (reason: string, fix: string, cause?: Error): void =>
      reject(
        new OverlayError('control-socket', `the daemon's socket ${socketPath}: ${reason}`, fix, { cause }),
      )
    // Without an agent, which is for many requests, and whose loading takes as long as the request itself.
    const createConnection = () => connect({ path: socketPath, timeout: deadline })
    const asked = request(
      { createConnection, path, method, headers, timeout: deadline, signal },
      (response) => {
        if (isLive) asked.setTimeout(0)
        const { statusCode = 0 } = response
        if (statusCode === 200 || answers.includes(statusCode)) return resolve(response)
        response.destroy()
        if (statusCode === 404) fail(`it has no ${path}`, 'use the overlayctl of the same version')
        else if (statusCode === 503) fail('too many follow what it does', 'end one of them')
        else fail(`HTTP status ${statusCode}`, 'look at its log: journalctl -u overlayd')
      },
    )
    asked.on('timeout', () => {
      asked.destroy()
      fail(`no answer within ${deadline / 1000} s`, 'look at its log: journalctl -u overlayd')
    })
    asked.on('error', (error: NodeJS.ErrnoException) => {
      if (signal?.aborted) reject(signal.reason)
      else if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
      else if (error.code === 'EACCES') fail('permission denied', deniedFix(name), error)
      else fail(error.message, 'try again', error)
    })
    asked.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

/** The group is that of the package's service. */
const deniedFix = (name: RequestName): string =>
  READERS_REQUESTS.includes(name)
    ? 'run overlayctl as root; or be a member of the group overlay, which may read: usermod -aG overlay USER'
    : 'run overlayctl as root'

/**
 * Makes a request, and reads its answer to the end.
 * @returns `undefined` when no daemon runs
 * @throws {OverlayError} `control-socket`
 */
export async function readDaemon<R extends RequestName>(
  runDirectory: string,
  name: R,
  deadline = DEADLINE,
): Promise<AnswerTo<R> | undefined> {
  const response = await askDaemon(runDirectory, name, { deadline })
  if (response === undefined) return undefined
  return readAnswer(runDirectory, name, await readText(response))
}

/**
 * Gives the daemon an order.
 * @param deadline milliseconds until it is obeyed or refused
 * @returns `undefined` when no daemon runs
 * @throws {OverlayError} the daemon's refusal, or `control-socket`
 */
export async function orderDaemon<R extends RequestName>(
  runDirectory: string,
  name: R,
  body: BodyOf<R>,
  deadline = DEADLINE,
): Promise<AnswerTo<R> | undefined> {
  const response = await askDaemon(runDirectory, name, { body, deadline, answers: [409] })
  if (response === undefined) return undefined
  const text = await readText(response)
  if (response.statusCode === 200) return readAnswer(runDirectory, name, text)
  const { code, message, fix } = parseAnswer(runDirectory, text, refusalSchema())
  throw new OverlayError(code, message, fix)
}

/** @throws {OverlayError} `control-socket` for a text that is no answer to the request */
export async function readAnswer<R extends RequestName>(
  runDirectory: string,
  name: R,
  text: string,
): Promise<AnswerTo<R>> {
  const { form, answer }: RequestShape = REQUESTS[name]
  return parseAnswer(runDirectory, text, await answer(), form === 'text') as AnswerTo<R>
}

/**
 * Whether a daemon serves the socket.
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should
 */
export async function daemonRuns(runDirectory: string): Promise<boolean> {
  const response = await askDaemon(runDirectory, 'briefStatus')
  response?.destroy()
  return response !== undefined
}

/** @throws {OverlayError} `control-socket` when the answer breaks off */
export async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  const started = process.hrtime.bigint()
  try {
    for await (const chunk of response) {
      chunks.push(chunk)
      size += chunk.length
      if (process.hrtime.bigint() - started > BigInt(LONGEST_ANSWER) * 1_000_000n)
        throw new Error(`it goes on for ${LONGEST_ANSWER / 1000} s`)
      if (size > MOST_BYTES) throw new Error(`it has more than ${MOST_BYTES / 1024 / 1024} MB`)
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new OverlayError('control-socket', `the daemon's answer broke off: ${reason}`, 'try again', {
      cause: error,
    })
  }
  return Buffer.concat(chunks).toString()
}

/** The error where no daemon answers. */
export const daemonIsDown = (runDirectory: string): OverlayError =>
  new OverlayError(
    'control-socket',
    `overlayd does not run: nobody answers at ${controlSocketPath(runDirectory)}`,
    'start it; what it did before is in its log: journalctl -u overlayd',
  )

/** @throws {OverlayError} `control-socket` for what is no JSON of that shape */
function parseAnswer<T>(runDirectory: string, text: string, schema: z.ZodType<T>, isText = false): T {
  const result = schema.safeParse(isText ? text : parseJson(text), {
    jitless: text.length < MOST_INTERPRETED,
  })
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
