import { controlSocketPath } from '../daemon/control-socket'
import { type Status, statusSchema } from '../daemon/status'
import { OverlayError } from '../model/errors'
import { readDaemon } from './daemon-socket'

/**
 * Asks the daemon over its control socket.
 * @returns `undefined` when none runs
 * @throws {OverlayError} `control-socket` when one runs and does not answer as it should
 */
export async function readDaemonStatus(runDirectory: string): Promise<Status | undefined> {
  const text = await readDaemon(runDirectory, '/status')
  if (text === undefined) return undefined
  const result = statusSchema.safeParse(parseJson(text))
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
