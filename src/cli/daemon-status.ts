/** The status as the daemon tells it, once or whenever it changes. */
import { type Status, statusSchema } from '../daemon/status'
import { OverlayError, systemErrorCode } from '../model/errors'
import { askDaemon, parseAnswer, readDaemon, readText } from './daemon-socket'

/** Seconds for which the daemon is asked to wait for a change, and milliseconds that the answer may take longer. */
const WAIT = 30
const GRACE = 5000

const pathOf = (brief: boolean): string => (brief ? '/status?brief' : '/status')

/**
 * Asks the daemon over its control socket.
 * @param brief whether few of the peers will do
 * @returns `undefined` when none runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should
 */
export async function readDaemonStatus(runDirectory: string, brief: boolean): Promise<Status | undefined> {
  const text = await readDaemon(runDirectory, pathOf(brief))
  return text === undefined ? undefined : parseAnswer(runDirectory, text, statusSchema)
}

/** A status, and what it is known by to the daemon. */
export interface Seen {
  readonly status: Status
  /** Empty when the daemon tells no changes. */
  readonly etag: string
}

/**
 * Waits until the status is another one than was seen.
 * @param seen `undefined` for none: then the answer comes at once
 * @returns `undefined` when no daemon runs (any more)
 * @throws {OverlayError} `control-socket`; the signal's reason
 */
export async function awaitChange(
  runDirectory: string,
  brief: boolean,
  seen: Seen | undefined,
  signal: AbortSignal,
): Promise<Seen | undefined> {
  for (;;) {
    const response = await askDaemon(runDirectory, pathOf(brief), {
      headers: { prefer: `wait=${WAIT}`, ...(seen !== undefined && { 'if-none-match': seen.etag }) },
      deadline: WAIT * 1000 + GRACE,
      signal,
      answers: [304],
    }).catch(hungUp)
    if (response === undefined) return undefined
    const text = await readText(response)
    if (response.statusCode === 304) continue
    const { etag = '' } = response.headers
    return { status: parseAnswer(runDirectory, text, statusSchema), etag }
  }
}

/** A daemon that ends lets go of who waits. */
function hungUp(error: unknown): undefined {
  if (error instanceof OverlayError && systemErrorCode(error.cause) === 'ECONNRESET') return undefined
  throw error
}
