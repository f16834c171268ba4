/** The daemon's status, once or at each change. */
import type { Status } from '../api/status'
import { isOverlayError, systemErrorCode } from '../model/errors'
import { askDaemon, readAnswer, readDaemon, readText } from './daemon-socket'

/**
 * Seconds for which the daemon is asked to wait for a change; and milliseconds that the answer may take
 * longer.
 */
const WAIT = 30
const GRACE = 5000

const requestOf = (brief: boolean) => (brief ? 'briefStatus' : 'status')

/**
 * Asks the daemon over its control socket.
 * @param brief whether a few of the peers are enough
 * @returns `undefined` when none runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should
 */
export const readDaemonStatus = (runDirectory: string, brief: boolean): Promise<Status | undefined> =>
  readDaemon(runDirectory, requestOf(brief))

/** A status, and the etag by which the daemon knows it. */
export interface Seen {
  readonly status: Status
  /** Empty when the daemon does not report changes. */
  readonly etag: string
}

/**
 * Waits until the status differs from the one that was seen.
 * @param seen `undefined` for none: then the answer comes at once
 * @returns `undefined` when no daemon runs, or when the daemon ends
 * @throws {OverlayError} `control-socket`; the signal's reason
 */
export async function awaitChange(
  runDirectory: string,
  brief: boolean,
  seen: Seen | undefined,
  signal: AbortSignal,
): Promise<Seen | undefined> {
  for (;;) {
    const response = await askDaemon(runDirectory, requestOf(brief), {
      headers: { prefer: `wait=${WAIT}`, ...(seen !== undefined && { 'if-none-match': seen.etag }) },
      deadline: WAIT * 1000 + GRACE,
      signal,
      answers: [304],
    }).catch(hungUp)
    if (response === undefined) return undefined
    const text = await readText(response)
    if (response.statusCode === 304) continue
    const { etag = '' } = response.headers
    return { status: await readAnswer(runDirectory, requestOf(brief), text), etag }
  }
}

/** A daemon that ends closes the connections of those who wait. */
function hungUp(error: unknown): undefined {
  if (isOverlayError(error) && systemErrorCode(error.cause) === 'ECONNRESET') return undefined
  throw error
}
